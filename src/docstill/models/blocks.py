"""The blocks of a network, by path: transformer layers, residual blocks, the stages they stand in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from docstill.errors import ModelError

TWO_STAGE_DETECTOR = "docstill_faster_rcnn"
"""Faster R-CNN, as `docstill.models.faster_rcnn` builds it."""
QUERY_DETECTORS = frozenset({"rt_detr", "rt_detr_v2", "d_fine"})
"""Kinds of detectors whose decoder is asked about places on the page; all of one build."""
_LISTS, _INNER = frozenset({"layers", "layer", "stages", "blocks"}), ("blocks", "layers")


@dataclass(frozen=True)
class Block:
    """A layer: its path in the network, the part it belongs to, and a short name, ``encoder 3.2``: stage, block.

    ``stage`` counts from 0; blocks of a network without stages all stand in stage 0.
    """

    path: str
    part: str
    name: str
    stage: int = 0


def blocks_of(network: nn.Module) -> list[Block]:
    """The blocks of a network, from the input to the output.

    They are the entries of the outermost lists called layers, layer, stages or blocks; an entry that holds such a list of
    its own is a stage, and gives way to its blocks. Bare linear layers are no blocks but parts of a head.

    Raises:
        ModelError: the network has no such list.
    """
    found: list[Block] = []
    for path, entries in _outermost(network):
        part = next((name for name in path.split(".")[:2] if name in ("decoder", "backbone")), "encoder")
        for number, (key, entry) in enumerate(entries.named_children(), 1):
            inner = next((name for name, _ in entry.named_children() if name in _INNER), None)
            if inner is None:
                found.append(Block(f"{path}.{key}", part, f"{part} {number}"))
                continue
            for place, (inner_key, _) in enumerate(entry.get_submodule(inner).named_children(), 1):
                found.append(Block(f"{path}.{key}.{inner}.{inner_key}", part, f"{part} {number}.{place}", number - 1))
    if not found:
        raise ModelError(
            f"the {type(network).__name__} has no list of layers "
            f"(none is called {', '.join(sorted(_LISTS))}); give a model of stacked blocks"
        )
    return found


def _outermost(module: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        where = f"{path}.{name}" if path else name
        if name in _LISTS and isinstance(child, nn.ModuleList | nn.Sequential):
            if not all(isinstance(entry, nn.Linear) for entry in child):
                yield where, child
        else:
            yield from _outermost(child, where)
