"""Squared error between logits (Kim et al. 2021, arXiv 2105.08919): `kd` in the limit of a high temperature.

    loss = mean over decisions and classes of ( z_s − z_t )²

Unlike `kd` it also makes the student copy the logits' common offset and scale. Zero when they are equal.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from docstill.objectives.base import Objective, Outputs
from docstill.objectives.divergences import check_raw, check_width


class Mse(Objective):
    """The student's logits follow the teacher's."""

    teacher_logits = "all"

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over decisions and classes."""
        assert teacher is not None
        check_width("mse", student, teacher)
        check_raw("mse", teacher)
        return functional.mse_loss(student.logits, teacher.logits)
