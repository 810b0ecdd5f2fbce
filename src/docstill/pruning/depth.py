"""Depth pruning: whole blocks go; what is left is an ordinary, shallower network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from docstill.errors import ModelError, UserError
from docstill.models.blocks import QUERY_DETECTORS, blocks_of
from docstill.models.taps import first_tensor
from docstill.pruning.masks import Masks
from docstill.pruning.rebuild import Look, Part, config_of, parts_of, rebuilt, smaller_config, with_config

_DEPTH = {
    "vit": "num_hidden_layers",
    "deit": "num_hidden_layers",
    "beit": "num_hidden_layers",
    "mbart": "decoder_layers",
    "swin": "depths",
    "donut-swin": "depths",
    "resnet": "depths",
    "convnext": "depths",
    "rt_detr": "decoder_layers",
    "rt_detr_v2": "decoder_layers",
    "d_fine": "decoder_layers",
}
"""By kind of network: the key of its configuration that says how many blocks there are."""
_COUNTED_FROM_DEPTH = frozenset({"stage_names", "out_features", "out_indices", "_out_features", "_out_indices"})
"""What transformers works out from the depth, and would otherwise find at odds with it."""
_SHIFTED = frozenset({"swin", "donut-swin"})
"""Every second block looks through shifted windows, by its place; a block should keep an even or an odd one."""

_FEWEST = 2
"""Blocks of the decoder of `QUERY_DETECTORS`, from which on transformers builds one. Their encoder has but one block."""
_HEADS = (
    "class_embed",
    "bbox_embed",
    "model.decoder.class_embed",
    "model.decoder.bbox_embed",
    "model.decoder.lqe_layers",
)
"""Each block of such a decoder has heads of its own, which go with it."""

KEPT_LAYERS = "kept_layers"
"""The key of the model card under which each depth pruning, the first one first, says what `kept_layers` gives."""

Keep = float | int | Sequence[int]
"""A share of each stage's blocks, or how many: of a network without stages, or of each stage."""


def prune_depth(
    network: Any, masks: Masks, keep: Keep, *, of: str = "all", look: Look | None = None
) -> tuple[Any, Masks, list[str]]:
    """Takes blocks out.

    Args:
        network: a transformers model; it is not changed.
        masks: its zeros, which follow their tensors.
        keep: see `Keep`; a share is rounded, and at least one block of each stage stays.
        of: ``all``, ``encoder`` or ``decoder``; of an RT-DETR or D-FINE, ``all`` is the decoder, and the encoder has but a layer.
        look: if given, the blocks that change what passes through them least go (Men et al. 2024, ShortGPT, section 3.1);
            else those that stay are evenly spaced, the first and the last among them.

    Returns:
        The shallower network, its masks, and the paths of the blocks that went.

    Raises:
        UserError: ``keep`` does not fit the number of blocks, or takes none away; the encoder of an RT-DETR or D-FINE.
        ModelError: a kind of network whose blocks cannot be counted in its configuration.
    """
    config, gone = smaller_config(network), []
    names: dict[str, str] = {}
    if config.model_type in QUERY_DETECTORS:
        if of == "encoder":
            raise UserError(
                f"of: encoder was given, but layers of a {config.model_type} can go from its decoder alone; give of: decoder"
            )
        of = "decoder"
    influence = {} if look is None else block_influence(network, look)
    for part in parts_of(network, of):
        inner = config_of(config, part)
        if inner.model_type not in _DEPTH:
            raise ModelError(
                f"the depth of a {inner.model_type} is not a number in its configuration; it can be changed for "
                f"{', '.join(_DEPTH)}"
            )
        counts = _counts(part, keep)
        if inner.model_type in QUERY_DETECTORS and counts[0] < _FEWEST:
            raise UserError(
                f"keep: {keep} leaves one layer of the decoder, and transformers builds a {inner.model_type} from two on; keep 2"
            )
        for stage, count in zip(part.stages, counts, strict=True):
            scores = [influence.get(block.path, 0.0) for block in stage]
            kept = _strongest(scores, count, inner.model_type) if influence else evenly(len(stage), count)
            if inner.model_type in _SHIFTED:
                kept = _in_step(kept, len(stage))
            names |= {stage[new].path: stage[old].path for new, old in enumerate(kept)}
            if inner.model_type in QUERY_DETECTORS:
                names |= {f"{head}.{new}": f"{head}.{old}" for head in _HEADS for new, old in enumerate(kept)}
            gone += [block.path for index, block in enumerate(stage) if index not in kept]
        config = with_config(config, part, _shallower(inner, counts))
    if not gone:
        raise UserError(f"keep: {keep} leaves every block in place; give a smaller share, or fewer blocks")
    smaller, left = rebuilt(network, config, masks, {}, names, {})
    return smaller, left, gone


def kept_layers(network: nn.Module, gone: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Which blocks stay.

    Args:
        network: as it was.
        gone: paths of the blocks that go.

    Returns:
        By path of each list of blocks that loses some: ``of``, how many blocks it had, and ``kept``, the indices of those
        that stay.
    """
    lists: dict[str, list[str]] = {}
    for block in blocks_of(network):
        lists.setdefault(block.path.rpartition(".")[0], []).append(block.path)
    return {
        path: {"of": len(blocks), "kept": [index for index, block in enumerate(blocks) if block not in gone]}
        for path, blocks in lists.items()
        if not set(gone).isdisjoint(blocks)
    }


def evenly(blocks: int, kept: int) -> list[int]:
    """``kept`` of ``blocks`` indices, evenly spaced, the first and (if there are two) the last among them."""
    if kept == 1:
        return [0]
    return [round(index * (blocks - 1) / (kept - 1)) for index in range(kept)]


def block_influence(network: nn.Module, look: Look) -> dict[str, float]:
    """How much each block turns what passes through it: 1 − the mean cosine of its input and its output, by path.

    The mean runs over tokens or places of all documents. A block that changes the shape has none: it cannot go.
    """
    sums: dict[str, list[float]] = {}
    handles = []
    for part in parts_of(network):
        for block in part.blocks:

            def watch(_: nn.Module, args: Any, kwargs: Any, output: Any, path: str = block.path) -> None:
                before = args[0] if args else kwargs["hidden_states"]
                after = first_tensor(output, path)
                if before.shape == after.shape:
                    cosine = torch.cosine_similarity(before.float(), after.float(), dim=1 if after.ndim == 4 else -1)
                    total = sums.setdefault(path, [0.0, 0.0])
                    total[0] += float(cosine.sum())
                    total[1] += cosine.numel()

            handles.append(network.get_submodule(block.path).register_forward_hook(watch, with_kwargs=True))
    try:
        look()
    finally:
        for handle in handles:
            handle.remove()
    return {path: 1 - total / count for path, (total, count) in sums.items()}


def _counts(part: Part, keep: Keep) -> list[int]:
    lengths = [len(stage) for stage in part.stages]
    if isinstance(keep, float):
        return [max(1, round(length * keep)) for length in lengths]
    counts = [keep] if isinstance(keep, int) else list(keep)
    if len(counts) != len(lengths) or any(
        not 1 <= count <= length for count, length in zip(counts, lengths, strict=False)
    ):
        raise UserError(
            f"keep: {keep} was given, the {part.name} has {' + '.join(map(str, lengths))} blocks; "
            f"give a share such as 0.5, or {'how many of them' if len(lengths) == 1 else 'a list with a number for each stage'}"
        )
    return counts


def _strongest(scores: Sequence[float], count: int, model_type: str) -> list[int]:
    # the first block of a ResNet's stage changes resolution and width, and must stay
    first = [0] if model_type == "resnet" else []
    ranked = sorted((index for index in range(len(scores)) if index not in first), key=lambda index: -scores[index])
    return sorted([*first, *ranked[: count - len(first)]])


def _in_step(kept: list[int], blocks: int) -> list[int]:
    """The same number of blocks, each moved to a neighbour where that keeps it at an even or odd place, as it was."""
    moved: list[int] = []
    for place, index in enumerate(kept):
        candidates = [
            other
            for other in range(moved[-1] + 1 if moved else 0, blocks - (len(kept) - 1 - place))
            if other % 2 == place % 2
        ]
        moved.append(min(candidates, key=lambda other: (abs(other - index), other)) if candidates else index)
    return moved if len(set(moved)) == len(moved) and moved == sorted(moved) else kept


def _shallower(config: Any, counts: list[int]) -> Any:
    """The configuration with so many blocks in each stage."""
    key = _DEPTH[config.model_type]
    content = {name: value for name, value in config.to_dict().items() if name not in _COUNTED_FROM_DEPTH}
    content[key] = counts if key == "depths" else counts[0]
    if config.model_type == "mbart":
        # never built here, but transformers sizes caches by these
        content["encoder_layers"] = content["num_hidden_layers"] = counts[0]
    return type(config).from_dict(content)
