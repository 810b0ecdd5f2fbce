"""CKA: against the definition with explicit matrices, and the properties it is used for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.errors import UserError
from docstill.metrics.cka import cka, hsic_biased, hsic_unbiased, linear_gram

Array = np.ndarray[Any, np.dtype[np.float64]]


def features(seed: int, m: int = 12, p: int = 5) -> Array:
    return np.random.default_rng(seed).normal(size=(m, p))


def biased_by_definition(x: Array, y: Array) -> float:
    """tr(K H L H) / (m − 1)² with H written out (Gretton et al. 2005)."""
    m = len(x)
    centring = np.eye(m) - np.ones((m, m)) / m
    return float(np.trace(x @ x.T @ centring @ y @ y.T @ centring)) / (m - 1) ** 2


def unbiased_by_definition(x: Array, y: Array) -> float:
    """Song et al. 2012, equation 5, with the sums written out over distinct indices."""
    k, other = x @ x.T, y @ y.T
    m = len(x)
    two = three = four = 0.0
    for i in range(m):
        for j in range(m):
            if j == i:
                continue
            two += k[i, j] * other[i, j]
            for q in range(m):
                if q in (i, j):
                    continue
                three += k[i, j] * other[i, q]
                four += sum(k[i, j] * other[q, r] for r in range(m) if r not in (i, j, q))
    pairs = m * (m - 1)
    return two / pairs + four / (pairs * (m - 2) * (m - 3)) - 2 * three / (pairs * (m - 2))


def stack(x: Array) -> Array:
    return linear_gram(x)[None]


def test_both_estimators_follow_their_definitions() -> None:
    x, y = features(0, m=8, p=3) + 5, features(1, m=8, p=4) - 2
    assert hsic_biased(stack(x), stack(y))[0, 0] == pytest.approx(biased_by_definition(x, y), rel=1e-9)
    assert hsic_unbiased(stack(x), stack(y))[0, 0] == pytest.approx(unbiased_by_definition(x, y), rel=1e-9)


def test_feature_space_form_of_linear_cka() -> None:
    """‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) for centred features (Kornblith et al. 2019, section 2)."""
    x, y = features(0), features(1, p=7)
    a, b = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(b.T @ a) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b)
    assert cka(x, y, estimator="biased") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_identity_gives_exactly_one(estimator: str) -> None:
    assert abs(cka(features(0), features(0), estimator=estimator) - 1) < 1e-12


@given(st.integers(0, 1000), st.integers(5, 12), st.integers(1, 6), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=50)
def test_rotation_scale_and_offset_change_nothing(seed: int, m: int, p: int, scale: float, offset: float) -> None:
    x, y = features(seed, m, p), features(seed + 1, m, p)
    rotation, _ = np.linalg.qr(features(seed + 2, p, p))
    for estimator in ("biased", "unbiased"):
        value = cka(x, y, estimator=estimator)
        if np.isfinite(value):
            moved = cka(scale * x @ rotation + offset, y, estimator=estimator)
            assert moved == pytest.approx(value, abs=1e-6)
            assert cka(y, x, estimator=estimator) == pytest.approx(value, abs=1e-9)


@given(st.integers(0, 1000), st.integers(4, 12), st.integers(1, 6), st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_the_biased_one_lies_between_nought_and_one(seed: int, m: int, p: int, q: int) -> None:
    assert -1e-12 <= cka(features(seed, m, p), features(seed + 1, m, q), estimator="biased") <= 1 + 1e-12


def test_only_the_unbiased_one_is_near_nought_for_wide_unrelated_features() -> None:
    pairs = [(features(2 * seed, m=16, p=400), features(2 * seed + 1, m=16, p=400)) for seed in range(20)]
    assert min(cka(x, y, estimator="biased") for x, y in pairs) > 0.9
    assert abs(np.mean([cka(x, y, estimator="unbiased") for x, y in pairs])) < 0.05


def test_features_that_do_not_differ_are_not_defined() -> None:
    assert np.isnan(cka(np.full((6, 3), 0.1), features(0, m=6)))


def test_other_numbers_of_documents_and_too_few_are_refused() -> None:
    with pytest.raises(UserError, match="6 and of 7 documents"):
        cka(features(0, m=6), features(0, m=7))
    with pytest.raises(UserError, match="at least 4"):
        cka(features(0, m=3), features(1, m=3))
