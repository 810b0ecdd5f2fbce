"""Pages laid over one another: MixUp (Zhang et al. 2018, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899).

Each page of a batch gets a partner from the same batch. Teacher and student see the same blend, each at its own size, so
what the teacher says of it is right for it (Beyer et al. 2022, arXiv 2106.05237, "function matching").
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def blend(kind: str, batches: Sequence[dict[str, Any]], rng: random.Random) -> None:
    """Blends the pages of a batch, in place, and says with what.

    Each batch gets ``partners`` (B,), the targets of the pages that were laid over, and ``share``, the part of the first
    page, in [1/2, 1]: which of two pages comes first is a matter of name.

    Args:
        kind: ``mixup`` or ``cutmix``.
        batches: the same pages for student and teacher: ``pixel_values`` (B, 3, H, W), each with its own H and W, and
            ``targets`` (B,).
        rng: where all chance comes from.
    """
    count = len(batches[0]["targets"])
    order = torch.tensor(rng.sample(range(count), count))
    share, place = 0.5 + 0.5 * rng.random(), (rng.random(), rng.random())
    for batch in batches:
        pages = batch["pixel_values"]
        if kind == "mixup":
            batch["pixel_values"] = share * pages + (1 - share) * pages[order]
            batch["share"] = share
        else:
            batch["pixel_values"], batch["share"] = _cut(pages, pages[order], share, place)
        batch["partners"] = batch["targets"][order]


def _cut(pages: Tensor, others: Tensor, share: float, place: tuple[float, float]) -> tuple[Tensor, float]:
    """Pastes a rectangle of the others, of (1 − share) of the area, at a relative place; returns the share that is left."""
    height, width = pages.shape[-2:]
    side = math.sqrt(1 - share)
    rows, columns = round(side * height), round(side * width)
    top, left = round(place[0] * (height - rows)), round(place[1] * (width - columns))
    mixed = pages.clone()
    mixed[..., top : top + rows, left : left + columns] = others[..., top : top + rows, left : left + columns]
    return mixed, 1 - rows * columns / (height * width)
