"""Faster R-CNN with a feature pyramid (Ren et al. 2015, arXiv 1506.01497; Lin et al. 2017, arXiv 1612.03144).

The parts are torchvision's; around them a configuration, so that a detector is saved to and loaded from a folder like a
transformers model. Where torchvision's whole detector hides its proposals, this one hands them out, so that two networks can
be asked about the same regions.

Boxes here are left, top, right, bottom in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, efficientnet_b0, mobilenet_v2, resnet18, resnet34, resnet50, resnet101, resnet152
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from transformers import PretrainedConfig, PreTrainedModel

from docstill.errors import ModelError, UserError, nearest
from docstill.models.blocks import TWO_STAGE_DETECTOR

_STAGES = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
BACKBONES: dict[str, tuple[Any, dict[str, str], list[int]]] = {
    "resnet18": (resnet18, _STAGES, [64, 128, 256, 512]),
    "resnet34": (resnet34, _STAGES, [64, 128, 256, 512]),
    "resnet50": (resnet50, _STAGES, [256, 512, 1024, 2048]),
    "resnet101": (resnet101, _STAGES, [256, 512, 1024, 2048]),
    "resnet152": (resnet152, _STAGES, [256, 512, 1024, 2048]),
    "mobilenet_v2": (mobilenet_v2, {"3": "0", "6": "1", "13": "2", "17": "3"}, [24, 32, 96, 320]),
    "efficientnet_b0": (efficientnet_b0, {"2": "0", "3": "1", "5": "2", "7": "3"}, [24, 40, 112, 320]),
}
"""By name: the network, the modules whose maps (at strides 4, 8, 16 and 32) enter the pyramid, and their channels."""

ANCHOR_SIZES = (32, 64, 128, 256, 512)
"""On pages with a longer side of `ANCHORS_FOR` pixels."""
ANCHORS_FOR = 1024
LEVELS = len(ANCHOR_SIZES)
"""Maps of the pyramid."""

SMALLEST_SCORE = 0.05
"""Detections below it are dropped, as everywhere in the field; COCO's figures hardly change by what lies below."""


class FasterRcnnConfig(PretrainedConfig):  # type: ignore[misc]  # transformers has no types
    """What a Faster R-CNN is made of.

    Attributes:
        backbone: a name of `BACKBONES`.
        widths: channels of a ResNet's stem and of its four stages, where they are not the usual ones.
        pyramid_channels: channels of all maps of the pyramid.
        head_channels: width of the two fully connected layers that look at a region.
        anchor_sizes: square root of the anchors' area in input pixels, one for each of the pyramid's five levels.
        anchor_ratios: heights of the anchors over their widths; regions of a page are often much wider than high.
        proposals: of a page that are left in training when those that overlap are gone, twice as many of each level before; in
            use a third of it, of as many of each level. Most pages have far fewer regions than photographs have things.
        regions: proposals of a page that are looked at in training, a quarter of them on labelled regions.
        most: detections of a page, surest first.
    """

    model_type = TWO_STAGE_DETECTOR

    def __init__(
        self,
        backbone: str = "resnet50",
        widths: Sequence[int] | None = None,
        pyramid_channels: int = 256,
        head_channels: int = 1024,
        anchor_sizes: tuple[int, ...] = ANCHOR_SIZES,
        anchor_ratios: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0, 2.0),
        proposals: int = 1000,
        regions: int = 256,
        most: int = 300,
        **others: Any,
    ) -> None:
        self.backbone, self.pyramid_channels, self.head_channels = backbone, pyramid_channels, head_channels
        self.widths = None if widths is None else list(widths)
        self.anchor_sizes, self.anchor_ratios = list(anchor_sizes), list(anchor_ratios)
        self.proposals, self.regions, self.most = proposals, regions, most
        super().__init__(**others)


def check_parts(size: str, parts: Mapping[str, Any]) -> None:
    """Refuses values of a configuration that no network can be made of.

    Args:
        size: what it is called in messages.
        parts: some of the attributes of `FasterRcnnConfig`.

    Raises:
        UserError: names the key, what was given and what is expected.
    """

    def whole(value: Any) -> bool:
        return type(value) is int and value > 0

    def positive(value: Any, count: int | None) -> bool:
        numbers = isinstance(value, (list, tuple)) and all(type(part) in (int, float) and part > 0 for part in value)
        return numbers and (len(value) == count if count else len(value) > 0)

    backbone = parts.get("backbone")
    if backbone is not None and backbone not in BACKBONES:
        raise UserError(
            f"{size}: there is no backbone {backbone!r}; choose one of {', '.join(BACKBONES)}{nearest(str(backbone), BACKBONES)}"
        )
    expected = {
        "anchor_sizes": f"{LEVELS} numbers above 0, one for each level",
        "anchor_ratios": "a list of numbers above 0",
    }
    fits = {"anchor_sizes": lambda value: positive(value, LEVELS), "anchor_ratios": lambda value: positive(value, None)}
    for key, value in parts.items():
        if key in ("pyramid_channels", "head_channels", "proposals", "regions", "most") and not whole(value):
            raise UserError(f"{size}: {key} must be a whole number above 0, {value!r} given")
        if key in expected and not fits[key](value):
            raise UserError(f"{size}: {key} must be {expected[key]}, {value!r} given")


@dataclass(frozen=True)
class RegionAnswers:
    """What the head says of regions: logits ``(N, 1 + C)``, background first, boxes ``(N, C, 4)``, features if asked for."""

    logits: Tensor
    boxes: Tensor
    pooled: Tensor | None


@dataclass(frozen=True)
class Sampled:
    """A training look: the loss, the regions ``(N, 4)`` of each page, what lies there (0: nothing), what the head says."""

    loss: Tensor
    regions: list[Tensor]
    labels: Tensor
    answers: RegionAnswers


class Proposer(RPNHead):  # type: ignore[misc]  # torchvision has no types
    """torchvision's head of proposals, answering in float32.

    Boxes are reckoned in the type of its answers; in bf16 they have steps of up to two pixels, so that thin regions get no
    height at all, and the loss becomes NaN.
    """

    def forward(self, maps: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores and deltas of each map's anchors."""
        scores, deltas = super().forward(maps)
        return [part.float() for part in scores], [part.float() for part in deltas]


class FasterRcnn(PreTrainedModel):  # type: ignore[misc]  # transformers has no types
    """A detector. `learn` looks at labelled pages, `look` at regions it is given, `detect` finds regions itself."""

    config_class = FasterRcnnConfig
    main_input_name = "pixel_values"

    def __init__(self, config: FasterRcnnConfig) -> None:
        super().__init__(config)
        make, modules, channels = BACKBONES[config.backbone]
        body = make(weights=None)
        body = body if config.backbone.startswith("resnet") else body.features
        if config.widths is not None:
            _set_widths(body, config.widths)
            channels = config.widths[1:]
        width, classes = config.pyramid_channels, config.num_labels
        self.backbone = BackboneWithFPN(body, modules, channels, width, LastLevelMaxPool())
        anchors = AnchorGenerator(
            tuple((size,) for size in config.anchor_sizes),
            tuple(tuple(config.anchor_ratios) for _ in config.anchor_sizes),
        )
        self.rpn = RegionProposalNetwork(
            anchors,
            Proposer(width, anchors.num_anchors_per_location()[0]),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=256,
            positive_fraction=0.5,
            pre_nms_top_n={"training": 2 * config.proposals, "testing": config.proposals},
            post_nms_top_n={"training": config.proposals, "testing": round(0.3 * config.proposals)},
            nms_thresh=0.7,
        )
        self.roi_heads = RoIHeads(
            MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
            TwoMLPHead(width * 49, config.head_channels),
            FastRCNNPredictor(config.head_channels, classes + 1),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=config.regions,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=SMALLEST_SCORE,
            nms_thresh=0.5,
            detections_per_img=config.most,
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The parts bring their own initial weights."""

    def maps(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """The pyramid's maps in float32, finest first."""
        return {name: features.float() for name, features in self.backbone(pixel_values).items()}

    def learn(self, pixel_values: Tensor, boxes: list[Tensor], labels: list[Tensor], pools: bool = False) -> Sampled:
        """Looks at labelled pages.

        Args:
            pixel_values: ``(B, 3, H, W)``.
            boxes: of each page ``(T, 4)``; a page may have none. Sides below a pixel are taken to be one.
            labels: of each page ``(T,)``, classes from 0.
            pools: whether the features of the regions are wanted.

        Returns:
            The regions that were sampled, and torchvision's four losses added up; 0 in eval mode.
        """
        maps, images = self.maps(pixel_values), _images(pixel_values)
        whole = [torch.cat([there[:, :2], torch.maximum(there[:, 2:], there[:, :2] + 1)], 1) for there in boxes]
        truths = [{"boxes": there, "labels": what + 1} for there, what in zip(whole, labels, strict=True)]
        proposals, losses = self.rpn(images, maps, truths if self.training else None)
        regions, _, found, wanted = self.roi_heads.select_training_samples(proposals, truths)
        logits, deltas, pooled = self._answer(maps, regions, images)
        loss = logits.new_zeros(())
        if self.training:
            loss = sum(losses.values(), start=sum(fastrcnn_loss(logits, deltas, found, wanted), start=loss))
        return Sampled(
            loss, regions, torch.cat(found), self._answers(logits, deltas, regions, pooled if pools else None)
        )

    def look(self, pixel_values: Tensor, regions: list[Tensor], pools: bool = False) -> RegionAnswers:
        """What the head says of ``regions``, ``(N, 4)`` for each page, in the order they are given."""
        maps = self.maps(pixel_values)
        logits, deltas, pooled = self._answer(maps, regions, _images(pixel_values))
        return self._answers(logits, deltas, regions, pooled if pools else None)

    def detect(self, pixel_values: Tensor) -> list[dict[str, Tensor]]:
        """Of each page ``boxes`` (n, 4), ``scores`` and ``labels`` (from 0), surest first; the network in eval mode."""
        maps, images = self.maps(pixel_values), _images(pixel_values)
        proposals, _ = self.rpn(images, maps)
        logits, deltas, _ = self._answer(maps, proposals, images)
        found = self.roi_heads.postprocess_detections(logits, deltas, proposals, images.image_sizes)
        return [
            {"boxes": boxes, "scores": scores, "labels": labels - 1}
            for boxes, scores, labels in zip(*found, strict=True)
        ]

    def forward(self, pixel_values: Tensor) -> list[dict[str, Tensor]]:
        """As `detect`."""
        return self.detect(pixel_values)

    def _answer(
        self, maps: dict[str, Tensor], regions: list[Tensor], images: ImageList
    ) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.roi_heads.box_roi_pool(maps, regions, images.image_sizes)
        logits, deltas = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return logits.float(), deltas.float(), pooled

    def _answers(self, logits: Tensor, deltas: Tensor, regions: list[Tensor], pooled: Tensor | None) -> RegionAnswers:
        boxes = self.roi_heads.box_coder.decode(deltas, regions)
        return RegionAnswers(logits, boxes.view(len(logits), -1, 4)[:, 1:], pooled)


def _set_widths(body: Any, widths: Sequence[int]) -> None:
    """Gives torchvision's ResNet, which knows the widths of its paper alone, others: a stem and stages of its own making."""
    block = type(body.layer1[0]) if isinstance(body, ResNet) else None
    if block is None or len(widths) != 5 or any(width < 1 or width % block.expansion for width in widths[1:]):
        raise ModelError(
            f"widths: {list(widths)} given; give five numbers, of a ResNet's stem and of its four stages (multiples of 4 from ResNet-50 "
            "on), or leave it out"
        )
    body.inplanes = widths[0]
    body.conv1 = nn.Conv2d(3, widths[0], kernel_size=7, stride=2, padding=3, bias=False)
    body.bn1 = nn.BatchNorm2d(widths[0])
    for number, width in enumerate(widths[1:], 1):
        depth, stride = len(body.get_submodule(f"layer{number}")), 1 if number == 1 else 2
        body.set_submodule(f"layer{number}", body._make_layer(block, width // block.expansion, depth, stride))
    for module in body.modules():
        if isinstance(module, nn.Conv2d):  # as torchvision begins its own
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def scaled_anchors(sizes: Sequence[int], share: float) -> list[int]:
    """Anchors for pages whose sides are ``share`` times as long."""
    return [max(1, round(size * share)) for size in sizes]


def _images(pixel_values: Tensor) -> ImageList:
    """Torchvision's wrapper of a batch whose pages were brought to one size before."""
    height, width = pixel_values.shape[-2:]
    return ImageList(pixel_values, [(height, width)] * len(pixel_values))
