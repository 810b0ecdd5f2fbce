"""Which pages a Donut is not shown, as no writing is found on them; and which Donuts are shown every page.

Three letters side by side are writing (`docstill.decoding.blank`), and a lone digit, as on the pictures of a meter, is none. A model
that is to learn from such pages must be asked for them, so it says on its card that nothing is kept from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image

from docstill.data.json_tokens import canonical
from docstill.decoding.blank import is_blank
from docstill.decoding.reading import Reading
from docstill.metrics.fields import pairs
from docstill.models.io import DocumentModel
from docstill.tasks.base import Pages, drawn, open_page
from docstill.tasks.kie_answers import answers_of

BLANK_GUARD = "blank_guard"
"""Key of a model's card; absent: pages without writing are not shown to the model. False: all are."""
LOOKED_AT = 32
"""Training pages; to look at one takes some milliseconds, to decode it more."""
FEW = 0.05
"""Up to such a share of pages that seem blank and have fields are mistakes in the data."""


def kept_from(model: DocumentModel, image: Image.Image) -> bool:
    """Whether a page is not shown to the model, for there is no writing on it."""
    return bool(model.card.get(BLANK_GUARD, True)) and is_blank(image)


def know_guard(model: DocumentModel, pages: Pages) -> None:
    """Notes on the card of a model that is to learn from ``pages`` if more than a `FEW` of some have fields and yet seem blank.

    Generated pages, which are never taken for blank (tested), are not drawn for this.
    """
    model.card.pop(BLANK_GUARD, None)
    if pages.stream is not None:
        return
    documents = drawn(pages, LOOKED_AT).documents
    seem_blank = sum(
        all(pairs(canonical(answer)) for answer in answers_of(document)) and is_blank(open_page(document, None))
        for document in documents
    )
    if seem_blank > FEW * len(documents):
        model.card[BLANK_GUARD] = False


def blank_pages(readings: Sequence[Reading], truths: Sequence[Any]) -> dict[str, int]:
    """How many ``pages`` were not shown to the model, and how many of those are ``with_fields``, which it had no chance to read."""
    blank = [truth for found, truth in zip(readings, truths, strict=True) if found.blank]
    return {"pages": len(blank), "with_fields": sum(bool(pairs(truth)) for truth in blank)}
