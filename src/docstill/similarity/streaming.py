"""CKA of all layers of two models, batch by batch, in memory that does not grow with the number of documents.

    biased       HSIC₀ over all documents, exactly: see `docstill.similarity.exact`
    unbiased     CKA(i, j) = Σ_b HSIC₁(K_b, L_b) / √( Σ_b HSIC₁(K_b, K_b) · Σ_b HSIC₁(L_b, L_b) ),  b a batch

The second is the minibatch CKA of Nguyen, Raghu & Kornblith (2021, arXiv 2010.15327, eq. 2): it estimates the value for all
documents, whatever the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from docstill.metrics.cka import Floats, aligned, hsic_unbiased
from docstill.similarity.exact import ROOM, ExactHsic, gram


class LayerCka:
    """HSIC for all pairs among the layers of two models, by estimator.

    Args:
        teacher_layers: how many layers the first model has.
        student_layers: how many the second has.
        seed: of the order in which documents are exchanged for `chance`.
        room: bytes that the biased estimator may hold; if that is too little, its figures are NaN.
    """

    def __init__(self, teacher_layers: int, student_layers: int, seed: int = 0, room: int = ROOM) -> None:
        layers = teacher_layers + student_layers
        self.split = teacher_layers
        self._sums = np.zeros((layers, layers))
        self._exchanged = np.zeros((teacher_layers, student_layers))
        self._exact = ExactHsic(layers, room)
        self._whole: tuple[Floats, Floats] | None = None
        self._rng = np.random.default_rng(seed)

    @property
    def too_wide(self) -> bool:
        """Whether the layers are too wide for the biased estimator over all documents."""
        return self._exact.too_wide

    def add(self, teacher: Sequence[NDArray[np.floating[Any]]], student: Sequence[NDArray[np.floating[Any]]]) -> None:
        """One batch: ``(m, p)`` features of each layer, the same m documents everywhere, in the same order.

        Raises:
            UserError: fewer than four documents.
        """
        grams = np.stack([gram(features) for features in (*teacher, *student)])
        order = self._rng.permutation(grams.shape[-1])
        others = grams[self.split :][:, order][:, :, order]
        self._sums += hsic_unbiased(grams, grams)
        self._exchanged += hsic_unbiased(grams[: self.split], others)
        self._exact.add([*teacher, *student])
        self._whole = None

    def matrix(self, estimator: str = "unbiased") -> Floats:
        """CKA of every layer of the teacher (row) with every layer of the student (column); NaN for a constant layer."""
        return aligned(self._hsic(estimator))[: self.split, self.split :]

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
            chance: the same with the student's documents exchanged at random: what unrelated features score. Unbiased: one
                exchange. Biased: the mean of all, as E[HSIC₀] = tr(HKH) tr(HLH) / (m − 1)³.
        """
        hsic = self._hsic(estimator)
        rows = np.arange(self.split) if teacher is None else np.asarray(teacher, dtype=int)
        columns = np.arange(len(hsic) - self.split) if student is None else np.asarray(student, dtype=int)
        behind = columns + self.split
        if np.isnan(hsic).any():
            return float("nan")
        every = np.nan_to_num(aligned(hsic))
        across = every[: self.split, self.split :]
        if chance:
            own = np.sqrt(np.maximum(np.diag(hsic), 0))
            size = own[: self.split, None] * own[self.split :]
            across = np.divide(self._by_chance(estimator), size, out=np.zeros_like(size), where=size > 0)
        above = across[np.ix_(rows, columns)].sum()
        below = every[np.ix_(rows, rows)].sum() * every[np.ix_(behind, behind)].sum()
        return float(above / np.sqrt(below)) if below > 0 else float("nan")

    def _hsic(self, estimator: str) -> Floats:
        if estimator == "unbiased":
            return self._sums
        return self._over_all()[0]

    def _by_chance(self, estimator: str) -> Floats:
        if estimator == "unbiased":
            return self._exchanged
        varied = self._over_all()[1]
        result: Floats = np.outer(varied[: self.split], varied[self.split :]) / max(self._exact.documents - 1, 1) ** 3
        return result

    def _over_all(self) -> tuple[Floats, Floats]:
        if self._whole is None:
            self._whole = self._exact.hsic()
        return self._whole
