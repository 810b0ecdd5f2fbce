"""CKA of all layers of two models, batch by batch, in memory that does not grow with the number of documents.

HSIC of every pair of layers is estimated on each batch and summed; the ratio is taken once, at the end:

    CKA(i, j) = Σ_b HSIC(K_b, L_b) / √( Σ_b HSIC(K_b, K_b) · Σ_b HSIC(L_b, L_b) )

With HSIC₁ this is the minibatch CKA of Nguyen, Raghu & Kornblith (2021, arXiv 2010.15327, eq. 2): it estimates the value
for all documents, whatever the batch. With HSIC₀ it is the value at the size of the batch, and too high for small ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from docstill.metrics.cka import ESTIMATORS, Floats, aligned, linear_gram


class LayerCka:
    """Sums of HSIC over batches, for all pairs among the layers of two models, by estimator.

    Args:
        teacher_layers: how many layers the first model has.
        student_layers: how many the second has.
        seed: of the order in which documents are exchanged for `chance`.
    """

    def __init__(self, teacher_layers: int, student_layers: int, seed: int = 0) -> None:
        layers = teacher_layers + student_layers
        self.split = teacher_layers
        self._sums = {name: np.zeros((layers, layers)) for name in ESTIMATORS}
        self._exchanged = {name: np.zeros((teacher_layers, student_layers)) for name in ESTIMATORS}
        self._rng = np.random.default_rng(seed)

    def add(self, teacher: Sequence[NDArray[np.floating]], student: Sequence[NDArray[np.floating]]) -> None:
        """One batch: ``(m, p)`` features of each layer, the same m documents everywhere, in the same order."""
        grams = np.stack([linear_gram(features) for features in (*teacher, *student)])
        order = self._rng.permutation(grams.shape[-1])
        others = grams[self.split :][:, order][:, :, order]
        for name, hsic in ESTIMATORS.items():
            self._sums[name] += hsic(grams, grams)
            self._exchanged[name] += hsic(grams[: self.split], others)

    def matrix(self, estimator: str = "unbiased") -> Floats:
        """CKA of every layer of the teacher (row) with every layer of the student (column); NaN for a constant layer."""
        return aligned(self._sums[estimator])[: self.split, self.split :]

    def overall(
        self,
        estimator: str = "unbiased",
        teacher: Sequence[int] | None = None,
        student: Sequence[int] | None = None,
        chance: bool = False,
    ) -> float:
        """The global CKA: that of the two networks, each the sum of its layers' kernels at equal weight.

            Σ_ij CKA(T_i, S_j) / √( Σ_ii′ CKA(T_i, T_i′) · Σ_jj′ CKA(S_j, S_j′) )

        which is CKA of K = Σ_i K_i / √HSIC(K_i, K_i) with L, made likewise from the student's layers.

        Args:
            estimator: of HSIC.
            teacher: the teacher's layers that count; default all. A constant layer adds nothing.
            student: the student's layers that count; default all.
            chance: the same with the student's documents exchanged at random: what unrelated features score.
        """
        sums = self._sums[estimator]
        rows = np.arange(self.split) if teacher is None else np.asarray(teacher, dtype=int)
        columns = np.arange(len(sums) - self.split) if student is None else np.asarray(student, dtype=int)
        every = np.nan_to_num(aligned(sums))
        across = every[: self.split, self.split :]
        if chance:
            own = np.sqrt(np.maximum(np.diag(sums), 0))
            size = own[: self.split, None] * own[self.split :]
            across = np.divide(self._exchanged[estimator], size, out=np.zeros_like(size), where=size > 0)
        above = across[np.ix_(rows, columns)].sum()
        behind = columns + self.split
        below = every[np.ix_(rows, rows)].sum() * every[np.ix_(behind, behind)].sum()
        return float(above / np.sqrt(below)) if below > 0 else float("nan")
