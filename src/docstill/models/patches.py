"""Where tokens stand: networks that cut a page into patches hand on rows of tokens, which are laid back on their grid as maps.

The grid is told by the picture that the network looks at and by the sides of its patches, never by the number of tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from docstill.errors import ModelError

IN_FRONT = {
    "vit": 1,
    "vit_msn": 1,
    "beit": 1,
    "data2vec-vision": 1,
    "deit": 2,
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "ijepa": 0,
    "swin": 0,
    "swinv2": 0,
}
"""Kinds of networks whose patches are handed on row by row, and how many tokens (CLS, distillation) stand before them."""
_MERGING = frozenset({"swin", "swinv2"})
_WITH_REGISTERS = frozenset({"dinov2_with_registers"})


@dataclass(frozen=True)
class Patches:
    """How a network cuts the pages of a batch.

    Attributes:
        grids: rows and columns of patches; one for each stage where deeper stages merge patches.
        in_front: how many tokens, which stand for no place on the page, come before the patches.
    """

    grids: tuple[tuple[int, int], ...]
    in_front: int = 0


def patches_of(config: Any, height: int, width: int) -> Patches | None:
    """How a network cuts pages of so many pixels; None if it hands on maps, or if its tokens' places are not known.

    Args:
        config: of transformers.
        height: of the pictures that the network is given.
        width: of the same.
    """
    kind = config.model_type
    if kind not in IN_FRONT:
        return None
    size = config.patch_size
    down, right = size if isinstance(size, Iterable) else (size, size)
    if kind not in _MERGING:
        registers = config.num_register_tokens if kind in _WITH_REGISTERS else 0
        return Patches(((height // down, width // right),), IN_FRONT[kind] + registers)
    grids = [(-(-height // down), -(-width // right))]  # what is left over at the edges is padded
    for _ in config.depths[1:]:
        rows, columns = grids[-1]
        grids.append((-(-rows // 2), -(-columns // 2)))
    return Patches(tuple(grids))


def laid_out(features: Tensor, patches: Patches | None, where: str) -> Tensor:
    """``(B, N, C)`` tokens as ``(B, C, H, W)`` maps, without those in front of the patches; maps stay.

    Args:
        features: tokens or maps.
        patches: how the network cuts pages; None if that is not known.
        where: the module that they come from, for the error.

    Raises:
        ModelError: vectors; tokens whose places are not known; tokens that fill none of the grids.
    """
    if features.dim() == 4:
        return features
    shape = tuple(features.shape)
    if features.dim() != 3 or patches is None:
        known = f"; tap a module that gives maps, or tokens of one of these: {', '.join(sorted(IN_FRONT))}"
        raise ModelError(
            f"maps (B, C, H, W) are needed, and {where} gives {shape}, of which it is not known where on the page they stand{known}"
        )
    for rows, columns in patches.grids:
        # Before the embeddings are whole, and after some poolings, the tokens in front are not there.
        for in_front in {patches.in_front, 0}:
            if features.shape[1] == rows * columns + in_front:
                return features[:, in_front:].transpose(1, 2).reshape(shape[0], shape[2], rows, columns)
    grids = ", ".join(f"{rows} × {columns}" for rows, columns in patches.grids)
    raise ModelError(
        f"{where} gives {features.shape[1]} tokens, which fill no grid of {grids} patches with or without the {patches.in_front} "
        "in front; tap a block or a stage of the network"
    )
