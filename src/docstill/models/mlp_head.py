"""A page classifier that ends in two layers, as SimKD with `projector: mlp` leaves it behind.

Stock transformers has no place for the second layer, so such a model is of a class of its own, made from the usual one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn

from docstill.models.head import MLP_HEAD, give_deeper_head, head_of


def give_mlp_head(network: Any, width: int) -> None:
    """Puts linear → GELU → linear in the place of the last layer, with new weights; a network that ends so keeps what it has.

    Raises:
        ModelError: it ends in convolutions.
    """
    give_deeper_head(network, MLP_HEAD, width, _deepen, with_mlp_head)


@cache
def with_mlp_head(usual: Any) -> Any:
    """The class of a transformers classifier with the deeper head; under the same name, which `config.json` keeps."""

    def begin(self: Any, config: Any) -> None:
        usual.__init__(self, config)
        _deepen(self)

    return type(usual.__name__, (usual,), {"__init__": begin, "__module__": usual.__module__})


def _deepen(network: Any) -> None:
    head, width = head_of(network), getattr(network.config, MLP_HEAD)
    path = next(name for name, module in network.named_modules() if module is head)
    layers = nn.Sequential(nn.Linear(head.in_features, width), nn.GELU(), nn.Linear(width, head.out_features))
    network.set_submodule(path, layers.to(head.weight.device, head.weight.dtype))
