"""MGD: the teacher's map, made anew from a student's map with holes (Yang et al. 2022, arXiv 2205.01529, section 3).

    loss = mean over documents, positions and channels of ( G( M · P(h_s) ) − h_t )²  /  mean of ( h_t − mean h_t )²
    G    = conv 3 × 3, ReLU, conv 3 × 3

M is 0 at a share `mask` of the positions, drawn anew for each document and step; what lies there must be told from
what is around. P is linear over channels, and nothing where student and teacher have as many. Dividing by the variance of
the teacher's features, taken from a dry batch, makes one weight fit all layers. Out of training nothing is masked.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from docstill.objectives.base import Outputs
from docstill.objectives.paired import Paired
from docstill.objectives.positions import as_map
from docstill.objectives.projectors import channel_projector, channel_variance, matched


class Mgd(Paired):
    """Squared error of a generated map.

    Args:
        student_module: path of the student's module whose output is compared: maps ``(B, C, H, W)``, or tokens that can be laid on the page.
        teacher_module: path in the teacher; default: the same path.
        mask: share of the positions that are masked.
    """

    tasks: ClassVar[tuple[str, ...]] = ("classification", "layout")

    def __init__(
        self, student_module: str, teacher_module: str | None = None, mask: Annotated[float, Field(ge=0, lt=1)] = 0.65
    ) -> None:
        super().__init__(student_module, teacher_module)
        self.mask = mask
        self.projector: nn.Module = nn.Identity()
        self.generator: nn.Module = nn.Identity()
        self.variance = 1.0

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes projector and generator from the shapes, and takes the variance of the teacher's features.

        Raises:
            ModelError: one of the two modules gives neither maps nor tokens of which it is known where on the page they stand.
        """
        assert teacher is not None
        ours, theirs = as_map(student, self.student_module), as_map(teacher, self.teacher_module).detach()
        self.projector = channel_projector(ours, theirs)
        width = theirs.shape[1]
        self.generator = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )
        self.variance = channel_variance(theirs)

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over documents, positions and channels, over the teacher's variance."""
        assert teacher is not None
        target = as_map(teacher, self.teacher_module).detach()
        tokens = self.projector(matched(as_map(student, self.student_module), target))
        maps = tokens.transpose(1, 2).unflatten(2, target.shape[2:])
        if self.training:
            maps = maps * (torch.rand_like(maps[:, :1]) >= self.mask)
        return functional.mse_loss(self.generator(maps), target) / self.variance
