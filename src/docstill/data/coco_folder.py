"""A folder of pages whose layout is labelled in COCO's format: pictures, and one JSON file.

The annotations of the split ``pages/train`` are ``pages/train.json`` beside the folder (as PubLayNet has them),
``_annotations.coco.json`` inside it (as Roboflow writes them), or ``pages/annotations/instances_train.json`` (as COCO has them); ``file_name`` is relative to the folder. Boxes are
meant for the upright page: as a viewer shows it, EXIF rotation applied.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docstill.data.coco import Coco, read_coco, results_content, scan_coco, some
from docstill.data.document import Document
from docstill.data.images import find_file, upright_size
from docstill.data.regions import MOST_OUTSIDE, Regions, Size, clip
from docstill.data.splits import find_splits
from docstill.errors import DataError
from docstill.metrics.detection import Detection, Truth
from docstill.progress import counter

INSIDE = "_annotations.coco.json"
ANNOTATIONS = "annotations"
"""The folder that COCO keeps its files in, beside those of the splits."""
MISSING = "the picture is missing"
MEND = "put it there, or take its entry out"
NEAR = 3
"""Of more files of JSON nearby none is named."""
NAMED = 20
"""So many missing pictures are named; of more the number is told."""


@dataclass(frozen=True)
class CocoFolder:
    """One split.

    Attributes:
        labels: class names; the labels of a document's `Regions` are indices into them.
        documents: in the order of their numbers, pages without regions too.
    """

    labels: list[str]
    documents: list[Document]


def annotations_of(folder: Path) -> Path | None:
    """The file with a split's annotations, or None.

    Raises:
        DataError: there are several.
    """
    folder = Path(os.path.abspath(folder))  # not resolved: a link to a folder has its annotations beside the link
    places = (
        folder.with_name(f"{folder.name}.json"),
        folder / INSIDE,
        folder.parent / ANNOTATIONS / f"instances_{folder.name}.json",
    )
    there = [path for path in places if path.is_file()]
    if len(there) > 1:
        raise DataError(
            f"the pages in {folder} have several files of annotations; keep one", [str(path) for path in there]
        )
    return there[0] if there else None


def annotated_below(folder: Path) -> list[Path]:
    """Folders of pictures in ``folder`` that have their annotations beside them."""
    return [
        place
        for place in sorted(folder.iterdir())
        if place.is_dir() and place.with_name(f"{place.name}.json").is_file()
    ]


def _no_annotations(folder: Path) -> str:
    """Where annotations were looked for, and what lies near."""
    folder = Path(os.path.abspath(folder))
    name = folder.name
    places = (folder, folder.parent, folder.parent / ANNOTATIONS)
    if inside := annotated_below(folder):
        return f"there are no annotations of it, but {some(list(map(str, inside)))} has its own: give that folder"
    near = [str(file) for place in places for file in sorted(place.glob("*.json"))]
    below = [str(place) for place in sorted(folder.iterdir()) if place.is_dir() and find_splits(place)]
    hint = f"; {some(near)} may be that: put it there" if 0 < len(near) <= NEAR else ""
    hint += f"; {some(below)} holds splits: give that folder" if below else ""
    return (
        f"there are no annotations; expected COCO annotations in {name}.json beside {name}/, in {name}/{INSIDE}, or in "
        f"{ANNOTATIONS}/instances_{name}.json{hint}"
    )


def read_coco_folder(folder: Path, labels: Sequence[str] | None = None) -> CocoFolder:
    """Reads one split.

    Args:
        folder: holds the pictures.
        labels: the training split's classes, when reading another split: regions of any other class are an error.

    Raises:
        DataError: everything that is wrong, at once.
    """
    found, problems, _ = scan_coco_folder(folder, labels)
    if problems:
        raise DataError(f"the pages in {folder} cannot be used", problems)
    return found


def scan_coco_folder(folder: Path, labels: Sequence[str] | None = None) -> tuple[CocoFolder, list[str], list[str]]:
    """As `read_coco_folder`, but hands back what could be read, everything that is wrong, and what is worth a look."""
    known = list(labels) if labels is not None else []
    if not folder.is_dir():
        return CocoFolder(known, []), ["there is no such folder; expected pictures in it"], []
    path = annotations_of(folder)
    if path is None:
        return CocoFolder(known, []), [_no_annotations(folder)], []
    coco, problems = scan_coco(path)
    known = known or coco.labels
    problems += _other_labels(coco, known)
    regions: list[list[tuple[int, Truth]]] = [[] for _ in coco.names]
    for entry, truth in zip(coco.entries, coco.truths, strict=True):
        if coco.labels[truth.label] in known:
            regions[truth.page].append((entry, truth))
    documents, clipped, missing = [], [], 0
    looked = _pictures(folder, coco)
    for page, (name, (file, size, wrong)) in enumerate(zip(coco.names, looked, strict=True)):
        where = f"{path.name}: {name}"
        missing += wrong is not None and wrong.startswith(MISSING)
        if wrong and (missing <= NAMED or not wrong.startswith(MISSING)):
            problems.append(f"{where}: {wrong}")
        if file is None or size is None:
            continue
        kept: list[Truth] = []
        for entry, truth in regions[page]:
            box, outside = clip(truth.box, size)
            if outside > MOST_OUTSIDE:
                shown = ", ".join(f"{number:g}" for number in truth.box)
                problems.append(
                    f"{path.name}: annotations[{entry}]: the box [{shown}] lies outside the page {name}, which has "
                    f"{size[0]} × {size[1]} pixels"
                )
                continue
            if box != truth.box:
                clipped.append(entry)
            label = known.index(coco.labels[truth.label])
            kept.append(truth._replace(label=label))
        documents.append(Document(file, target := _regions(size, kept), (target,), where))
    if missing > NAMED:
        problems.append(
            f"{path.name}: {missing - NAMED:,} more of its {len(coco.names):,} pictures are missing; is {folder} their folder?"
        )
    warnings = []
    if twice := _twice(coco):
        warnings.append(
            f"{path.name}: annotations {some(twice)} say again what another says (the same page, class and box), so that a detector which finds "
            "the region once misses one; keep one of each"
        )
    if clipped:
        warnings.append(
            f"{path.name}: annotations {some(clipped)} reach over the page's edge; detectors learn them cut off there"
        )
    return CocoFolder(known, documents), problems, warnings


def results_of(
    folder: Path, documents: Sequence[Document], found: Sequence[Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """What a detector finds on pages of a split, as COCO writes results; regions of classes it does not have are left out.

    Args:
        folder: the split.
        documents: pages of it, as `read_coco_folder` gave them.
        found: of each page the regions, ``{"label", "box", "score"}``.
    """
    path = annotations_of(folder)
    assert path is not None, "the documents were read from it"
    coco = read_coco(path)
    places = {f"{path.name}: {name}": page for page, name in enumerate(coco.names)}
    return results_content(
        [
            Detection(places[document.where], coco.labels.index(region["label"]), tuple(region["box"]), region["score"])
            for document, regions in zip(documents, found, strict=True)
            for region in regions
            if region["label"] in coco.labels
        ],
        coco,
    )


def _regions(size: Size, truths: Sequence[Truth]) -> Regions:
    return Regions(
        size,
        tuple(truth.box for truth in truths),
        tuple(truth.label for truth in truths),
        tuple(truth.area for truth in truths),
        tuple(truth.crowd for truth in truths),
    )


def _twice(coco: Coco) -> list[int]:
    """Entries whose page, class and box are those of an earlier one."""
    seen: set[tuple[Any, ...]] = set()
    again = []
    for entry, truth in zip(coco.entries, coco.truths, strict=True):
        what = (truth.page, truth.label, truth.box, truth.crowd)
        if what in seen:
            again.append(entry)
        seen.add(what)
    return again


def _other_labels(coco: Coco, known: Sequence[str]) -> list[str]:
    """A line for each class that has regions here but is none of the training split's."""
    counts = dict.fromkeys(coco.labels, 0)
    for truth in coco.truths:
        counts[coco.labels[truth.label]] += 1
    return [
        f"{coco.path.name}: {count} region(s) of {name}, a class that the training split does not have (it has "
        f"{', '.join(known)}); rename or remove them"
        for name, count in counts.items()
        if count and name not in known
    ]


_Looked = tuple[Path | None, Size | None, str | None]


def _pictures(folder: Path, coco: Coco) -> list[_Looked]:
    """`_picture` of each page, under a bar: where files lie far away, reading a head of each takes minutes."""
    looked = []
    with counter("reading the sizes of pages", len(coco.names)) as advance:
        for name, size in zip(coco.names, coco.sizes, strict=True):
            looked.append(_picture(folder, name, size))
            advance(1)
    return looked


def _picture(folder: Path, name: str, size: Size | None) -> _Looked:
    """The picture, its size upright, and what is wrong; without a size there is no telling where its boxes lie."""
    if "\\" in name and find_file(folder, name) is None:
        name = name.replace("\\", "/")  # as Windows writes it
    if Path(name).is_absolute() or ".." in Path(name).parts:
        return None, None, "file_name leads out of the folder; give a path relative to it"
    file = find_file(folder, name)
    if file is None:
        if len(Path(name).parts) > 1 and find_file(folder, Path(name).name) is not None:
            return None, None, f"{MISSING}; file_name is relative to {folder}, where {Path(name).name} lies"
        return None, None, f"{MISSING}; {MEND}"
    upright, stored = upright_size(file)
    if upright is None or stored is None:
        return file, size, None  # `check` decodes all pictures and says what is wrong with them
    if size in (None, upright):
        return file, upright, None
    if size == stored:
        return (
            file,
            None,
            (
                f"the picture is stored on its side and turned by its EXIF tag to {upright[0]} × {upright[1]} pixels, but the "
                f"annotations are for {size[0]} × {size[1]}; save it upright, with boxes to fit"
            ),
        )
    assert size is not None
    return (
        file,
        None,
        f"the picture has {upright[0]} × {upright[1]} pixels, but the annotations are for {size[0]} × {size[1]}",
    )
