"""The labels themselves: cross entropy on the right answers.

    loss = mean over labelled decisions of −log softmax(z)[y]

Of blended pages it is the mean of both answers, weighed by their shares.

Needs no teacher. A task whose supervised loss is not a cross entropy over ``logits`` fills
``Outputs.loss``, which is then used as it is.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from docstill.errors import ModelError
from docstill.objectives.base import EVERY_TASK, UNLABELLED, Objective, Outputs
from docstill.objectives.values import ValueWeight, weighed


class Labels(Objective):
    """Cross entropy with optional label smoothing (Szegedy et al. 2016, arXiv 1512.00567, section 7).

    Args:
        smoothing: share of the target's mass spread evenly over all classes.
        value_weight: how much a token of a value counts, a tag being 1; kie only, see `docstill.objectives.values`.
    """

    needs_teacher: ClassVar[bool] = False
    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "labelled"
    tasks: ClassVar[tuple[str, ...]] = EVERY_TASK

    def __init__(self, smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0, value_weight: ValueWeight = 1.0) -> None:
        super().__init__()
        self.smoothing, self.value_weight = smoothing, value_weight

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean cross entropy over the labelled decisions, in nats; 0 where there are none."""
        if student.loss is not None:
            if self.smoothing or self.value_weight != 1:
                raise ModelError(
                    "smoothing and value_weight are for classification and kie, a detector has a loss of its own; leave them out"
                )
            return student.loss
        known = student.targets != UNLABELLED
        if not known.any():
            return 0 * student.logits.sum()
        if self.value_weight != 1:
            losses = self._entropy(student.logits, student.targets, "none")
            return weighed(losses, student, self.value_weight)[known].mean()
        loss = self._entropy(student.logits, student.targets)
        if student.blended is not None:
            partners, share = student.blended
            loss = share * loss + (1 - share) * self._entropy(student.logits, partners)
        return loss

    def _entropy(self, logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        return functional.cross_entropy(
            logits, targets, label_smoothing=self.smoothing, ignore_index=UNLABELLED, reduction=reduction
        )
