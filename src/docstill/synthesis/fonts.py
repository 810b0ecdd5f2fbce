"""Typefaces for generated documents. A face that lacks a glyph is never used for it: no empty boxes in a picture, ever.

Whoever draws a line asks `Face.able` who is to write it, and what of it.
"""

from __future__ import annotations

import importlib.util
import random
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path

from PIL import ImageFont

from docstill.errors import UserError

PACKAGES = ("font_source_sans_pro", "font_source_serif_pro", "font_hanken_grotesk", "font_manrope")
"""Fonts of the extra `synth`, all under the Open Font License."""
_ENDINGS = {".ttf", ".otf", ".ttc"}
_WEIGHTS = ("-Regular", "-Medium", "-Semibold", "-SemiBold", "-Bold")
_NOBODYS = ("\uffff", "\u0378")
"""Characters that no font has; how they look is how a missing glyph looks."""
_SMALL = 24
GIVE_FONTS = (
    "give --fonts with a folder that holds a face for its script (for Japanese, Korean and Chinese Noto Sans CJK, for others "
    "Noto Sans; both are free, from https://fonts.google.com/noto)"
)
"""What to do about a corpus that the fonts cannot write."""


class Face:
    """One font file.

    Args:
        path: a file that Pillow can open.
        others: the faces to turn to for a line that this one cannot write.
    """

    def __init__(self, path: Path, others: Sequence[Face] = ()) -> None:
        self.path = path
        self._others = others
        self._has: dict[str, bool] = {}

    @property
    def bold(self) -> bool:
        """Whether its name says so."""
        return "bold" in self.path.stem.lower()

    def at(self, size: int) -> ImageFont.FreeTypeFont:
        """The face at a size in pixels."""
        return _opened(self.path, size)

    def width(self, character: str, size: int) -> float:
        """How far one character moves the pen, in pixels."""
        return _width(self.path, size, character)

    def covers(self, text: str) -> bool:
        """Whether there is a glyph for every character of ``text``."""
        return all(self._covers(character) for character in set(text))

    def able(self, text: str) -> tuple[Face, str]:
        """Which face is to write a line, and what of it; what is written so lacks no glyph.

        Returns:
            This face and ``text`` if it has all glyphs. Else the first of the others that has, of this one's weight if there
            is such. Else this face and the line without the accents and the signs that it lacks, or an empty line where
            letters or digits would be lost.
        """
        if self.covers(text):
            return self, text
        fitting = [other for other in self._others if other.covers(text)]
        return (min(fitting, key=lambda other: other.bold != self.bold), text) if fitting else (self, self._plain(text))

    def _plain(self, text: str) -> str:
        """What this face can write of a line: letters without the accents that it lacks, signs that it has."""
        plain = [character if self.covers(character) else self._bare(character) for character in text]
        if any(one.isalnum() and not left for one, left in zip(text, plain, strict=True)):
            return ""  # half a word says something else
        return " ".join("".join(plain).split())

    def _bare(self, character: str) -> str:
        parts = unicodedata.normalize("NFKD", character)
        return "".join(part for part in parts if not unicodedata.combining(part) and self.covers(part))

    def _covers(self, character: str) -> bool:
        known = self._has.get(character)
        if known is None:
            # Alone, a mark is shaped upon a circle, and one space may stand in for another: these are looked at as they are.
            shaped = unicodedata.category(character)[0] not in "MZ"
            font = self.at(_SMALL) if shaped else _unshaped(self.path)
            looks = _look(font, character)
            known = not any(looks[1]) if character.isspace() else all(looks != _look(font, one) for one in _NOBODYS)
            self._has[character] = known
        return known


class Fonts:
    """The faces of a folder, or those that come with the extra `synth`.

    Args:
        folder: is searched with all folders in it.

    Raises:
        UserError: it holds no font that can be read.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            paths = _packaged()
        else:
            paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _ENDINGS)
        self.faces: list[Face] = []  # each is told of the others; what has no space holds icons
        self.faces += [
            face for face in (Face(path, self.faces) for path in paths if _readable(path)) if face.covers(" ")
        ]
        if not self.faces:
            where = "the installed packages" if folder is None else str(folder)
            hint = 'pip install "docstill[synth]"' if folder is None else "give a folder with .ttf or .otf files"
            raise UserError(f"there is no font in {where}; {hint}")

    def choose(self, rng: random.Random, text: str, bold: bool = False) -> Face | None:
        """A face that has all of ``text``, or None if there is none; a bold one, if asked for and there is one."""
        fitting = [face for face in self.faces if face.covers(text)]
        heavy = [face for face in fitting if face.bold] if bold else []
        return rng.choice(heavy or fitting) if fitting else None


@lru_cache(maxsize=2048)
def _opened(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=256)
def _unshaped(path: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, _SMALL, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=65536)
def _width(path: Path, size: int, character: str) -> float:
    return _opened(path, size).getlength(character)


def _look(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


def _readable(path: Path) -> bool:
    try:
        _opened(path, _SMALL)
    except OSError:
        return False
    return True


@cache
def _packaged() -> list[Path]:
    found: list[Path] = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            files = sorted(path for path in Path(spec.origin).parent.rglob("*") if path.suffix.lower() in _ENDINGS)
            # upright ones of a common weight; some packages hold each face in two formats
            found += {path.stem: path for path in files if path.stem.endswith(_WEIGHTS)}.values()
    return found
