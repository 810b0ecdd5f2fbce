"""JSON as tokens: agrees with transformers' own parser, and says what it loses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DonutProcessor

from docstill.data.json_tokens import canonical, json_to_tokens, round_trip, survives, tag_tokens, tokens_to_json


class _Processor:
    """As much of a DonutProcessor as its parser looks at."""

    class tokenizer:
        @staticmethod
        def get_added_vocab() -> dict[str, int]:
            return {}

    def token2json(self, *arguments: Any, **options: Any) -> Any:
        return DonutProcessor.token2json(self, *arguments, **options)


def reference(text: str) -> Any:
    return _Processor().token2json(text)


keys = st.sampled_from(["a", "b", "menu", "name", "total.price", "x y", "ünï"])
leaves = st.text("ab1 .,€\n(", min_size=1, max_size=6).filter(lambda text: text.strip() == text)
plain = st.recursive(
    leaves,
    lambda inner: (
        st.dictionaries(keys, inner, min_size=1, max_size=3)
        | st.lists(st.dictionaries(keys, leaves, min_size=1, max_size=3), min_size=2, max_size=3)
        | st.lists(leaves, min_size=2, max_size=3)
    ),
    max_leaves=6,
)
documents = st.dictionaries(keys, plain, min_size=1, max_size=4)
messy = st.lists(
    st.sampled_from(["<s_a>", "</s_a>", "<s_b>", "</s_b>", "<s_menu>", "</s_menu>", "<sep/>", "x", " ", "1.0"]),
    max_size=12,
).map("".join)


@settings(deadline=None, max_examples=200)
@given(documents)
def test_agrees_with_transformers_on_what_it_writes(document: Any) -> None:
    text = json_to_tokens(document)
    assert tokens_to_json(text) == reference(text)


@settings(deadline=None, max_examples=300)
@given(messy)
def test_agrees_with_transformers_on_broken_output(text: str) -> None:
    ours, theirs = tokens_to_json(text), reference(text)
    assert ours == theirs or theirs == [] or ours == {"text_sequence": text}


@settings(deadline=None, max_examples=200)
@given(documents)
def test_what_survives_comes_back(document: Any) -> None:
    if survives(document) is None:
        assert round_trip(document) == canonical(document)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"note": "a <s_total> b"}, "holds a tag"),
        ({"note": "a<sep/>b"}, "holds a tag"),
        ({"rows": [["a"], ["b"]]}, "list of lists"),
        ({"menu": {"menu": "x"}}, "inside itself"),
        ({"a>b": "x"}, "break tags"),
        ({"rows": [{"a": "1"}, "x"]}, "mixes objects and values"),
        ({}, "not an object with fields"),
    ],
)
def test_what_is_lost_is_said(document: Any, words: str) -> None:
    assert words in str(survives(document))


def test_the_published_form() -> None:
    document = {"total": "3.00", "menu": [{"nm": "tea"}, {"nm": "milk"}]}
    assert json_to_tokens(document) == "<s_total>3.00</s_total><s_menu><s_nm>tea</s_nm><sep/><s_nm>milk</s_nm></s_menu>"
    assert tag_tokens(document) == {"<sep/>", "<s_total>", "</s_total>", "<s_menu>", "</s_menu>", "<s_nm>", "</s_nm>"}
    assert round_trip(document) == document
    assert tokens_to_json("no tags") == {"text_sequence": "no tags"}


def test_numbers_and_one_entry_lists_come_back_as_the_format_can() -> None:
    assert canonical({"n": 3, "l": [{"a": 1.5}], "none": None}) == {"n": "3", "l": {"a": "1.5"}, "none": ""}
    assert survives({"n": 3, "l": [{"a": 1.5}], "none": None}) is None
