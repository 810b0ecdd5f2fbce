"""The schema of training answers: what it notes, and that a card brings it back."""

from __future__ import annotations

from typing import Any

import pytest

from docstill.decoding.schema import Place, from_card, schema_of, to_card
from docstill.errors import ModelError


def test_keys_rows_and_lengths_of_all_answers_together() -> None:
    answers: list[Any] = [
        {"menu": [{"name": "tea"}, {"name": "milk", "price": "1.00"}], "total": "9"},
        {"menu": {"name": "bread"}, "note": ["a", "bc", ""], "tip": None, "empty": {}},
    ]
    schema = schema_of(answers, len)
    assert schema == Place(
        {
            "menu": Place({"name": Place(longest=5), "price": Place(longest=4)}, rows=2),
            "total": Place(longest=1),
            "note": Place(longest=2, rows=3),
            "tip": Place(),
            "empty": Place(),
        }
    )


def test_lists_in_lists_are_as_flat_as_they_are_written() -> None:
    assert schema_of([{"a": [["x", "y"], ["z"], []]}], len).keys["a"].rows == 4


def test_a_whole_document_can_be_a_list_or_a_text() -> None:
    assert schema_of([[{"a": "x"}, {"b": "yy"}]], len) == Place({"a": Place(longest=1), "b": Place(longest=2)}, rows=2)
    assert schema_of([{"text_sequence": "hello"}], len) == Place(longest=5)


def test_a_card_brings_the_schema_back() -> None:
    schema = schema_of([{"menu": [{"name": "tea"}, {"name": "milk"}], "total": "9", "tip": None}], len)
    card = to_card(schema)
    assert card == {
        "keys": {
            "menu": {"keys": {"name": {"longest": 4}}, "rows": 2},
            "tip": {},
            "total": {"longest": 1},
        }
    }
    assert from_card(card) == schema


@pytest.mark.parametrize(
    "card", [None, [], {"key": {}}, {"keys": {"a": 3}}, {"longest": "9"}, {"rows": None}, {"keys": []}]
)
def test_a_broken_card_is_refused(card: Any) -> None:
    with pytest.raises(ModelError, match="schema on the model's card is broken"):
        from_card(card)
