"""A model folder that answers for pages: `docstill.load(path).predict(images)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from docstill.data.images import as_read, open_pages, page_count
from docstill.decoding.speculative import Draft, drafted_by
from docstill.errors import UserError
from docstill.models.io import DocumentModel, fastest_device, local_folder, read_card, read_config, task_in
from docstill.shipped import located
from docstill.tasks import TASKS, task_named
from docstill.tasks.base import Advance, Task
from docstill.tasks.kie import fields_of
from docstill.tasks.kie_reading import read_images

Page = str | Path | Image.Image | np.ndarray
"""A file, a Pillow image, or an array of its pixels."""
_ALONE = (str, bytes, Path, Image.Image, np.ndarray)
"""What is one thing to a user, though Python may go through its parts."""


@dataclass(frozen=True)
class Model:
    """A loaded model folder that answers for pages."""

    task: Task
    model: DocumentModel
    draft: Draft | None = None

    def predict(self, images: Page | Iterable[Page]) -> list[dict[str, Any]]:
        """Answers for each page, in order.

        Args:
            images: files, Pillow images of any mode, or arrays of pixels, ``(H, W)`` or ``(H, W, 3)`` in uint8. Each page of a PDF
                or TIFF is a document of its own. One alone need not stand in a list.

        Returns:
            A list, of one answer where one page is given alone. For classification ``{"label", "probability", "probabilities"}``,
            for kie ``{"fields", "confidence", …}``, for layout ``{"regions"}``; see `docs/results.md`. Answers for files of several pages begin with ``page``, from 1.

        Raises:
            UserError: a page cannot be read, or is none of these.
        """
        places: list[int | None] = []
        answers = self._read(_pages(_listed(images), places))
        return [_placed(place, answer) for place, answer in zip(places, answers, strict=True)]

    def predict_files(
        self, files: str | Path | Sequence[str | Path], advance: Advance | None = None
    ) -> list[dict[str, Any]]:
        """Answers for each page of many files, of which some may not be readable.

        Args:
            files: as for `predict`.
            advance: told of each file that is read.

        Returns:
            In order, for each page ``{"file", …}`` with what `predict` gives; for a file that cannot be read, or not to its end,
            ``{"file", "error"}`` behind the pages that could.
        """
        if isinstance(files, str | Path):
            files = [files]
        places: list[int | None] = []
        starts: list[int] = []
        errors: dict[int, str] = {}

        def readable() -> Iterator[Image.Image]:
            for number, file in enumerate(files):
                starts.append(len(places))
                try:
                    yield from _pages([file], places)
                except UserError as error:
                    errors[number] = str(error)
                if advance is not None:
                    advance(1)

        answers = self._read(readable())
        found = []
        for number, (file, (start, end)) in enumerate(zip(files, pairwise([*starts, len(places)]), strict=True)):
            found += [{"file": str(file), **_placed(places[row], answers[row])} for row in range(start, end)]
            if number in errors:
                found.append({"file": str(file), "error": errors[number]})
        return found

    def _read(self, pages: Iterable[Image.Image]) -> list[dict[str, Any]]:
        self.model.network.to(fastest_device())
        if self.draft is None:
            return self.task.predict(self.model, pages)
        self.draft.model.network.to(fastest_device())
        return fields_of(self.model, read_images(self.model, pages, self.draft))


def _placed(place: int | None, answer: dict[str, Any]) -> dict[str, Any]:
    return answer if place is None else {"page": place, **answer}


def _listed(images: Page | Iterable[Page]) -> Iterable[Page]:
    """Pages to go through; one alone as a list of one."""
    return images if isinstance(images, Iterable) and not isinstance(images, _ALONE) else [images]


def _pages(images: Iterable[Page], places: list[int | None]) -> Iterator[Image.Image]:
    """All pages, one at a time; ``places`` gets the number of each within its file, None where the file has but one."""
    for image in images:
        if isinstance(image, Image.Image):
            places.append(None)
            yield as_read(image)
            continue
        if isinstance(image, np.ndarray):
            places.append(None)
            yield _of_pixels(image)
            continue
        if not isinstance(image, str | Path):
            raise UserError(
                f"{type(image).__name__} given as a page; give the path of a file, a Pillow image, or an array of pixels"
            )
        several = _holds_several(Path(image))
        for number, page in enumerate(open_pages(Path(image)), 1):
            places.append(number if several else None)
            yield page


def _holds_several(path: Path) -> bool:
    try:
        return page_count(path) > 1
    except UserError:  # said by whoever opens the pages, behind those that can be read
        return True


def _of_pixels(pixels: np.ndarray) -> Image.Image:
    """The page of an array, which does not say what its values mean: other types and shapes could only be guessed at."""
    gray, colour = pixels.ndim == 2, pixels.ndim == 3 and pixels.shape[2] == 3
    if pixels.dtype != np.uint8 or not pixels.size or not (gray or colour):
        raise UserError(
            f"an array of {pixels.dtype} in the shape {pixels.shape} given as a page; give uint8 in the shape (H, W) or (H, W, 3), "
            "and several pages as a list"
        )
    return as_read(Image.fromarray(pixels))


def load(source: str | Path, task: str | None = None, draft: str | Path | None = None) -> Model:
    """Loads a model whole: a folder, a hub id, or ``shipped:NAME``.

    Args:
        source: the model.
        task: default: what it is.
        draft: a smaller model with the same tokens, for kie: it writes ahead, and the answers are those of ``source``, sooner; see
            `docstill.decoding.speculative`.

    Raises:
        UserError: no model of that name is shipped.
        ModelError: no such model, weights are missing, it is a model for another task, or the draft does not go with it.
    """
    place = located(str(source))
    chosen = task_named(task or task_of(place))
    model = chosen.load_model(place)
    return Model(chosen, model, None if draft is None else drafted_by(load(draft).model, model))


def task_of(source: str) -> str:
    """The task of a model: from its card, or from the kind of network.

    Raises:
        ModelError: there is no such model.
    """
    source = located(source)
    folder = local_folder(source)
    card = {} if folder is None else read_card(folder)
    if card.get("task") in TASKS:
        return str(card["task"])
    return task_in(read_config(source)) or "classification"
