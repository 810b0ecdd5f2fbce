"""Hints: the student's features follow the teacher's (FitNets; Romero et al. 2015, arXiv 1412.6550, section 2.2).

    loss = mean over documents, positions and channels of ( P(h_s) − h_t )²  /  mean of ( h_t − mean h_t )²

P is a linear projector made from the shapes of a dry batch. Dividing by the variance of the teacher's features over
the batch makes 1 mean "no better than the average feature", whatever the scale of the tapped layer, so that one
weight fits all layers; ``normalise: false`` gives the paper's plain squared error.
"""

from __future__ import annotations

from torch import Tensor, nn

from docstill.objectives.base import Outputs
from docstill.objectives.paired import Paired
from docstill.objectives.positions import as_tokens, document_mean, kept
from docstill.objectives.projectors import TokenProjector


class Hint(Paired):
    """Squared error between projected student features and teacher features.

    Args:
        student_module: path of the student's module whose output is compared, e.g. ``resnet.encoder.stages.2``.
        teacher_module: path in the teacher; default: the same path.
        normalise: divide by the variance of the teacher's features.
    """

    def __init__(self, student_module: str, teacher_module: str | None = None, normalise: bool = True) -> None:
        super().__init__(student_module, teacher_module)
        self.normalise = normalise
        self.projector: nn.Module = nn.Identity()
        self.variance = 1.0

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes the projector, and takes the teacher's feature variance from the dry batch."""
        assert teacher is not None
        target = teacher.features[self.teacher_module]
        self.projector = TokenProjector(student.features[self.student_module], target)
        if self.normalise:
            tokens = as_tokens(target)[kept(teacher, self.teacher_module).squeeze(-1) > 0]
            self.variance = max(float((tokens - tokens.mean(0)).square().mean()), 1e-6)

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean squared error over documents, positions and channels, over the teacher's variance; padding does not count."""
        assert teacher is not None
        projected = self.projector(student.features[self.student_module])
        target = as_tokens(teacher.features[self.teacher_module])
        error = document_mean((projected - target).square(), kept(teacher, self.teacher_module))
        return error / self.variance
