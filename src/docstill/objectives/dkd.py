"""Decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679, equation 7).

With y the right answer (of an unlabelled page, the teacher's), b = (p_y, 1 − p_y) and p̂ the softmax over the other classes, all at temperature T:

    loss = T² · mean over decisions of  α · KL( b_t ‖ b_s ) + β · KL( p̂_t ‖ p̂_s )

Plain KD is α = 1 with β tied to the teacher's 1 − p_y: a confident teacher then says nothing about the other classes.
Both parts are taken from log-sum-exps, so that they stay finite for logits of any size. Zero when they are equal.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from docstill.objectives.base import Objective, Outputs
from docstill.objectives.divergences import answers, check_width, divergence, softened


class Dkd(Objective):
    """How sure the teacher is of the right answer, and how it ranks the wrong ones, weighed apart.

    Args:
        alpha: weight of the first part.
        beta: weight of the second part; 8 in most of the paper's experiments.
        temperature: T.
    """

    one_answer: ClassVar[bool] = True

    teacher_logits = "largest"

    def __init__(
        self,
        alpha: Annotated[float, Field(ge=0)] = 1.0,
        beta: Annotated[float, Field(ge=0)] = 8.0,
        temperature: Annotated[float, Field(gt=0)] = 4.0,
    ) -> None:
        super().__init__()
        self.alpha, self.beta, self.temperature = alpha, beta, temperature

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the decisions, in nats times T²."""
        assert teacher is not None
        check_width("dkd", student, teacher)
        right = answers(student, teacher)
        ours, our_others = split(student.logits / self.temperature, right)
        theirs, their_others = split(softened(teacher, self.temperature), right)
        target = divergence("forward", ours, theirs, 0.5)
        others = divergence("forward", our_others, their_others, 0.5)
        return (self.alpha * target + self.beta * others).mean() * self.temperature**2


def split(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The right answer against all others, ``(N, 2)`` logits, and the others alone, ``(N, C − 1)`` logits."""
    right = logits.gather(1, targets[:, None])
    keep = torch.ones_like(logits, dtype=torch.bool).scatter(1, targets[:, None], False)
    others = logits[keep].view(len(logits), -1)
    # Where there is one class only, the others sum to nothing; its logarithm would make 0 · ∞ of their divergence.
    rest = others.logsumexp(-1, keepdim=True).clamp_min(torch.finfo(logits.dtype).min)
    return torch.cat([right, rest], dim=1), others
