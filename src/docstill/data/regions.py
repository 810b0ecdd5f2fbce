"""What is known of a page whose layout is labelled: where its regions are, and what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from docstill.data.augment import Affine
from docstill.metrics.detection import Box

Size = tuple[int, int]
"""Width and height in pixels."""
MOST_OUTSIDE = 0.5
"""A box may reach over the page's edge, as people draw them; one that mostly lies outside was meant for another page."""


@dataclass(frozen=True)
class Regions:
    """The regions of one page; a document's target, for layout.

    Attributes:
        size: width and height of the upright page in pixels.
        boxes: left, top, width, height in these pixels, all with an area; as labelled, so that they may reach over the
            page's edge by up to a half. Detections are scored against these.
        labels: of each box, the index of its class.
        areas: of each box, square pixels; by them COCO calls a region small or large.
        crowd: of each box, whether it stands for many regions that nobody told apart (COCO's ``iscrowd``).
    """

    size: tuple[int, int]
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    areas: tuple[float, ...]
    crowd: tuple[bool, ...]

    @property
    def single(self) -> tuple[int, ...]:
        """The classes of all boxes but crowds, which nothing is learnt from and which nobody can miss."""
        return tuple(label for label, crowd in zip(self.labels, self.crowd, strict=True) if not crowd)

    @property
    def inside(self) -> tuple[Box, ...]:
        """The boxes cut off at the page's edge: what a network can learn, and what is drawn."""
        return tuple(clip(box, self.size)[0] for box in self.boxes)


class Marked(NamedTuple):
    """A page as another format than COCO has it: the picture, its size, and the class and box of each region."""

    file: Path
    size: Size
    regions: list[tuple[str, Box]]


def clip(box: Box, size: Size) -> tuple[Box, float]:
    """The box within the page, and the share of it that lay outside; all of it: the box as it was, and 1."""
    left, top, width, height = box
    right, bottom = min(left + width, size[0]), min(top + height, size[1])
    inside = (max(left, 0.0), max(top, 0.0), right - max(left, 0.0), bottom - max(top, 0.0))
    if inside[2] <= 0 or inside[3] <= 0:
        return box, 1.0
    if left >= 0 and top >= 0 and left + width <= size[0] and top + height <= size[1]:
        return box, 0.0
    return inside, 1 - inside[2] * inside[3] / (width * height)


def moved(regions: Regions, move: Affine, size: Size) -> Regions:
    """The regions of a page that was zoomed and shifted; those that left it for the most part are gone.

    Args:
        regions: of the page as it was.
        move: how the page was moved, without rotation or shear.
        size: width and height of the picture that was moved, which may be smaller than the page.
    """
    scale_x, scale_y = regions.size[0] / size[0], regions.size[1] / size[1]
    zoom_x, shift_x, zoom_y, shift_y = 1 / move[0], move[2], 1 / move[4], move[5]
    kept = []
    for index, (left, top, width, height) in enumerate(regions.inside):
        there = (
            (left / scale_x - shift_x) * zoom_x * scale_x,
            (top / scale_y - shift_y) * zoom_y * scale_y,
            width * zoom_x,
            height * zoom_y,
        )
        box, outside = clip(there, regions.size)
        if outside <= MOST_OUTSIDE:
            kept.append((index, box, regions.areas[index] * zoom_x * zoom_y * (1 - outside)))
    return Regions(
        regions.size,
        tuple(box for _, box, _ in kept),
        tuple(regions.labels[index] for index, _, _ in kept),
        tuple(area for _, _, area in kept),
        tuple(regions.crowd[index] for index, _, _ in kept),
    )
