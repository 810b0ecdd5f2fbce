"""Knowledge distillation on the teacher's probabilities (Hinton et al. 2015, arXiv 1503.02531, section 2).

    loss = T² · mean over decisions of D( softmax(z_t / T), softmax(z_s / T) )

T² keeps the gradient's size when T changes. D is the Kullback-Leibler divergence from student to teacher, or one of
`divergences`. The mean runs over scored decisions only: padding, prompts and ignored positions never reach `Outputs`.
Zero when the student equals the teacher.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from docstill.objectives.base import Objective, Outputs
from docstill.objectives.divergences import check_raw, check_width, divergence, softened, standardised
from docstill.objectives.values import ValueWeight, weighed


class Kd(Objective):
    """The student's softened probabilities follow the teacher's.

    Args:
        temperature: T; above 1 the teacher's small probabilities count for more.
        divergence: ``forward``, ``reverse``, ``jsd`` or ``skew``.
        mix: β of ``jsd`` (default 0.5) or λ of ``skew`` (default 0.1); the other two have none.
        standardise: compare logits of mean 0 and deviation 1, so that the student need not copy the teacher's scale;
            its own scale is then free, so calibrate it before reading its probabilities (arXiv 2403.01427).
        value_weight: how much a token of a value counts, a tag being 1; kie only, see `docstill.objectives.values`.

    Raises:
        ValueError: ``mix`` given to a divergence that has none.
    """

    def __init__(
        self,
        temperature: Annotated[float, Field(gt=0)] = 2.0,
        divergence: Literal["forward", "reverse", "jsd", "skew"] = "forward",
        mix: Annotated[float, Field(gt=0, lt=1)] | None = None,
        standardise: bool = False,
        value_weight: ValueWeight = 1.0,
    ) -> None:
        super().__init__()
        if mix is not None and divergence not in ("jsd", "skew"):
            raise ValueError(
                f"mix: {mix} is given, but divergence {divergence} has none; take jsd or skew, or leave it out"
            )
        self.temperature, self.divergence, self.standardise = temperature, divergence, standardise
        self.value_weight = value_weight
        self.teacher_logits = "all" if standardise else "largest"
        self.mix = mix if mix is not None else {"jsd": 0.5, "skew": 0.1}.get(divergence, 0.5)

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean divergence over the decisions, in nats times T²."""
        assert teacher is not None
        check_width("kd", student, teacher)
        ours, theirs = student.logits / self.temperature, softened(teacher, self.temperature)
        if self.standardise:
            check_raw("kd with standardise", teacher)
            ours, theirs = (standardised(each.logits) / self.temperature for each in (student, teacher))
        distance = divergence(self.divergence, ours, theirs, self.mix)
        return weighed(distance, student, self.value_weight).mean() * self.temperature**2
