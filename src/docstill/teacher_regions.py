"""The teacher's own regions in the place of labels, on pages that have none.

What the teacher found lies in `regions-KEY/pages.jsonl`, a line a page: ``file``, ``size`` (width and height in pixels), ``regions``
as the teacher predicts them, ``seconds`` that the page took; `done.json` beside it sums them up. KEY stands for teacher and pages, so
an interrupted look goes on where it was, and no other teacher's regions are taken.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.data.regions import Regions
from docstill.files import write_json
from docstill.models.io import DocumentModel, fastest_device
from docstill.run import DONE
from docstill.tasks.base import Task
from docstill.teacher_lines import key_of, said_of


def with_regions(
    task: Task,
    teacher: DocumentModel,
    documents: Sequence[Document],
    labels: Sequence[str],
    folder: Path,
    confidence: float,
) -> list[Document]:
    """Those of some pages without labels on which the teacher finds regions, with these as labels.

    A page on which it finds none is left out: to teach that nothing is there, the teacher would have to be sure of that.
    Regions of a class that the data do not have do not count.

    Args:
        task: layout.
        teacher: finds the regions.
        documents: pages without labels.
        labels: class names of the data, in the order of their indices.
        folder: keeps what the teacher found.
        confidence: the least score of a region.
    """
    kept = folder / f"regions-{key_of(teacher, documents)}"
    lines = said_of(
        documents, kept / "pages.jsonl", "the teacher is labelling", lambda pages: _seen(task, teacher, pages)
    )
    found, count, seconds = [], 0, 0.0
    for document, line in zip(documents, lines, strict=True):
        count, seconds = count + len(line["regions"]), seconds + line["seconds"]
        if (regions := _sure(line, labels, confidence)) is not None:
            found.append(replace(document, target=regions, variants=(regions,)))
    # Not a `step`, which would keep the file of an older version: all regions lay in it.
    write_json(kept / DONE, {"seconds": round(seconds, 2), "pages": len(documents), "regions": count})
    return found


def _sure(line: dict[str, Any], labels: Sequence[str], confidence: float) -> Regions | None:
    """The regions of a page that count; None if there are none."""
    sure = [region for region in line["regions"] if region["score"] >= confidence and region["label"] in labels]
    if not sure:
        return None
    width, height = line["size"]
    return Regions(
        (width, height),
        tuple(tuple(region["box"]) for region in sure),
        tuple(labels.index(region["label"]) for region in sure),
        tuple(region["box"][2] * region["box"][3] for region in sure),
        (False,) * len(sure),
    )


def _seen(task: Task, teacher: DocumentModel, documents: Sequence[Document]) -> list[dict[str, Any]]:
    """The line of each page; see the module's text."""
    began, sizes = time.perf_counter(), []

    def opened() -> Iterator[Image.Image]:
        for document in documents:  # one at a time, for scans are large
            image = open_image(document.file)
            sizes.append(list(image.size))
            yield image

    teacher.network.to(fastest_device())
    answers = task.predict(teacher, opened())
    seconds = round((time.perf_counter() - began) / len(documents), 4)
    return [
        {"file": document.where, "size": size, "regions": answer["regions"], "seconds": seconds}
        for document, size, answer in zip(documents, sizes, answers, strict=True)
    ]
