"""The labels themselves: cross entropy on the right answers.

    loss = mean over labelled decisions of −log softmax(z)[y]

Of blended pages it is the mean of both answers, weighed by their shares.

The one objective that needs no teacher. A task whose supervised loss is not a cross entropy over ``logits`` fills
``Outputs.loss``, which is then used as it is.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from docstill.objectives.base import UNLABELLED, Objective, Outputs


class Labels(Objective):
    """Cross entropy with optional label smoothing (Szegedy et al. 2016, arXiv 1512.00567, section 7).

    Args:
        smoothing: share of the target's mass spread evenly over all classes.
    """

    needs_teacher: ClassVar[bool] = False
    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "labelled"

    def __init__(self, smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean cross entropy over the labelled decisions, in nats; 0 where there are none."""
        if student.loss is not None:
            return student.loss
        if not (student.targets != UNLABELLED).any():
            return 0 * student.logits.sum()
        loss = self._entropy(student.logits, student.targets)
        if student.blended is not None:
            partners, share = student.blended
            loss = share * loss + (1 - share) * self._entropy(student.logits, partners)
        return loss

    def _entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets, label_smoothing=self.smoothing, ignore_index=UNLABELLED)
