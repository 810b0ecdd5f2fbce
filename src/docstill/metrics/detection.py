"""Average precision of boxes, as COCO counts it (Lin et al. 2014, arXiv 1405.0312, and its evaluator).

A detection is right if it lies on a region of its class, not yet taken by a surer detection, with an overlap
(intersection over union) of at least a threshold; AP is the area under precision over recall, mean over the thresholds
0.50, 0.55 … 0.95 and over the classes that have regions. The counting is done by faster-coco-eval, which agrees with
pycocotools to 1e-6 (tested).
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.pool import Pool
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from docstill.errors import MissingExtra

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels, as COCO writes boxes."""

MOST = (100, 300)
"""Boxes of a page and class that count, surest first. COCO's figure is at 100; a page of a newspaper, or a table with its
cells, holds more."""

_MANY = 100_000
"""Boxes from which on it pays to count in two processes."""


class Truth(NamedTuple):
    """A region that is there.

    Attributes:
        page: index of the page.
        label: index of the class.
        box: in pixels.
        area: in square pixels, by which a region is small (below 32²), medium, or large (from 96²); COCO takes it from
            the annotation, where it may be that of a polygon.
        crowd: whether it stands for many; such are not missed, and detections on them are neither right nor wrong.
    """

    page: int
    label: int
    box: Box
    area: float
    crowd: bool = False


class Detection(NamedTuple):
    """A region that a system sees: page and class by index, box in pixels, and how sure it is (only the order counts)."""

    page: int
    label: int
    box: Box
    score: float


def detection_metrics(
    truths: Sequence[Truth], detections: Sequence[Detection], labels: Sequence[str], pages: int
) -> dict[str, Any]:
    """COCO's figures over all pages.

    Args:
        truths: regions that are there.
        detections: what a system sees.
        labels: class names, in the order of their indices.
        pages: how many there are, those without regions too.

    Returns:
        ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large``, ``ar`` (recall, mean over thresholds) with
        at most 100 boxes a page and class, ``ap_300`` with at most 300, each in [0, 1]; and ``per_class``,
        ``{label: {"ap", "ap50", "count"}}`` with the number of regions. None where there is no region to be found.

    Raises:
        MissingExtra: the extra ``layout`` is not installed.
    """
    if not truths:  # nothing can be found, and the evaluator says -1; but a page without regions is no fault
        return _figures({}, truths, labels)
    return _figures(_counted(truths, detections, labels, pages), truths, labels)


def _counted(
    truths: Sequence[Truth], detections: Sequence[Detection], labels: Sequence[str], pages: int
) -> Mapping[str, NDArray[np.float64]]:
    """The evaluator's ``precision`` (thresholds, recalls, classes, areas, `MOST`) and ``recall``, without the recalls.

    Classes have nothing to do with one another, so that many boxes are counted by two processes, each with half of the classes.
    """
    if importlib.util.find_spec("faster_coco_eval") is None:
        raise MissingExtra("scoring boxes", "layout")
    count = partial(_counted_of, truths, detections, pages)
    # Only where a process can be split in two: another way would have to write a million boxes and read them again.
    few = len(truths) + len(detections) < _MANY or len(labels) < 2
    if few or sys.platform != "linux" or (os.cpu_count() or 1) < 2:
        return count(range(len(labels)))
    groups = [range(start, len(labels), 2) for start in range(2)]
    with _halves(count) as pool:
        parts = pool.map(_count_half, groups)
    found = {}
    for name, axis in (("precision", 2), ("recall", 1)):
        together = np.concatenate([part[name] for part in parts], axis=axis)
        found[name] = together.take(np.argsort([label for group in groups for label in group]), axis=axis)
    return found


def _counted_of(
    truths: Sequence[Truth], detections: Sequence[Detection], pages: int, labels: Sequence[int]
) -> dict[str, NDArray[np.float64]]:
    """As `_counted`, of some classes alone, in their order."""
    from faster_coco_eval import COCO, COCOeval_faster

    chosen = frozenset(labels)
    head = {"images": [{"id": page} for page in range(pages)], "categories": [{"id": label} for label in labels]}
    # Numbers of annotations begin at 1: to the evaluator, a detection that matches number 0 matches nothing.
    there = [
        {
            "id": n,
            "image_id": t.page,
            "category_id": t.label,
            "bbox": list(t.box),
            "area": t.area,
            "iscrowd": int(t.crowd),
        }
        for n, t in enumerate(truths, 1)
        if t.label in chosen
    ]
    seen = [
        {"id": n, "image_id": page, "category_id": label, "bbox": list(box), "area": box[2] * box[3], "score": sure}
        for n, (page, label, box, sure) in enumerate(detections, 1)
        if label in chosen
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = COCOeval_faster(COCO({**head, "annotations": there}), COCO({**head, "annotations": seen}), "bbox")
        # Detections are matched surest first, so those within the first 100 match alike whether 100 or 300 are looked at.
        evaluator.params.maxDets = list(MOST)
        evaluator.evaluate()
        evaluator.accumulate()
    return {name: np.asarray(evaluator.eval[name]) for name in ("precision", "recall")}


Count = Callable[[Sequence[int]], dict[str, NDArray[np.float64]]]
_counting: list[Count] = []
"""What a process that was split off counts with; it has the boxes because its parent had them."""


@contextmanager
def _halves(count: Count) -> Iterator[Pool]:
    """Two processes that can count."""
    _counting.append(count)
    try:
        with multiprocessing.get_context("fork").Pool(2) as pool:
            yield pool
    finally:
        _counting.clear()


def _count_half(labels: Sequence[int]) -> dict[str, NDArray[np.float64]]:
    return _counting[0](labels)


def _figures(
    counted: Mapping[str, NDArray[np.float64]], truths: Sequence[Truth], labels: Sequence[str]
) -> dict[str, Any]:
    """What stands at which place of the evaluator's arrays."""

    def ap(threshold: int | slice = slice(None), label: int | slice = slice(None), area: int = 0, most: int = 0) -> Any:
        return _mean(counted["precision"][threshold, :, label, area, most]) if counted else None

    counts = [0] * len(labels)
    for truth in truths:
        counts[truth.label] += not truth.crowd
    return {
        "ap": ap(),
        "ap50": ap(0),
        "ap75": ap(5),
        "ap_small": ap(area=1),
        "ap_medium": ap(area=2),
        "ap_large": ap(area=3),
        "ar": _mean(counted["recall"][:, :, 0, 0]) if counted else None,
        "ap_300": ap(most=1),
        "per_class": {
            name: {"ap": ap(label=index), "ap50": ap(0, index), "count": counts[index]}
            for index, name in enumerate(labels)
        },
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean over what could be counted: classes without regions are marked with -1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None
