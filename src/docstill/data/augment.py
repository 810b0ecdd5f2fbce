"""Augmentation that leaves a page the page it is: what scanners and cameras do, never a flip or a colour wheel."""

from __future__ import annotations

import io
import math
import random

import numpy as np
from PIL import Image, ImageFilter

ROTATION, SHEAR, SHIFT, ZOOM = 6.0, 4.0, 0.08, 0.3
"""At strength 1: degrees, degrees, share of the side, share of the size."""

Affine = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): what is at (x, y) comes from (a x + b y + c, d x + e y + f), in pixels."""


def faded(strength: float, epoch: int, epochs: float, fade: float) -> float:
    """The strength of one epoch: falls towards nothing, in a straight line, over the last ``fade`` of the epochs.

    Batch-norm statistics taken over faded, binarised and noisy views do not fit the pages a model meets in use; a
    network ends better when its last looks are at pages as they are (He et al. 2019, arXiv 1909.09148).

    Args:
        strength: before it falls.
        epoch: counts from 0.
        epochs: of the whole training, not necessarily whole.
        fade: share of the epochs in [0, 1]; 0 never falls.
    """
    return strength if fade <= 0 else strength * max(0.0, min(1.0, (epochs - epoch) / (fade * epochs)))


def augment_page(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    """A random view of a page; the same for the same generator state.

    Args:
        image: RGB or gray page.
        rng: where all chance comes from.
        strength: 0 leaves the page as it is, 1 is the usual amount, up to 2.
    """
    return augmented(image, rng, strength)[0]


def augmented(
    image: Image.Image, rng: random.Random, strength: float, level: bool = False
) -> tuple[Image.Image, Affine | None]:
    """As `augment_page`, and how the page was moved; None if it was not.

    Args:
        image: RGB or gray page.
        rng: where all chance comes from.
        strength: as for `augment_page`.
        level: only zoom and shift, so that what was upright stays so, and boxes stay boxes.
    """
    if strength <= 0:
        return image, None
    move = _draw_move(image.size, rng, strength, level)
    image = image.transform(
        image.size, Image.Transform.AFFINE, move, Image.Resampling.BILINEAR, fillcolor=edge_colour(image)
    )
    return _toned(image, rng, strength), move


def _toned(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    """All that leaves everything in its place."""
    image = _tone(image, rng, strength)
    image = _gamma(image, math.exp(strength * rng.uniform(-0.7, 0.7)))
    if rng.random() < 0.4 * strength:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.2) * strength))
    if rng.random() < 0.5 * strength:
        image = _noise(image, rng, strength)
    if rng.random() < 0.4 * strength:
        image = _erase(image, rng, strength)
    if rng.random() < 0.2 * strength:
        image = _recompress(image, rng)
    return image


def _draw_move(size: tuple[int, int], rng: random.Random, strength: float, level: bool) -> Affine:
    """Rotation, shear, zoom and shift, to be done in one resampling."""
    turns = 0.0 if level else strength
    angle = math.radians(rng.uniform(-ROTATION, ROTATION) * turns)
    shear = math.tan(math.radians(rng.uniform(-SHEAR, SHEAR) * turns))
    zoom_x = 1 + rng.uniform(-ZOOM, ZOOM) * strength
    zoom_y = zoom_x * (1 + rng.uniform(-0.05, 0.05) * strength)
    width, height = size
    shift_x = rng.uniform(-SHIFT, SHIFT) * strength * width
    shift_y = rng.uniform(-SHIFT, SHIFT) * strength * height
    cos, sin = math.cos(angle), math.sin(angle)
    # From output to input, about the centre: input = A · (output − centre) + centre + shift.
    a, b = cos / zoom_x, (sin + shear) / zoom_x
    d, e = -sin / zoom_y, cos / zoom_y
    centre_x, centre_y = width / 2, height / 2
    c = centre_x + shift_x - a * centre_x - b * centre_y
    f = centre_y + shift_y - d * centre_x - e * centre_y
    return a, b, c, d, e, f


def _tone(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    """Paper gets darker, ink paler, each by itself: archives scan gray paper, offices scan white; a fax has no grays."""
    if rng.random() < 0.15 * strength:
        middle = rng.uniform(110, 170)
        table = [0 if value < middle else 255 for value in range(256)]
        return image.convert("L").point(table).convert(image.mode)
    black, white = 60 * strength * rng.random() ** 2, 255 - 110 * strength * rng.random() ** 2
    table = [round(black + (white - black) * value / 255) for value in range(256)]
    return image.point(table * len(image.getbands()))


def _gamma(image: Image.Image, gamma: float) -> Image.Image:
    """Ink gets fainter or bolder; the table has one entry for each of 256 values of each band."""
    table = [round(255 * (value / 255) ** gamma) for value in range(256)]
    return image.point(table * len(image.getbands()))


def edge_colour(image: Image.Image) -> tuple[int, ...] | int:
    """The usual colour along the page's edge: what lies beside a page that was moved."""
    small = image.resize((16, 16), Image.Resampling.BOX)
    values = np.asarray(small)
    edge = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    colour = np.median(edge, axis=0)
    return int(colour) if colour.ndim == 0 else tuple(int(value) for value in colour)


def _noise(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    source = np.random.default_rng(rng.getrandbits(64))
    grain = source.normal(0, rng.uniform(2, 18) * strength, (image.height, image.width))
    values = np.asarray(image, dtype=np.float32)
    noisy = values + (grain if values.ndim == 2 else grain[:, :, None])
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _erase(image: Image.Image, rng: random.Random, strength: float) -> Image.Image:
    width = int(image.width * rng.uniform(0.1, 0.35) * strength)
    height = int(image.height * rng.uniform(0.1, 0.35) * strength)
    left, top = rng.randint(0, max(0, image.width - width)), rng.randint(0, max(0, image.height - height))
    shade = rng.randint(0, 255)
    image = image.copy()
    image.paste(shade if image.mode == "L" else (shade, shade, shade), (left, top, left + width, top + height))
    return image


def _recompress(image: Image.Image, rng: random.Random) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=rng.randint(25, 80))
    return Image.open(io.BytesIO(buffer.getvalue())).convert(image.mode)
