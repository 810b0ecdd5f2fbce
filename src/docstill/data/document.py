"""One document of a data set: a picture, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Document:
    """A page and its answer.

    Attributes:
        file: the picture.
        target: index of the class, the JSON of the answer, or the page's `Regions`; None if unlabelled.
        variants: all answers that count as right; usually just ``(target,)``.
        where: how messages call it: ``metadata.jsonl:12``, or the path inside the split.
        glyphs: where each character stands, if that is known: the character, x and y as shares of width and height.
    """

    file: Path
    target: Any
    variants: tuple[Any, ...]
    where: str
    glyphs: tuple[tuple[str, float, float], ...] = ()
