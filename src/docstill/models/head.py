"""The last layer of a page classifier: from features to logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from docstill.errors import ModelError


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


def divide_logits(network: nn.Module, temperature: float) -> None:
    """Folds a temperature into the last layer: every runtime then gives the scaled probabilities, and no answer changes."""
    head = head_of(network)
    with torch.no_grad():
        head.weight.div_(temperature)
        head.bias.div_(temperature)
