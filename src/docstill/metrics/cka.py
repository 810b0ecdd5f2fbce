"""Centred kernel alignment (CKA): how alike two sets of features of the same m documents are, whatever their widths.

    CKA(X, Y) = HSIC(K, L) / √(HSIC(K, K) · HSIC(L, L)),    K = X Xᵀ,  L = Y Yᵀ      (Kornblith et al. 2019, eq. 5)

1 for features that are equal up to a rotation and one common scale; the features of one set need not be as many as those
of the other. Two estimators of HSIC, with H = I − 1/m:

    biased     HSIC₀ = tr(H K H · H L H) / (m − 1)²                                  (Gretton et al. 2005)
    unbiased   HSIC₁ = [tr(K̃ L̃) + 1ᵀK̃1 · 1ᵀL̃1 / ((m−1)(m−2)) − 2/(m−2) · 1ᵀK̃ L̃1] / (m(m−3))      (Song et al. 2012)

where K̃ is K with a zero diagonal. The biased one grows towards 1 by chance alone where features are wider than documents
are many: for independent normal features of width p it is about 1 / (1 + m/p). Means over batches of the unbiased one
estimate the value for all documents (Nguyen, Raghu & Kornblith 2021, arXiv 2010.15327, section 3), which makes CKA
computable in memory that does not grow with them: see `docstill.similarity.streaming`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from docstill.errors import UserError

Floats = NDArray[np.float64]
LEAST = 4
"""Documents below which the unbiased estimator divides by zero."""
NOISE = 1e-12
"""Features that differ between documents by less than this share of their size do not differ: it is rounding."""


def linear_gram(features: NDArray[np.floating]) -> Floats:
    """K = X Xᵀ of centred features.

    Neither estimator changes when features are centred; the rounding error does, where a mean is larger than what varies.

    Args:
        features: ``(m, p)``, one row a document.

    Returns:
        ``(m, m)`` float64; all zero if the features are the same for every document.
    """
    wide = np.asarray(features, dtype=np.float64)
    centred = wide - wide.mean(axis=0)
    if centred.size == 0 or np.abs(centred).max() <= NOISE * np.abs(wide).max():
        return np.zeros((len(wide), len(wide)))
    gram: Floats = centred @ centred.T
    return gram


def hsic_biased(grams: Floats, others: Floats) -> Floats:
    """HSIC₀ of every pair of ``(N, m, m)`` and ``(M, m, m)`` kernel matrices: ``(N, M)``."""
    result: Floats = _products(_centred(grams), _centred(others)) / max(grams.shape[-1] - 1, 1) ** 2
    return result


def hsic_unbiased(grams: Floats, others: Floats) -> Floats:
    """HSIC₁ of every pair of ``(N, m, m)`` and ``(M, m, m)`` kernel matrices: ``(N, M)``; may be a little below 0.

    Raises:
        UserError: fewer than four documents.
    """
    m = grams.shape[-1]
    if m < LEAST:
        raise UserError(f"unbiased CKA needs at least {LEAST} documents, {m} given; give more")
    first, second = _hollow(grams), _hollow(others)
    rows, columns = first.sum(-1), second.sum(-1)
    both = rows.sum(-1)[:, None] * columns.sum(-1) / ((m - 1) * (m - 2))
    mixed = 2 / (m - 2) * np.einsum("ik,jk->ij", rows, columns)
    result: Floats = (_products(first, second) + both - mixed) / (m * (m - 3))
    return result


Hsic = Callable[[Floats, Floats], Floats]
ESTIMATORS: dict[str, Hsic] = {"unbiased": hsic_unbiased, "biased": hsic_biased}


def cka(
    features: NDArray[np.floating],
    others: NDArray[np.floating],
    estimator: str = "unbiased",
) -> float:
    """CKA of two sets of features of the same documents, all at once.

    Args:
        features: ``(m, p)``.
        others: ``(m, q)``, the same documents in the same order.
        estimator: ``unbiased`` or ``biased``.

    Returns:
        In [0, 1] if biased; if unbiased near 0, or a little below, for unrelated features. NaN if one of the two is the same for
        every document.

    Raises:
        UserError: the numbers of documents differ, or are too small for the estimator.
    """
    if len(features) != len(others):
        raise UserError(f"features of {len(features)} and of {len(others)} documents given; give the same documents")
    stack = np.stack([linear_gram(features), linear_gram(others)])
    return float(aligned(ESTIMATORS[estimator](stack, stack))[0, 1])


def aligned(hsic: Floats) -> Floats:
    """CKA from the ``(N, N)`` HSIC of N sets of features with each other; NaN where a set's own HSIC is not above 0."""
    own = np.diag(hsic).copy()
    own[~(own > 0)] = np.nan
    result: Floats = hsic / np.sqrt(own[:, None] * own)
    return result


def _centred(grams: Floats) -> Floats:
    centred: Floats = (
        grams - grams.mean(-1, keepdims=True) - grams.mean(-2, keepdims=True) + grams.mean((-2, -1), keepdims=True)
    )
    return centred


def _hollow(grams: Floats) -> Floats:
    hollow = grams.copy()
    diagonal = np.arange(grams.shape[-1])
    hollow[:, diagonal, diagonal] = 0
    return hollow


def _products(first: Floats, second: Floats) -> Floats:
    # einsum, not BLAS: every pair is summed in the same order, so that equal features give exactly 1
    products: Floats = np.einsum("ik,jk->ij", first.reshape(len(first), -1), second.reshape(len(second), -1))
    return products
