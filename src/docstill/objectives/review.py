"""Knowledge review: every stage of the student, fused with the deeper ones, follows the teacher's stages.

Chen et al. 2021, arXiv 2104.09044, section 3: the fusion module (ABF) and the hierarchical context loss (HCL).

    u_n = A_n(h_n),   u_i = w_1 · A_i(h_i) + w_2 · resize(u_{i+1}),   (w_1, w_2) = sigmoid(conv([A_i(h_i), u_{i+1}]))
    loss = mean over stages of HCL( B_i(u_i), h_t,i )
    HCL  = Σ over pools to the full grid, 4 × 4, 2 × 2, 1 × 1 of weight 1, 1/2, 1/4, 1/8 · mean squared error / Σ weights

A is a 1 × 1 convolution to `width` channels, B a 3 × 3 one to the teacher's; neither ends in a ReLU, so that negative
targets can be reached. Each stage's error is divided by the variance of the teacher's stage in the dry batch, so that
one weight fits all teachers. Stages that are tokens are laid on the grid of their patches, those in front of them left out.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from docstill.objectives.base import EVERY_TASK, Objective, Outputs
from docstill.objectives.positions import as_map
from docstill.objectives.projectors import channel_variance

GRIDS = (4, 2, 1)


class Review(Objective):
    """The student's stages, each knowing the deeper ones, follow the teacher's.

    Args:
        student_stages: paths of the student's stages, from shallow to deep.
        teacher_stages: as many of the teacher's; default: the same paths.
        width: channels of the fused features.
    """

    average: ClassVar[Literal["decisions", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = EVERY_TASK

    def __init__(
        self,
        student_stages: Annotated[list[str], Field(min_length=1)],
        teacher_stages: Annotated[list[str], Field(min_length=1)] | None = None,
        width: Annotated[int, Field(gt=0)] = 64,
    ) -> None:
        super().__init__()
        self.student_modules = tuple(student_stages)
        self.teacher_modules = tuple(teacher_stages or student_stages)
        if len(self.student_modules) != len(self.teacher_modules):
            raise ValueError(
                f"teacher_stages: {len(self.teacher_modules)} paths for {len(self.student_modules)} student_stages; name one for each"
            )
        self.width = width
        self.entries, self.gates, self.exits = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.variances: list[float] = []

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes the fusion from the shapes of the stages."""
        assert teacher is not None
        ours = [as_map(student, path) for path in self.student_modules]
        theirs = [as_map(teacher, path) for path in self.teacher_modules]
        self.entries = nn.ModuleList(nn.Conv2d(stage.shape[1], self.width, 1) for stage in ours)
        self.gates = nn.ModuleList(nn.Conv2d(2 * self.width, 2, 1) for _ in ours[1:])
        self.exits = nn.ModuleList(nn.Conv2d(self.width, stage.shape[1], 3, padding=1) for stage in theirs)
        self.variances = [channel_variance(stage) for stage in theirs]

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the stages, each over documents, positions and channels."""
        assert teacher is not None
        ours = [as_map(student, path) for path in self.student_modules]
        theirs = [as_map(teacher, path) for path in self.teacher_modules]
        losses, deeper = [], None
        for index in reversed(range(len(ours))):
            fused = self.entries[index](ours[index])
            if deeper is not None:
                deeper = functional.interpolate(deeper, size=fused.shape[2:], mode="nearest")
                gate = torch.sigmoid(self.gates[index](torch.cat([fused, deeper], dim=1)))
                fused = gate[:, :1] * fused + gate[:, 1:] * deeper
            deeper = fused
            target = theirs[index]
            reached = functional.interpolate(fused, size=target.shape[2:], mode="nearest")
            losses.append(context_loss(self.exits[index](reached), target) / self.variances[index])
        return torch.stack(losses).mean()


def context_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """HCL: squared error of two ``(B, C, H, W)`` maps at several resolutions, finer ones weighing more."""
    total, weights, weight = functional.mse_loss(ours, theirs), 1.0, 1.0
    for grid in GRIDS:
        if grid >= min(ours.shape[2:]):
            continue
        weight /= 2
        coarse, target = (functional.adaptive_avg_pool2d(maps, grid) for maps in (ours, theirs))
        total, weights = total + weight * functional.mse_loss(coarse, target), weights + weight
    return total / weights
