"""The worst documents: picture, expected and predicted side by side, field by field, differences marked."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from PIL import Image
from rapidfuzz.distance import Levenshtein

from docstill.data.images import open_image
from docstill.errors import UserError
from docstill.reporting.rows import Row, real

LONG_SIDE = 900
"""Pixels of a picture's longer side in the report."""
LONGEST_VALUE = 600
"""Characters of a value that are shown."""


def document_view(document: Row) -> dict[str, Any]:
    """One of the worst documents as the template shows it."""
    sides = [document["expected"], document["student"], document["teacher"]]
    rows = [
        {"field": field, "expected": wanted, "student": _cell(wanted, student), "teacher": _cell(wanted, teacher)}
        for field, (wanted, student, teacher) in field_rows([_answer(side) for side in sides])
    ]
    return {
        **document,
        "picture": picture(document["image"]),
        "rows": rows,
        "fielded": any(row["field"] for row in rows),
        "taught": document["teacher"] is not None,
        "sure": [_sure(side) for side in sides],
    }


def _answer(value: Any) -> Any:
    return value["label"] if isinstance(value, dict) and set(value) == {"label", "probability"} else value


def _sure(value: Any) -> str:
    probability = real(value["probability"]) if _answer(value) is not value else None
    return "" if probability is None else f"{100 * probability:.0f} % sure"


def field_rows(sides: Sequence[Any], path: str = "") -> list[tuple[str, list[str | None]]]:
    """The leaves of answers side by side, the wanted answer first: (field, texts); None where an answer lacks the field.

    Rows of a list are paired by likeness, so that one left-out row does not put all that follow out of step.
    """
    if any(isinstance(side, list) for side in sides):
        lists = [side if isinstance(side, list) else [] if side is None else [side] for side in sides]
        paired = [_pair(lists[0], other) for other in lists[1:]]
        groups = [
            (f"{path} {i + 1}", [item, *(pairs.get(i) for pairs, _ in paired)]) for i, item in enumerate(lists[0])
        ]
        for place, (_, extra) in enumerate(paired, 1):
            for i, item in enumerate(extra, 1):
                groups.append((f"{path} extra {i}", [item if at == place else None for at in range(len(sides))]))
        return [row for name, items in groups for row in field_rows(items, name.strip())]
    if any(isinstance(side, dict) for side in sides):
        tables = [side if isinstance(side, dict) else {} for side in sides]
        rows = field_rows([None if isinstance(side, dict) else side for side in sides], path)
        for key in dict.fromkeys(key for table in tables for key in table):
            rows += field_rows([table.get(key) for table in tables], f"{path} › {key}" if path else str(key))
        return rows
    if all(side is None for side in sides):
        return []
    return [
        (
            path,
            [side if side is None or isinstance(side, str) else json.dumps(side, ensure_ascii=False) for side in sides],
        )
    ]


def _pair(wanted: Sequence[Any], got: Sequence[Any]) -> tuple[dict[int, Any], list[Any]]:
    """The cheapest alignment in order: what stands against each wanted row, and the rows that nothing was wanted for."""
    left, right = ([json.dumps(item, sort_keys=True, ensure_ascii=False) for item in items] for items in (wanted, got))
    costs = [[0.5 * column for column in range(len(right) + 1)]]
    for i, one in enumerate(left, 1):
        costs.append([0.5 * i])
        for j, other in enumerate(right, 1):
            swap = costs[i - 1][j - 1] + Levenshtein.normalized_distance(one, other)
            costs[i].append(min(swap, costs[i - 1][j] + 0.5, costs[i][j - 1] + 0.5))
    pairs: dict[int, Any] = {}
    extra: list[Any] = []
    i, j = len(left), len(right)
    while j:
        if i and costs[i][j] == costs[i - 1][j - 1] + Levenshtein.normalized_distance(left[i - 1], right[j - 1]):
            i, j = i - 1, j - 1
            pairs[i] = got[j]
        elif i and costs[i][j] == costs[i - 1][j] + 0.5:
            i -= 1
        else:
            j -= 1
            extra.insert(0, got[j])
    return pairs, extra


def _cell(wanted: str | None, got: str | None) -> dict[str, Any]:
    """A value against the wanted one: its state, and its text in parts, those that differ marked."""
    if got is None:
        return {"state": "none" if wanted is None else "missing", "parts": []}
    text = (
        got if len(got) <= LONGEST_VALUE else f"{got[:LONGEST_VALUE]}… ({len(got) - LONGEST_VALUE:,} more characters)"
    )
    if wanted is None or got == wanted:
        return {"state": "extra" if wanted is None else "same", "parts": [(text, wanted is None)] if text else []}
    if not text:
        return {"state": "differs", "parts": []}
    matcher = SequenceMatcher(None, wanted[:LONGEST_VALUE], text, autojunk=False)
    if matcher.ratio() < 0.5:
        return {"state": "differs", "parts": [(text, True)]}
    return {"state": "differs", "parts": [(text[b:c], kind != "equal") for kind, _, _, b, c in matcher.get_opcodes()]}


def picture(path: str | None) -> str | None:
    """The page as a data URI, or None where it cannot be shown."""
    if path is None:
        return None
    try:
        image = open_image(Path(path))
    except UserError:
        return None
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
