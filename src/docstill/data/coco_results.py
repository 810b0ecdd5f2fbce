"""What a detector finds, in COCO's format for results: any evaluator reads it, `docstill score --task layout` too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docstill.data.coco_folder import annotations_of
from docstill.data.document import Document


def coco_results(
    folder: Path, documents: Sequence[Document], found: Sequence[Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """A flat list of ``{"image_id", "category_id", "bbox", "score"}``, with the numbers of the folder's annotations.

    Args:
        folder: a split that was read, so its annotations hold.
        documents: pages of it.
        found: of each page the regions, ``{"label", "box", "score"}``; those of classes it does not have are left out.
    """
    path = annotations_of(folder)
    assert path is not None
    content = json.loads(path.read_text(encoding="utf-8"))
    numbers = {image["file_name"]: image["id"] for image in content["images"]}
    classes = {category["name"]: category["id"] for category in content["categories"]}
    return [
        {
            "image_id": numbers[document.where.removeprefix(f"{path.name}: ")],
            "category_id": classes[region["label"]],
            "bbox": list(region["box"]),
            "score": region["score"],
        }
        for document, regions in zip(documents, found, strict=True)
        for region in regions
        if region["label"] in classes
    ]
