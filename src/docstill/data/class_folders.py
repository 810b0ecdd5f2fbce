"""Class folders: ``split/LABEL/*.jpg``, the format of page classification.

Names are labels in composed form (NFC): a Mac and a zip file may spell the same umlaut in two ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from docstill.data.document import Document
from docstill.data.images import IMAGE_SUFFIXES, bad_name, composed, left_by_systems, shown_name
from docstill.errors import DataError


@dataclass(frozen=True)
class ClassFolder:
    """One split.

    Attributes:
        labels: class names; a document's target is an index into them.
        documents: in the order of labels, then paths.
    """

    labels: list[str]
    documents: list[Document]


def read_class_folders(folder: Path, labels: Sequence[str] | None = None) -> ClassFolder:
    """Reads one split.

    Args:
        folder: holds a sub-folder for each label.
        labels: the training split's labels, when reading another split: a label that is not among them is an error.

    Raises:
        DataError: everything that is wrong, at once.
    """
    found, problems = scan_class_folders(folder, labels)
    if problems:
        raise DataError(f"the class folders in {folder} cannot be used", problems)
    return found


def scan_class_folders(folder: Path, labels: Sequence[str] | None = None) -> tuple[ClassFolder, list[str]]:
    """As `read_class_folders`, but hands back what could be read together with everything that is wrong."""
    if not folder.is_dir():
        return ClassFolder(list(labels or []), []), ["there is no such folder; expected LABEL/*.jpg inside it"]
    entries = sorted(path for path in folder.iterdir() if not left_by_systems(Path(path.name)))
    folders: dict[str, Path] = {}
    twice = [
        f"{path.name}/: is called as {folders[name].name}/ is, in other characters; put the pictures into one"
        for path in entries
        if path.is_dir() and folders.setdefault(name := composed(path.name), path) != path
    ]
    known = list(labels) if labels is not None else list(folders)
    problems = [
        f"{path.name}: a picture outside the label folders; move it into one"
        for path in entries
        if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
    ]
    problems += twice
    if not folders:
        problems.append("holds no label folders; expected LABEL/*.jpg inside it")
    documents = []
    for label, there in folders.items():
        if label not in known:
            problems.append(
                f"{label}/: a label that the training split does not have (it has {', '.join(known)}); rename or remove it"
            )
            continue
        index, pages = known.index(label), 0
        for path in sorted(there.rglob("*")):
            where = path.relative_to(folder)
            if left_by_systems(where):
                continue
            if bad := bad_name(path):
                problems.append(f"{shown_name(where)}: {bad}")
                continue
            if not path.is_file():
                continue
            if path.suffix.lower() in IMAGE_SUFFIXES:
                documents.append(Document(path, index, (index,), str(where)))
                pages += 1
            else:
                problems.append(f"{where}: not a picture by its name; remove it")
        if not pages:
            problems.append(f"{label}/: holds no pictures; add some or remove the folder")
    return ClassFolder(known, documents), problems
