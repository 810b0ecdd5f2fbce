"""Channel pruning of ResNets, also as the backbone of a detector: every stage becomes narrower, the result is a ResNet.

The channels that residual connections add up must be the same everywhere in a stage, so they are chosen together; those
inside a block are its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from docstill.models.blocks import QUERY_DETECTORS, TWO_STAGE_DETECTOR
from docstill.pruning.masks import Masks
from docstill.pruning.rebuild import Cuts, largest, rebuilt, smaller_config
from docstill.pruning.resnets import Layer, Resnet, resnet_of


def prune_channels(network: Any, masks: Masks, keep: float) -> tuple[Any, Masks]:
    """Takes the channels with the smallest filters out (Li et al. 2017, arXiv 1608.08710), batch norm folded in.

    Args:
        network: a ResNet of transformers, or a Faster R-CNN or an RT-DETR with one as its backbone; it is not changed. Batch norms of
            the backbone that were frozen are live in the narrower network, for they have seen other sums.
        masks: its zeros, which follow their tensors.
        keep: share of each stage's channels that stay, in (0, 1).

    Returns:
        The narrower network, and its masks.

    Raises:
        ModelError: another kind of network.
    """
    resnet, state = resnet_of(network), network.state_dict()
    streams = [[resnet.stem[-1]]]  # the layers that write into one residual stream
    for block in itertools.chain.from_iterable(resnet.stages):
        if block.shortcut is not None:
            streams.append([block.shortcut])
        streams[-1].append(block.chain[-1])
    # One multiple for all widths, so that those that are equal stay so: on it hangs whether a block has a shortcut.
    sizes = [_kept_count(size, keep, resnet.multiple) for size in resnet.sizes]
    if len(streams) < len(sizes):  # the stem and the first stage are one stream
        sizes[0] = sizes[1]
    chosen = [
        largest(torch.stack([layer.strength(state).square() for layer in stream]).sum(0), size)
        for stream, size in zip(streams, sizes[len(sizes) - len(streams) :], strict=True)
    ]
    cuts: Cuts = {}
    _cut_chain(cuts, state, resnet.stem, None, chosen[0], len(chosen[0]) // 2)  # only RT-DETR has a deep stem
    at, ends = 0, []
    for stage in resnet.stages:
        for block in stage:
            incoming = chosen[at]
            if block.shortcut is not None:
                at += 1
                _cut_layer(cuts, block.shortcut, incoming, chosen[at])
            _cut_chain(cuts, state, block.chain, incoming, chosen[at], len(chosen[at]) // resnet.reduction)
        ends.append(chosen[at])
    config, readers = _narrower(network, sizes)
    for name, stage_number in readers.items():
        cuts[name] = {1: ends[stage_number]}
    return rebuilt(network, config, masks, cuts, {}, _uncounted(state, resnet) if _detector(config) else {})


def _narrower(network: Any, sizes: list[int]) -> tuple[Any, dict[str, int]]:
    """The configuration with these widths, and the tensors that read what a stage says, each with the stage's number."""
    config = smaller_config(network)
    if config.model_type == TWO_STAGE_DETECTOR:
        config.widths = sizes
        return config, {f"backbone.fpn.inner_blocks.{stage}.0.weight": stage for stage in range(len(sizes) - 1)}
    resnet = config.backbone_config if _detector(config) else config
    resnet.embedding_size, resnet.hidden_sizes = sizes[0], sizes[1:]
    if not _detector(config):
        head = next(name for name in network.state_dict() if name.startswith("classifier") and name.endswith("weight"))
        return config, {head: len(sizes) - 2}
    taken = [resnet.stage_names.index(name) - 1 for name in resnet.out_features]  # the first name is the stem's
    config.encoder_in_channels = [resnet.hidden_sizes[stage] for stage in taken]
    config.freeze_backbone_batch_norms = False
    return config, {f"model.encoder_input_proj.{level}.0.weight": stage for level, stage in enumerate(taken)}


def _detector(config: Any) -> bool:
    return config.model_type in QUERY_DETECTORS


def _uncounted(state: Mapping[str, Tensor], resnet: Resnet) -> dict[str, Tensor]:
    """Frozen batch norms have no count of the batches they saw; those that take their place have."""
    return {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(0)
        for name in state
        if name.startswith(resnet.root) and name.endswith("running_var")
    }


def _kept_count(size: int, keep: float, multiple: int) -> int:
    return max(1, round(size * keep / multiple)) * multiple


def _cut_chain(
    cuts: Cuts,
    state: Mapping[str, Tensor],
    layers: Iterable[Layer],
    incoming: Tensor | None,
    outgoing: Tensor,
    inside: int,
) -> None:
    """Layers one after another: ``inside`` channels are kept between them, ``outgoing`` behind the last."""
    *inner, last = layers
    for layer in inner:
        kept = largest(layer.strength(state), inside)
        _cut_layer(cuts, layer, incoming, kept)
        incoming = kept
    _cut_layer(cuts, last, incoming, outgoing)


def _cut_layer(cuts: Cuts, layer: Layer, incoming: Tensor | None, outgoing: Tensor) -> None:
    convolution = {0: outgoing}
    if incoming is not None:
        convolution[1] = incoming
    cuts[f"{layer.convolution}.weight"] = convolution
    for name in ("weight", "bias", "running_mean", "running_var"):
        cuts[f"{layer.norm}.{name}"] = {0: outgoing}
