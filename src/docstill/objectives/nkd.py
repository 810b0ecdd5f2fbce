"""Normalised knowledge distillation (Yang et al. 2023, arXiv 2303.13005, equation 9).

With y the right answer (of an unlabelled page, the teacher's) and p̂ the softmax over the other classes at temperature T:

    loss = mean over decisions of  − p_t[y] · log p_s[y]  +  γ T² · KL( p̂_t ‖ p̂_s )

The first part is the labels' cross entropy, weighted by how sure the teacher is (at temperature 1, as in the paper).
The paper writes the second as a cross entropy; the divergence differs from it by the teacher's entropy, a constant.
So the second part is zero when student and teacher are equal; the first is not, and still pulls towards the label.
DistilDoc's published code passes (T, γ) to a constructor that expects a name and a flag first: its values never
arrived, and it always ran T = 1, γ = 1.5.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from docstill.objectives.base import Objective, Outputs
from docstill.objectives.divergences import answers, check_width, divergence, softened
from docstill.objectives.dkd import split


class Nkd(Objective):
    """The label as far as the teacher believes it, and the teacher's ranking of the wrong answers.

    Args:
        temperature: T of the second part.
        gamma: γ, weight of the second part.
    """

    one_answer: ClassVar[bool] = True

    teacher_logits = "largest"

    def __init__(
        self,
        temperature: Annotated[float, Field(gt=0)] = 1.0,
        gamma: Annotated[float, Field(ge=0)] = 1.5,
    ) -> None:
        super().__init__()
        self.temperature, self.gamma = temperature, gamma

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the decisions, in nats."""
        assert teacher is not None
        check_width("nkd", student, teacher)
        targets = answers(student, teacher)
        right = targets[:, None]
        sureness = functional.softmax(teacher.logits, dim=-1).gather(1, right).squeeze(1)
        target = -sureness * functional.log_softmax(student.logits, dim=-1).gather(1, right).squeeze(1)
        _, ours = split(student.logits / self.temperature, targets)
        _, theirs = split(softened(teacher, self.temperature), targets)
        others = divergence("forward", ours, theirs, 0.5) * self.temperature**2
        return (target + self.gamma * others).mean()
