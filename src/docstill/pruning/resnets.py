"""Where the layers of a ResNet are, in whatever library it was built: transformers' classifiers, RT-DETR's, torchvision's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docstill.errors import ModelError
from docstill.models.blocks import QUERY_DETECTORS, TWO_STAGE_DETECTOR

_BOTTLENECK = 4
"""A bottleneck block is a quarter as wide inside, so a stage's width must be a multiple of this."""
_RESNETS = {"resnet": 1, "rt_detr_resnet": 2}
"""transformers' kinds, and what their widths must be multiples of: half of the stem's is used inside that of RT-DETR."""
_STEM = "embedder.embedder."
_EPSILON = 1e-5


@dataclass(frozen=True)
class Layer:
    """The paths of a convolution and of the batch norm behind it."""

    convolution: str
    norm: str

    def strength(self, state: Mapping[str, Tensor]) -> Tensor:
        """The norm of each filter, ``(channels,)``, with the batch norm folded in."""
        weight = state[f"{self.convolution}.weight"].double()
        scale = state[f"{self.norm}.weight"].double() / (state[f"{self.norm}.running_var"].double() + _EPSILON).sqrt()
        norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
        return norms * scale.abs()


@dataclass(frozen=True)
class ResidualBlock:
    """What a block computes, layer after layer, and the layer that its input takes beside them, if it has one."""

    chain: list[Layer]
    shortcut: Layer | None


@dataclass(frozen=True)
class Resnet:
    """A ResNet within a network.

    Attributes:
        root: what the names of its tensors begin with.
        sizes: channels of the stem and of each stage.
        reduction: how many times narrower a block is inside.
        multiple: what widths must be multiples of.
        stem: its layers, one after the other.
        stages: the blocks of each stage.
    """

    root: str
    sizes: list[int]
    reduction: int
    multiple: int
    stem: list[Layer]
    stages: list[list[ResidualBlock]]


def resnet_of(network: Any) -> Resnet:
    """The ResNet that ``network`` is, or has as its backbone.

    Raises:
        ModelError: it has none.
    """
    config = network.config
    if config.model_type == TWO_STAGE_DETECTOR:
        return _of_torchvision(network)
    detector = config.model_type in QUERY_DETECTORS
    resnet = config.backbone_config if detector else config
    if resnet.model_type not in _RESNETS:
        whose = f"the backbone of this {config.model_type}" if detector else "this"
        raise ModelError(
            f"channel pruning is for a resnet, {whose} is a {resnet.model_type}; use another method, such as depth"
        )
    return _of_transformers(network.state_dict(), resnet)


def _of_transformers(state: Mapping[str, Tensor], config: Any) -> Resnet:
    ending = ".convolution.weight"

    def layers(prefix: str) -> list[Layer]:
        paths = [name.removesuffix(ending) for name in state if name.startswith(prefix) and name.endswith(ending)]
        return [Layer(f"{path}.convolution", f"{path}.normalization") for path in paths]

    root = next(name for name in state if _STEM in name).partition(_STEM)[0]
    blocks = [
        [f"{root}encoder.stages.{stage}.layers.{block}" for block in range(depth)]
        for stage, depth in enumerate(config.depths)
    ]
    reduction = _BOTTLENECK if config.layer_type == "bottleneck" else 1
    return Resnet(
        root,
        [config.embedding_size, *config.hidden_sizes],
        reduction,
        max(reduction, _RESNETS[config.model_type]),
        layers(root + _STEM),
        [
            [ResidualBlock(layers(f"{path}.layer."), next(iter(layers(f"{path}.shortcut")), None)) for path in stage]
            for stage in blocks
        ],
    )


def _of_torchvision(network: Any) -> Resnet:
    body, state, root = network.backbone.body, network.state_dict(), "backbone.body."
    if not network.config.backbone.startswith("resnet"):
        raise ModelError(
            f"channel pruning is for a resnet, the backbone of this Faster R-CNN is a {network.config.backbone}; use backbone or "
            "resolution"
        )

    def block(path: str, module: Any) -> ResidualBlock:
        parts = dict(module.named_children())
        chain = [
            Layer(f"{path}.conv{number}", f"{path}.bn{number}") for number in (1, 2, 3) if f"conv{number}" in parts
        ]
        beside = Layer(f"{path}.downsample.0", f"{path}.downsample.1") if "downsample" in parts else None
        return ResidualBlock(chain, beside)

    names = [f"layer{number}" for number in range(1, len(network.backbone.fpn.inner_blocks) + 1)]
    stages = [[block(f"{root}{name}.{key}", module) for key, module in body[name].named_children()] for name in names]
    reduction = _BOTTLENECK if len(stages[0][0].chain) == 3 else 1
    ends = [state[f"{stage[-1].chain[-1].convolution}.weight"] for stage in stages]
    sizes = [body.conv1.out_channels, *(len(filters) for filters in ends)]
    return Resnet(root, sizes, reduction, reduction, [Layer(f"{root}conv1", f"{root}bn1")], stages)
