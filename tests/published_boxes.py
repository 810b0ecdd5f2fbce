"""COCO's figures as pycocotools counts them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def counted(there: COCO, seen: COCO, labels: Sequence[str], most: int, pages: Collection[int] = ()) -> dict[str, Any]:
    """The figures, None for -1; labels in the order of the numbers of their categories, and all pages if none are given."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(there, seen, "bbox")
        evaluator.params.maxDets = [1, 10, most]
        evaluator.params.imgIds = sorted(pages) or evaluator.params.imgIds
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"][..., 2], evaluator.eval["recall"][..., 2]

    def mean(values: Any) -> float | None:
        return float(values[values > -1].mean()) if (values > -1).any() else None

    return {
        "ap": mean(precision[..., 0]),
        "ap50": mean(precision[0, ..., 0]),
        "ap75": mean(precision[5, ..., 0]),
        "ap_small": mean(precision[..., 1]),
        "ap_medium": mean(precision[..., 2]),
        "ap_large": mean(precision[..., 3]),
        "ar": mean(recall[..., 0]),
        "per_class": {
            name: {"ap": mean(precision[:, :, k, 0]), "ap50": mean(precision[0, :, k, 0])}
            for k, name in enumerate(labels)
        },
    }


def of_files(results: Path, annotations: Path, most: int = 100, pages: Collection[int] = ()) -> dict[str, Any]:
    """The figures of a file of results that holds at least one."""
    with contextlib.redirect_stdout(io.StringIO()):
        there = COCO(annotations)
        seen = there.loadRes(str(results))
    labels = [there.cats[number]["name"] for number in sorted(there.cats)]
    return counted(there, seen, labels, most, pages)
