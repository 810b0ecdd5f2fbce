"""Average precision of boxes, as COCO counts it (Lin et al. 2014, arXiv 1405.0312, and its evaluator).

A detection is right if it lies on a region of its class, not yet taken by a surer detection, with an overlap
(intersection over union) of at least a threshold; AP is the area under precision over recall, mean over the thresholds
0.50, 0.55 … 0.95 and over the classes that have regions. The counting is done by faster-coco-eval, which agrees with
pycocotools to 1e-6 (tested).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from docstill.errors import MissingExtra

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels, as COCO writes boxes."""

MOST = (100, 300)
"""Boxes of a page and class that count, surest first. COCO's figure is at 100; a page of a newspaper, or a table with its
cells, holds more."""


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


class Seen(NamedTuple):
    """What a system sees on one page: classes by index ``(n,)``, boxes in pixels ``(n, 4)``, and how sure it is ``(n,)``."""

    labels: NDArray[np.integer[Any]]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]


def metrics_of_pages(pages: Iterable[tuple[Sequence[Truth], Seen]], labels: Sequence[str]) -> dict[str, Any]:
    """`detection_metrics` of pages that come one after the other: what is there, and what a system sees."""
    truths, detections, count = flattened(pages)
    return detection_metrics(truths, detections, labels, count)


def flattened(pages: Iterable[tuple[Sequence[Truth], Seen]]) -> tuple[list[Truth], list[Detection], int]:
    """The regions that are there, those that are seen, and how many pages there are."""
    truths: list[Truth] = []
    detections: list[Detection] = []
    count = 0
    for there, seen in pages:
        truths += there
        rows = zip(seen.labels.tolist(), seen.boxes.tolist(), seen.scores.tolist(), strict=True)
        detections += [Detection(count, label, tuple(box), score) for label, box, score in rows]
        count += 1
    return truths, detections, count


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
    """The evaluator's ``precision`` (thresholds, recalls, classes, areas, `MOST`) and ``recall``, without the recalls."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ModuleNotFoundError as error:
        raise MissingExtra("scoring boxes", "layout") from error
    head = {"images": [{"id": page} for page in range(pages)], "categories": [{"id": n} for n in range(len(labels))]}
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
    ]
    seen = [
        {"id": n, "image_id": page, "category_id": label, "bbox": list(box), "area": box[2] * box[3], "score": sure}
        for n, (page, label, box, sure) in enumerate(detections, 1)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = COCOeval_faster(COCO({**head, "annotations": there}), COCO({**head, "annotations": seen}), "bbox")
        # Detections are matched surest first, so those within the first 100 match alike whether 100 or 300 are looked at;
        # and where no page has more than 100 of a class, the figures at 300 are those at 100, which are half the work.
        fullest = max(Counter(map(itemgetter(0, 1), detections)).values(), default=0)
        evaluator.params.maxDets = list(MOST if fullest > MOST[0] else MOST[:1])
        evaluator.evaluate()
        evaluator.accumulate()
    return {name: np.asarray(evaluator.eval[name]) for name in ("precision", "recall")}


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
        "ap_300": ap(most=-1),
        "per_class": {
            name: {"ap": ap(label=index), "ap50": ap(0, index), "count": counts[index]}
            for index, name in enumerate(labels)
        },
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    """The mean over what could be counted: classes without regions are marked with -1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None
