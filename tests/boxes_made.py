"""Regions and detections made for tests: drawn by a seed, or any that hypothesis thinks of."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as some

from docstill.metrics.detection import Detection, Truth

LABELS = ["text", "table", "figure"]


def annotations(truths: Sequence[Truth]) -> list[dict[str, Any]]:
    """The regions as COCO writes them; pages and classes by index."""
    return [
        {
            "id": n,
            "image_id": t.page,
            "category_id": t.label,
            "bbox": list(t.box),
            "area": t.area,
            "iscrowd": int(t.crowd),
        }
        for n, t in enumerate(truths, 1)
    ]


def drawn(seed: int, pages: int, per_page: int, crowd: float = 0.05) -> tuple[list[Truth], list[Detection]]:
    """Regions of all sizes, most of them seen about right, some twice, some of another class, some out of nothing."""
    rng = random.Random(seed)
    truths, detections = [], []
    for page in range(pages):
        for _ in range(rng.randint(0, 2 * per_page)):
            box = (rng.uniform(0, 500), rng.uniform(0, 700), rng.uniform(4, 300), rng.uniform(4, 200))
            area = box[2] * box[3] * rng.choice((1.0, 1.0, 0.6))
            truths.append(Truth(page, label := rng.randrange(3), box, area, rng.random() < crowd))
            for _ in range(rng.choice((0, 1, 1, 1, 2))):
                sloppy = rng.choice((0.01, 0.05, 0.2))
                near = tuple(side + rng.gauss(0, sloppy) * box[2 + place % 2] for place, side in enumerate(box))
                seen = label if rng.random() < 0.9 else rng.randrange(3)
                detections.append(
                    Detection(page, seen, (near[0], near[1], abs(near[2]), abs(near[3])), round(rng.random(), 2))
                )
    rng.shuffle(detections)
    return truths, detections


sides = some.floats(0, 120, width=16).filter(lambda side: side == 0 or side > 0.01)
places = some.tuples(sides, sides, sides, sides)


boxes_anywhere = (
    some.lists(
        some.builds(
            lambda page, label, box, crowd: Truth(page, label, (*box[:2], box[2] + 1, box[3] + 1), box[2] * 9, crowd),
            some.integers(0, 2),
            some.integers(0, 2),
            places,
            some.booleans(),
        ),
        max_size=8,
    ),
    some.lists(
        some.builds(
            Detection, some.integers(0, 2), some.integers(0, 2), places, some.sampled_from((-1.0, 0.0, 0.5, 0.9, 7.0))
        ),
        max_size=12,
    ),
)
"""Regions and detections of four pages, the last of them empty."""
