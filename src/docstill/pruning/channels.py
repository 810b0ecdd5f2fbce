"""Channel pruning of ResNets, also as the backbone of an RT-DETR: every stage becomes narrower, the result is an ordinary ResNet.

The channels that residual connections add up must be the same everywhere in a stage, so they are chosen together; those
inside a block are its own.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from docstill.errors import ModelError
from docstill.models.blocks import QUERY_DETECTORS
from docstill.pruning.masks import Masks
from docstill.pruning.rebuild import Cuts, largest, rebuilt, smaller_config

_BOTTLENECK = 4
"""A bottleneck block is a quarter as wide inside, so a stage's width must be a multiple of this."""
_RESNETS = {"resnet": 1, "rt_detr_resnet": 2}
"""Kinds of ResNets, and what their widths must be multiples of: half of the stem's is used inside that of RT-DETR."""
_STEM = "embedder.embedder."


def prune_channels(network: Any, masks: Masks, keep: float) -> tuple[Any, Masks]:
    """Takes the channels with the smallest filters out (Li et al. 2017, arXiv 1608.08710), batch norm folded in.

    Args:
        network: a ResNet of transformers, or an RT-DETR with one as its backbone; it is not changed. Batch norms of the backbone that
            were frozen are live in the narrower network, for they have seen other sums.
        masks: its zeros, which follow their tensors.
        keep: share of each stage's channels that stay, in (0, 1).

    Returns:
        The narrower network, and its masks.

    Raises:
        ModelError: another kind of network.
    """
    config = smaller_config(network)
    detector = config.model_type in QUERY_DETECTORS
    resnet = config.backbone_config if detector else config
    if resnet.model_type not in _RESNETS:
        whose = f"the backbone of this {config.model_type}" if detector else "this"
        raise ModelError(f"channel pruning is for a resnet, {whose} is a {resnet.model_type}; use ffn or depth")
    state: dict[str, Tensor] = network.state_dict()
    reduction = _BOTTLENECK if resnet.layer_type == "bottleneck" else 1
    # One multiple for all widths, so that those that are equal stay so: on it hangs how transformers builds a shortcut.
    multiple = max(reduction, _RESNETS[resnet.model_type])
    resnet.embedding_size = _kept_count(resnet.embedding_size, keep, multiple)
    resnet.hidden_sizes = [_kept_count(size, keep, multiple) for size in resnet.hidden_sizes]

    root = next(name for name in state if _STEM in name).partition(_STEM)[0]
    *first, stem = _convolutions(state, root + _STEM)
    stages = [
        [f"{root}encoder.stages.{stage}.layers.{block}" for block in range(depth)]
        for stage, depth in enumerate(resnet.depths)
    ]
    streams = [[stem]]  # the convolutions that write into one residual stream
    for block in itertools.chain.from_iterable(stages):
        if shortcut := _shortcut(state, block):
            streams.append([shortcut])
        streams[-1].append(_convolutions(state, f"{block}.layer.")[-1])

    sizes = [resnet.embedding_size, *resnet.hidden_sizes]
    if len(streams) < len(sizes):  # the stem and the first stage are one stream
        resnet.embedding_size = sizes[1]
        sizes = sizes[1:]
    chosen = [
        largest(torch.stack([strength(state, convolution).square() for convolution in stream]).sum(0), size)
        for stream, size in zip(streams, sizes, strict=True)
    ]
    cuts: Cuts = {}
    _cut_chain(cuts, state, [*first, stem], None, chosen[0], len(chosen[0]) // 2)  # only RT-DETR has a deep stem
    at, ends = 0, []
    for stage in stages:
        for block in stage:
            incoming = chosen[at]
            if shortcut := _shortcut(state, block):
                at += 1
                _cut_layer(cuts, shortcut, incoming, chosen[at])
            _cut_chain(
                cuts, state, _convolutions(state, f"{block}.layer."), incoming, chosen[at], len(chosen[at]) // reduction
            )
        ends.append(chosen[at])
    if not detector:
        head = next(name for name in state if name.startswith("classifier") and name.endswith("weight"))
        cuts[head] = {1: ends[-1]}
        return rebuilt(network, config, masks, cuts, {}, {})
    taken = [resnet.stage_names.index(name) - 1 for name in resnet.out_features]  # the first name is the stem's
    config.encoder_in_channels = [resnet.hidden_sizes[stage] for stage in taken]
    for level, stage in enumerate(taken):
        cuts[f"model.encoder_input_proj.{level}.0.weight"] = {1: ends[stage]}
    config.freeze_backbone_batch_norms = False
    counted = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(0)
        for name in state
        if name.startswith(root) and name.endswith("running_var")
    }
    return rebuilt(network, config, masks, cuts, {}, counted)


def strength(state: dict[str, Tensor], layer: str) -> Tensor:
    """The norm of each filter of a convolution, ``(channels,)``, with its batch norm folded in."""
    weight = state[f"{layer}.convolution.weight"].double()
    norm = f"{layer}.normalization"
    scale = state[f"{norm}.weight"].double() / (state[f"{norm}.running_var"].double() + 1e-5).sqrt()
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), dim=1)
    return norms * scale.abs()


def _convolutions(state: dict[str, Tensor], prefix: str) -> list[str]:
    ending = ".convolution.weight"
    return [name.removesuffix(ending) for name in state if name.startswith(prefix) and name.endswith(ending)]


def _shortcut(state: dict[str, Tensor], block: str) -> str | None:
    return next(iter(_convolutions(state, f"{block}.shortcut")), None)


def _kept_count(size: int, keep: float, multiple: int) -> int:
    return max(1, round(size * keep / multiple)) * multiple


def _cut_chain(
    cuts: Cuts, state: dict[str, Tensor], layers: list[str], incoming: Tensor | None, outgoing: Tensor, inside: int
) -> None:
    """Convolutions one after another: ``inside`` channels are kept between them, ``outgoing`` behind the last."""
    *inner, last = layers
    for layer in inner:
        kept = largest(strength(state, layer), inside)
        _cut_layer(cuts, layer, incoming, kept)
        incoming = kept
    _cut_layer(cuts, last, incoming, outgoing)


def _cut_layer(cuts: Cuts, layer: str, incoming: Tensor | None, outgoing: Tensor) -> None:
    convolution = {0: outgoing}
    if incoming is not None:
        convolution[1] = incoming
    cuts[f"{layer}.convolution.weight"] = convolution
    for name in ("weight", "bias", "running_mean", "running_var"):
        cuts[f"{layer}.normalization.{name}"] = {0: outgoing}
