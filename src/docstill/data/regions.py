"""What is known of a page whose layout is labelled: where its regions are, and what they are."""

from __future__ import annotations

from dataclasses import dataclass

from docstill.metrics.detection import Box


@dataclass(frozen=True)
class Regions:
    """The regions of one page; a document's target, for layout.

    Attributes:
        size: width and height of the upright page in pixels.
        boxes: left, top, width, height in these pixels; all within the page, all with an area.
        labels: of each box, the index of its class.
        areas: of each box, square pixels; by them COCO calls a region small or large.
        crowd: of each box, whether it stands for many regions that nobody told apart (COCO's ``iscrowd``).
    """

    size: tuple[int, int]
    boxes: tuple[Box, ...]
    labels: tuple[int, ...]
    areas: tuple[float, ...]
    crowd: tuple[bool, ...]
