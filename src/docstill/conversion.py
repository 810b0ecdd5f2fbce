"""`docstill convert`: labelled layouts in other formats become COCO annotations."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from docstill.data.coco import coco_content
from docstill.data.page_xml import scan_page_xml
from docstill.data.regions import Marked, Regions
from docstill.data.yolo import labels_beside, read_classes, scan_yolo
from docstill.errors import DataError, UserError
from docstill.files import write_json

FORMATS = ("page-xml", "yolo")


def convert(
    form: str,
    source: str | Path,
    out: str | Path,
    labels: str | Path | None = None,
    classes: str | Path | None = None,
) -> dict[str, Any]:
    """Writes COCO annotations for a folder with pictures; ``file_name`` is relative to that folder.

    Args:
        form: ``page-xml`` or ``yolo``.
        source: the folder with the pictures.
        out: the new JSON file; as ``SOURCE.json`` beside ``SOURCE`` the other verbs find it.
        labels: where the XML or text files are; default: for page-xml ``source``, for yolo the same path with ``labels``
            for ``images``, or ``source`` if there is none.
        classes: for yolo, the file with the class names: YAML with ``names``, or a name a line.

    Returns:
        ``{"format", "out", "n", "regions", "unmarked", "skipped"}``: pages; regions by class; pictures without a file of
        regions, which for yolo are pages without regions, and for page-xml none; XML files that are none of PAGE's.

    Raises:
        DataError: everything that is wrong with the files, at once; nothing is written.
        MissingExtra: for page-xml, if the extra ``layout`` is not installed.
        UserError: an argument does not hold.
    """
    source, out = Path(source), Path(out)
    if form not in FORMATS:
        raise UserError(f"there is no format {form!r} to convert; choose one of {', '.join(FORMATS)}")
    if (classes is None) == (form == "yolo"):
        raise UserError("class names (--classes FILE) are needed for yolo, and for yolo alone: PAGE-XML holds its own")
    folder = Path(labels) if labels is not None else labels_beside(source) if form == "yolo" else source
    for path in (source, folder):
        if not path.is_dir():
            raise UserError(
                f"there is no folder {path}; give the folder with the pictures, and --labels if they are apart"
            )
    if out.suffix.lower() != ".json" or out.exists():
        raise UserError(f"{out} must be a new file that ends with .json; give another name, or remove the old file")
    if form == "yolo":
        names = read_classes(Path(str(classes)))
        pages, unmarked, problems = scan_yolo(source, folder, names, Path(str(classes)))
        skipped = 0
        known = list(names.values())
    else:
        pages, skipped, unmarked, problems = scan_page_xml(source, folder)
        known = sorted({label for page in pages for label, _ in page.regions})
    if problems:
        raise DataError(f"{source} cannot be converted", problems)
    top = os.path.abspath(source)  # nothing is resolved: pictures may be links to elsewhere
    named = [(Path(os.path.abspath(page.file)).relative_to(top).as_posix(), _regions(page, known)) for page in pages]
    write_json(out, coco_content(sorted(named, key=lambda entry: entry[0]), known))
    counts = Counter(label for page in pages for label, _ in page.regions)
    regions = {label: counts[label] for label in known}
    return {
        "format": form,
        "out": str(out),
        "n": len(pages),
        "regions": regions,
        "unmarked": unmarked,
        "skipped": skipped,
    }


def _regions(page: Marked, known: list[str]) -> Regions:
    """The page's regions with the numbers of their classes; to a thousandth of a pixel, finer than any format is."""
    boxes = tuple((round(x, 3), round(y, 3), round(w, 3), round(h, 3)) for _, (x, y, w, h) in page.regions)
    areas = tuple(round(width * height, 3) for _, _, width, height in boxes)
    return Regions(
        page.size, boxes, tuple(known.index(label) for label, _ in page.regions), areas, (False,) * len(boxes)
    )
