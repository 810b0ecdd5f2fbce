"""From pictures to what a Donut reads on them, a batch at a time, and how long that takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from docstill.decoding.looking import seen
from docstill.decoding.reading import Reading, nothing, reading
from docstill.decoding.speculative import Draft, begun
from docstill.decoding.steps import Steps
from docstill.decoding.writing import asleep, generate
from docstill.models.donut_page import canvas_size, page_to_pixels
from docstill.models.io import DocumentModel
from docstill.tasks.base import Advance, Pages, View, as_learnt, open_page
from docstill.tasks.kie_blank import kept_from

MOST_PAGES, MOST_PIXELS = 16, 16 * 640 * 480
"""What is read at a time: so many pages, and so many pixels of the network's input, for memory grows with them."""
TIMED_TOKENS = 32

Item = TypeVar("Item")


def pages_at_once(model: DocumentModel) -> int:
    """How many pages are read in one batch; of 2560 × 1920 pixels, as published, one."""
    height, width = canvas_size(model.processor.image_processor)
    return max(1, min(MOST_PAGES, MOST_PIXELS // (height * width)))


def read_pages(
    model: DocumentModel, pages: Pages, advance: Advance | None = None, view: View | None = None
) -> list[Reading]:
    """What the model reads on every page of a split, in order."""
    readings: list[Reading] = []
    for documents in _chunks(pages.documents, pages_at_once(model)):
        readings += _read(model, (open_page(document, view) for document in documents))
        if advance is not None:
            advance(len(documents))
    return readings


def read_images(model: DocumentModel, images: Iterable[Image.Image], draft: Draft | None = None) -> Iterator[Reading]:
    """What the model reads on each of any number of pictures, in order; ``draft`` may write ahead."""
    for chunk in _chunks(images, pages_at_once(model)):
        yield from _read(model, chunk, draft)


def latency_parts(model: DocumentModel, images: Sequence[Image.Image]) -> dict[str, Callable[[], int]]:
    """`encoder`: a page, until the decoder can begin; `per_token`: a token; `document`: as `whole_document`.

    Tokens are written on the page that the encoder looked at last, or on the first one.
    """
    pages = [_pixels(model, [as_learnt(model, image)]) for image in images]
    tokens = min(TIMED_TOKENS, model.network.config.decoder.max_position_embeddings)
    looked_at = itertools.cycle(pages)
    begun: list[Steps] = []  # of one page: those of a large one take hundreds of megabytes

    def encoder() -> int:
        begun.clear()
        with asleep(model.network):
            begun.append(Steps(model.network, seen(model.network, next(looked_at))))
        return 1

    def per_token() -> int:
        if not begun:
            encoder()
        with asleep(model.network):
            begun[0].rewind()
            generate(model, tokens, steps=begun[0], least=tokens)
        return int(tokens)

    return {"encoder": encoder, "per_token": per_token, "document": whole_document(model, images)}


def whole_document(
    model: DocumentModel, images: Sequence[Image.Image], draft: Draft | None = None
) -> Callable[[], int]:
    """A page, from picture to JSON, one after the other; ``draft`` may write ahead."""
    read = itertools.cycle(images)

    def document() -> int:
        image = next(read)
        kept_from(model, image)  # costs time, but a blank page is timed like any other
        _write(model, [as_learnt(model, image)], draft)
        return 1

    return document


def _read(model: DocumentModel, images: Iterable[Image.Image], draft: Draft | None = None) -> list[Reading]:
    """What the model reads on a batch of pages; it is not asked for those that are blank.

    Of a model that learnt from smaller pages than these, one page at a time is held as large as it is.
    """
    inked, shown = [], []
    for image in images:
        inked.append(not kept_from(model, image))
        shown += [as_learnt(model, image)] * inked[-1]
    written = iter(_write(model, shown, draft) if shown else [])
    return [next(written) if there else nothing() for there in inked]


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def _pixels(model: DocumentModel, images: Sequence[Image.Image]) -> Tensor:
    processor = model.processor.image_processor
    pages = [torch.from_numpy(page_to_pixels(image, processor, None)) for image in images]
    return torch.stack(pages).to(model.device)


def _write(model: DocumentModel, images: Sequence[Image.Image], draft: Draft | None = None) -> list[Reading]:
    tokens, pixels = model.network.config.decoder.max_position_embeddings, _pixels(model, images)
    if draft is None:
        with asleep(model.network):
            rows, likely = generate(model, tokens, pixels=pixels)
    else:
        for_draft = (
            None if draft.same_eyes else _pixels(draft.model, [as_learnt(draft.model, image) for image in images])
        )
        with asleep(model.network), asleep(draft.model.network):
            rows, likely = generate(model, tokens, steps=begun(model, pixels, draft, for_draft))
    answers = zip(rows[:, 1:].tolist(), likely.tolist(), strict=True)
    return [reading(model.processor.tokenizer, row, probabilities) for row, probabilities in answers]
