"""A page as a Donut sees it: shrunk or enlarged onto the model's canvas, the rest of the canvas black.

These are the rules of `DonutImageProcessorPil`, and outside training its numbers. They are written out because
transformers ≥ 5 no longer shifts the page at random on its canvas while training, Donut's only augmentation.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

LONGEST_DETOUR = 8
"""A page more slender than the canvas by this factor is resized in one step: the usual two would need a huge page."""


def canvas_size(image_processor: Any) -> tuple[int, int]:
    """(height, width) in pixels of the network's input."""
    return int(image_processor.size["height"]), int(image_processor.size["width"])


@dataclass(frozen=True)
class Placement:
    """How a page comes onto a canvas: turned by a quarter or not, resized step by step, and put somewhere."""

    canvas: tuple[int, int]
    """(width, height), as all pairs here."""
    turned: bool
    sizes: list[tuple[int, int]]
    left: int
    top: int

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the page, given as shares of its width and height, lies on the canvas, in pixels."""
        if self.turned:  # clockwise
            x, y = 1 - y, x
        width, height = self.sizes[-1]
        return self.left + x * width, self.top + y * height


def placement(page: tuple[int, int], image_processor: Any, rng: random.Random | None) -> Placement:
    """Where a page of (width, height) pixels goes: at random with ``rng``, in the middle without."""
    height, width = canvas_size(image_processor)
    lies_across = (width < height and page[0] > page[1]) or (width > height and page[0] < page[1])
    turned = bool(image_processor.do_align_long_axis and lies_across)
    sizes = _sizes((page[1], page[0]) if turned else page, (width, height))
    # shares of the free room, so that the same generator means the same place on canvases of other sizes
    down, right = (0.5, 0.5) if rng is None else (rng.random(), rng.random())
    left, top = int((width - sizes[-1][0]) * right), int((height - sizes[-1][1]) * down)
    return Placement((width, height), turned, sizes, left, top)


def page_to_pixels(
    image: Image.Image, image_processor: Any, rng: random.Random | None
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Puts a page on the canvas and normalises it.

    Args:
        image: any mode; read as RGB.
        image_processor: a Donut image processor; says canvas, rotation, resampling, mean and standard deviation.
        rng: places the page at random on the canvas; None places it in the middle.

    Returns:
        ``(3, H, W)`` float32.
    """
    return placed(image, image_processor, placement(image.size, image_processor, rng))


def placed(image: Image.Image, image_processor: Any, where: Placement) -> np.ndarray[Any, np.dtype[np.float32]]:
    """As `page_to_pixels`, at a place that was decided before."""
    page = image.convert("RGB")
    if where.turned:
        page = page.transpose(Image.Transpose.ROTATE_270)
    for size in where.sizes:
        if size != page.size:
            page = page.resize(size, Image.Resampling(int(image_processor.resample)))
    canvas = Image.new("RGB", where.canvas)
    canvas.paste(page, (where.left, where.top))
    return _normalised(canvas, image_processor)


def _normalised(canvas: Image.Image, image_processor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An RGB canvas as ``(3, H, W)``: (value · scale − mean) / deviation, in float32, as the image processor says them.

    One channel after the other, each in place: the same sums over a transposed view of the whole take several times as long.
    """
    scale = np.float32(image_processor.rescale_factor)
    figures = (image_processor.image_mean, image_processor.image_std)
    means, deviations = (np.broadcast_to(np.asarray(figure, dtype=np.float32), 3) for figure in figures)
    pixels = np.empty((3, canvas.height, canvas.width), dtype=np.float32)
    for channel, band, mean, deviation in zip(pixels, canvas.split(), means, deviations, strict=True):
        np.multiply(np.asarray(band), scale, out=channel)
        channel -= mean
        channel /= deviation
    return pixels


def _sizes(page: tuple[int, int], canvas: tuple[int, int]) -> list[tuple[int, int]]:
    """The (width, height) a page takes on its way: shorter side to the canvas's shorter side, then into the canvas."""
    short = min(canvas)
    first = (short, int(short * page[1] / page[0])) if page[0] <= page[1] else (int(short * page[0] / page[1]), short)
    width, height = min(first[0], canvas[0]), min(first[1], canvas[1])
    if (width, height) == first:
        return [first]
    if first[1] > first[0]:
        width = max(1, int(first[0] * height / first[1]))
    elif first[0] > first[1]:
        height = max(1, int(first[1] * width / first[0]))
    slender = max(first[0] / canvas[0], first[1] / canvas[1]) > LONGEST_DETOUR
    return [(width, height)] if slender else [first, (width, height)]
