"""Which characters stand in which patch of a page: what the objective `reading` asks the encoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from docstill.data.document import Glyphs
from docstill.models.donut_page import Placement
from docstill.models.donut_tokens import vocabulary


def patch_grid(canvas: tuple[int, int], encoder: Any) -> tuple[int, int, int]:
    """Columns and rows of the encoder's output for a (width, height) canvas, and the side of a patch in pixels."""
    side = encoder.patch_size * 2 ** (len(encoder.depths) - 1)
    return math.ceil(canvas[0] / side), math.ceil(canvas[1] / side), side


def in_patches(glyphs: Glyphs, where: Placement, encoder: Any) -> list[tuple[str, int]]:
    """Each character with the number of the patch that its middle lies in, row by row; those off the canvas are left out."""
    columns, rows, side = patch_grid(where.canvas, encoder)
    found = []
    for character, x, y in glyphs.each():
        left, top = where.point(x, y)
        column, row = int(left // side), int(top // side)
        if 0 <= column < columns and 0 <= row < rows:
            found.append((character, row * columns + column))
    return found


def kinds_of_characters(tokenizer: Any) -> dict[str, int]:
    """The characters that the vocabulary has a token of their own for, numbered."""
    return {
        token: kind for kind, token in enumerate(sorted(token for token in vocabulary(tokenizer) if len(token) == 1))
    }


def kinds_in_patches(documents: Sequence[Sequence[tuple[str, int]] | None], kinds: Mapping[str, int]) -> Tensor:
    """``(G, 3)`` int64: document, patch, kind of character; characters that are none of ``kinds`` are left out.

    A document that holds none has one row, with -1 for patch and kind; None, of which nothing is known, has no row.
    """
    rows: list[tuple[int, int, int]] = []
    for document, glyphs in enumerate(documents):
        if glyphs is not None:
            found = [(document, patch, kinds[character]) for character, patch in glyphs if character in kinds]
            rows += found or [(document, -1, -1)]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 3)
