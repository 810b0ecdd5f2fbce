"""The last layer of a page classifier: from features to logits, and the classes that these are of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from docstill.data.images import composed
from docstill.errors import ModelError

MLP_HEAD, CONV_HEAD = "docstill_mlp_head", "docstill_conv_head"
"""Where `config.json` says that a classifier ends in more than a linear layer, and how wide; else neither is mentioned."""
_PROJECTORS = {MLP_HEAD: "mlp", CONV_HEAD: "cnn"}


def names_in_order(config: Any) -> list[str]:
    """The class names, composed (NFC), in the order of the logits; transformers writes them to files in the order 0, 1, 10, 11, 2."""
    return [composed(config.id2label[index]) for index in range(config.num_labels)]


def head_of(network: nn.Module) -> nn.Linear:
    """The layer whose outputs are the logits.

    Raises:
        ModelError: the network is no page classifier that ends in one linear layer.
    """
    config: Any = network.config
    heads = [
        module
        for module in network.modules()
        if isinstance(module, nn.Linear) and module.out_features == config.num_labels and module.bias is not None
    ]
    if config.model_type == "vision-encoder-decoder" or not heads:
        raise ModelError(
            f"this needs a page classifier that ends in a linear layer, a {type(network).__name__} does not end so"
        )
    body = set(network.base_model.modules())  # type: ignore[union-attr]  # where layers may be as wide by chance
    behind = [head for head in heads if head not in body]
    if len(behind) > 1:
        raise ModelError(
            f"this needs a page classifier that ends in one linear layer, a {type(network).__name__} ends in {len(behind)} and "
            "takes their mean; give one with a single classifier"
        )
    return (behind or heads)[-1]


def check_head(config: Any, wanted: str) -> None:
    """Refuses to give a network one deeper head where it has the other.

    Args:
        config: of the network.
        wanted: `MLP_HEAD` or `CONV_HEAD`.

    Raises:
        ModelError: names both.
    """
    for key, projector in _PROJECTORS.items():
        if key != wanted and getattr(config, key, None) is not None:
            raise ModelError(
                f"the student already ends in the layers of projector: {projector}, which {_PROJECTORS[wanted]} cannot replace; "
                f"use projector: {projector} again, or linear"
            )


def give_deeper_head(
    network: Any, key: str, width: int, replace: Callable[[Any], None], deeper: Callable[[Any], Any]
) -> None:
    """Makes a network one that ends in more than a linear layer, with new weights; one that ends so keeps what it has.

    Args:
        network: a page classifier of transformers.
        key: `MLP_HEAD` or `CONV_HEAD`.
        width: noted under it.
        replace: puts the layers in.
        deeper: the class of such a network, from its usual one.

    Raises:
        ModelError: it ends in the other deeper head.
    """
    check_head(network.config, key)
    if getattr(network.config, key, None) is None:
        setattr(network.config, key, width)
        replace(network)
        network.__class__ = deeper(type(network))


def divide_logits(network: nn.Module, temperature: float) -> None:
    """Folds a temperature into the last layer: every runtime then gives the scaled probabilities, and no answer changes."""
    head = head_of(network)
    with torch.no_grad():
        head.weight.div_(temperature)
        head.bias.div_(temperature)
