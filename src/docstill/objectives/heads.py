"""SimKD for detectors: the student takes over the teacher's heads, and learns the maps that they look at.

DistilDoc (Van Landeghem et al. 2024, arXiv 2406.08226) for layouts, after SimKD (Chen et al. 2022, arXiv 2203.14001). The heads that
propose regions and those that judge them are the teacher's and stay as they are; with P_l a level of the feature pyramid, or of the maps
that an RT-DETR's or D-FINE's decoder looks at:

    loss = mean over levels of  mean over documents, positions and channels of ( P_s,l − P_t,l )²  /  variance of P_t,l

DistilDoc learnt from this alone, and its students scored 10 points of mAP less than trained normally. Here the labels' loss is an
objective beside it, and reaches the pyramid through the teacher's heads. Dividing by the variance is ours, so that one weight fits
all teachers. Zero when the student's maps equal the teacher's; maps of another grid are resized to the teacher's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from docstill.errors import ModelError
from docstill.models.blocks import QUERY_DETECTORS, TWO_STAGE_DETECTOR
from docstill.models.head import names_in_order
from docstill.models.taps import module_at
from docstill.objectives.base import Objective, Outputs
from docstill.objectives.positions import as_tokens
from docstill.objectives.projectors import channel_variance, matched


@dataclass(frozen=True)
class Family:
    """What the objective takes over in detectors of one kind.

    Attributes:
        name: what errors call a detector of this kind.
        taken: paths of the heads.
        by_class: layers whose rows belong to classes: how many rows each has, beside these, for what is no class: in front, at the end.
        alike: settings in which student and teacher must agree, as errors name them.
        settings: those that no weight shows, in the configuration: with others the same weights say something else.
    """

    name: str
    taken: tuple[str, ...]
    by_class: Mapping[str, tuple[int, int, int]]
    alike: str
    settings: tuple[str, ...] = ()


FASTER_RCNN = Family(
    "a Faster R-CNN",
    ("rpn.head", "roi_heads.box_head", "roi_heads.box_predictor"),
    {"roi_heads.box_predictor.cls_score": (1, 1, 0), "roi_heads.box_predictor.bbox_pred": (4, 1, 0)},
    "pyramid_channels, head_channels and anchor_ratios",
)
_DENOISING = "model.denoising_class_embed"
"""Only a detector that also learns from noisy labels has it."""
DETR = Family(
    "an RT-DETR",
    ("model.enc_output", "model.enc_score_head", "model.enc_bbox_head", "model.decoder", _DENOISING),
    {
        "model.enc_score_head": (1, 0, 0),
        "model.decoder.class_embed.*": (1, 0, 0),
        _DENOISING: (1, 0, 1),
    },
    "d_model and decoder_ffn_dim, and at most as many decoder_layers as the teacher",
    (
        "decoder_activation_function", "decoder_attention_heads", "decoder_method", "decoder_n_points", "decoder_offset_scale",
        "layer_norm_eps", "num_feature_levels", "reg_scale", "up",
    ),
)  # fmt: skip
"""Each of its decoder's layers says where regions are, so a student with fewer of them takes the first ones."""
D_FINE = replace(DETR, name="a D-FINE")


def family_of(network: Any) -> Family | None:
    """What can be taken over in a detector; None if it is of another kind."""
    kind = network.config.model_type
    if kind == TWO_STAGE_DETECTOR:
        return FASTER_RCNN
    return D_FINE if kind == "d_fine" else DETR if kind in QUERY_DETECTORS else None


def levels_of(network: Any, family: Family) -> tuple[str, ...]:
    """Paths of the maps that the heads look at; a Faster R-CNN's fifth is its fourth at half the size."""
    if family is FASTER_RCNN:
        return tuple(f"backbone.fpn.layer_blocks.{level}" for level in range(4))
    return tuple(f"model.decoder_input_proj.{level}" for level in range(len(network.model.decoder_input_proj)))


class Heads(Objective):
    """The teacher's heads on the student's maps, which follow the teacher's; for two detectors of one family.

    Args:
        frozen: the heads stay the teacher's; else they are only where the student's begin.
    """

    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = ("layout",)

    def __init__(self, frozen: bool = True) -> None:
        super().__init__()
        self.frozen = frozen
        self.variances: list[float] = []
        self._held: list[nn.Parameter] = []

    def attach(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Gives the student the teacher's heads.

        Raises:
            ModelError: they are of different families, or their heads have another shape.
        """
        assert teacher is not None
        networks: list[Any] = [student, teacher]
        known = [(network, family_of(network)) for network in networks]
        (_, ours), (_, theirs) = known
        if ours is None or ours is not theirs:
            kinds = [f"a {network.config.model_type}" if family is None else family.name for network, family in known]
            raise ModelError(
                f"heads hands heads on between two Faster R-CNNs, two RT-DETRs or two D-FINEs, and the student is {kinds[0]}, the "
                f"teacher {kinds[1]}; use query, or objectives on feature maps such as pkd"
            )
        self.student_modules, self.teacher_modules = (levels_of(network, ours) for network in networks)
        _check_settings(ours, student, teacher)
        for path in ours.taken:
            if path != _DENOISING or all(path in dict(network.named_modules()) for network in networks):
                self._take(ours, path, *networks)

    def _take(self, family: Family, path: str, student: Any, teacher: Any) -> None:
        taught = module_at(teacher, path, "teacher").state_dict()
        for name, parameter in module_at(student, path, "student").named_parameters():
            layer = f"{path}.{name}".rpartition(".")[0]
            rows = next((rows for pattern, rows in family.by_class.items() if fnmatchcase(layer, pattern)), None)
            weights = taught.get(name)
            if weights is not None and rows is not None:
                weights = _of_classes(weights, *rows, names_in_order(student.config), names_in_order(teacher.config))
            if weights is None or weights.shape != parameter.shape:
                given = "missing" if weights is None else " × ".join(map(str, weights.shape))
                raise ModelError(
                    f"the teacher's {path}.{name} is {given}, the student's {' × '.join(map(str, parameter.shape))}; give both the same "
                    f"{family.alike}"
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
        self.variances = [channel_variance(teacher.features[level]) for level in self.teacher_modules]

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the levels."""
        assert teacher is not None
        losses = []
        for mine, its, variance in zip(self.student_modules, self.teacher_modules, self.variances, strict=True):
            target = teacher.features[its]
            losses.append((matched(student.features[mine], target) - as_tokens(target)).square().mean() / variance)
        return torch.stack(losses).mean()


def _check_settings(family: Family, student: Any, teacher: Any) -> None:
    """Raises ModelError where both have a setting, and not the same."""
    ours, theirs = (_settings(network.config.to_dict()) for network in (student, teacher))
    for name in family.settings:
        if None not in (mine := ours.get(name), its := theirs.get(name)) and mine != its:
            raise ModelError(f"the teacher's {name} is {its}, the student's {mine}; give both the same")


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings, with as many points on every level written out."""
    points = config.get("decoder_n_points")
    if isinstance(points, int):
        return {**config, "decoder_n_points": [points] * config["num_feature_levels"]}
    return config


def _of_classes(weights: Tensor, rows: int, before: int, after: int, ours: list[str], theirs: list[str]) -> Tensor:
    """A layer's rows in the order of the student's classes."""
    last = len(theirs) + before
    order = [*range(before), *(before + theirs.index(name) for name in ours), *range(last, last + after)]
    return weights[[rows * place + row for place in order for row in range(rows)]]
