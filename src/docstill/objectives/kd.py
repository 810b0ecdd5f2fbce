"""Knowledge distillation on the teacher's probabilities (Hinton et al. 2015, arXiv 1503.02531, section 2).

    loss = T² · mean over decisions of KL( softmax(z_t / T) ‖ softmax(z_s / T) )

T² keeps the gradient's size when T changes. The mean runs over scored decisions only: padding, prompts and ignored
positions never reach `Outputs`. Zero when the student equals the teacher.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from docstill.errors import ModelError
from docstill.objectives.base import Objective, Outputs


class Kd(Objective):
    """The student's softened probabilities follow the teacher's.

    Args:
        temperature: T; above 1 the teacher's small probabilities count for more.
    """

    def __init__(self, temperature: Annotated[float, Field(gt=0)] = 2.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean divergence over the decisions, in nats times T²."""
        assert teacher is not None
        if student.logits.shape != teacher.logits.shape:
            raise ModelError(
                f"kd compares logits of one shape, the student's are {tuple(student.logits.shape)} and the teacher's "
                f"{tuple(teacher.logits.shape)}; use a student with the teacher's classes or vocabulary"
            )
        log_student = functional.log_softmax(student.logits / self.temperature, dim=-1)
        log_teacher = functional.log_softmax(teacher.logits / self.temperature, dim=-1)
        divergence = functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)
        return divergence.mean() * self.temperature**2
