"""What a generated sheet is made of and lies on: paper, and a table or whatever else there is a picture of.

After SynthDoG (Kim et al. 2022, arXiv 2111.15664, section 3.2), whose textures and backgrounds are photographs; where there
are none, backgrounds are drawn.
"""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from docstill.data.images import open_image, pictures, upright_size
from docstill.errors import DataError, UserError
from docstill.synthesis.wear import Places

_SIDE = 1600
"""Long side, in pixels, that photographs are kept at."""
_TEXTURE = (0.08, 0.3)
"""Share of a photograph in the paper, the rest being white: SynthDoG's goes to 0.2; shares of 1 leave black folds."""


class Photographs:
    """The pictures of a folder and of all folders in it, to be cut from.

    Raises:
        UserError: there is no such folder, it holds no pictures, or some that cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.paths = pictures(folder)
        if not self.paths:
            raise UserError(f"{folder} holds no pictures; give a folder with .jpg, .png or the like")
        if bad := [str(path) for path in self.paths if upright_size(path)[0] is None]:
            raise DataError(f"{len(bad)} pictures in {folder} cannot be read; mend or remove them", bad)

    def cut(self, size: tuple[int, int], rng: random.Random) -> Image.Image:
        """A piece of one of them, in any of its four mirrored forms, as RGB of ``size``.

        Raises:
            UserError: the picture cannot be read; names the file.
        """
        photograph = _kept(rng.choice(self.paths))
        fits = min(photograph.width / size[0], photograph.height / size[1]) * rng.uniform(0.5, 1)
        width, height = size[0] * fits, size[1] * fits
        left, top = rng.uniform(0, photograph.width - width), rng.uniform(0, photograph.height - height)
        piece = photograph.resize(size, Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        piece = ImageOps.mirror(piece) if rng.random() < 0.5 else piece
        return ImageOps.flip(piece) if rng.random() < 0.5 else piece


@lru_cache(maxsize=4)
def photographs(folder: Path) -> Photographs:
    """The pictures of a folder, listed once."""
    return Photographs(folder)


def on_texture(sheet: Image.Image, papers: Photographs, rng: random.Random) -> Image.Image:
    """The sheet printed on paper that was photographed; pale enough for ink to be read on it."""
    texture = np.asarray(papers.cut(sheet.size, rng), dtype=np.float32) / 255
    paper = 1 - rng.uniform(*_TEXTURE) * (1 - texture)
    return Image.fromarray((np.asarray(sheet, dtype=np.float32) * paper).astype(np.uint8))


def lying(
    sheet: Image.Image, places: Places, size: tuple[int, int], backgrounds: Photographs | None, rng: random.Random
) -> tuple[Image.Image, Places]:
    """A picture of ``size`` with the whole sheet somewhere on a background, and where points of the sheet have gone.

    Args:
        sheet: RGB, not larger than ``size``.
        places: points to be followed.
        size: width and height of the picture.
        backgrounds: to cut from; None draws one.
        rng: where all chance comes from.
    """
    picture = _drawn(size, rng) if backgrounds is None else backgrounds.cut(size, rng)
    if rng.random() < 0.5:  # what lies behind is often out of focus
        picture = picture.filter(ImageFilter.BoxBlur(rng.uniform(1, 4)))
    left, top = rng.randint(0, size[0] - sheet.width), rng.randint(0, size[1] - sheet.height)
    _cast(picture, (left, top), sheet.size, rng)
    picture.paste(sheet, (left, top))
    return picture, places + np.array([left, top], dtype=float)


def _cast(picture: Image.Image, at: tuple[int, int], size: tuple[int, int], rng: random.Random) -> None:
    """The sheet's shadow, drawn small, as it has no edges to be seen."""
    across, down, reduction = rng.randint(-6, 6), rng.randint(1, 8), 4
    small = Image.new("L", (picture.width // reduction, picture.height // reduction), 0)
    left, top = (at[0] + across) / reduction, (at[1] + down) / reduction
    box = (left, top, left + size[0] / reduction, top + size[1] / reduction)
    ImageDraw.Draw(small).rectangle(box, fill=rng.randint(60, 150))
    mask = small.filter(ImageFilter.BoxBlur(1.5)).resize(picture.size, Image.Resampling.BILINEAR)
    picture.paste((10, 10, 12), (0, 0), mask)


_COLOURS = (
    (0.55, 0.40, 0.27),
    (0.35, 0.24, 0.16),
    (0.75, 0.62, 0.45),
    (0.45, 0.47, 0.5),
    (0.2, 0.22, 0.25),
    (0.85, 0.84, 0.8),
)
"""Woods, stone, slate, a white desk."""


def _drawn(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """A table: a colour, light that falls off, and a grain: long as that of wood, or even as that of stone or cloth."""
    source = np.random.default_rng(rng.getrandbits(64))
    width, height = size
    stretch = rng.choice(((2, 90), (90, 2), (3, 3), (24, 24)))
    cells = (max(2, height // stretch[1]), max(2, width // stretch[0]))
    grain = Image.fromarray(source.normal(1, rng.uniform(0.03, 0.14), cells).astype(np.float32))
    light = np.linspace(rng.uniform(0.75, 1.1), rng.uniform(0.75, 1.1), width, dtype=np.float32)
    shade = np.asarray(grain.resize(size, Image.Resampling.BILINEAR)) * light
    colour = np.array(rng.choice(_COLOURS), dtype=np.float32) * rng.uniform(0.8, 1.15) * 255
    return Image.fromarray((shade[..., None] * colour).clip(0, 255).astype(np.uint8))


@lru_cache(maxsize=64)
def _kept(path: Path) -> Image.Image:
    photograph = open_image(path)
    photograph.thumbnail((_SIDE, _SIDE))
    return photograph
