"""Pages without labels: any pictures below a folder. A teacher says what they are."""

from __future__ import annotations

from pathlib import Path

from docstill.data.document import Document
from docstill.data.images import IMAGE_SUFFIXES, bad_name, left_by_systems, pictures, probe_image, shown_name
from docstill.data.validator import look_at
from docstill.errors import DataError


def read_unlabelled(folder: Path) -> list[Document]:
    """All pictures below ``folder``, but for what is hidden in it, in the order of their paths.

    Raises:
        DataError: there is no such folder, it holds no pictures, or links and names that cannot be used; all are listed.
    """
    if bad := bad_names(folder):
        raise DataError(f"the unlabelled pages in {folder} cannot be used", bad)
    files = pictures(folder)
    if not files:
        what = "holds no pictures" if folder.is_dir() else "there is no such folder"
        raise DataError(f"the unlabelled pages in {folder} cannot be used", [f"{what}; give a folder with pages"])
    return [Document(path, None, (), str(path.relative_to(folder))) for path in files]


def bad_names(folder: Path) -> list[str]:
    """Links and names below ``folder`` that keep pictures from being used, one line each."""
    return [
        f"{shown_name(path)}: {wrong}"
        for path in sorted(folder.rglob("*"))
        if (path.suffix.lower() in IMAGE_SUFFIXES or path.is_dir())
        and not left_by_systems(path.relative_to(folder))
        and (wrong := bad_name(path))
    ]


def problems_of(folder: Path) -> list[str]:
    """What is wrong with each picture, one line each; where links and names are, those."""
    if bad := bad_names(folder):
        return bad
    files = [document.file for document in read_unlabelled(folder)]
    seen = look_at(files, probe_image, "looking at pages without labels")
    return [f"{file}: {wrong}" for file, wrong in zip(files, seen, strict=True) if wrong]
