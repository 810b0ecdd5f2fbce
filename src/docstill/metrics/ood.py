"""Does a classifier notice pages of a kind it has never seen? How well a score tells known pages from unknown ones.

Two scores, higher for pages that look known: the largest probability (Hendrycks & Gimpel 2017, arXiv 1610.02136), and the
free energy log Σ exp z of the logits (Liu et al. 2020, arXiv 2010.03759, equation 4 at temperature 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from docstill.metrics.classification import Floats, auroc

ACCEPTED = 0.95
"""The share of known pages that must be accepted when false acceptances are counted."""


def energy(logits: NDArray[Any]) -> Floats:
    """Log Σ exp z for each row of ``(n, C)`` logits."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    total: Floats = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    return total


def detection(known: NDArray[Any], unknown: NDArray[Any]) -> dict[str, float]:
    """How well scores tell known pages from unknown ones.

    Args:
        known: ``(n,)`` scores of pages of the classes that were learnt.
        unknown: ``(m,)`` scores of other pages.

    Returns:
        ``auroc``: chance that a known page scores higher than an unknown one, ties counting half; ``fpr95``: share of the
        unknown pages that is accepted when 95 % of the known ones are.
    """
    scores = np.concatenate([known, unknown])
    is_known = np.concatenate([np.ones(len(known), dtype=bool), np.zeros(len(unknown), dtype=bool)])
    # The highest threshold that still accepts enough known pages.
    threshold = np.sort(known)[len(known) - int(np.ceil(ACCEPTED * len(known) - 1e-9))]
    return {"auroc": auroc(scores, is_known), "fpr95": float((unknown >= threshold).mean())}
