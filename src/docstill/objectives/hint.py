"""Hints: the student's features follow the teacher's (FitNets; Romero et al. 2015, arXiv 1412.6550, section 2.2).

    loss = mean over documents, positions and channels of ( P(h_s) − h_t )²  /  mean of ( h_t − mean h_t )²

P is a linear projector made from the shapes of a dry batch. Dividing by the variance of the teacher's features over
the batch makes 1 mean "no better than the average feature", whatever the scale of the tapped layer, so that one
weight fits all layers; ``normalise: false`` gives the paper's plain squared error.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from docstill.objectives.base import Outputs
from docstill.objectives.layered import Layered, LayerMap
from docstill.objectives.positions import as_tokens, document_mean, kept, side_by_side
from docstill.objectives.projectors import TokenProjector


class Hint(Layered):
    """Squared error between projected student features and teacher features.

    Args:
        student_module: path of the student's module whose output is compared, e.g. ``resnet.encoder.stages.2``.
        teacher_module: path in the teacher; default: the same path.
        normalise: divide by the variance of the teacher's features.
        map: see `Layered`.
    """

    def __init__(
        self,
        student_module: str,
        teacher_module: str | None = None,
        normalise: bool = True,
        map: LayerMap | None = None,
    ) -> None:
        super().__init__(student_module, teacher_module, map)
        self.normalise = normalise
        self.projectors = nn.ModuleList()
        self.variances: list[float] = []

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes the projectors, and takes the variances of the teacher's features from the dry batch."""
        assert teacher is not None
        self.projectors, self.variances = nn.ModuleList(), []
        student, teacher = side_by_side(student, teacher, self.pairs)
        for ours, theirs in self.pairs:
            target, variance = teacher.features[theirs], 1.0
            self.projectors.append(TokenProjector(student.features[ours], target))
            if self.normalise:
                tokens = as_tokens(target)[kept(teacher, theirs).squeeze(-1) > 0]
                variance = max(float((tokens - tokens.mean(0)).square().mean()), 1e-6)
            self.variances.append(variance)

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean squared error over documents, positions and channels, over the teacher's variance; padding does not count."""
        assert teacher is not None
        losses = []
        student, teacher = side_by_side(student, teacher, self.pairs)
        for (ours, theirs), projector, variance in zip(self.pairs, self.projectors, self.variances, strict=True):
            error = (projector(student.features[ours]) - as_tokens(teacher.features[theirs])).square()
            losses.append(document_mean(error, kept(teacher, theirs)) / variance)
        return torch.stack(losses).mean()
