"""A smaller network from a larger one: the same class with a smaller configuration, its tensors cut out of the old ones.

What comes out is what plain transformers builds from that configuration, so it loads without docstill.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from docstill.errors import ModelError, UserError
from docstill.models.blocks import Block, blocks_of
from docstill.pruning.masks import Masks

PartName = Literal["all", "encoder", "decoder"]

Cuts = dict[str, dict[int, Tensor]]
"""By name of the old tensor: for each dimension that shrinks, the indices that are kept, in order."""

Look = Callable[[], None]
"""Runs some documents through the network, one by one (no padding), so that hooks see what passes."""


@dataclass
class Part:
    """The encoder or the decoder of a network; a classifier is one encoder.

    Attributes:
        name: ``encoder`` or ``decoder``.
        stages: paths of its blocks, by stage.
    """

    name: str
    stages: list[list[Block]] = field(default_factory=list)

    @property
    def blocks(self) -> list[Block]:
        """All blocks, from the input to the output."""
        return [block for stage in self.stages for block in stage]


def parts_of(network: nn.Module, of: str = "all") -> list[Part]:
    """The parts that ``of`` names, with their blocks by stage.

    Raises:
        UserError: the network has no such part.
        ModelError: the network has no list of blocks.
    """
    parts: dict[str, Part] = {}
    for block in blocks_of(network):
        part = parts.setdefault(block.part, Part(block.part))
        if len(part.stages) <= block.stage:
            part.stages.append([])
        part.stages[block.stage].append(block)
    chosen = [part for name, part in parts.items() if of in ("all", name)]
    if not chosen:
        raise UserError(f"the {type(network).__name__} has no {of}; give of: {', '.join(['all', *parts])}")
    return chosen


def config_of(config: Any, part: Part) -> Any:
    """The configuration of a part: its own in an encoder-decoder, else the network's."""
    return getattr(config, part.name) if config.model_type == "vision-encoder-decoder" else config


def with_config(config: Any, part: Part, inner: Any) -> Any:
    """The network's configuration with ``inner`` as that of a part."""
    if config.model_type != "vision-encoder-decoder":
        return inner
    setattr(config, part.name, inner)
    return config


def smaller_config(network: Any) -> Any:
    """A copy of the network's configuration, to be made smaller."""
    return copy.deepcopy(network.config)


def rebuilt(
    network: Any, config: Any, masks: Masks, cuts: Cuts, names: Mapping[str, str], values: Mapping[str, Tensor]
) -> tuple[Any, Masks]:
    """The network that ``config`` describes, with the tensors of ``network``.

    Args:
        network: a transformers model; it is not changed.
        config: the smaller configuration.
        masks: zeros of ``network``; they are cut with their tensors.
        cuts: by old name, what stays of a tensor; what is not named stays whole.
        names: paths of blocks that moved, new to old; what is not named kept its path.
        values: tensors that take the place of the old ones, by old name, before they are cut.

    Returns:
        The smaller network, on the same device and in the same mode, and its masks.

    Raises:
        ModelError: a tensor does not fit; this kind of network cannot be pruned so.
    """
    device = next(network.parameters()).device
    smaller = type(network)(config)
    old, new = {**network.state_dict(), **values}, smaller.state_dict()
    renamed = {name: _old_name(name, names) for name in new}
    found = {name: _cut(old[source], cuts.get(source, {})) for name, source in renamed.items() if source in old}
    wrong = [name for name, tensor in new.items() if name not in found or found[name].shape != tensor.shape]
    if wrong:
        raise ModelError(
            f"a {config.model_type} cannot be made smaller in this way ({', '.join(wrong[:3])} would not fit); "
            "choose another method"
        )
    smaller.load_state_dict(found)
    generation = getattr(network, "generation_config", None)  # classifiers write nothing
    if generation is not None:
        smaller.generation_config = copy.deepcopy(generation)
    smaller.to(device).train(network.training)
    kept = {name: _cut(masks[source], cuts.get(source, {})) for name, source in renamed.items() if source in masks}
    return smaller, kept


def _old_name(name: str, names: Mapping[str, str]) -> str:
    for new, old in names.items():
        if name.startswith(f"{new}."):
            return old + name[len(new) :]
    return name


def _cut(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    for dimension, indices in kept.items():
        tensor = tensor.index_select(dimension, indices.to(tensor.device))
    return tensor


def largest(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` largest scores, in ascending order; among equals the first."""
    return torch.argsort(scores, descending=True, stable=True)[:count].sort().values
