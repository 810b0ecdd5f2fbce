"""Dense: what two DETR-type detectors say of every place of their encoders' maps, before the decoder looks at the likeliest ones.

An RT-DETR or D-FINE scores each place of its maps, with a box, and hands the highest on to its decoder as queries. In training one place is
right for each labelled region, whichever fits best at that moment, so that for a small network the place changes from step to step. A
trained teacher has settled that: each place has a score and a box to follow, and nothing is matched. Soft targets whose loss is weighted by
how far they are missed, and boxes by GIoU, as CrossKD has them for dense detectors (Wang et al. 2024, arXiv 2306.11369, section 3.3); the
classes one by one as in BCKD (Yang et al. 2023, arXiv 2308.14286). p is the sigmoid of a class, m_i the largest of the teacher's at place i:

    classes = Σ_i Σ_classes | p_t − p_s |^γ KL( Bernoulli(p_t) ‖ Bernoulli(p_s) )  /  max(1, Σ_i m_i²)
    boxes   = Σ_i m_i² ( 5 ‖ b_s − b_t ‖₁ + 2 (1 − GIoU) )                         /  max(1, Σ_i m_i²)
    loss    = mean over pages of classes + box_weight · boxes

5 and 2 are DETR's own (arXiv 2005.12872). m is squared, for each of the thousand places that hold nothing has a little of it. Boxes are shares of the page. Each of the student's places is compared with the teacher's that the
same point of the page lies in, on the level of the same number; padding, and places too near the edge to be chosen, do not count. Zero when
the student equals the teacher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.ops import box_convert

from docstill.errors import ModelError
from docstill.models import detr
from docstill.models.head import names_in_order
from docstill.objectives.assigned import GIOU, L1
from docstill.objectives.base import Objective, Outputs
from docstill.objectives.heads import DETR, FASTER_RCNN, family_of, levels_of
from docstill.objectives.query import bernoulli, giou

SCORES, BOXES = "model.enc_score_head", "model.enc_bbox_head"
TINY = 1e-6
"""Two probabilities that differ by less are equal: for γ below 1 the slope at 0 is none."""


@dataclass(frozen=True)
class Places:
    """What an encoder says of the ``N`` places of its maps, the levels one after the other.

    Attributes:
        logits: ``(B, N, C)``.
        boxes: ``(B, N, 4)``, left, top, right, bottom as shares of the page.
        chosen: ``(B, N)`` bool, whether the place lies on the page, and may be chosen.
    """

    logits: Tensor
    boxes: Tensor
    chosen: Tensor


class Dense(Objective):
    """The student's scores and boxes of every place follow the teacher's.

    Args:
        gamma: γ; 0 weighs all places alike, more stresses those where the student is furthest from its teacher.
        box_weight: how much the boxes count, the classes being 1.
    """

    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = ("layout",)

    def __init__(
        self,
        gamma: Annotated[float, Field(ge=0)] = 1.0,
        box_weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__()
        self.gamma, self.box_weight = gamma, box_weight

    def attach(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Notes the levels, and the teacher's classes in the student's order.

        Raises:
            ModelError: one of the two has no such encoder, or they have another number of levels.
        """
        assert teacher is not None
        networks: list[Any] = [student, teacher]
        for whose, network in zip(("student", "teacher"), networks, strict=True):
            family = family_of(network)
            if family is None or family is FASTER_RCNN:
                kind = f"a {network.config.model_type}" if family is None else family.name
                raise ModelError(
                    f"dense compares the encoders of two RT-DETRs or D-FINEs, the {whose} is {kind}; use query, by which any two detectors "
                    "can be compared"
                )
        self._networks = tuple(networks)  # in a tuple they are none of the objective's own modules
        ours, theirs = (levels_of(network, DETR) for network in networks)
        if len(ours) != len(theirs):
            raise ModelError(
                f"dense compares maps level by level, the student has {len(ours)} and the teacher {len(theirs)}; give both the same "
                "num_feature_levels"
            )
        self.student_modules, self.teacher_modules = (SCORES, BOXES, *ours), (SCORES, BOXES, *theirs)
        named = names_in_order(networks[1].config)
        self.order = [named.index(name) for name in names_in_order(networks[0].config)]

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the pages."""
        assert teacher is not None
        ours, theirs = (
            _places(network, outputs) for network, outputs in zip(self._networks, (student, teacher), strict=True)
        )
        across = self._partners(student, teacher)
        meant, its = (
            part.gather(1, across[..., None].expand(-1, -1, part.shape[-1])).detach()
            for part in (theirs.logits[..., self.order], theirs.boxes)
        )
        there = (ours.chosen & theirs.chosen.gather(1, across)).to(meant.dtype)
        sure = meant.sigmoid().amax(-1).square() * there
        missed = (meant.sigmoid() - ours.logits.sigmoid()).abs().clamp_min(TINY).pow(self.gamma)
        classes = (missed * bernoulli(ours.logits, meant)).sum(-1) * there
        apart = 1 - giou(ours.boxes.flatten(0, 1), its.flatten(0, 1)).view_as(sure)
        boxes = sure * (L1 * (ours.boxes - its).abs().sum(-1) + GIOU * apart)
        loss: Tensor = ((classes + self.box_weight * boxes).sum(1) / sure.sum(1).clamp_min(1)).mean()
        return loss

    def _partners(self, student: Outputs, teacher: Outputs) -> Tensor:
        """``(B, N)`` int64: the teacher's place for each of the student's."""
        assert student.frames is not None
        assert teacher.frames is not None
        # From a share of the student's input to one of the page, to one of the teacher's input.
        ratio = (teacher.frames / student.frames)[:, :2]
        found, start = [], 0
        for mine, its in zip(self.student_modules[2:], self.teacher_modules[2:], strict=True):
            height, width = teacher.features[its].shape[2:]
            x, y = _centres(student.features[mine], ratio.device)
            column = (x * ratio[:, :1] * width).long().clamp_max(width - 1)
            row = (y * ratio[:, 1:] * height).long().clamp_max(height - 1)
            found.append(start + row * width + column)
            start += height * width
        return torch.cat(found, 1)


def _centres(maps: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """``(1, H · W)`` each: x and y of each place's centre, as shares of the network's input."""
    rows, columns = ((torch.arange(side, device=device) + 0.5) / side for side in maps.shape[2:])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return x.flatten()[None], y.flatten()[None]


def _places(network: Any, outputs: Outputs) -> Places:
    assert outputs.frames is not None
    maps = [outputs.features[path] for path in levels_of(network, DETR)]
    logits, offsets, frames = outputs.features[SCORES], outputs.features[BOXES], outputs.frames
    shapes = tuple((each.shape[2], each.shape[3]) for each in maps)
    boxes, can = detr.proposed(network, offsets, shapes)
    x, y = (torch.cat(part, 1) for part in zip(*(_centres(each, frames.device) for each in maps), strict=True))
    on_page = (x < frames[:, :1]) & (y < frames[:, 1:2])
    return Places(logits, box_convert(boxes, "cxcywh", "xyxy") / frames[:, None], on_page & can)
