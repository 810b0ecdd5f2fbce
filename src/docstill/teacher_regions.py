"""The teacher's own regions in the place of labels, on pages that have none.

What the teacher found lies in `regions-KEY/done.json`, a step of the run; KEY stands for teacher and pages, so a run that goes on
does not look again, and no other teacher's regions are taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.data.regions import Regions
from docstill.fingerprints import add_model, add_page
from docstill.models.io import DocumentModel, fastest_device
from docstill.progress import counter
from docstill.run import step
from docstill.tasks.base import Task


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
    key = hashlib.blake2b(digest_size=16)
    add_model(key, teacher)
    for document in documents:
        add_page(key, document)
    pages = step(folder / f"regions-{key.hexdigest()}", lambda: {"pages": _seen(task, teacher, documents)})["pages"]
    found = []
    for document, page in zip(documents, pages, strict=True):
        sure = [region for region in page["regions"] if region["score"] >= confidence and region["label"] in labels]
        if not sure:
            continue
        width, height = page["size"]
        regions = Regions(
            (width, height),
            tuple(tuple(region["box"]) for region in sure),
            tuple(labels.index(region["label"]) for region in sure),
            tuple(region["box"][2] * region["box"][3] for region in sure),
            (False,) * len(sure),
        )
        found.append(replace(document, target=regions, variants=(regions,)))
    return found


def _seen(task: Task, teacher: DocumentModel, documents: Sequence[Document]) -> list[dict[str, Any]]:
    """Of each page its ``file``, ``size`` (width and height in pixels), and ``regions`` as the teacher predicts them."""
    teacher.network.to(fastest_device())
    found = []
    with counter("the teacher is labelling", len(documents)) as advance:
        for document in documents:
            image = open_image(document.file)
            (answer,) = task.predict(teacher, [image])
            found.append({"file": document.where, "size": list(image.size), "regions": answer["regions"]})
            advance(1)
    return found
