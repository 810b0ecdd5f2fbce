"""What detectors say of the same queries or regions, each class by itself; for pairs of any two families.

The same queries for both, so that nothing has to be matched, as in KD-DETR (Wang et al. 2024, arXiv 2211.08071); DETRDistill
(Chang et al. 2023, arXiv 2211.10156) matches each model's own. Classes one by one as in BCKD (Yang et al. 2023, arXiv
2308.14286). p is the probability of a class, by a softmax with the background (Faster R-CNN) or by each class's own sigmoid
(RT-DETR, D-FINE); m_i the largest of the teacher in region i, c its class:

    classes = Σ_i w_i Σ_classes KL( Bernoulli(p_t) ‖ Bernoulli(p_s) ) / Σ_i w_i,           w_i = m_i^γ + 0.01
    boxes   = Σ_i m_i ( 5 ‖ b_s[c] − b_t[c] ‖₁ + 2 (1 − GIoU) ) / max(1, Σ_i m_i)
    loss    = mean over pages of classes + box_weight · boxes

Most regions hold nothing: the weights keep them from drowning the few that do, and Σ_i m_i / max(1, Σ_i m_i) is small
on a page where the teacher sees nothing. 5 and 2 are DETR's own (arXiv 2005.12872). Boxes are shares of the page. Zero when the
student equals the teacher. A teacher that finds a thing many times is brought to once for a student that does: see
`docstill.objectives.assigned`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from docstill.objectives.assigned import GIOU, L1, one_each
from docstill.objectives.base import Objective, Outputs
from docstill.objectives.looks import binary_logits, both, boxes_of, page_mean

FLOOR = 0.01
"""What a region counts in which the teacher sees nothing at all."""


class Query(Objective):
    """The student's scores and boxes of each query follow the teacher's.

    Args:
        gamma: γ; 0 weighs all regions alike, more stresses those the teacher is sure of.
        box_weight: how much the boxes count, the classes being 1.
    """

    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = ("layout",)
    looks: ClassVar[bool] = True

    def __init__(
        self,
        gamma: Annotated[float, Field(ge=0)] = 1.0,
        box_weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__()
        self.gamma, self.box_weight = gamma, box_weight

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the pages."""
        ours, theirs = both("query", student, teacher)
        pages, documents = ours.pages, student.documents
        if ours.background is None and theirs.background is not None:
            theirs = one_each(ours, theirs)
        said, meant = binary_logits(ours), binary_logits(theirs)
        sure, likeliest = meant.sigmoid().max(1)
        loss = page_mean(bernoulli(said, meant).sum(1), pages, documents, sure**self.gamma + FLOOR)
        mine, its = boxes_of(ours, likeliest), boxes_of(theirs, likeliest)
        off = L1 * (mine - its).abs().sum(1) + GIOU * (1 - giou(mine, its))
        return loss + self.box_weight * page_mean(off, pages, documents, sure, least=1.0)


def bernoulli(student: Tensor, teacher: Tensor) -> Tensor:
    """KL from student to teacher of two events each, given as logits; the same shape, in nats."""
    yes = functional.logsigmoid(teacher) - functional.logsigmoid(student)
    no = functional.logsigmoid(-teacher) - functional.logsigmoid(-student)
    return teacher.sigmoid() * yes + (-teacher).sigmoid() * no


def giou(one: Tensor, two: Tensor) -> Tensor:
    """Generalised intersection over union of ``(N, 4)`` boxes, row by row (Rezatofighi et al. 2019, arXiv 1902.09630)."""
    tiny = 1e-7  # two equal boxes without area are 1
    inside = _area(torch.maximum(one[:, :2], two[:, :2]), torch.minimum(one[:, 2:], two[:, 2:]))
    hull = _area(torch.minimum(one[:, :2], two[:, :2]), torch.maximum(one[:, 2:], two[:, 2:]))
    union = _area(one[:, :2], one[:, 2:]) + _area(two[:, :2], two[:, 2:]) - inside
    return (inside + tiny) / (union + tiny) - (hull - union) / (hull + tiny)


def _area(corner: Tensor, opposite: Tensor) -> Tensor:
    return (opposite - corner).clamp_min(0).prod(1)
