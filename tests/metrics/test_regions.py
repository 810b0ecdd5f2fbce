"""Regions of a page against those that are seen: what must hold whatever the boxes, and cases by hand."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from docstill.metrics.regions import compared, overlaps, page_f1, tally

LABELS = ["text", "table", "<b>"]
BOXES = some.tuples(some.integers(0, 6), some.integers(0, 6), some.integers(1, 5), some.integers(1, 5)).map(list)
TRUTHS = some.lists(some.fixed_dictionaries({"label": some.sampled_from(LABELS), "box": BOXES}), max_size=8)
SEEN = some.lists(
    some.fixed_dictionaries(
        {"label": some.sampled_from(LABELS), "box": BOXES, "score": some.sampled_from([0.05, 0.4, 0.5, 0.7, 0.9])}
    ),
    max_size=8,
)


def there(label: str, *box: float) -> dict[str, Any]:
    return {"label": label, "box": list(box)}


def seen(label: str, *box: float, score: float = 0.9) -> dict[str, Any]:
    return {"label": label, "box": list(box), "score": score}


def page(truths: list[dict[str, Any]], predictions: list[dict[str, Any]] | None) -> dict[str, Any]:
    return {
        "expected": {"size": [100, 100], "regions": truths},
        "predicted": None if predictions is None else {"regions": predictions},
    }


def f1(truths: list[dict[str, Any]], predictions: list[dict[str, Any]]) -> float:
    found = page(truths, predictions)
    return page_f1(found["expected"], found["predicted"])


@given(TRUTHS, SEEN)
def test_each_region_has_one_fate(truths: list[Any], predictions: list[Any]) -> None:
    matches, missed, invented = compared(truths, predictions)
    assert sorted([match.truth for match in matches] + missed) == list(range(len(truths)))
    counted = [index for index, region in enumerate(predictions) if region["score"] >= 0.5]
    assert sorted([match.prediction for match in matches] + invented) == counted
    assert all(0.5 <= match.iou <= 1 for match in matches)
    scores = [predictions[match.prediction]["score"] for match in matches]
    assert scores == sorted(scores, reverse=True)


@given(some.lists(some.tuples(TRUTHS, SEEN), max_size=4))
def test_counts_add_up(pages: list[tuple[Any, Any]]) -> None:
    found = tally([page(*one) for one in pages], LABELS)
    counts, n = found["counts"], len(LABELS)
    assert [len(row) for row in counts] == [n + 1] * (n + 1)
    assert counts[n][n] == 0
    for place, label in enumerate(LABELS):
        assert sum(counts[place]) == sum(region["label"] == label for truths, _ in pages for region in truths)
        assert sum(row[place] for row in counts) == sum(
            region["label"] == label and region["score"] >= 0.5 for _, predictions in pages for region in predictions
        )
    assert found["regions"] == found["right"] + found["wrong"] + found["missed"]
    assert found["regions"] + found["invented"] == sum(map(sum, counts))
    assert json.loads(json.dumps(found)) == found


@given(TRUTHS, SEEN, some.randoms(use_true_random=False))
def test_the_order_of_truths_does_not_matter(truths: list[Any], predictions: list[Any], rng: random.Random) -> None:
    shuffled = rng.sample(truths, len(truths))
    assert tally([page(truths, predictions)], LABELS) == tally([page(shuffled, predictions)], LABELS)
    assert f1(truths, predictions) == f1(shuffled, predictions)


@given(TRUTHS)
def test_perfect_predictions_score_one_and_none_score_nothing(truths: list[Any]) -> None:
    assert f1(truths, [{**region, "score": 0.5} for region in truths]) == 1
    assert f1(truths, [{**region, "score": 0.49} for region in truths]) == (0 if truths else 1)


@given(TRUTHS, SEEN)
def test_the_score_is_a_share_and_agrees_with_the_tally(truths: list[Any], predictions: list[Any]) -> None:
    found, score = tally([page(truths, predictions)], LABELS), f1(truths, predictions)
    total = 2 * (found["right"] + found["wrong"]) + found["missed"] + found["invented"]
    assert 0 <= score <= 1
    assert score == (2 * found["right"] / total if total else 1)


@given(some.lists(BOXES, max_size=5), some.lists(BOXES, max_size=5))
def test_overlaps_are_shares_and_symmetric(first: list[Any], second: list[Any]) -> None:
    found = overlaps(first, second)
    assert found.shape == (len(first), len(second))
    assert ((found >= 0) & (found <= 1)).all()
    assert (found == overlaps(second, first).T).all()


def test_overlap_by_hand() -> None:
    assert overlaps([[0, 0, 10, 10]], [[5, 0, 10, 10], [0, 0, 10, 5], [10, 0, 5, 5], [0, 0, 10, 10]]).tolist() == [
        [pytest.approx(1 / 3), 0.5, 0, 1]
    ]
    assert overlaps([[3, 3, 0, 0]], [[3, 3, 0, 0]]).tolist() == [[0]]


def test_another_class_is_one_mistake() -> None:
    truths = [there("table", 0, 0, 10, 10), there("text", 0, 20, 10, 10)]
    predictions = [seen("text", 0, 0, 10, 10), seen("text", 50, 50, 10, 10)]
    found = tally([page(truths, predictions)], ["text", "table"])
    assert found["counts"] == [[0, 0, 1], [1, 0, 0], [1, 0, 0]]
    assert [found[name] for name in ("right", "wrong", "missed", "invented")] == [0, 1, 1, 1]
    assert f1(truths, predictions) == 0


def test_the_surer_one_goes_first_and_a_second_one_is_invented() -> None:
    truths = [there("text", 0, 0, 10, 10)]
    predictions = [seen("text", 0, 0, 10, 9, score=0.6), seen("text", 0, 0, 10, 8, score=0.8)]
    matches, missed, invented = compared(truths, predictions)
    assert [(match.truth, match.prediction) for match in matches] == [(0, 1)]
    assert (missed, invented) == ([], [0])
    assert f1(truths, predictions) == pytest.approx(2 / 3)


def test_a_region_of_its_own_class_goes_before_one_that_fits_better() -> None:
    truths = [there("list", 0, 0, 10, 10), there("text", 0, 0, 10, 9)]
    predictions = [seen("text", 0, 0, 10, 10, score=0.9), seen("list", 0, 0, 10, 9, score=0.8)]
    assert f1(truths, predictions) == 1


def test_no_pages_unknown_classes_and_no_answer() -> None:
    assert tally([], ["a"])["counts"] == [[0, 0], [0, 0]]
    found = tally([page([there("b", 0, 0, 1, 1)], None)], ["a"])
    assert found["labels"] == ["a", "b"]
    assert found["counts"] == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert page_f1({"regions": []}, None) == 1
