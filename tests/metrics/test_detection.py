"""Average precision: what pycocotools counts, to 1e-6, whatever the boxes; edge cases by hand."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from docstill.errors import MissingExtra
from docstill.metrics.detection import Detection, Truth, detection_metrics

LABELS = ["text", "table", "figure"]


def published(truths: list[Truth], detections: list[Detection], labels: list[str], pages: int, most: int) -> Any:
    """The figures of pycocotools; None for its -1."""
    head = {"images": [{"id": n} for n in range(pages)], "categories": [{"id": n} for n in range(len(labels))]}
    there, seen = COCO(), COCO()
    there.dataset = {
        **head,
        "annotations": [
            {
                "id": n,
                "image_id": t.page,
                "category_id": t.label,
                "bbox": list(t.box),
                "area": t.area,
                "iscrowd": int(t.crowd),
            }
            for n, t in enumerate(truths, 1)
        ],
    }
    seen.dataset = {
        **head,
        "annotations": [
            {"id": n, "image_id": d.page, "category_id": d.label, "bbox": list(d.box), "area": d.box[2] * d.box[3]}
            | {"score": d.score, "iscrowd": 0}
            for n, d in enumerate(detections, 1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        there.createIndex()
        seen.createIndex()
        evaluator = COCOeval(there, seen, "bbox")
        evaluator.params.maxDets = [1, 10, most]
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"][..., 2], evaluator.eval["recall"][..., 2]

    def mean(values: Any) -> float | None:
        return float(values[values > -1].mean()) if (values > -1).any() else None

    return {
        "ap": mean(precision[..., 0]),
        "ap50": mean(precision[0, ..., 0]),
        "ap75": mean(precision[5, ..., 0]),
        "ap_small": mean(precision[..., 1]),
        "ap_medium": mean(precision[..., 2]),
        "ap_large": mean(precision[..., 3]),
        "ar": mean(recall[..., 0]),
        "per_class": {
            name: {"ap": mean(precision[:, :, k, 0]), "ap50": mean(precision[0, :, k, 0])}
            for k, name in enumerate(labels)
        },
    }


def agree(truths: list[Truth], detections: list[Detection], pages: int, labels: list[str] = LABELS) -> dict[str, Any]:
    """Asserts that both count the same; returns what was counted."""
    ours = detection_metrics(truths, detections, labels, pages)
    theirs = published(truths, detections, labels, pages, 100)
    for name, value in theirs.pop("per_class").items():
        assert ours["per_class"][name]["ap"] == pytest.approx(value["ap"], abs=1e-6)
        assert ours["per_class"][name]["ap50"] == pytest.approx(value["ap50"], abs=1e-6)
        assert ours["per_class"][name]["count"] == sum(labels[t.label] == name and not t.crowd for t in truths)
    for name, figure in theirs.items():
        assert ours[name] == pytest.approx(figure, abs=1e-6), name
    most = published(truths, detections, labels, pages, 300)
    assert ours["ap_300"] == pytest.approx(most["ap"], abs=1e-6)
    json.dumps(ours, allow_nan=False)
    return ours


def drawn(seed: int, pages: int, per_page: int, crowd: float = 0.05) -> tuple[list[Truth], list[Detection]]:
    """Regions of all sizes, most of them seen about right, some twice, some of another class, some out of nothing."""
    rng = random.Random(seed)
    truths, detections = [], []
    for page in range(pages):
        for _ in range(rng.randint(0, 2 * per_page)):
            box = (rng.uniform(0, 500), rng.uniform(0, 700), rng.uniform(4, 300), rng.uniform(4, 200))
            area = box[2] * box[3] * rng.choice((1.0, 1.0, 0.6))
            truths.append(Truth(page, label := rng.randrange(3), box, area, rng.random() < crowd))
            for _ in range(rng.choice((0, 1, 1, 1, 2))):
                sloppy = rng.choice((0.01, 0.05, 0.2))
                near = tuple(side + rng.gauss(0, sloppy) * box[2 + place % 2] for place, side in enumerate(box))
                seen = label if rng.random() < 0.9 else rng.randrange(3)
                detections.append(
                    Detection(page, seen, (near[0], near[1], abs(near[2]), abs(near[3])), round(rng.random(), 2))
                )
    rng.shuffle(detections)
    return truths, detections


@pytest.mark.parametrize("seed", range(6))
def test_it_counts_what_pycocotools_counts(seed: int) -> None:
    found = agree(*drawn(seed, 12, 10), pages=14)
    assert 0.1 < found["ap"] < 0.9
    assert all(found[name] is not None for name in ("ap_small", "ap_medium", "ap_large"))


sides = some.floats(0, 120, width=16).filter(lambda side: side == 0 or side > 0.01)
places = some.tuples(sides, sides, sides, sides)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    some.lists(
        some.builds(
            lambda page, label, box, crowd: Truth(page, label, (*box[:2], box[2] + 1, box[3] + 1), box[2] * 9, crowd),
            some.integers(0, 2),
            some.integers(0, 2),
            places,
            some.booleans(),
        ),
        max_size=8,
    ),
    some.lists(
        some.builds(
            Detection, some.integers(0, 2), some.integers(0, 2), places, some.sampled_from((-1.0, 0.0, 0.5, 0.9, 7.0))
        ),
        max_size=12,
    ),
)
def test_whatever_the_boxes(truths: list[Truth], detections: list[Detection]) -> None:
    agree(truths, detections, pages=4)


def test_a_page_of_more_than_100_boxes() -> None:
    """A table with its cells: only the surest 100 count at COCO's limit."""
    truths = [Truth(0, 0, (20.0 * (n % 20), 20.0 * (n // 20), 18.0, 18.0), 324.0) for n in range(200)]
    detections = [Detection(0, 0, truth.box, 1 - place / 1000) for place, truth in enumerate(truths)]
    found = agree(truths, detections, pages=1, labels=["cell"])
    assert found["ap"] == pytest.approx(51 / 101)  # recalls 0, 0.01 … 0.5
    assert found["ap_300"] == pytest.approx(1.0)


def test_no_predictions_no_truths_and_neither() -> None:
    truths, detections = drawn(0, 3, 5)
    missed = agree(truths, [], pages=3)
    assert missed["ap"] == missed["ap_300"] == missed["ar"] == 0.0
    for seen in (detections, []):
        nothing = agree([], seen, pages=3)
        assert nothing["ap"] is nothing["ap_small"] is nothing["ar"] is None
        assert nothing["per_class"] == {name: {"ap": None, "ap50": None, "count": 0} for name in LABELS}


def test_only_crowds_are_no_regions_to_be_found() -> None:
    box = (0.0, 0.0, 50.0, 50.0)
    found = agree([Truth(0, 0, box, 2500.0, True)], [Detection(0, 0, box, 0.9)], pages=1)
    assert found["ap"] is None
    assert found["per_class"]["text"]["count"] == 0


def test_all_right_is_1_and_a_class_without_regions_does_not_count() -> None:
    truths = [truth for truth in drawn(1, 5, 5, crowd=0)[0] if truth.label != 2]
    found = agree(truths, [Detection(*truth[:3], 0.5) for truth in truths], pages=5)
    assert found["ap"] == found["ap50"] == found["ap75"] == pytest.approx(1.0)
    assert found["per_class"]["figure"] == {"ap": None, "ap50": None, "count": 0}


def test_boxes_that_are_a_little_off_are_found_at_50_and_not_at_75() -> None:
    truths = [Truth(0, 0, (0.0, 0.0, 100.0, 100.0), 1e4)]
    found = agree(truths, [Detection(0, 0, (0.0, 0.0, 100.0, 62.0), 1.0)], pages=1)
    assert (found["ap50"], found["ap75"]) == (pytest.approx(1.0), 0.0)
    assert found["ap"] == pytest.approx(3 / 10)  # thresholds 0.50, 0.55, 0.60


def test_the_order_of_files_does_not_matter() -> None:
    truths, detections = drawn(3, 6, 8)
    sure = [d._replace(score=d.score + n * 1e-6) for n, d in enumerate(detections)]  # without ties
    backwards = detection_metrics(truths[::-1], sure[::-1], LABELS, 6)
    assert backwards["ap"] == pytest.approx(detection_metrics(truths, sure, LABELS, 6)["ap"])


def test_without_the_extra_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtra, match=r'pip install "docstill\[layout\]"'):
        detection_metrics(*drawn(0, 1, 5), LABELS, 1)
