"""VkD: an orthogonal projector on to normalised teacher features (Miles et al. 2024, arXiv 2403.06213, sections 3.1–3.2).

    loss = smooth-L1( P h_s , LayerNorm(h_t) ),   PᵀP = I  (PPᵀ = I where the student is the wider one)

An orthogonal P keeps all angles between the student's features, so that it cannot learn the task in the student's place;
LayerNorm (without weights) brings every teacher to one scale. Mean over positions and channels of each document.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import orthogonal

from docstill.objectives.base import Outputs
from docstill.objectives.paired import Paired
from docstill.objectives.positions import as_tokens, document_mean, kept, side_by_side
from docstill.objectives.projectors import TokenProjector


class Vkd(Paired):
    """Normalised teacher features, reached by a rotation of the student's."""

    def __init__(self, student_module: str, teacher_module: str | None = None) -> None:
        super().__init__(student_module, teacher_module)
        self.projector: nn.Module = nn.Identity()

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes the projector from the two shapes."""
        assert teacher is not None
        student, teacher = side_by_side(student, teacher, self.pairs)
        projector = TokenProjector(
            student.features[self.student_module], teacher.features[self.teacher_module], bias=False
        )
        orthogonal(projector.linear)
        self.projector = projector

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over documents, positions and channels; padding does not count."""
        assert teacher is not None
        student, teacher = side_by_side(student, teacher, self.pairs)
        projected = self.projector(student.features[self.student_module])
        target = as_tokens(teacher.features[self.teacher_module])
        target = functional.layer_norm(target, target.shape[-1:])
        error = functional.smooth_l1_loss(projected, target, reduction="none")
        return document_mean(error, kept(teacher, self.teacher_module))
