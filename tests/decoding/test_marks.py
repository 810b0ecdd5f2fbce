"""Connected marks, held against a flood fill."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from docstill.decoding.marks import marks_on, turning


def flooded(ink: np.ndarray) -> list[tuple[int, int, int, int, int]]:
    """Top, bottom, left, right and area of each mark, found pixel by pixel."""
    left, found = {(int(y), int(x)) for y, x in np.argwhere(ink)}, []
    while left:
        mark, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            mark.add((y, x))
            beside = {(y + down, x + across) for down in (-1, 0, 1) for across in (-1, 0, 1)} & left
            left -= beside
            edge += beside
        rows, columns = [y for y, _ in mark], [x for _, x in mark]
        found.append((min(rows), max(rows) + 1, min(columns), max(columns) + 1, len(mark)))
    return sorted(found)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.4, 0.6, 1.0])
def test_marks_are_those_of_a_flood_fill(share: float) -> None:
    ink = np.random.default_rng(0).random((37, 29)) < share
    marks = marks_on(ink)
    found = zip(marks.top, marks.bottom, marks.left, marks.right, marks.area, strict=True)
    assert sorted(tuple(map(int, mark)) for mark in found) == flooded(ink)
    assert list(marks.top) == sorted(marks.top)


def test_a_spiral_is_one_mark() -> None:
    ink = np.zeros((21, 21), bool)
    for turn in range(0, 10, 2):
        ink[turn, turn : 21 - turn] = ink[turn : 21 - turn, 20 - turn] = ink[20 - turn, turn : 21 - turn] = True
        ink[turn + 2 : 21 - turn, turn] = True
        ink[turn + 2, turn : turn + 3] = True
    assert len(marks_on(ink).area) == 1


def test_edges_of_a_letter_turn_and_those_of_a_line_do_not() -> None:
    page = Image.new("L", (120, 60), 255)
    draw = ImageDraw.Draw(page)
    draw.text((10, 20), "a", fill=0, font_size=20)
    draw.line((40, 10, 44, 50), fill=0, width=3)
    draw.line((60, 10, 100, 50), fill=0, width=3)
    gray = np.asarray(page)
    marks = marks_on(gray < 128)
    letter, *lines = turning(marks, np.argsort(marks.left), gray, 0.0)
    assert letter > 2 * max(lines)
