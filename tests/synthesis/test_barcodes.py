"""Barcodes say what is written below them: they are found in the picture and read there, as a scanner does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from docstill.synthesis.generator import Generator, Kind
from docstill.synthesis.sheet import Sheet

# Code 128, ISO/IEC 15417: bars and spaces of each value, in modules.
PATTERNS = (
    "212222 222122 222221 121223 121322 131222 122213 122312 132212 221213 221312 231212 112232 122132 122231 113222 "
    "123122 123221 223211 221132 221231 213212 223112 312131 311222 321122 321221 312212 322112 322211 212123 212321 "
    "232121 111323 131123 131321 112313 132113 132311 211313 231113 231311 112133 112331 132131 113123 113321 133121 "
    "313121 211331 231131 213113 213311 213131 311123 311321 331121 312113 312311 332111 314111 221411 431111 111224 "
    "111422 121124 121421 141122 141221 112214 112412 122114 122411 142112 142211 241211 221114 413111 241112 134111 "
    "111242 121142 121241 114212 124112 124211 411212 421112 421211 212141 214121 412121 111143 111341 131141 114113 "
    "114311 411113 411311 113141 114131 311141 411131 211412 211214 211232"
).split()
VALUES = {tuple(map(int, pattern)): value for value, pattern in enumerate(PATTERNS)}
STOP = (2, 3, 3, 1, 1, 1, 2)
SETS = {103: "A", 104: "B", 105: "C", 101: "A", 100: "B", 99: "C"}


def meaning(values: list[int]) -> str | None:
    """What values between start and check say; None if the check is wrong."""
    *said, check = values
    if said[0] < 103 or check != (said[0] + sum(place * value for place, value in enumerate(said))) % 103:
        return None
    text, code = "", SETS[said[0]]
    for value in said[1:]:
        if value >= 99 and not (code == "C" and value == 99) and SETS.get(value) != code:
            code = SETS[value]
        else:
            text += f"{value:02d}" if code == "C" else chr(32 + value)
    return text


def in_line(line: np.ndarray) -> str | None:
    """A code in one line of pixels (N,), dark being True."""
    edges = [0, *(np.flatnonzero(line[1:] != line[:-1]) + 1).tolist(), len(line)]
    widths = [right - left for left, right in pairwise(edges)]
    for start in range(0 if line[0] else 1, len(widths) - 24, 2):
        module, values, place = sum(widths[start : start + 6]) / 11, list[int](), start
        while (shape := tuple(width / module for width in widths[place : place + 6])) in VALUES:
            values.append(VALUES[shape])  # type: ignore[index]
            place += 6
        if len(values) > 2 and tuple(width / module for width in widths[place : place + 7]) == STOP:
            return meaning(values)
    return None


def codes(image: Image.Image) -> set[str]:
    """All codes of a picture, across or on end, read from below."""
    dark = np.asarray(image.convert("L")) < 128
    lines = [*dark[::12], *dark.T[::12, ::-1]]
    return {code for line in lines if (code := in_line(line))}


def test_this_reader_finds_bars_across_and_on_end() -> None:
    assert len(VALUES) == 106
    assert all(sum(shape) == 11 for shape in VALUES)
    for code in ("1234567890", "AB123456789DE", "QX0012"):
        sheet = Sheet(400, 100)
        sheet.barcode(code, (10, 10, 390, 90))
        on_end = Sheet(100, 400)
        on_end.barcode(code, (10, 10, 90, 390), across=False)
        assert codes(sheet.image) == codes(on_end.image) == {code}
    assert codes(Image.new("RGB", (90, 90))) == set()


def test_every_label_has_its_tracking_code_in_bars() -> None:
    generator = Generator("labels", seed=4)
    for index in range(40):
        sheet, truth = generator.sheet(index)
        assert codes(sheet.image) == {truth["tracking_code"]}, index


@pytest.mark.parametrize("kind", ["small-labels", "receipts"])
def test_bars_of_other_kinds_say_nothing_else(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small labels have bars that are finer than a pixel, or none; receipts a number that is written nowhere else."""
    asked, barcode = list[str](), Sheet.barcode

    def noted(self: Sheet, code: str, *more: object, **options: object) -> None:
        asked.append(code)
        barcode(self, code, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Sheet, "barcode", noted)
    generator, read = Generator(kind, seed=4), 0
    for index in range(40):
        asked.clear()
        sheet, truth = generator.sheet(index)
        found = codes(sheet.image)
        assert found <= set(asked)
        assert set(asked) <= {truth["tracking_code"]} if kind == "small-labels" else found == set(asked)
        read += len(found)
    assert read > 8
