"""What happens to pages before a model sees them, at five severities: scanners, faxes, photocopiers, time.

Each keeps the page's size and mode, is the same for the same generator state, and is measured against a page of 1000 pixels
on its long side, so that small and large scans of one sheet suffer alike. In the spirit of ImageNet-C (Hendrycks & Dietterich
2019, arXiv 1903.12261), with the faults that documents have.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from docstill.data.augment import edge_colour
from docstill.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)
SIDE = 1000
"""The long side, in pixels, of the page that strengths are meant for."""

Floats = NDArray[np.float32]


def corrupt(image: Image.Image, kind: str, severity: int, rng: random.Random) -> Image.Image:
    """The page with one fault.

    Args:
        image: RGB or gray.
        kind: a name of `CORRUPTIONS`.
        severity: 1 to 5.
        rng: where all chance comes from.

    Raises:
        UserError: no such kind or severity.
    """
    if kind not in CORRUPTIONS:
        raise UserError(f"there is no corruption {kind!r}; choose among {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UserError(f"a severity is a whole number from 1 to 5, {severity!r} given")
    return CORRUPTIONS[kind](image, severity - 1, rng)


def _blur(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """Out of focus."""
    return image.filter(ImageFilter.GaussianBlur((0.8, 1.4, 2.2, 3.2, 4.5)[level] * _scale(image)))


def _noise(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """A sensor's grain."""
    grain = _grain(image, rng, lambda source, shape: source.normal(0, (10, 20, 34, 52, 76)[level], shape))
    return _from(_values(image) + grain, image)


def _jpeg(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """Saved too small. Artefacts are taken from the page at 1000 pixels and laid over the page as it is."""
    ratio = min(1.0, 1 / _scale(image))
    small = image.resize(_times(image, ratio), Image.Resampling.BICUBIC) if ratio < 1 else image
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=(40, 20, 12, 7, 3)[level])
    broken = Image.open(io.BytesIO(buffer.getvalue())).convert(image.mode)
    if ratio == 1:
        return broken
    artefacts = _values(broken) - _values(small)
    return _from(_values(image) + _resized(artefacts, image), image)


def _skew(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """Laid on the glass askew."""
    angle = (1.5, 3.0, 5.0, 8.0, 12.0)[level] * rng.choice((-1, 1))
    return image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=edge_colour(image))


def _fading(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """Ink that has gone pale."""
    values = _values(image)
    paper = np.percentile(values, 95)
    return _from(paper + (values - paper) * (0.7, 0.5, 0.34, 0.22, 0.13)[level], image)


def _shadow(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """A hand or the book's gutter: one side darker, with a soft edge."""
    along = np.linspace(0, 1, image.width if (sideways := rng.random() < 0.5) else image.height, dtype=np.float32)
    if rng.random() < 0.5:
        along = along[::-1]
    edge = rng.uniform(0.45, 0.65)
    light = 1 - (0.3, 0.45, 0.6, 0.72, 0.84)[level] / (1 + np.exp((along - edge) * 14))
    veil = light[None, :] if sideways else light[:, None]
    return _from(_values(image) * _like(np.broadcast_to(veil, (image.height, image.width)), image), image)


def _fold(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """Creases: a dark and a bright line, and a side that catches less light."""
    values, scale = _values(image), _scale(image)
    strength = (35, 55, 75, 95, 120)[level]
    for _ in range((1, 1, 2, 2, 3)[level]):
        upright = rng.random() < 0.5
        length = image.width if upright else image.height
        place = np.arange(length, dtype=np.float32) - rng.uniform(0.2, 0.8) * length
        crease = -strength * np.exp(-((place / (2.5 * scale)) ** 2)) + 0.6 * strength * np.exp(
            -(((place - 5 * scale) / (2.5 * scale)) ** 2)
        )
        crease -= 0.25 * strength * (place < 0) * np.exp(place.clip(max=0) / (0.15 * length))
        band = crease[None, :] if upright else crease[:, None]
        values = values + _like(np.broadcast_to(band, (image.height, image.width)), image)
    return _from(values, image)


def _low_resolution(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """Scanned too coarsely: the long side had 480 to 130 pixels (and always fewer than now)."""
    long = max(image.size)
    target = min((480, 360, 270, 190, 130)[level], long * (0.85, 0.7, 0.55, 0.42, 0.3)[level])
    small = image.resize(_times(image, target / long), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _bleed_through(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """The other side of the sheet shows: here the page itself, mirrored and shifted."""
    back = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).filter(ImageFilter.GaussianBlur(1.2 * _scale(image)))
    shift = (round(image.width * rng.uniform(-0.05, 0.05)), round(image.height * rng.uniform(0.02, 0.08)))
    moved = Image.new(image.mode, image.size, edge_colour(image))
    moved.paste(back, shift)
    values, other = _values(image), _values(moved)
    paper = np.percentile(values, 95)
    return _from(values - (paper - other).clip(min=0) * (0.12, 0.22, 0.34, 0.48, 0.65)[level], image)


def _fax(image: Image.Image, level: int, rng: random.Random) -> Image.Image:
    """Black and white only, with specks."""
    gray = np.asarray(image.convert("L"), dtype=np.float32)
    low, high = np.percentile(gray, (2, 90))
    black = gray < low + (high - low) * rng.uniform(0.55, 0.65)
    share = (0.002, 0.008, 0.02, 0.04, 0.08)[level]
    specks = _grain(image, rng, lambda source, shape: (source.random(shape) < share).astype(np.float32), soft=False)
    specks = specks[..., 0] if specks.ndim == 3 else specks
    return Image.fromarray(np.where(black ^ (specks > 0.5), 0, 255).astype(np.uint8)).convert(image.mode)


CORRUPTIONS: dict[str, Callable[[Image.Image, int, random.Random], Image.Image]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "skew": _skew,
    "fading": _fading,
    "shadow": _shadow,
    "fold": _fold,
    "low-resolution": _low_resolution,
    "bleed-through": _bleed_through,
    "fax": _fax,
}


def _scale(image: Image.Image) -> float:
    return max(image.size) / SIDE


def _times(image: Image.Image, ratio: float) -> tuple[int, int]:
    return max(1, round(image.width * ratio)), max(1, round(image.height * ratio))


def _values(image: Image.Image) -> Floats:
    return np.asarray(image, dtype=np.float32)


def _from(values: NDArray[Any], image: Image.Image) -> Image.Image:
    return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert(image.mode)


def _like(plane: Floats, image: Image.Image) -> Floats:
    """One plane for all bands of the image."""
    return plane if len(image.getbands()) == 1 else plane[..., None]


def _grain(
    image: Image.Image,
    rng: random.Random,
    draw: Callable[[np.random.Generator, tuple[int, int]], Any],
    soft: bool = True,
) -> Floats:
    """Chance by place, in grains as large as a pixel is at 1000 pixels; no finer than the page's own."""
    source = np.random.default_rng(rng.getrandbits(64))
    width, height = _times(image, min(1.0, 1 / _scale(image)))
    plane = np.asarray(draw(source, (height, width)), dtype=np.float32)
    if (width, height) != image.size:
        how = Image.Resampling.BICUBIC if soft else Image.Resampling.NEAREST
        plane = np.asarray(Image.fromarray(plane).resize(image.size, how))
    return _like(plane, image)


def _resized(values: Floats, image: Image.Image) -> Floats:
    bands = values[..., None] if values.ndim == 2 else values
    planes = [np.asarray(Image.fromarray(bands[..., band]).resize(image.size)) for band in range(bands.shape[-1])]
    stacked = np.stack(planes, axis=-1)
    return stacked[..., 0] if values.ndim == 2 else stacked
