"""A page classifier that ends in convolutions over its last map, as SimKD with `projector: cnn` leaves it behind.

Stock transformers pools first and has no place for them, so such a model is of a class of its own, made from the usual one. Its
last layer is linear, behind the pooling: the mean over positions of a 1 × 1 convolution is that convolution of the mean.
A dropout before the usual classifier goes with it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from docstill.errors import ModelError
from docstill.models.head import CONV_HEAD, give_deeper_head, head_of
from docstill.models.patches import IN_FRONT, laid_out, patches_of

_MAPS = frozenset({"resnet", "regnet", "mobilenet_v1", "mobilenet_v2", "efficientnet", "convnext", "convnextv2"})
"""Kinds of networks whose body hands on a map."""
_POOLED_THEN_NORMED = frozenset({"beit", "data2vec-vision"})
"""Their last norm stands behind the pooling if they pool, so that it is not in the tokens."""


def give_conv_head(network: Any, width: int) -> None:
    """Puts convolutions, pooling and a linear layer in the place of pooling and last layer, with new weights.

    A network that ends so keeps what it has.

    Args:
        network: a page classifier of transformers.
        width: of the features that the convolutions are to give; they are half as wide.

    Raises:
        ModelError: a network whose last map is not known, or one that ends in the other deeper head.
    """
    kinds = {*_MAPS, *IN_FRONT}
    if network.config.model_type not in kinds:
        raise ModelError(
            f"projector: cnn works on the last feature map, which is not known for a {network.config.model_type}; give a student "
            f"of one of {', '.join(sorted(kinds))}, or use projector: mlp"
        )
    give_deeper_head(network, CONV_HEAD, width, _replace, with_conv_head)


@cache
def with_conv_head(usual: Any) -> Any:
    """The class of a transformers classifier that ends in convolutions; under the same name, which `config.json` keeps."""

    def begin(self: Any, config: Any) -> None:
        usual.__init__(self, config)
        _replace(self)

    def forward(self: Any, pixel_values: Tensor) -> ImageClassifierOutputWithNoAttention:
        return ImageClassifierOutputWithNoAttention(logits=self.classifier(last_map(self, pixel_values)))

    return type(usual.__name__, (usual,), {"__init__": begin, "forward": forward, "__module__": usual.__module__})


def last_map(network: Any, pixels: Tensor) -> Tensor:
    """``(B, C, H, W)``: the network's last features before they are pooled, normalised as it normalises them itself.

    Tokens in front of the patches (CLS, registers) are left out.
    """
    config, body = network.config, network.base_model
    features = body(pixel_values=pixels).last_hidden_state
    maps = laid_out(features, patches_of(config, *pixels.shape[2:]), "the network's body")
    if config.model_type in _POOLED_THEN_NORMED and config.use_mean_pooling:
        norm = body.pooler.layernorm
    elif config.model_type.startswith("convnext"):
        norm = body.layernorm
    else:
        return maps  # the norm, if there is one, is in the features
    normed: Tensor = norm(maps.movedim(1, -1)).movedim(-1, 1)
    return normed


def _replace(network: Any) -> None:
    last, channels = head_of(network), _channels(network)
    middle = max(getattr(network.config, CONV_HEAD) // 2, 1)
    # Norms of each page by itself: over a batch, a page's answer would hang on the pages beside it.
    layers = nn.Sequential(
        nn.Conv2d(channels, middle, 1, bias=False),
        nn.GroupNorm(1, middle),
        nn.ReLU(),
        nn.Conv2d(middle, middle, 3, padding=1, bias=False),
        nn.GroupNorm(1, middle),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(middle, last.out_features),
    )
    network.classifier = layers.to(last.weight.device, last.weight.dtype)


def _channels(network: Any) -> int:
    """Of the last map; a DINOv2 lays CLS token and mean side by side, so that its classifier is twice as wide."""
    wide = head_of(network).in_features
    return wide // 2 if network.config.model_type.startswith("dinov2") else wide
