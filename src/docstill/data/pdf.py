"""Pages of PDFs as pictures, by PDFium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image

from docstill.errors import MissingExtra, UserError

DPI = 200
"""Pixels an inch: the finest that offices usually scan at."""
LONGEST = 10_000
"""Pixels of a page's longer side at most; a larger page, such as a plan, is drawn at fewer an inch."""


def pdf_page_count(path: Path) -> int:
    """How many pages a PDF has.

    Raises:
        UserError: it is damaged, has no pages, or needs a password.
        MissingExtra: the extra ``pdf`` is not installed.
    """
    with closing(_opened(path)) as document:
        return len(document)


def open_pdf(path: Path) -> Iterator[Image.Image]:
    """Each page as RGB, on white, at `DPI`.

    Raises:
        UserError: as for `pdf_page_count`, or a page is damaged.
        MissingExtra: as there.
    """
    with closing(_opened(path)) as document:
        document.init_forms()  # or else what was filled into a form is not drawn
        for number in range(len(document)):
            yield _page(document, number, path)


def _page(document: Any, number: int, path: Path) -> Image.Image:
    import pypdfium2

    try:
        page = document[number]
        width, height = page.get_size()  # in points, 72 an inch
        scale = min(DPI / 72, LONGEST / max(width, height, 1))
        image: Image.Image = page.render(scale=scale).to_pil().convert("RGB")
        page.close()
    except pypdfium2.PdfiumError as error:
        raise UserError(
            f"{path}: page {number + 1} is damaged ({error}); restore the PDF or take the page out"
        ) from error
    return image


def _opened(path: Path) -> Any:
    try:
        import pypdfium2
    except ModuleNotFoundError as error:
        raise MissingExtra("reading PDFs", "pdf") from error
    if not path.is_file():
        raise UserError(f"{path}: cannot be read (No such file or directory)")
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        reason = "needs a password" if "password" in str(error).lower() else f"is damaged ({error})"
        raise UserError(f"{path}: the PDF {reason}; give one that opens without") from error
    if not len(document):
        raise UserError(f"{path}: the PDF has no pages; give one that has")
    return document
