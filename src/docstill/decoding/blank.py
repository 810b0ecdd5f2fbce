"""Pages without writing on them: a model asked to read one would invent an answer.

Writing is marks of the size of letters, side by side. What else an empty sheet shows is not: grain, shadows, folds, the edges of
paper and scanner, the table it lies on, stains, punch holes.

The page is shrunk to some 850 × 850 to 1,700 × 1,700 pixels, whatever its shape, gray, and looked at as it is, at a half (most print
is seen there, in a quarter of the time) and at a quarter (large print). Each time once for dark print and once for light.

1. The paper is the lightest of each 8 × 8 pixels, the median over 5 × 5 of those. Ink is what is darker than the paper by more
   than 5 times the spread of the neighbourhood (64 × 64 pixels and those around), at least 8 (light print: 24) and at most 45 of
   255 levels, and by more than 0.4 of the darkest nearby, which keeps blurred letters apart.
2. A mark is a letter if it is 5 to 120 pixels high, is clear of the page's edge, fills a fair part of its box, and has edges in
   all directions; folds, rims and wood have them in one.
3. There is writing where three marks of like height stand in a line, upright or not, two of them letters; the third may be a
   straight one, such as a 1. A mark as wide as two letters counts as two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from docstill.decoding.marks import Ints, marks_on, turning

SIDE = 850
"""Of a square of as many pixels as the page has: till rolls are long, and their print is small."""
SCALES = (2, 1, 4)
CELL, TILE = 8, 64
SPREADS, INKED, MOST, NEARBY = 5.67, 5.0, 45.0, 0.4
LEAST_DARK, LEAST_LIGHT = 8.0, 24.0
LOWEST, HIGHEST, THINNEST, SMALLEST = 5, 120, 2, 8
TURNING, FILLED, SOLID, TWO = 0.15, 0.18, 0.85, 1.3
GAP, OFFSET, ALIKE, LONGEST = 2.0, 0.6, 2.2, 6.0
LETTERS, LINE = 2, 3
_AT_ONCE, _STEP = 256, 192
"""Marks that are held against each other at a time, so that a page of specks does not take long."""

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]


def is_blank(image: Image.Image) -> bool:
    """Whether a page has no writing on it."""
    page = image if image.mode in {"L", "RGB"} else image.convert("RGB")
    factor = int((page.width * page.height) ** 0.5) // SIDE
    page = (page.reduce(factor) if factor > 1 else page).convert("L")
    return not any(_has_writing(page.reduce(scale) if scale > 1 else page) for scale in SCALES)


def _has_writing(page: Image.Image) -> bool:
    if min(page.size) < CELL:
        return False
    # whole cells: the last row and column are repeated
    gray = np.pad(np.asarray(page), ((0, -page.height % CELL), (0, -page.width % CELL)), mode="edge")
    steps = np.abs(np.diff(gray[::2].astype(np.int16), axis=1))
    grain = 1.4826 / 2**0.5 * float(_levels(np.bincount(steps.ravel(), minlength=256)[None], (0.5,)).item())
    return any(
        _has_letters(side, _ink(side, grain, least), page.size, grain)
        for side, least in ((gray, LEAST_DARK), (255 - gray, LEAST_LIGHT))
    )


def _ink(gray: Gray, grain: float, least: float) -> NDArray[np.bool_]:
    """Where a page is darker than its paper and what else is around; sides are multiples of `CELL`."""
    rows, columns = gray.shape[0] // CELL, gray.shape[1] // CELL
    lightest = Image.fromarray(_highest(gray)).filter(ImageFilter.MedianFilter(5))
    paper = np.asarray(lightest.resize((gray.shape[1], gray.shape[0]), Image.Resampling.BILINEAR))
    depth = np.maximum(paper, gray) - gray
    down, across = max(1, round(gray.shape[0] / TILE)), max(1, round(gray.shape[1] / TILE))
    tile = (np.arange(rows) * down // rows)[:, None] * across + np.arange(columns) * across // columns
    half = CELL // 2  # every other pixel is enough to know the spread by
    keys = np.repeat(np.repeat(256 * tile, half, axis=0), half, axis=1) + depth[::2, ::2]
    counts = np.bincount(keys.ravel(), minlength=256 * down * across).reshape(-1, 256)
    lowest, quarter, most = _levels(counts, (0.05, 0.25, 0.75)).astype(float)
    # as standard deviations: on the paper's side, where there is no ink; over the middle, which dense print widens; from pixel to
    # pixel, as white paper ends at 255 and has grain on one side only
    middle = np.minimum((most - quarter) / 1.35, INKED)
    spread = np.maximum(np.maximum((quarter - lowest) / 0.97, middle), grain).reshape(down, across)
    spread = np.maximum(_around(spread), np.median(spread))
    limit = (quarter + np.clip(SPREADS * spread, least, MOST).ravel())[tile]
    limit = np.maximum(limit, NEARBY * _around(_highest(depth))).clip(max=255).astype(np.uint8)
    inked: NDArray[np.bool_] = depth.reshape(rows, CELL, columns, CELL) > limit[:, None, :, None]
    return inked.reshape(gray.shape)


def _has_letters(gray: Gray, ink: NDArray[np.bool_], size: tuple[int, int], grain: float) -> bool:
    """Whether some marks stand side by side as letters do, on a page of ``size``."""
    marks = marks_on(ink)
    fits = (marks.height >= LOWEST) & (marks.height <= HIGHEST) & (marks.width >= THINNEST) & (marks.area >= SMALLEST)
    clear = (marks.top > 0) & (marks.left > 0) & (marks.bottom < size[1]) & (marks.right < size[0])
    chosen = np.flatnonzero(fits & clear)
    for start in range(0, max(1, len(chosen) - (_AT_ONCE - _STEP)), _STEP):
        some = chosen[start : start + _AT_ONCE]
        heights, widths = marks.height[some], marks.width[some]
        filled = marks.area[some] / (heights * widths)
        letters = (turning(marks, some, gray, grain) >= TURNING) & (filled >= FILLED)
        two = (np.maximum(heights / widths, widths / heights) >= TWO) & (filled < SOLID)
        weights = letters * (1.0 + two)
        x, y = (marks.left + marks.right)[some] / 2, (marks.top + marks.bottom)[some] / 2
        across = _in_line(x, widths, y, heights, letters, weights, size[0])
        if across or _in_line(y, heights, x, widths, letters, weights, size[1]):
            return True
    return False


def _in_line(
    along: Floats,
    lengths: Ints,
    across: Floats,
    heights: Ints,
    letters: NDArray[np.bool_],
    weights: Floats,
    extent: int,
) -> bool:
    """Whether enough marks stand in one line, near each other and of like height.

    Args:
        along: the middle of each mark in the direction of the line.
        lengths: its extent in that direction.
        across: the middle at right angles to it.
        heights: the extent at right angles.
        letters: which are letters.
        weights: how many letters each may be.
        extent: of the page in the direction of the line.
    """
    higher = np.maximum.outer(heights, heights)
    apart = np.abs(np.subtract.outer(along, along)) - np.add.outer(lengths, lengths) / 2
    beside = (apart < GAP * higher) & (np.abs(np.subtract.outer(across, across)) < OFFSET * higher)
    beside &= ALIKE * np.minimum.outer(heights, heights) >= higher
    beside &= (heights >= LOWEST) & (lengths <= np.minimum(LONGEST * heights, extent / 2))
    by_letters = beside @ weights
    enough = (by_letters >= LETTERS) & (by_letters + beside @ (~letters).astype(float) >= LINE)
    return bool((letters & enough).any())


def _highest(values: Gray) -> Gray:
    """The highest value of each cell."""
    rows, columns = values.shape[0] // CELL, values.shape[1] // CELL
    highest: Gray = values.reshape(rows, CELL, -1).max(axis=1).reshape(rows, columns, CELL).max(axis=2)
    return highest


def _around(values: NDArray[np.generic]) -> Floats:
    """The highest of each value and the eight around it."""
    padded = np.pad(values.astype(float), 1, mode="edge")
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    highest: Floats = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    return highest


def _levels(counts: Ints, shares: tuple[float, ...]) -> Ints:
    """Of each histogram, the level that each of the ``shares`` of what was counted does not exceed: ``(shares, histograms)``."""
    summed = np.cumsum(counts, axis=1)
    return np.stack([np.argmax(summed >= share * summed[:, -1:], axis=1) for share in shares])
