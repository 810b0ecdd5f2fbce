"""Class folders: ``split/LABEL/*.jpg``, the format of page classification."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from docstill.data.document import Document
from docstill.data.images import IMAGE_SUFFIXES
from docstill.errors import DataError

LEFT_BY_SYSTEMS = frozenset({"Thumbs.db", "desktop.ini"})
"""Files that desktops leave behind; these and hidden files are no mistake of the user's."""


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
    if not folder.is_dir():
        raise DataError(f"cannot read {folder}", ["there is no such folder; expected LABEL/*.jpg inside it"])
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    problems: list[str] = []
    if not found:
        problems.append("holds no label folders; expected LABEL/*.jpg inside it")
    known = list(labels) if labels is not None else found
    documents = []
    for label in found:
        if label not in known:
            problems.append(
                f"{label}/: a label that the training split does not have (it has {', '.join(known)}); rename or remove it"
            )
            continue
        files = _files(folder / label)
        pages = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES]
        problems += [
            f"{path.relative_to(folder)}: not a picture by its name; remove it"
            for path in files
            if path not in set(pages)
        ]
        if not pages:
            problems.append(f"{label}/: holds no pictures; add some or remove the folder")
        index = known.index(label)
        documents += [Document(path, index, (index,), str(path.relative_to(folder))) for path in pages]
    if problems:
        raise DataError(f"the class folders in {folder} cannot be used", problems)
    return ClassFolder(known, documents)


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name not in LEFT_BY_SYSTEMS
    )
