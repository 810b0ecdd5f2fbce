from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.metrics.tree import normalise, same_answer, ted_accuracy

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)


@settings(deadline=None, max_examples=50)
@given(JSON, JSON)
def test_any_pair_has_an_accuracy_between_0_and_1(prediction: Any, truth: Any) -> None:
    assert 0.0 <= ted_accuracy(prediction, truth) <= 1.0
    assert ted_accuracy(truth, truth) == 1.0


@pytest.mark.parametrize(
    "empty", [{}, [], None, "", 0, False, {"a": ""}, {"a": {"b": None}}, [{}], [{"a": 0}], [None, True]]
)
def test_an_empty_truth_wants_an_empty_prediction(empty: Any) -> None:
    assert ted_accuracy({}, empty) == ted_accuracy([{}], empty) == ted_accuracy(None, empty) == 1.0
    assert ted_accuracy({"a": "b"}, empty) == 0.0


@pytest.mark.parametrize(
    ("given_", "wanted"),
    [
        ({"bb": "2", "a": "1", "aa": "3"}, '{"a": ["1"], "aa": ["3"], "bb": ["2"]}'),
        ({"a": 0, "b": "", "c": None, "d": [], "e": {}, "f": False}, "{}"),
        ({"a": True, "b": 1.50, "c": " x "}, '{"a": ["True"], "b": ["1.5"], "c": ["x"]}'),
        ({"a": ["x", 1, 0, 2.5, True, None, {"k": "v"}, ["y"], " "]}, '{"a": ["x", "1", "0", "2.5"]}'),
        ({"a": [{"k": "v"}, {}, {"k": ""}, {"k": "w"}]}, '{"a": [{"k": ["v"]}, {"k": ["w"]}]}'),
        ({"a": {"k": "v"}}, '{"a": [{"k": ["v"]}]}'),
        ({"a": " "}, '{"a": [""]}'),
        ("x", '["x"]'),
    ],
)
def test_normal_form(given_: Any, wanted: str) -> None:
    assert json.dumps(normalise(given_)) == wanted


def test_a_missing_leaf_costs_its_characters_and_its_key() -> None:
    truth = {"name": "Anna", "city": "Oslo"}  # 2 keys and 8 characters
    assert ted_accuracy({"name": "Anna"}, truth) == pytest.approx(1 - 5 / 10)
    assert ted_accuracy({"name": "Anna", "city": "Oslo", "zip": "123456"}, truth) == pytest.approx(1 - 7 / 10)
    assert ted_accuracy({"name": "Anna", "citi": "Oslo"}, truth) == pytest.approx(1 - 1 / 10)


def test_far_too_much_output_scores_0_not_less() -> None:
    assert ted_accuracy({"a": "x" * 100}, {"a": "y"}) == 0.0


def test_answers_are_the_same_if_nothing_is_missing_and_nothing_too_much() -> None:
    assert same_answer({"a": "1", "b": ""}, {"a": "1"})
    assert same_answer({"b": "2", "a": 1}, {"a": "1", "b": "2"})
    assert not same_answer({"a": "1"}, {"a": "1", "b": "2"})
    assert not same_answer({"a": "1", "b": "2"}, {"a": "1"})
    assert same_answer({}, {})
