"""Confidence intervals by resampling documents (percentile bootstrap; Efron & Tibshirani 1993, chapter 13).

Another test set of the same kind would hold other documents: intervals say how far figures move with them. They do not
hold what another training seed would change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
LEVEL = 0.95

Figures = Callable[[NDArray[np.int64]], Mapping[str, float]]
"""The metrics over the documents of these indices; a document may come several times."""


def intervals(figures: Figures, n: int, draws: int = DRAWS, seed: int = 0) -> dict[str, list[float]]:
    """``[low, high]`` of each metric: the middle 95 % over resampled sets of ``n`` documents.

    Args:
        figures: computes the metrics over documents chosen by index.
        n: documents.
        draws: resampled sets.
        seed: of the resampling.
    """
    return _middle([figures(chosen) for chosen in _resamples(n, draws, seed)])


def difference_intervals(
    one: Figures, other: Figures, n: int, draws: int = DRAWS, seed: int = 0
) -> dict[str, list[float]]:
    """``[low, high]`` of one − other for each metric, both over the same resampled documents.

    Pairing takes out what both find easy or hard, so these are narrower than two intervals apart: an interval that does
    not hold 0 is a difference that these documents can show.
    """
    found = []
    for chosen in _resamples(n, draws, seed):
        first, second = one(chosen), other(chosen)
        found.append({name: first[name] - second[name] for name in first})
    return _middle(found)


def _resamples(n: int, draws: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return (rng.integers(n, size=n) for _ in range(draws))


def _middle(found: list[Any]) -> dict[str, list[float]]:
    edges = [100 * (1 - LEVEL) / 2, 100 * (1 + LEVEL) / 2]
    return {name: [float(edge) for edge in np.percentile([row[name] for row in found], edges)] for name in found[0]}
