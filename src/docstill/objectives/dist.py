"""DIST: correlation instead of equality, for a teacher much stronger than its student (Huang et al. 2022, arXiv 2205.10536).

With p = softmax(z / T), rows are decisions and columns are classes, and ρ is Pearson's correlation:

    loss = T² · [ β · mean over rows of 1 − ρ(p_s, p_t)  +  γ · mean over columns of 1 − ρ(p_s, p_t) ]

The second part compares, class by class, how the decisions of one batch are ranked: it depends on which documents
share a small batch, says nothing in a batch of one decision (0 there), and little where a batch is smaller than the
number of classes. A row or column that is constant on both sides counts as equal. Zero when student and teacher are equal.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from docstill.objectives.base import Objective, Outputs
from docstill.objectives.divergences import check_width, softened

_FLAT = 1e-7
"""A centred row shorter than this is a constant: float32 probabilities cannot say more."""

_FLAT_SHARE = 1e-6
"""So is one shorter than this share of the row itself: a mean in float32 leaves up to 5e-7 of 4,096 equal numbers."""


class Dist(Objective):
    """The student ranks classes, and documents within a class, as the teacher does.

    Args:
        beta: weight of the relation between classes.
        gamma: weight of the relation between decisions of a batch.
        temperature: T.
    """

    teacher_logits = "all"  # columns of classes are compared, those of rare ones too

    def __init__(
        self,
        beta: Annotated[float, Field(ge=0)] = 1.0,
        gamma: Annotated[float, Field(ge=0)] = 1.0,
        temperature: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__()
        self.beta, self.gamma, self.temperature = beta, gamma, temperature

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Weighted mean of 1 − correlation, times T²."""
        assert teacher is not None
        check_width("dist", student, teacher)
        ours = functional.softmax(student.logits / self.temperature, dim=-1)
        theirs = functional.softmax(softened(teacher, self.temperature), dim=-1)
        between_classes = (1 - correlation(ours, theirs)).mean()
        between_decisions = (1 - correlation(ours.T, theirs.T)).mean() if len(ours) > 1 else 0 * ours.sum()
        return (self.beta * between_classes + self.gamma * between_decisions) * self.temperature**2


def correlation(ours: Tensor, theirs: Tensor) -> Tensor:
    """Pearson's correlation of each pair of rows, ``(N, C)`` to ``(N,)``; 1 where both are constant, 0 where one is."""
    least = [(_FLAT_SHARE * rows.detach().norm(dim=-1)).clamp_min(_FLAT) for rows in (ours, theirs)]
    ours, theirs = ours - ours.mean(-1, keepdim=True), theirs - theirs.mean(-1, keepdim=True)
    flat_ours, flat_theirs = (
        rows.detach().norm(dim=-1) < bound for rows, bound in zip((ours, theirs), least, strict=True)
    )
    # A unit vector in place of a constant row: the gradient of a norm at 0 does not exist.
    safe = torch.zeros_like(ours)
    safe[:, 0] = 1.0
    ours_safe = torch.where(flat_ours[:, None], safe, ours)
    theirs_safe = torch.where(flat_theirs[:, None], safe, theirs)
    value = functional.cosine_similarity(ours_safe, theirs_safe, dim=-1, eps=0.0)
    value = torch.where(flat_ours ^ flat_theirs, torch.zeros_like(value), value)
    return torch.where(flat_ours & flat_theirs, torch.ones_like(value), value)
