"""The connected marks of a page in black and white: where they stand, how large they are, whether their edges turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Marks:
    """Marks, from the top down; pixels that touch at a side or a corner are one mark.

    Attributes:
        top: the first row of each mark; ``bottom`` is the row after its last, ``left`` and ``right`` likewise.
        bottom: see ``top``.
        left: see ``top``.
        right: see ``top``.
        area: pixels of each.
        starts: of each run of ink in a row, where it begins, as an index into the page's pixels.
        lengths: of each run, its pixels.
        owners: of each run, the mark that it belongs to.
    """

    top: Ints
    bottom: Ints
    left: Ints
    right: Ints
    area: Ints
    starts: Ints
    lengths: Ints
    owners: Ints

    @property
    def height(self) -> Ints:
        """Pixels."""
        return self.bottom - self.top

    @property
    def width(self) -> Ints:
        """Pixels."""
        return self.right - self.left


def marks_on(ink: NDArray[np.bool_]) -> Marks:
    """The marks of a page.

    Args:
        ink: ``(height, width)``, true where there is ink.
    """
    height, width = ink.shape
    line = width + 1  # a column without ink ends the runs of each row
    padded = np.zeros((height, line), np.int8)
    padded[:, :width] = ink
    steps = np.diff(padded.ravel(), prepend=np.int8(0))
    begin, end = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    owners = _joined(begin, end, line)
    count = int(owners.max(initial=-1)) + 1
    row, left = begin // line, begin % line
    lengths = end - begin
    top, bottom = np.full(count, height), np.zeros(count, np.int64)
    first, last = np.full(count, width), np.zeros(count, np.int64)
    np.minimum.at(top, owners, row)
    np.maximum.at(bottom, owners, row + 1)
    np.minimum.at(first, owners, left)
    np.maximum.at(last, owners, left + lengths)
    area = np.bincount(owners, lengths, count).astype(np.int64)
    return Marks(top, bottom, first, last, area, row * width + left, lengths, owners)


def turning(marks: Marks, chosen: Ints, page: NDArray[np.uint8], grain: float) -> NDArray[np.float64]:
    """How evenly the edges of each chosen mark run in all directions, in [0, 1]: 0 for a straight line, 1 for a disk.

    That is how much the page changes from pixel to pixel in the direction in which it changes least, over that in which it
    changes most, of four.

    Args:
        marks: of the page.
        chosen: indices of marks that do not touch the page's edge.
        page: ``(height, width)``, gray.
        grain: standard deviation of the page's noise, which runs in no direction and is taken off.
    """
    width, pixels = page.shape[1], page.ravel()
    number = np.full(len(marks.area), -1)
    number[chosen] = np.arange(len(chosen))
    runs = np.flatnonzero(number[marks.owners] >= 0)
    lengths = marks.lengths[runs]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = np.repeat(marks.starts[runs], lengths) + within
    owners = np.repeat(number[marks.owners[runs]], lengths)
    here = pixels[places].astype(np.int32)
    changes = []
    for step, squared_distance in ((1, 1), (width, 1), (width + 1, 2), (width - 1, 2)):
        change = (pixels[places + step] - here) ** 2 + (pixels[places - step] - here) ** 2
        mean = np.bincount(owners, change, len(chosen)) / marks.area[chosen]
        changes.append((mean - 4 * grain**2).clip(min=0) / squared_distance)
    least, most = np.min(changes, axis=0), np.max(changes, axis=0)
    evenness: NDArray[np.float64] = least / np.maximum(most, 1e-6)
    return evenness


def _joined(begin: Ints, end: Ints, line: int) -> Ints:
    """The mark of each run: runs of neighbouring rows that touch are one.

    Args:
        begin: index of the first pixel of each run, ascending.
        end: index after its last.
        line: pixels of a row, one at least being without ink.
    """
    # the runs of the row above that a run touches stand one after the other
    first, after = np.searchsorted(end, begin - line), np.searchsorted(begin, end - line, "right")
    touched = after - first
    lower = np.repeat(np.arange(len(begin)), touched)
    upper = np.arange(touched.sum()) - np.repeat(np.cumsum(touched) - touched, touched) + np.repeat(first, touched)
    owners: NDArray[Any] = np.arange(len(begin))
    while True:
        least = np.minimum(owners[lower], owners[upper])
        joined = owners.copy()
        np.minimum.at(joined, owners[lower], least)
        np.minimum.at(joined, owners[upper], least)
        while not np.array_equal(joined, further := joined[joined]):
            joined = further
        if np.array_equal(joined, owners):
            return np.unique(owners, return_inverse=True)[1].astype(np.int64)
        owners = joined
