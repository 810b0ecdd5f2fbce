"""Temperature scaling: one number that makes a classifier rightly sure (Guo et al. 2017, arXiv 1706.04599, section 4.2).

    p = softmax( z / T ),  T > 0 the minimiser of the mean −log p[y] over labelled pages

No answer changes, so accuracy stays. Logits enter as log-probabilities: the softmax does not see their common offset.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from docstill.metrics.classification import Floats, Ints, softmax

LOW, HIGH = 0.05, 20.0
"""What T may be; a model that is always right would ask for 0."""
_GOLDEN = (5**0.5 - 1) / 2


def fit_temperature(probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    """The T of least mean negative log-likelihood, to 1e-4.

    The likelihood is convex in 1/T; a golden-section search over log T finds its one minimum.

    Args:
        probabilities: ``(n, C)`` at T = 1.
        labels: ``(n,)``, the right classes.
    """
    logits = np.log(np.clip(probabilities, 1e-12, None))
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        right = softmax(logits / np.exp(log_temperature))[rows, labels]
        return float(-np.log(np.clip(right, 1e-12, None)).mean())

    low, high = float(np.log(LOW)), float(np.log(HIGH))
    while high - low > 1e-5:
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(first) <= loss(second):
            high = second
        else:
            low = first
    return float(np.exp((low + high) / 2))


def scaled(probabilities: NDArray[Any], temperature: float) -> Floats:
    """The probabilities at T instead of 1."""
    return softmax(np.log(np.clip(probabilities, 1e-12, None)) / temperature)


def cross_fitted(probabilities: NDArray[Any], labels: NDArray[Any], seed: int = 0) -> Floats:
    """Each half of the pages scaled by the T that was fitted to the other half.

    Figures of pages that T was fitted to would flatter; these do not, and use every page. Halves hold each class in equal
    numbers, give or take one.
    """
    halves = split_in_two(labels, seed)
    found = np.empty_like(probabilities, dtype=np.float64)
    for half in (0, 1):
        there, other = halves == half, halves != half
        found[there] = scaled(probabilities[there], fit_temperature(probabilities[other], labels[other]))
    return found


def split_in_two(labels: NDArray[Any], seed: int) -> Ints:
    """0 or 1 for each page, evenly within each class."""
    order = np.random.default_rng(seed).permutation(len(labels))
    halves, turn = np.zeros(len(labels), dtype=np.int64), 0
    for label in np.unique(labels):
        for index in order[labels[order] == label]:
            halves[index], turn = turn % 2, turn + 1
    return halves
