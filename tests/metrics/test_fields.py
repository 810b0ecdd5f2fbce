from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.metrics.fields import document_f1, field_scores, pairs

DOCUMENTS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.text("xy", max_size=2)
    | st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.text("xy", max_size=2)), max_size=3),
    max_size=3,
)


def test_paths_are_dotted_and_rows_are_not_told_apart() -> None:
    document = {"menu": [{"nm": "tea"}, {"nm": "tea", "sub": {"nm": ["milk", "sugar"]}}], "total": 7}
    assert pairs(document) == {
        ("menu.nm", "tea"): 2,
        ("menu.sub.nm", "milk"): 1,
        ("menu.sub.nm", "sugar"): 1,
        ("total", "7"): 1,
    }


def test_a_value_counts_as_often_as_it_occurs() -> None:
    scores = field_scores([{"a": ["x", "x", "x"]}], [{"a": ["x", "x", "y"]}])
    assert (scores.f1, scores.precision, scores.recall) == pytest.approx((2 / 3, 2 / 3, 2 / 3))


def test_scores_are_counted_over_all_documents_and_each_path() -> None:
    predictions = [{"total": "7", "date": "x"}, {"total": "8", "cash": "9"}, {}]
    truths = [{"total": "7", "date": "y"}, {"total": "8"}, {"total": "1"}]
    scores = field_scores(predictions, truths)
    assert scores.precision == 2 / 4
    assert scores.recall == 2 / 4
    assert scores.f1 == 2 / 4
    assert scores.per_field == {
        "cash": {"f1": 0.0, "precision": 0.0, "recall": 0.0, "support": 0.0},
        "date": {"f1": 0.0, "precision": 0.0, "recall": 0.0, "support": 1.0},
        "total": {"f1": 4 / 5, "precision": 1.0, "recall": 2 / 3, "support": 3.0},
    }


@pytest.mark.parametrize("nothing", [{}, None, [], "", {"a": None}])
def test_where_there_is_nothing_to_find_and_nothing_was_found_all_is_right(nothing: Any) -> None:
    scores = field_scores([nothing], [nothing])
    assert (scores.f1, scores.precision, scores.recall, scores.per_field) == (1.0, 1.0, 1.0, {})
    assert field_scores([], []).f1 == 1.0
    assert document_f1({"a": "x"}, nothing) == 0.0
    assert document_f1(nothing, {"a": "x"}) == 0.0


def test_the_two_sides_must_be_equally_long() -> None:
    with pytest.raises(ValueError, match="zip"):
        field_scores([{}], [])


@settings(deadline=None, max_examples=50)
@given(DOCUMENTS, DOCUMENTS)
def test_f1_is_the_harmonic_mean_and_fair_to_both_sides(one: Any, other: Any) -> None:
    scores, mirrored = field_scores([one], [other]), field_scores([other], [one])
    assert (scores.precision, scores.recall, scores.f1) == (mirrored.recall, mirrored.precision, mirrored.f1)
    if scores.f1:
        assert scores.f1 == pytest.approx(2 * scores.precision * scores.recall / (scores.precision + scores.recall))
    assert document_f1(one, one) == 1.0
