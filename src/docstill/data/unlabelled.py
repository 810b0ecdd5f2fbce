"""Pages without labels: any pictures below a folder. A teacher says what they are."""

from __future__ import annotations

from pathlib import Path

from docstill.data.class_folders import left_by_systems
from docstill.data.document import Document
from docstill.data.images import IMAGE_SUFFIXES, probe_image
from docstill.errors import DataError


def read_unlabelled(folder: Path) -> list[Document]:
    """All pictures below ``folder``, but for what is hidden in it, in the order of their paths.

    Raises:
        DataError: there is no such folder, or it holds no pictures.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not left_by_systems(path.relative_to(folder))
    )
    if not files:
        what = "holds no pictures" if folder.is_dir() else "there is no such folder"
        raise DataError(f"the unlabelled pages in {folder} cannot be used", [f"{what}; give a folder with pages"])
    return [Document(path, None, (), str(path.relative_to(folder))) for path in files]


def problems_of(folder: Path) -> list[str]:
    """What is wrong with each picture, one line each."""
    return [f"{document.file}: {bad}" for document in read_unlabelled(folder) if (bad := probe_image(document.file))]
