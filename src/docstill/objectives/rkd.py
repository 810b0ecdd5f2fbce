"""Relational distillation: documents keep their distances and angles (Park et al. 2019, arXiv 1904.05068, section 3.2).

With f the mean of a layer's output over positions, one vector a document, and huber the smooth L1 of width 1:

    distance   mean over pairs i ≠ j of huber( d_s(i, j) − d_t(i, j) ),  d = ‖f_i − f_j‖ / mean of all such
    angle      mean over triples of huber( cos_s(i, j, k) − cos_t(i, j, k) ),  the angle at j
    loss = distance_weight · distance + angle_weight · angle

Needs no projector: neither the widths nor the kinds of network have to match. It compares documents of one small batch, so
`gradient_accumulation_steps` is no substitute for `batch_size`; a batch of one has no distances, and one of two no
angles: these count 0.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from docstill.objectives.base import Outputs
from docstill.objectives.paired import Paired
from docstill.objectives.positions import check_queries, pooled


class Rkd(Paired):
    """The teacher's geometry of a batch.

    Args:
        distance_weight: weight of the distances; 1 in the paper.
        angle_weight: weight of the angles; 2 in the paper.
    """

    def __init__(
        self,
        student_module: str,
        teacher_module: str | None = None,
        distance_weight: Annotated[float, Field(ge=0)] = 1.0,
        angle_weight: Annotated[float, Field(ge=0)] = 2.0,
    ) -> None:
        super().__init__(student_module, teacher_module)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Weighted sum of the two parts."""
        assert teacher is not None
        check_queries(student, self.student_module, teacher, self.teacher_module)
        ours, theirs = pooled(student, self.student_module), pooled(teacher, self.teacher_module)
        loss = 0 * ours.sum()
        if len(ours) > 1:
            loss = loss + self.distance_weight * functional.smooth_l1_loss(distances(ours), distances(theirs))
        if len(ours) > 2:
            loss = loss + self.angle_weight * functional.smooth_l1_loss(angles(ours), angles(theirs))
        return loss


def distances(points: Tensor) -> Tensor:
    """Distances of all ordered pairs of ``(B, C)``, over their mean: ``(B·(B−1),)``."""
    gaps = points[:, None] - points[None]
    pairs = ~torch.eye(len(points), dtype=torch.bool, device=points.device)
    # Equal points are 0 apart, where a root has no gradient.
    length = (gaps.square().sum(-1)[pairs] + 1e-12).sqrt()
    return length / length.mean().clamp_min(1e-6)


def angles(points: Tensor) -> Tensor:
    """Cosines of the angles at j of all triples of distinct points i, j, k."""
    count = len(points)
    towards = functional.normalize(points[None] - points[:, None], dim=-1, eps=1e-6)  # [j, i]: from j to i
    cosines = towards @ towards.transpose(1, 2)  # [j, i, k]
    index = torch.arange(count, device=points.device)
    j, i, k = index[:, None, None], index[None, :, None], index[None, None, :]
    return cosines[(i != j) & (k != j) & (i != k)]
