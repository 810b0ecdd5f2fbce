"""Generated documents to train on: drawn when one is looked at, written nowhere.

An epoch has ``n`` of them and every epoch has new ones, document ``i`` of epoch ``e`` being number ``e · n + i`` of the
generator: whoever asks for it, in whatever process, however often a run was stopped.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from docstill.data.document import Document, Glyphs
from docstill.progress import counter
from docstill.synthesis.generator import Generator


@dataclass(frozen=True)
class Stream:
    """Documents of one kind, ``n`` an epoch.

    Attributes:
        generator: draws them, by number.
        n: how many an epoch has.
    """

    generator: Generator
    n: int

    def first(self) -> list[Document]:
        """The documents of the first epoch: answers are made up now, each picture whenever it is looked at.

        Raises:
            UserError: fonts or corpus cannot be used.
        """
        return list(_first(self))

    def page(self, epoch: int, place: int) -> tuple[Image.Image, Document]:
        """A document of an epoch, with its picture (RGB) and where its characters stand.

        Raises:
            UserError: fonts, corpus or photographs cannot be used.
        """
        index = epoch * self.n + place
        drawn = self.generator.drawn(index)
        shares = array("f", (share for _, x, y in drawn.glyphs for share in (x, y)))
        glyphs = Glyphs("".join(sign for sign, _, _ in drawn.glyphs), shares)
        return drawn.image, _document(self.generator, index, drawn.truth, glyphs)


@lru_cache(maxsize=1)
def _first(stream: Stream) -> tuple[Document, ...]:
    """Kept for the next run of a study, which has the same."""
    generator, found = stream.generator, []
    with counter(f"making up {generator.kind}", stream.n) as advance:
        for index in range(stream.n):
            found.append(_document(generator, index, generator.truth(index)))
            advance(1)
    return tuple(found)


def _document(generator: Generator, index: int, truth: dict[str, Any], glyphs: Glyphs | None = None) -> Document:
    name = f"{generator.kind} {index} of seed {generator.seed}"
    return Document(Path(name), truth, (truth,), name, glyphs, partial(_picture, generator, index))


def _picture(generator: Generator, index: int) -> Image.Image:
    return generator.drawn(index).image
