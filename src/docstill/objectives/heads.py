"""SimKD for detectors: the student takes over the teacher's heads, and learns the maps that they look at.

DistilDoc (Van Landeghem et al. 2024, arXiv 2406.08226) for layouts, after SimKD (Chen et al. 2022, arXiv 2203.14001). The heads that
propose regions and those that judge them are the teacher's and stay as they are; with P_l a level of the feature pyramid:

    loss = mean over levels of  mean over documents, positions and channels of ( P_s,l − P_t,l )²  /  variance of P_t,l

DistilDoc learnt from this alone, and its students scored 10 points of mAP less than trained normally. Here the labels' loss is an
objective beside it, and reaches the pyramid through the teacher's heads. Dividing by the variance is ours, so that one weight fits
all teachers. Zero when the student's maps equal the teacher's; maps of another grid are resized to the teacher's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from docstill.errors import ModelError
from docstill.models.blocks import TWO_STAGE_DETECTOR
from docstill.models.head import names_in_order
from docstill.models.taps import module_at
from docstill.objectives.base import Objective, Outputs
from docstill.objectives.positions import as_tokens
from docstill.objectives.projectors import channel_variance, matched

LEVELS = tuple(f"backbone.fpn.layer_blocks.{level}" for level in range(4))
"""The pyramid's maps; its fifth is the fourth at half the size."""
TAKEN = ("rpn.head", "roi_heads.box_head", "roi_heads.box_predictor")
_BY_CLASS = {"roi_heads.box_predictor.cls_score": 1, "roi_heads.box_predictor.bbox_pred": 4}
"""Layers whose rows belong to classes, background first, and how many rows a class has."""


class Heads(Objective):
    """The teacher's heads on the student's pyramid, which follows the teacher's; for two Faster R-CNNs.

    Args:
        frozen: the heads stay the teacher's; else they are only where the student's begin.
    """

    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = ("layout",)
    student_modules = LEVELS
    teacher_modules = LEVELS

    def __init__(self, frozen: bool = True) -> None:
        super().__init__()
        self.frozen = frozen
        self.variances: list[float] = []
        self._held: list[nn.Parameter] = []

    def attach(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Gives the student the teacher's heads.

        Raises:
            ModelError: one of them is no Faster R-CNN, or its heads have another shape.
        """
        assert teacher is not None
        networks: list[tuple[str, Any]] = [("student", student), ("teacher", teacher)]
        for whose, network in networks:
            if network.config.model_type != TWO_STAGE_DETECTOR:
                raise ModelError(
                    f"heads hands the heads of one Faster R-CNN on to another, and the {whose} is a {network.config.model_type}; use "
                    "query, or objectives on feature maps such as pkd"
                )
        theirs, ours = names_in_order(teacher.config), names_in_order(student.config)
        order = [0, *(1 + theirs.index(name) for name in ours)]
        for path in TAKEN:
            taught = module_at(teacher, path, "teacher").state_dict()
            for name, parameter in module_at(student, path, "student").named_parameters():
                weights = taught[name]
                if rows := _BY_CLASS.get(f"{path}.{name}".rpartition(".")[0]):
                    weights = weights.unflatten(0, (-1, rows))[order].flatten(0, 1)
                if weights.shape != parameter.shape:
                    raise ModelError(
                        f"the teacher's {path}.{name} is {' × '.join(map(str, weights.shape))}, the student's "
                        f"{' × '.join(map(str, parameter.shape))}; give both the same pyramid_channels, head_channels and anchor_ratios"
                    )
                with torch.no_grad():
                    parameter.copy_(weights)
                if self.frozen and parameter.requires_grad:
                    parameter.requires_grad_(False)
                    self._held.append(parameter)

    def detach(self) -> None:
        """Lets the heads learn again, in a later stage."""
        for parameter in self._held:
            parameter.requires_grad_(True)
        self._held = []

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Takes the variance of the teacher's maps from the dry batch."""
        assert teacher is not None
        maps = [teacher.features[level] for level in LEVELS]
        self.variances = [channel_variance(each) for each in maps]

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the levels."""
        assert teacher is not None
        losses = []
        for level, variance in zip(LEVELS, self.variances, strict=True):
            target = teacher.features[level]
            losses.append((matched(student.features[level], target) - as_tokens(target)).square().mean() / variance)
        return torch.stack(losses).mean()
