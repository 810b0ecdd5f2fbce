"""Channel pruning of ResNets: every stage becomes narrower, and the result is an ordinary ResNet of that width.

The channels that residual connections add up must be the same everywhere in a stage, so they are chosen together; those
inside a block are its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from docstill.errors import ModelError
from docstill.pruning.masks import Masks
from docstill.pruning.rebuild import Cuts, largest, parts_of, rebuilt, smaller_config

_BOTTLENECK = 4
"""A bottleneck block is a quarter as wide inside, so a stage's width must be a multiple of this."""


def prune_channels(network: Any, masks: Masks, keep: float) -> tuple[Any, Masks]:
    """Takes the channels with the smallest filters out (Li et al. 2017, arXiv 1608.08710), batch norm folded in.

    Args:
        network: a ResNet of transformers; it is not changed.
        masks: its zeros, which follow their tensors.
        keep: share of each stage's channels that stay, in (0, 1).

    Returns:
        The narrower network, and its masks.

    Raises:
        ModelError: another kind of network.
    """
    config = smaller_config(network)
    if config.model_type != "resnet":
        raise ModelError(f"channel pruning is for a resnet, this is a {config.model_type}; use ffn or depth")
    state: dict[str, Tensor] = network.state_dict()
    cuts: Cuts = {}
    multiple = _BOTTLENECK if config.layer_type == "bottleneck" else 1
    stem = next(name for name in state if name.endswith("embedder.embedder.convolution.weight")).removesuffix(
        ".convolution.weight"
    )

    stages = parts_of(network)[0].stages
    config.embedding_size = _kept_count(config.embedding_size, keep, 1)
    config.hidden_sizes = [_kept_count(size, keep, multiple) for size in config.hidden_sizes]
    streams = [[stem]]  # the convolutions that write into one residual stream
    for stage in stages:
        for block in stage:
            shortcut = f"{block.path}.shortcut"
            if f"{shortcut}.convolution.weight" in state:
                streams.append([shortcut])
            streams[-1].append(_convolutions(state, block.path)[-1])

    sizes = [config.embedding_size, *config.hidden_sizes]
    if len(streams) < len(sizes):  # the stem and the first stage are one stream
        config.embedding_size = sizes[1]
        sizes = sizes[1:]
    chosen = [
        largest(torch.stack([strength(state, convolution).square() for convolution in stream]).sum(0), size)
        for stream, size in zip(streams, sizes, strict=True)
    ]
    _cut_layer(cuts, stem, None, chosen[0])
    at = 0
    for stage in stages:
        for block in stage:
            incoming = chosen[at]
            shortcut = f"{block.path}.shortcut"
            if f"{shortcut}.convolution.weight" in state:
                at += 1
                _cut_layer(cuts, shortcut, incoming, chosen[at])
            *inner, last = _convolutions(state, block.path)
            for convolution in inner:
                outgoing = largest(strength(state, convolution), len(chosen[at]) // multiple)
                _cut_layer(cuts, convolution, incoming, outgoing)
                incoming = outgoing
            _cut_layer(cuts, last, incoming, chosen[at])
    head = next(name for name in state if name.startswith("classifier") and name.endswith("weight"))
    cuts[head] = {1: chosen[-1]}
    return rebuilt(network, config, masks, cuts, {}, {})


def strength(state: dict[str, Tensor], layer: str) -> Tensor:
    """The norm of each filter of a convolution, ``(channels,)``, with its batch norm folded in."""
    weight = state[f"{layer}.convolution.weight"].double()
    norm = f"{layer}.normalization"
    scale = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + 1e-5).sqrt()
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return norms * scale.abs()


def _convolutions(state: dict[str, Tensor], block: str) -> list[str]:
    inside, ending = f"{block}.layer.", ".convolution.weight"
    return [name.removesuffix(ending) for name in state if name.startswith(inside) and name.endswith(ending)]


def _kept_count(size: int, keep: float, multiple: int) -> int:
    return max(1, round(size * keep / multiple)) * multiple


def _cut_layer(cuts: Cuts, layer: str, incoming: Tensor | None, outgoing: Tensor) -> None:
    convolution = {0: outgoing}
    if incoming is not None:
        convolution[1] = incoming
    cuts[f"{layer}.convolution.weight"] = convolution
    for name in ("weight", "bias", "running_mean", "running_var"):
        cuts[f"{layer}.normalization.{name}"] = {0: outgoing}
