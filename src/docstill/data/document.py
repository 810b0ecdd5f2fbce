"""One document of a data set: a picture, and what is known of it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image


class Glyphs(NamedTuple):
    """The characters of a page with their places; packed, as there are hundreds on each of many thousand pages.

    Attributes:
        characters: all of them, in any order.
        shares: x and y of each in turn, as shares of the page's width and height.
    """

    characters: str
    shares: array[float]

    def each(self) -> Iterator[tuple[str, float, float]]:
        """Character, x, y."""
        return zip(self.characters, self.shares[::2], self.shares[1::2], strict=True)


@dataclass(frozen=True)
class Document:
    """A page and its answer.

    Attributes:
        file: the picture; of a generated one that is nowhere written, what messages call it.
        target: index of the class, the JSON of the answer, or the page's `Regions`; None if unlabelled.
        variants: all answers that count as right; usually just ``(target,)``.
        where: how messages call it: ``metadata.jsonl:12``, or the path inside the split.
        glyphs: where each character stands, if that is known.
        draw: makes the picture (RGB), where there is no file.
    """

    file: Path
    target: Any
    variants: tuple[Any, ...]
    where: str
    glyphs: Glyphs | None = None
    draw: Callable[[], Image.Image] | None = None
