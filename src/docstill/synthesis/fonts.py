"""Typefaces for generated documents. A face that lacks a glyph is never used for it: no empty boxes in a picture, ever."""

from __future__ import annotations

import importlib.util
import random
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


class Face:
    """One font file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._has: dict[str, bool] = {}

    def at(self, size: int) -> ImageFont.FreeTypeFont:
        """The face at a size in pixels."""
        return _opened(self.path, size)

    def width(self, character: str, size: int) -> float:
        """How far one character moves the pen, in pixels."""
        return _width(self.path, size, character)

    def covers(self, text: str) -> bool:
        """Whether there is a glyph for every character of ``text``."""
        return all(self._covers(character) for character in set(text))

    def _covers(self, character: str) -> bool:
        known = self._has.get(character)
        if known is None:
            font = self.at(_SMALL)
            looks = _look(font, character)
            known = character.isspace() or all(looks != _look(font, nobody) for nobody in _NOBODYS)
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
        self.faces = [Face(path) for path in paths if _readable(path)]
        if not self.faces:
            where = "the installed packages" if folder is None else str(folder)
            hint = 'pip install "docstill[synth]"' if folder is None else "give a folder with .ttf or .otf files"
            raise UserError(f"there is no font in {where}; {hint}")

    def choose(self, rng: random.Random, text: str, bold: bool = False) -> Face | None:
        """A face that has all of ``text``, or None if there is none; a bold one, if asked for and there is one."""
        fitting = [face for face in self.faces if face.covers(text)]
        heavy = [face for face in fitting if "bold" in face.path.stem.lower()] if bold else []
        return rng.choice(heavy or fitting) if fitting else None


@lru_cache(maxsize=2048)
def _opened(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


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
