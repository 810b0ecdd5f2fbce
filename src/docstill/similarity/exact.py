"""The biased HSIC of all pairs of layers over all documents, exactly, in memory that stops growing.

For linear kernels it needs no m × m matrix (Kornblith et al. 2019, section 2): with x̄, ȳ the means over the m documents,

    HSIC₀(X, Y) = ‖ Σ_a (x_a − x̄)(y_a − ȳ)ᵀ ‖²_F / (m − 1)²

so the products of features, summed over documents, are all that must be kept. The rows themselves are kept as long as they
take less room than these sums, p × q numbers for each pair of layers; then they are added to the sums and dropped.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docstill.metrics.cka import NOISE, Floats, linear_gram

Rows = NDArray[np.floating[Any]]
ROOM = 4 * 2**30
"""Bytes that rows or sums may take."""
COLUMNS = 2**20
"""Of a layer, so many are centred and multiplied at a time."""
_NUMBER = 8


class ExactHsic:
    """HSIC₀ among N layers, batch after batch.

    Args:
        layers: N.
        room: bytes that may be held. Where neither rows nor sums fit, nothing is kept and every figure is NaN.
    """

    def __init__(self, layers: int, room: int = ROOM) -> None:
        self.layers, self.room = layers, room
        self.documents = 0
        self.too_wide = False
        self._kept: list[list[Rows]] = []
        self._origin: list[Floats] = []
        self._sums: list[Floats] = []
        self._products: dict[tuple[int, int], Floats] = {}
        self._spread: list[float] = []
        self._size: list[float] = []

    def add(self, layers: Sequence[Rows]) -> None:
        """One batch: ``(m, p)`` features of each layer; a layer that becomes wider had zeros there before."""
        self.documents += len(layers[0])
        if self.too_wide:
            return
        self._kept.append(list(layers))
        held = sum(rows.nbytes for batch in self._kept for rows in batch)
        needed = self._needed()
        if held > min(needed, self.room):
            if needed > self.room:
                self.too_wide = True
                self._kept.clear()
            else:
                self._fold()

    def hsic(self) -> tuple[Floats, Floats]:
        """HSIC₀ of every pair of layers ``(N, N)``, and what each layer's features vary in all: tr(HKH) ``(N,)``.

        Both are 0 for a layer that is the same for every document.
        """
        if self.too_wide:
            return np.full((self.layers, self.layers), np.nan), np.full(self.layers, np.nan)
        if not self._products and self.layers * self.documents**2 * _NUMBER <= self._needed():
            grams = np.stack([gram(joined(parts)) for parts in zip(*self._kept, strict=True)])
            flat = grams.reshape(self.layers, -1)  # of centred rows: centred already
            return flat @ flat.T / max(self.documents - 1, 1) ** 2, np.trace(grams, axis1=1, axis2=2)
        if self._kept:
            self._fold()
        constant = [spread <= NOISE * size for spread, size in zip(self._spread, self._size, strict=True)]
        hsic, varied = np.zeros((self.layers, self.layers)), np.zeros(self.layers)
        for (row, column), products in self._products.items():
            if constant[row] or constant[column]:
                continue
            centred = products - np.outer(self._sums[row], self._sums[column]) / self.documents
            hsic[row, column] = hsic[column, row] = (centred**2).sum() / max(self.documents - 1, 1) ** 2
            if row == column:
                varied[row] = np.trace(centred)
        return hsic, varied

    def _needed(self) -> int:
        """Bytes of the sums for all pairs of layers."""
        widths = self._widths()
        return _NUMBER * (sum(widths) ** 2 + sum(width**2 for width in widths)) // 2

    def _widths(self) -> list[int]:
        folded = [len(sums) for sums in self._sums]
        seen = [[rows.shape[1] for rows in batch] for batch in self._kept]
        return [max(widths) for widths in zip(*([folded] if folded else []), *seen, strict=True)]

    def _fold(self) -> None:
        """Adds the kept rows to the sums. All is measured from the first mean, so that little is lost to rounding."""
        stacked = [rows.astype(np.float64) for rows in _stacked(self._kept)]
        self._kept.clear()
        if not self._sums:
            self._origin = [rows.mean(axis=0) for rows in stacked]
            self._sums = [np.zeros(rows.shape[1]) for rows in stacked]
            self._spread, self._size = [0.0] * len(stacked), [0.0] * len(stacked)
        for index, rows in enumerate(stacked):
            width = max(rows.shape[1], len(self._sums[index]))
            self._origin[index] = _widened(self._origin[index], width)
            self._sums[index] = _widened(self._sums[index], width)
            rows = np.pad(rows, ((0, 0), (0, width - rows.shape[1])))
            stacked[index] = moved = rows - self._origin[index]
            self._sums[index] += moved.sum(axis=0)
            self._spread[index] = max(self._spread[index], float(np.abs(moved).max(initial=0)))
            self._size[index] = max(self._size[index], float(np.abs(rows).max(initial=0)))
        for row, first in enumerate(stacked):
            for column in range(row, len(stacked)):
                products = first.T @ stacked[column]
                if (before := self._products.get((row, column))) is not None:
                    products[: before.shape[0], : before.shape[1]] += before
                self._products[row, column] = products


def gram(rows: Rows) -> Floats:
    """`linear_gram` of ``(m, p)``, some columns at a time: it makes several float64 copies of what it is given."""
    starts = range(0, rows.shape[1], COLUMNS)
    return functools.reduce(np.add, (linear_gram(rows[:, start : start + COLUMNS]) for start in starts))


def _stacked(batches: Sequence[Sequence[Rows]]) -> list[Rows]:
    return [joined(parts) for parts in zip(*batches, strict=True)]


def _widened(values: Floats, width: int) -> Floats:
    return np.pad(values, (0, width - len(values)))


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of several batches as one; narrower ones, whose answers are all shorter, get zeros at the end."""
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts])
