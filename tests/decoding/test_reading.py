"""From tokens to fields and confidences: the shape of the fields, the probability of each value."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.data.json_tokens import json_to_tokens, tokens_to_json
from docstill.decoding.reading import parse, reading
from docstill.models.donut_tokens import character_tokenizer, encode
from docstill.pruning.merges import merged_tokenizer

TOKENIZER = character_tokenizer([], [f"<{slash}s_{key}>" for key in "abc" for slash in ("", "/")])
TAGS = [("</s_a>", "<s_b>"), ("</s_b>", "<sep/>"), ("</s_b><sep/>", "<s_b>"), ("<s_b>", "</s_b>"), ("<s_a>", "<s_b>")]
MERGED = merged_tokenizer(TOKENIZER, TAGS)
HALF = math.log(0.5)


def read(text: str, *probabilities: float, tokenizer: Any = TOKENIZER) -> Any:
    """The text, each token of it and the end with its probability, 1 for those that are not given."""
    ids = [*encode(tokenizer, text), TOKENIZER.eos_token_id]
    logs = [math.log(probability) for probability in probabilities]
    return reading(tokenizer, [*ids, TOKENIZER.pad_token_id], logs + [0.0] * (len(ids) - len(logs)) + [-99.0])


def test_a_value_is_as_likely_as_its_tag_its_tokens_and_its_end_together() -> None:
    found = read("<s_a>12</s_a><s_b>3</s_b>", 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
    assert found.fields == {"a": "12", "b": "3"}
    assert found.confidence == {"a": pytest.approx(0.9 * 0.8 * 0.7 * 0.6), "b": pytest.approx(0.5 * 0.4 * 0.3)}
    assert found.whole == pytest.approx(0.9 * 0.8 * 0.7 * 0.6 * 0.5 * 0.4 * 0.3 * 0.2)


def test_entries_of_a_list_have_their_own() -> None:
    found = read("<s_a>1<sep/>2</s_a>", 0.9, 0.8, 0.7, 0.6, 0.5)
    assert found.fields == {"a": ["1", "2"]}
    assert found.confidence == {"a": [pytest.approx(0.9 * 0.8 * 0.7), pytest.approx(0.6 * 0.5)]}


def test_rows_and_empty_values() -> None:
    found = read("<s_a><s_b>x</s_b><sep/><s_b></s_b></s_a>", 1, 1, 1, 0.5, 1, 0.7, 0.6)
    assert found.fields == {"a": [{"b": "x"}, {"b": ""}]}
    assert found.confidence == {"a": [{"b": 0.5}, {"b": pytest.approx(0.42)}]}


def test_merged_tags_count_for_the_value_before_and_the_one_behind() -> None:
    found = read("<s_a>12</s_a><s_b>3</s_b>", 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, tokenizer=MERGED)
    assert found.fields == {"a": "12", "b": "3"}
    assert found.confidence == {"a": pytest.approx(0.9 * 0.8 * 0.7 * 0.6), "b": pytest.approx(0.6 * 0.5 * 0.4)}
    assert found.whole == pytest.approx(0.9 * 0.8 * 0.7 * 0.6 * 0.5 * 0.4 * 0.3)
    found = read("<s_a><s_b>x</s_b><sep/><s_b>y</s_b></s_a>", 0.9, 0.8, 0.7, 0.6, 0.5, tokenizer=MERGED)
    assert found.fields == {"a": [{"b": "x"}, {"b": "y"}]}
    assert found.confidence["a"] == [{"b": pytest.approx(0.9 * 0.8 * 0.7)}, {"b": pytest.approx(0.7 * 0.6 * 0.5)}]
    found = read("<s_a><s_c>x</s_c><s_b></s_b></s_a>", 1, 1, 1, 1, 0.5, tokenizer=MERGED)  # a value in one token
    assert found.confidence == {"a": {"c": 1, "b": 0.5}}


def test_an_answer_cut_off_is_read_as_far_as_it_goes() -> None:
    ids = encode(TOKENIZER, "<s_a>1</s_a><s_b>22")
    found = reading(TOKENIZER, ids, [HALF] * len(ids))
    assert found.fields == {"a": "1"}
    assert found.confidence == {"a": pytest.approx(1 / 8)}
    assert found.whole == pytest.approx(0.5**6)


@pytest.mark.parametrize(
    "text", ["", "hello", "<s_a>", "</s_a><s_b>", "<s_a><sep/></s_b>", "x<sep/>y", "<s_a><s_a>1</s_a>"]
)
def test_what_cannot_be_read_still_has_a_confidence_for_each_value(text: str) -> None:
    found = read(text)
    assert same_shape(found.fields, found.confidence)
    assert found.fields == parse(text)


def test_an_id_without_a_token_writes_nothing_and_counts_for_the_value_it_stands_in() -> None:
    a, end, one = encode(TOKENIZER, "<s_a></s_a>1")
    unknown = len(TOKENIZER) + 3
    ids = [unknown, a, one, unknown, end, unknown, TOKENIZER.eos_token_id]
    found = reading(TOKENIZER, ids, [HALF, 0.0, 0.0, HALF, HALF, HALF, 0.0])
    assert found.fields == {"a": "1"}
    assert found.confidence == {"a": pytest.approx(0.25)}
    assert found.whole == pytest.approx(0.5**4)


def test_an_empty_answer_has_no_fields() -> None:
    assert parse("") == parse(" ") == {}


def same_shape(fields: Any, confidence: Any) -> bool:
    if isinstance(fields, dict):
        return fields.keys() == confidence.keys() and all(same_shape(fields[key], confidence[key]) for key in fields)
    if isinstance(fields, list):
        return len(fields) == len(confidence) and all(map(same_shape, fields, confidence))
    return isinstance(confidence, float) and 0 <= confidence <= 1


VALUES = st.text("ab9 ", max_size=4)
ROWS = st.dictionaries(st.sampled_from("bc"), VALUES | st.lists(VALUES, min_size=2, max_size=3), min_size=1)
ANSWERS = st.dictionaries(st.sampled_from("a"), VALUES | ROWS | st.lists(ROWS, min_size=2, max_size=3), min_size=1)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(ANSWERS)
def test_confidences_have_the_shape_of_the_fields(answer: Any) -> None:
    """Every token is as likely as not: a value of n tokens has 0.5 to the n, its tag and its end counted."""
    text = json_to_tokens(answer)
    ids = [*encode(TOKENIZER, text), TOKENIZER.eos_token_id]
    found = reading(TOKENIZER, ids, [HALF] * len(ids))
    assert found.fields == tokens_to_json(text)
    assert same_shape(found.fields, found.confidence)
    assert all(0 < confidence <= 0.5 for confidence in leaves(found.confidence))


def leaves(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [leaf for child in value.values() for leaf in leaves(child)]
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list) else [value]
