"""What happens to a generated sheet before it is a picture: paper, table, printer, camera, scanner."""

from __future__ import annotations

import math
import random

import numpy as np
from numpy.typing import NDArray
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
"""What may happen; all but the last four and skew as in `docstill.data.corruptions`, at their two mildest severities."""
MOVING = ("skew", "perspective")
"""Faults that move what is on the page."""
_MOST = 3


Places = NDArray[np.float64]
"""``(N, 2)`` x and y in pixels of points on a sheet."""


def worn(
    image: Image.Image, places: Places, rng: random.Random, strength: float, moving: bool = True
) -> tuple[Image.Image, Places]:
    """The sheet with some faults, and where points on it have gone.

    Args:
        image: RGB.
        places: points to be followed.
        rng: where all chance comes from.
        strength: 0 is none; at 1 a sheet has up to three faults, at their mildest severity or the next.
        moving: whether what is on the page may move; not where its place is the truth.
    """
    if strength <= 0:
        return image, places
    if rng.random() < 0.5:
        image = _on_paper(image, rng)
    faults = FAULTS if moving else tuple(fault for fault in FAULTS if fault not in MOVING)
    count = min(len(faults), sum(rng.random() < 0.5 * strength for _ in range(_MOST)))
    for fault in rng.sample(faults, count):
        severity = 2 if rng.random() < 0.35 * strength else 1
        if fault == "perspective":
            image, places = _perspective(image, places, rng, severity)
        elif fault == "skew":
            image, places = _skew(image, places, rng, severity)
        elif fault == "thermal":
            image = _thermal(image, rng, severity)
        elif fault == "stains":
            image = _stains(image, rng, severity)
        else:
            image = corrupt(image, fault, severity, rng)
    return image, places


def _on_paper(image: Image.Image, rng: random.Random) -> Image.Image:
    """Paper that is not quite white, and not the same everywhere."""
    source = np.random.default_rng(rng.getrandbits(64))
    coarse = source.normal(0, 3, (max(2, image.height // 12), max(2, image.width // 12))).astype(np.float32)
    grain = np.asarray(Image.fromarray(coarse).resize(image.size, Image.Resampling.BICUBIC))
    light, warmth = rng.uniform(0.9, 1.0), rng.uniform(-0.01, 0.07)
    tint = np.array([light, light - 0.4 * warmth, light - warmth], dtype=np.float32)
    values = np.asarray(image, dtype=np.float32) * tint + grain[..., None]
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _skew(image: Image.Image, places: Places, rng: random.Random, severity: int) -> tuple[Image.Image, Places]:
    """Laid on the glass askew, with a margin, so that nothing is turned out of the picture."""
    margin = round(0.03 * severity * max(image.size))
    image, angle = ImageOps.expand(image, margin, edge_colour(image)), 1.5 * severity * rng.choice((-1, 1))
    turned = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=edge_colour(image))
    middle = np.array([image.width / 2, image.height / 2])
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    # counter-clockwise as it is seen, y being counted downwards
    turn = np.array([[cosine, sine], [-sine, cosine]])
    return turned, (places + margin - middle) @ turn.T + middle


def _perspective(image: Image.Image, places: Places, rng: random.Random, severity: int) -> tuple[Image.Image, Places]:
    """Photographed at an angle, on a table of one colour."""
    size = np.array(image.size, dtype=float)
    reach = 0.03 * severity
    # where the output's corners lie in the sheet: outside it, so nothing of the sheet is cut off
    inside = np.array([(0.0, 0.0), (0.0, 1.0), (1.0, 1.0), (1.0, 0.0)])
    away = np.array([(rng.uniform(0, reach), rng.uniform(0, reach)) for _ in inside])
    corners = (inside + np.where(inside == 0, -away, away)) * size
    table = (rng.randint(60, 200),) * 3
    quad = tuple(corners.ravel())
    seen = image.transform(image.size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC, fillcolor=table)
    return seen, _seen_at(places, corners, size)


def _seen_at(places: Places, corners: Places, size: NDArray[np.float64]) -> Places:
    """Where points of the sheet come to lie in a picture whose corners see ``corners`` of the sheet.

    The picture sees bilinearly between its corners (upper left, lower left, lower right, upper right); going back is by
    Newton's method, which is there after few steps, as the map is close to an affine one.
    """
    origin, down, right = corners[0], corners[1] - corners[0], corners[3] - corners[0]
    both = corners[2] - corners[0] - down - right
    shares = places / size
    for _ in range(6):
        x, y = shares[:, :1], shares[:, 1:]
        missing = origin + x * right + y * down + x * y * both - places
        by_x, by_y = right + y * both, down + x * both
        determinant = by_x[:, 0] * by_y[:, 1] - by_x[:, 1] * by_y[:, 0]
        shares = shares - np.stack(
            [
                (missing[:, 0] * by_y[:, 1] - missing[:, 1] * by_y[:, 0]) / determinant,
                (by_x[:, 0] * missing[:, 1] - by_x[:, 1] * missing[:, 0]) / determinant,
            ],
            axis=1,
        )
    return shares * size


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
