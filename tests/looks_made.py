"""Looks of two made-up detectors at the same regions."""

from __future__ import annotations

import torch
from torch import Tensor

from docstill.objectives.base import BACKGROUND, UNLABELLED, Looks, Outputs

NAMES = ("caption", "figure", "list-item", "table", "text")


def outputs(looks: Looks, documents: int) -> Outputs:
    return Outputs(looks.classes, looks.truths, documents, looks=looks)


def random_boxes(count: int, generator: torch.Generator, *shape: int) -> Tensor:
    low = 0.8 * torch.rand(count, *shape, 2, generator=generator)
    sides = 0.02 + 0.2 * torch.rand(count, *shape, 2, generator=generator)
    return torch.cat([low, low + sides], dim=-1)


def look(
    counts: list[int],
    seed: int = 0,
    background: bool = True,
    width: int = 6,
    labelled: bool = True,
    grid: int = 3,
    shared: int = 0,
) -> Outputs:
    """What a detector with the given seed makes of so many regions of each page; ``shared`` seeds regions and truths."""
    classes = len(NAMES)
    pages = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    own, common = (torch.Generator().manual_seed(number) for number in (1 + seed, 10_000 + shared))
    count = len(pages)
    truths = torch.randint(-2, classes, (count,), generator=common).clamp_min(BACKGROUND)
    given = random_boxes(count, common)
    return outputs(
        Looks(
            pages,
            given,
            2 * torch.randn(count, classes, generator=own),
            2 * torch.randn(count, generator=own) if background else None,
            given[:, None] + 0.1 * torch.randn(count, classes, 4, generator=own).abs() * torch.tensor([-1, -1, 1, 1]),
            truths if labelled else torch.full_like(truths, UNLABELLED),
            # What all regions have in common makes some of them alike.
            torch.randn(count, width, grid, grid, generator=own) + 2 * torch.randn(width, 1, 1, generator=own),
            names=NAMES,
        ),
        len(counts),
    )


def page_of(whole: Outputs, page: int) -> Outputs:
    """One page of a batch."""
    looks = whole.looks
    assert looks is not None
    here = looks.pages == page
    return outputs(
        Looks(
            torch.zeros_like(looks.pages[here]),
            looks.given[here],
            looks.classes[here],
            None if looks.background is None else looks.background[here],
            looks.boxes[here],
            looks.truths[here],
            None if looks.pooled is None else looks.pooled[here],
            names=looks.names,
        ),
        1,
    )


def leaves(whole: Outputs) -> list[Tensor]:
    """The tensors of a look, with gradients from now on."""
    looks = whole.looks
    assert looks is not None
    return [
        tensor.requires_grad_()
        for tensor in (looks.classes, looks.background, looks.boxes, looks.pooled)
        if tensor is not None
    ]
