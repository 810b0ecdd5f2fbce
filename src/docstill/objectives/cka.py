"""Alignment of two representations up to rotation and scale: linear CKA as a loss (Kornblith et al. 2019, arXiv 1905.00414).

With X and Y the layers' outputs averaged over positions, ``(B, C)``, columns centred, and K = XXᵀ, L = YYᵀ:

    loss = 1 − ⟨K, L⟩ / ( ‖K‖ ‖L‖ )

Needs no projector. It is biased upwards where a batch holds fewer documents than the layers have channels, for every
student alike: read its trend, not its size, and use a large `batch_size`. A batch of one says nothing and counts 0.
"""

from __future__ import annotations

from torch import Tensor

from docstill.objectives.base import Outputs
from docstill.objectives.paired import Paired
from docstill.objectives.positions import check_queries, pooled


class Cka(Paired):
    """The documents of a batch are as alike to the student as to the teacher."""

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """One minus CKA, in [0, 1]."""
        assert teacher is not None
        check_queries(student, self.student_module, teacher, self.teacher_module)
        ours, theirs = pooled(student, self.student_module), pooled(teacher, self.teacher_module)
        if len(ours) < 2:
            return 0 * ours.sum()
        ours, theirs = gram(ours), gram(theirs)
        return 1 - (ours * theirs).sum()


def gram(features: Tensor) -> Tensor:
    """``(B, B)`` inner products of centred rows, scaled to norm 1."""
    centred = features - features.mean(0)
    # Scaled before squaring: products of large activations leave the range in which float32 is exact.
    centred = centred / centred.detach().abs().max().clamp_min(1e-12)
    products = centred @ centred.T
    scaled: Tensor = products / products.norm().clamp_min(1e-12)
    return scaled
