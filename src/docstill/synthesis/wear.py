"""What happens to a generated sheet before it is a picture: paper, table, printer, camera, scanner."""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageOps

from docstill.data.augment import edge_colour
from docstill.data.corruptions import corrupt

FAULTS = (
    "blur",
    "noise",
    "jpeg",
    "skew",
    "fading",
    "shadow",
    "fold",
    "low-resolution",
    "perspective",
    "thermal",
    "stains",
)
"""What may happen; the first eight as in `docstill.data.corruptions`, at their two mildest severities."""
MOVING = ("skew", "perspective")
"""Faults that move what is on the page."""
_MOST = 3


def worn(image: Image.Image, rng: random.Random, strength: float, moving: bool = True) -> Image.Image:
    """The sheet with some faults.

    Args:
        image: RGB.
        rng: where all chance comes from.
        strength: 0 is none; at 1 a sheet has up to three faults, at their mildest severity or the next.
        moving: whether what is on the page may move; not where its place is the truth.
    """
    if strength <= 0:
        return image
    if rng.random() < 0.5:
        image = _on_paper(image, rng)
    faults = FAULTS if moving else tuple(fault for fault in FAULTS if fault not in MOVING)
    count = min(len(faults), sum(rng.random() < 0.5 * strength for _ in range(_MOST)))
    for fault in rng.sample(faults, count):
        severity = 2 if rng.random() < 0.35 * strength else 1
        if fault == "perspective":
            image = _perspective(image, rng, severity)
        elif fault == "thermal":
            image = _thermal(image, rng, severity)
        elif fault == "stains":
            image = _stains(image, rng, severity)
        else:
            if fault == "skew":  # with a margin, so that nothing is turned out of the picture
                image = ImageOps.expand(image, round(0.03 * severity * max(image.size)), edge_colour(image))
            image = corrupt(image, fault, severity, rng)
    return image


def _on_paper(image: Image.Image, rng: random.Random) -> Image.Image:
    """Paper that is not quite white, and not the same everywhere."""
    source = np.random.default_rng(rng.getrandbits(64))
    coarse = source.normal(0, 3, (max(2, image.height // 12), max(2, image.width // 12))).astype(np.float32)
    grain = np.asarray(Image.fromarray(coarse).resize(image.size, Image.Resampling.BICUBIC))
    light, warmth = rng.uniform(0.9, 1.0), rng.uniform(-0.01, 0.07)
    tint = np.array([light, light - 0.4 * warmth, light - warmth], dtype=np.float32)
    values = np.asarray(image, dtype=np.float32) * tint + grain[..., None]
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _perspective(image: Image.Image, rng: random.Random, severity: int) -> Image.Image:
    """Photographed at an angle, on a table of one colour."""
    width, height = image.size
    reach = 0.03 * severity

    def corner(x: float, y: float) -> tuple[float, float]:
        return x * width + rng.uniform(0, reach) * width * (1 if x else -1), y * height + rng.uniform(
            0, reach
        ) * height * (1 if y else -1)

    corners = [corner(0, 0), corner(0, 1), corner(1, 1), corner(1, 0)]
    # where the output's corners lie in the sheet: outside it, so nothing of the sheet is cut off
    quad = tuple(value for point in corners for value in point)
    table = (rng.randint(60, 200),) * 3
    return image.transform(image.size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC, fillcolor=table)


def _thermal(image: Image.Image, rng: random.Random, severity: int) -> Image.Image:
    """A worn print head: grey ink, pale stripes along the paper."""
    values = np.asarray(image, dtype=np.float32)
    source = np.random.default_rng(rng.getrandbits(64))
    head = source.random(image.width).astype(np.float32)
    stripes = np.where(head < 0.02 * severity, 0.35, 1.0).astype(np.float32)
    ink = (255 - values) * (0.85 - 0.15 * severity) * stripes[None, :, None]
    return Image.fromarray((255 - ink).clip(0, 255).astype(np.uint8))


def _stains(image: Image.Image, rng: random.Random, severity: int) -> Image.Image:
    """Coffee, grease: soft brown patches with a darker rim."""
    values = np.asarray(image, dtype=np.float32)
    rows, columns = np.ogrid[: image.height, : image.width]
    colour = np.array([0.75, 0.6, 0.4], dtype=np.float32)
    for _ in range(severity):
        radius = rng.uniform(0.05, 0.16) * image.width
        left, top = rng.uniform(0, image.width), rng.uniform(0, image.height)
        distance = (
            np.sqrt((columns - left) ** 2 + ((rows - top) * rng.uniform(0.8, 1.25)) ** 2).astype(np.float32) / radius
        )
        amount = 0.12 * (distance < 1) + 0.35 * np.exp(-(((distance - 1) / 0.06) ** 2))
        values = values * (1 - amount[..., None] * (1 - colour))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))
