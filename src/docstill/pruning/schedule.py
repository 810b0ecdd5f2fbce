"""When how many weights are gone: the cubic schedule (Zhu & Gupta 2017, arXiv 1710.01878, section 2)."""

from __future__ import annotations


def cubic_sparsity(step: int, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """Sparsity after ``step`` steps: final + (initial − final) · (1 − (step − begin) / (end − begin))³.

    ``initial`` before ``begin``, ``final`` after ``end``; fast at first, while many weights can be spared, slow at last.
    """
    if step <= begin:
        return initial
    if step >= end:
        return final
    left = 1 - (step - begin) / (end - begin)
    return final + (initial - final) * left**3
