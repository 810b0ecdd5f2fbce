"""Intervals: they cover what they promise, pairing narrows them, and the seed fixes them."""

from __future__ import annotations

import numpy as np
import pytest

from docstill.metrics.bootstrap import difference_intervals, intervals


def test_they_cover_the_truth_about_as_often_as_they_say() -> None:
    source, covered = np.random.default_rng(0), 0
    for _ in range(200):
        right = source.random(120) < 0.8
        low, high = intervals(lambda chosen, right=right: {"accuracy": right[chosen].mean()}, 120, draws=200)[
            "accuracy"
        ]
        covered += low <= 0.8 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_pairing_narrows_the_difference() -> None:
    source = np.random.default_rng(0)
    easy = source.random(300)
    one, other = easy > 0.3, easy > 0.33
    paired = difference_intervals(
        lambda chosen: {"a": one[chosen].mean()}, lambda chosen: {"a": other[chosen].mean()}, 300
    )
    apart = intervals(lambda chosen: {"a": one[chosen].mean()}, 300)
    assert paired["a"][1] - paired["a"][0] < 0.6 * (apart["a"][1] - apart["a"][0])
    assert paired["a"][0] >= 0  # whatever the other finds, the first finds too


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(0).random(50)

    def figures(chosen: np.ndarray) -> dict[str, float]:
        return {"mean": values[chosen].mean()}

    assert intervals(figures, 50) == intervals(figures, 50)
    assert intervals(figures, 50) != intervals(figures, 50, seed=1)
    low, high = intervals(figures, 50)["mean"]
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(50), rel=0.2)
