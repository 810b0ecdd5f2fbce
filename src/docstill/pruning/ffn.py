"""FFN pruning: the hidden layer between the two linear layers of each transformer block becomes narrower."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from docstill.errors import ModelError
from docstill.models.blocks import QUERY_DETECTORS
from docstill.pruning.masks import Masks
from docstill.pruning.rebuild import Look, config_of, largest, parts_of, rebuilt, smaller_config

_PAIRS = (
    ("mlp.fc1", "mlp.fc2"),
    ("fc1", "fc2"),
    ("intermediate.dense", "output.dense"),
    ("mlp.layers.0", "mlp.layers.1"),
)
"""Where a block keeps the two layers, in the networks and versions of transformers there are."""
_WIDTH = {
    "vit": "intermediate_size",
    "deit": "intermediate_size",
    "beit": "intermediate_size",
    "mbart": "decoder_ffn_dim",
    "swin": "mlp_ratio",
    "donut-swin": "mlp_ratio",
}
"""By kind of network: the key of its configuration that says how wide; one for all blocks."""


class Passing:
    """Mean and variance of each unit that passes through a layer's input, summed in float64."""

    def __init__(self, width: int) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(width).double(), torch.zeros(width).double()

    def add(self, values: Tensor) -> None:
        """Takes in ``(…, width)``."""
        rows = values.detach().reshape(-1, values.shape[-1]).double()
        self.count += len(rows)
        self.total += rows.sum(0).cpu()
        self.squares += rows.square().sum(0).cpu()

    @property
    def mean(self) -> Tensor:
        """``(width,)`` float64."""
        return self.total / max(self.count, 1)

    @property
    def variance(self) -> Tensor:
        """``(width,)``, never below 0."""
        return (self.squares / max(self.count, 1) - self.mean.square()).clamp_min(0)


def prune_ffn(
    network: Any, masks: Masks, keep: float, *, of: str = "all", look: Look | None = None
) -> tuple[Any, Masks]:
    """Takes the least useful hidden units out of every block.

    With ``look``, a unit's score is the squared error that replacing it by its mean makes at the block's output,
    variance · ‖its column of the second layer‖²; the means of those that go are folded into the second layer's bias.
    Without, it is ‖its row of the first layer‖ · ‖its column of the second‖.

    Args:
        network: a transformers model; it is not changed.
        masks: its zeros, which follow their tensors.
        keep: share of the units that stay, in (0, 1); the same number in every block of a stage, as the configuration has
            one number for all.
        of: ``all``, ``encoder`` or ``decoder``.
        look: runs documents through the network.

    Returns:
        The narrower network, and its masks.

    Raises:
        ModelError: a network without such layers, or whose configuration does not say how wide they are.
    """
    config, cuts, values = smaller_config(network), {}, {}
    parts = [part for part in parts_of(network, of) if part.name != "backbone"]
    pairs = {block.path: pair_of(network, block.path) for part in parts for block in part.blocks}
    passing = {} if look is None else _watched(pairs, look)
    for part in parts:
        inner = config_of(config, part)
        widths = _narrower(inner, part.name, keep, [pairs[stage[0].path][1][1].in_features for stage in part.stages])
        for stage, width in zip(part.stages, widths, strict=True):
            for block in stage:
                (first_name, first), (second_name, second) = pairs[block.path]
                incoming, outgoing = first.weight.detach().double(), second.weight.detach().double()
                if look is None:
                    scores = incoming.norm(dim=1) * outgoing.norm(dim=0)
                else:
                    seen = passing[block.path]
                    scores = seen.variance.to(outgoing.device) * outgoing.square().sum(0)
                kept = largest(scores, width)
                cuts[f"{first_name}.weight"] = cuts[f"{first_name}.bias"] = {0: kept}
                cuts[f"{second_name}.weight"] = {1: kept}
                if look is not None:
                    gone = torch.ones(second.in_features, dtype=torch.bool, device=outgoing.device)
                    gone[kept] = False
                    bias = second.bias.detach()
                    shift = outgoing[:, gone] @ seen.mean.to(outgoing.device)[gone]
                    values[f"{second_name}.bias"] = bias + shift.to(bias.dtype)
    return rebuilt(network, config, masks, cuts, {}, values)


def pair_of(network: nn.Module, block: str) -> tuple[tuple[str, Any], tuple[str, Any]]:
    """Path and module of a block's two linear layers.

    Raises:
        ModelError: it has none.
    """
    modules = dict(network.get_submodule(block).named_modules())
    for first, second in _PAIRS:
        if isinstance(modules.get(first), nn.Linear) and isinstance(modules.get(second), nn.Linear):
            return (f"{block}.{first}", modules[first]), (f"{block}.{second}", modules[second])
    raise ModelError(
        f"{block} of the {type(network).__name__} has no feed-forward layers (none called "
        f"{', '.join(first for first, _ in _PAIRS)}); ffn pruning is for transformers, use channels for a ResNet"
    )


def _narrower(config: Any, part: str, keep: float, widths: list[int]) -> list[int]:
    """Writes the smaller width into the configuration; returns how many units stay in each stage."""
    if config.model_type in QUERY_DETECTORS:  # one key for the encoder, one for the decoder
        count = max(1, round(widths[0] * keep))
        setattr(config, f"{part}_ffn_dim", count)
        return [count] * len(widths)
    if config.model_type not in _WIDTH:
        raise ModelError(
            f"the feed-forward width of a {config.model_type} is not in its configuration; it is for {', '.join(_WIDTH)}"
        )
    count = max(1, round(widths[0] * keep))
    if _WIDTH[config.model_type] == "mlp_ratio":
        # transformers takes int(ratio · width of the stage), and the stages' widths double
        config.mlp_ratio = (count + 1e-6) / config.embed_dim
        return [int(config.mlp_ratio * config.embed_dim * 2**stage) for stage in range(len(widths))]
    setattr(config, _WIDTH[config.model_type], count)
    return [count] * len(widths)


def _watched(pairs: dict[str, tuple[tuple[str, Any], tuple[str, Any]]], look: Look) -> dict[str, Passing]:
    passing = {block: Passing(second.in_features) for block, (_, (_, second)) in pairs.items()}

    def watch(block: str) -> Any:
        return lambda _module, args: passing[block].add(args[0])

    handles = [second.register_forward_pre_hook(watch(block)) for block, (_, (_, second)) in pairs.items()]
    try:
        look()
    finally:
        for handle in handles:
            handle.remove()
    return passing
