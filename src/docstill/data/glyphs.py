"""Where characters stand on a page, as `metadata.jsonl` says it: each with its place, or lines of text with their boxes.

Generated pages know each character's place (``glyphs``); of real ones OCR knows lines or words (``lines``), over whose boxes the
characters are spread evenly: half a character's width is little against a patch of 32 pixels.
"""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

from docstill.data.document import Glyphs
from docstill.data.images import upright_size
from docstill.data.json_tokens import AsWritten

_GLYPHS_WRONG = "glyphs must be a list of [character, x, y] with x and y as shares of the picture's width and height"
_LINES_WRONG = (
    'lines must be a list of {"text": "…", "box": [left, top, right, bottom]}, boxes in pixels of the picture; '
    "if they are something else, call them something else"
)


def glyphs_of(entry: dict[str, Any], file: Path | None) -> Glyphs | str | None:
    """The characters of a line of `metadata.jsonl`, what is wrong with them, or None if it says nothing of them.

    Args:
        entry: the line; ``glyphs`` or ``lines`` of it are read.
        file: its picture, whose size ``lines`` are measured against; None if it is not there, which others tell of.
    """
    glyphs, lines = (
        entry.get("glyphs"),
        entry.get("lines"),
    )  # null where a table has a column that this page does not fill
    if glyphs is not None and lines is not None:
        return "glyphs and lines both say where characters stand; keep one of them"
    if glyphs is not None:
        return _given(glyphs)
    if lines is not None and file is not None:
        return _spread(lines, file)
    return None


def _given(glyphs: Any) -> Glyphs | str:
    if not isinstance(glyphs, list):
        return _GLYPHS_WRONG
    for entry in glyphs:
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[0], str) and len(entry[0]) == 1):
            return _GLYPHS_WRONG
        if not all(map(_is_number, entry[1:])):
            return _GLYPHS_WRONG
    shares = array("f", (float(share) for entry in glyphs for share in entry[1:]))
    return Glyphs("".join(entry[0] for entry in glyphs), shares)


def _spread(lines: Any, file: Path) -> Glyphs | str:
    if not isinstance(lines, list):
        return _LINES_WRONG
    size, _ = upright_size(file)
    if size is None:
        return "lines are given, but the size of the picture cannot be read; leave them out"
    width, height = size
    characters, shares = [], array("f")
    for line in lines:
        if not (isinstance(line, dict) and isinstance(line.get("text"), str) and isinstance(line.get("box"), list)):
            return _LINES_WRONG
        text, box = line["text"], line["box"]
        if len(box) != 4 or not all(map(_is_number, box)):
            return _LINES_WRONG
        left, top, right, bottom = map(float, box)
        where = f"the box [{left:g}, {top:g}, {right:g}, {bottom:g}] of {text!r}"
        if left > right or top > bottom:
            return f"{where} ends before it begins; write [left, top, right, bottom]"
        if left > width or top > height or right < 0 or bottom < 0:
            return f"{where} lies off the picture, which has {width} × {height} pixels"
        down = (top + bottom) / 2 / height
        for place, character in enumerate(text):
            across = (left + (place + 0.5) / len(text) * (right - left)) / width
            if (
                not character.isspace() and 0 <= across <= 1 and 0 <= down <= 1
            ):  # boxes may reach over the edge a little
                characters.append(character)
                shares.extend((across, down))
    return Glyphs("".join(characters), shares)


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and isinstance(value, int | AsWritten) and math.isfinite(float(value))
    except OverflowError:  # an integer of hundreds of digits
        return False
