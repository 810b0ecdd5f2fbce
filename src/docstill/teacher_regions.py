"""The teacher's own regions in the place of labels, on pages that have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.data.regions import Regions
from docstill.models.io import DocumentModel
from docstill.progress import counter
from docstill.tasks.base import Task


def with_regions(
    task: Task, teacher: DocumentModel, documents: Sequence[Document], labels: Sequence[str], confidence: float
) -> list[Document]:
    """Pages with what the teacher finds on them; regions of a class that the data do not have are left out.

    Args:
        task: layout.
        teacher: finds the regions.
        documents: pages without labels.
        labels: class names of the data, in the order of their indices.
        confidence: the least score of a region.
    """
    found = []
    with counter("the teacher is labelling", len(documents)) as advance:
        for document in documents:
            image = open_image(document.file)
            (answer,) = task.predict(teacher, [image])
            sure = [
                region for region in answer["regions"] if region["score"] >= confidence and region["label"] in labels
            ]
            regions = Regions(
                image.size,
                tuple(tuple(region["box"]) for region in sure),
                tuple(labels.index(region["label"]) for region in sure),
                tuple(region["box"][2] * region["box"][3] for region in sure),
                (False,) * len(sure),
            )
            found.append(replace(document, target=regions, variants=(regions,)))
            advance(1)
    return found
