"""The schema of a set of answers: which keys stand at which key path, what repeats, how long values are.

It is read off the training answers, kept on the model's card under `SCHEMA`, and is what `docstill.decoding.grammar` holds
an answer to. Where rows of a list differ, the schema has what any of them has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from docstill.errors import ModelError

SCHEMA = "schema"
"""The key of the model card under which the schema stands."""


@dataclass
class Place:
    """What may stand between the tags of one key, or at the top.

    Attributes:
        keys: the keys that may open here.
        longest: tokens of the longest text that stood here; None if none ever did.
        rows: the most rows, parted by ``<sep/>``, that stood here; 1 where nothing repeats.
    """

    keys: dict[str, Place] = field(default_factory=dict)
    longest: int | None = None
    rows: int = 1


def schema_of(answers: Iterable[Any], count: Callable[[str], int]) -> Place:
    """The schema that all ``answers`` obey.

    Args:
        answers: JSON values, written as `docstill.data.json_tokens.json_to_tokens` writes them.
        count: how many tokens a text takes.
    """
    top = Place()
    for answer in answers:
        _add(top, answer, count)
    return top


def _add(place: Place, value: Any, count: Callable[[str], int]) -> None:
    rows = _rows(value)
    place.rows = max(place.rows, len(rows))
    for row in rows:
        if isinstance(row, dict) and set(row) != {"text_sequence"}:
            for key, child in row.items():
                _add(place.keys.setdefault(key, Place()), child, count)
            continue
        text = row["text_sequence"] if isinstance(row, dict) else row
        if text is not None and str(text):
            place.longest = max(place.longest or 0, count(str(text)))


def _rows(value: Any) -> list[Any]:
    """What separators part; lists in lists are written flat, and an empty list is one empty row."""
    if not isinstance(value, list):
        return [value]
    return [row for item in value for row in _rows(item)] or [None]


def to_card(place: Place) -> dict[str, Any]:
    """The schema as JSON: ``{"keys": {KEY: …}, "longest": n, "rows": n}``, what says nothing left out."""
    card: dict[str, Any] = {}
    if place.keys:
        card["keys"] = {key: to_card(child) for key, child in sorted(place.keys.items())}
    if place.longest is not None:
        card["longest"] = place.longest
    if place.rows > 1:
        card["rows"] = place.rows
    return card


def from_card(card: Any) -> Place:
    """The schema of a model card.

    Raises:
        ModelError: it is not what `to_card` writes.
    """
    wrong = f"the schema on the model's card is broken ({str(card)[:60]!r}); restore docstill.json, or take schema out of it"
    if (
        not isinstance(card, dict)
        or set(card) - {"keys", "longest", "rows"}
        or not isinstance(card.get("keys", {}), dict)
    ):
        raise ModelError(wrong)
    longest, rows = card.get("longest"), card.get("rows", 1)
    if not (longest is None or isinstance(longest, int)) or not isinstance(rows, int):
        raise ModelError(wrong)
    return Place({key: from_card(child) for key, child in card.get("keys", {}).items()}, longest, rows)
