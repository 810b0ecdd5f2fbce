"""JSON as tags and back: the published rules, agreement with transformers, and what gets lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.data.json_tokens import (
    SPECIAL,
    canonical,
    json_to_tokens,
    round_trip,
    survives,
    tag_tokens,
    tokens_to_json,
)
from docstill.models import donut_tokens

RECEIPT = {
    "menu": [{"nm": "tea", "price": "1.50", "cnt": 2}, {"nm": "milk", "price": "0.90", "cnt": 1}],
    "total": {"total_price": "3.90"},
    "notes": ["paid", "cash"],
}


def published(text: str) -> Any:
    """`token2json` of transformers, with no added vocabulary (a stub stands in for the processor)."""
    processing = pytest.importorskip("transformers.models.donut.processing_donut")

    class Tokenizer:
        def get_added_vocab(self) -> dict[str, int]:
            return {}

    class Stub:
        tokenizer = Tokenizer()
        token2json = processing.DonutProcessor.token2json

    return Stub().token2json(text)


keys = st.text("abMm1_.*+$( -é", min_size=1, max_size=3)
leaves = st.one_of(
    st.text("abc <>/s_\n1é", max_size=6), st.integers(-9, 9), st.booleans(), st.none(), st.floats(allow_nan=False)
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=12,
)
documents = st.dictionaries(keys, values, max_size=4)
pieces = st.sampled_from(
    ["<s_a>", "</s_a>", "<s_b>", "</s_b>", "<S_A>", "</S_a>", "<s_ab>", "</s_ab>", "<s_.>", "</s_.>", "<s_>", "</s_>"]
    + ["<sep/>", "<sep/>", "x", "1.0", " ", "\n", "<s_", "</s_", ">", "<yes/>", "<"]
)


def test_the_published_form() -> None:
    assert json_to_tokens({"a": "1", "b": [{"c": "x"}, {"c": "y"}]}) == (
        "<s_b><s_c>x</s_c><sep/><s_c>y</s_c></s_b><s_a>1</s_a>"
    )
    assert json_to_tokens({"a": "1", "b": "2"}, sort_keys=False) == "<s_a>1</s_a><s_b>2</s_b>"
    assert json_to_tokens({"text_sequence": "plain text"}) == "plain text"
    assert json_to_tokens({"a": ["x", "y"]}) == "<s_a>x<sep/>y</s_a>"


def test_the_tags_that_a_tokenizer_needs() -> None:
    assert tag_tokens({"a": [{"b": 1}], "c": "x"}) == {
        "<s_a>",
        "</s_a>",
        "<s_b>",
        "</s_b>",
        "<s_c>",
        "</s_c>",
        "<sep/>",
    }
    assert tag_tokens({"text_sequence": "x"}) == {"<sep/>"}


@given(documents)
@settings(deadline=None, max_examples=50)
def test_every_tag_in_the_text_is_among_the_tags(document: dict[str, Any]) -> None:
    text = json_to_tokens(document)
    for tag in sorted(tag_tokens(document), key=len, reverse=True):
        text = text.replace(tag, "")
    leaves_only = "".join(str(leaf) for leaf in _leaves(document))
    assert sorted(text) == sorted(leaves_only) or any("<" in str(leaf) for leaf in _leaves(document))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for child in value.values() for leaf in _leaves(child)]
    if isinstance(value, list):
        return [leaf for child in value for leaf in _leaves(child)]
    return [] if value is None else [value]


def test_a_receipt_comes_back() -> None:
    wanted = {
        "menu": [{"nm": "tea", "price": "1.50", "cnt": "2"}, {"nm": "milk", "price": "0.90", "cnt": "1"}],
        "total": {"total_price": "3.90"},
        "notes": ["paid", "cash"],
    }
    assert round_trip(RECEIPT) == wanted == canonical(RECEIPT)
    assert survives(RECEIPT) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {"text_sequence": ""}),
        ("just words", {"text_sequence": "just words"}),
        ("<s_a>1</s_a>", {"a": "1"}),
        ("<s_a>two\nlines</s_a>", {"a": "two\nlines"}),
        ("<s_a.b*>1</s_a.b*>", {"a.b*": "1"}),
        ("<s_a>1<s_b>2</s_b>", {"b": "2"}),  # a is never closed
        ("<s_a>1", {"text_sequence": "1"}),
        ("<s_a>1</s_a><sep/><s_a>2</s_a>", [{"a": "1"}, {"a": "2"}]),
        ("<s_a>1</s_a><sep/>", [{"a": "1"}]),
        ("<s_a><s_b>1</s_b><sep/></s_a>", {"a": {"b": "1"}}),
        ("<s_a><s_b></s_c></s_a>", {"text_sequence": ""}),
        ("<s_A>1</s_a>", {"A": "1"}),
        ("<S_a>1</s_a>", {"a": "1"}),
        ("</s_a>9<s_a>1</s_a>", {"a": "1"}),
        ("<s_a", {"text_sequence": "<s_a"}),
    ],
)
def test_well_formed_and_broken_output(text: str, wanted: Any) -> None:
    assert tokens_to_json(text) == wanted
    assert published(text) == wanted


@given(documents)
@settings(deadline=None, max_examples=200)
def test_agrees_with_transformers_on_documents(document: dict[str, Any]) -> None:
    text = json_to_tokens(document)
    assert tokens_to_json(text) == published(text)


@given(st.lists(pieces, max_size=24).map("".join))
@settings(deadline=None, max_examples=600)
def test_agrees_with_transformers_on_any_output(text: str) -> None:
    assert tokens_to_json(text) == published(text)


@given(documents, st.data())
@settings(deadline=None, max_examples=100)
def test_agrees_with_transformers_on_cut_output(document: dict[str, Any], data: st.DataObject) -> None:
    text = json_to_tokens(document)
    text = text[: data.draw(st.integers(0, len(text)))]
    assert tokens_to_json(text) == published(text)


@given(documents)
@settings(deadline=None, max_examples=200)
def test_a_document_that_does_not_come_back_is_never_said_to_survive(document: dict[str, Any]) -> None:
    if published(json_to_tokens(document)) != canonical(document):
        assert survives(document)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.text("xyz 1<>/\n", max_size=5), max_size=3), min_size=1))
@settings(deadline=None, max_examples=100)
def test_flat_documents_survive(document: dict[str, Any]) -> None:
    assert survives(document) is None


@given(documents)
@settings(deadline=None, max_examples=100)
def test_canonical_changes_nothing_twice(document: dict[str, Any]) -> None:
    assert canonical(canonical(document)) == canonical(document)


@pytest.mark.parametrize(
    ("value", "carried"),
    [
        ({"a": 1, "b": True, "c": 1.5}, {"a": "1", "b": "True", "c": "1.5"}),
        ({"a": ["x"]}, {"a": "x"}),
        ({"a": [{"b": "x"}]}, {"a": {"b": "x"}}),
        ({"a": None, "b": "", "c": [], "d": {}}, {"a": "", "b": "", "c": "", "d": ""}),
        ({"a": " x "}, {"a": "x"}),
        ([{"a": "1"}], {"a": "1"}),
        ({"text_sequence": " as it is "}, {"text_sequence": " as it is "}),
        ({"price/unit": "x", "two words": "y"}, {"price/unit": "x", "two words": "y"}),
    ],
)
def test_what_the_format_can_carry(value: Any, carried: Any) -> None:
    assert canonical(value) == carried == round_trip(value)
    assert survives(value) is None


@pytest.mark.parametrize(
    ("value", "phrase"),
    [
        ({"a": {"b": {"a": "1"}}}, "the key 'a' stands inside itself in a.b"),
        ({"Menu": {"menu": "1"}}, "stands inside itself"),
        ({"a": [["1", "2"], ["3"]]}, "a is a list of lists"),
        ({"rows": [["a"], ["b"]]}, "rows is a list of lists"),
        ({"note": "a <s_total> b"}, "the value of note holds a tag"),
        ({"a": "one<sep/>two"}, "the value of a holds a tag"),
        ({"a": "x</s_a>y"}, "the value of a holds a tag"),
        ({"a": "x <s_y"}, "the value of a holds a tag"),
        ({"a": [{"b": "1"}, "2"]}, "a mixes objects and values"),
        ({"a": [{"b": "1"}, {}]}, "a holds an empty object"),
        ({"a>b": "1"}, "holds characters that break tags"),
        ({"a": {"text_sequence": "x"}}, "a is a text_sequence"),
        (["x", "y"], "comes back changed"),
        ({}, "not an object with fields"),
        ("x", "not an object with fields"),
    ],
)
def test_what_is_lost_is_named(value: Any, phrase: str) -> None:
    assert phrase in (survives(value) or "")


def test_long_and_repeating_output_is_parsed_in_time() -> None:
    rows = json_to_tokens({"menu": [{"nm": f"item {index}", "price": str(index)} for index in range(2000)]})
    assert len(tokens_to_json(rows)["menu"]) == 2000
    assert tokens_to_json("<s_a>" * 5000 + "x") == {"text_sequence": "x"}
    assert tokens_to_json("".join(f"<s_k{index}>" for index in range(2000))) == {"text_sequence": ""}


def test_the_special_tokens_are_those_of_the_tokenizers_that_are_made() -> None:
    assert set(SPECIAL) == set(donut_tokens.SPECIAL)


@pytest.mark.parametrize("value", [*SPECIAL, "a</s>b", "x<pad>y", "x<PAD>y", "</S>", "a < s > b"])
def test_a_value_with_a_token_of_the_tokenizers_own_does_not_survive(value: str) -> None:
    tokenizer = donut_tokens.character_tokenizer([], [])
    spelt = len(donut_tokens.encode(tokenizer, value)) == len(value)  # letter by letter, so that it comes back
    assert (survives({"note": value}) is None) == spelt
