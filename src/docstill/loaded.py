"""A model folder that answers for pages: `docstill.load(path).predict(images)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from docstill.data.images import as_read, open_pages, page_count
from docstill.errors import ModelError, UserError
from docstill.models.io import DocumentModel, fastest_device, first_line, local_folder, read_card
from docstill.tasks import TASKS, task_named
from docstill.tasks.base import Advance, Task


@dataclass(frozen=True)
class Model:
    """A loaded model folder that answers for pages."""

    task: Task
    model: DocumentModel

    def predict(self, images: Iterable[str | Path | Image.Image]) -> list[dict[str, Any]]:
        """Answers for each page, in order.

        Args:
            images: files or Pillow images of any mode. Each page of a PDF or TIFF is a document of its own.

        Returns:
            For classification ``{"label", "probability", "probabilities"}``, for kie ``{"fields", "confidence", …}``, for
            layout ``{"regions"}``; see `docs/results.md`. Answers for files of several pages begin with ``page``, from 1.
        """
        places: list[int | None] = []
        answers = self._read(_pages(images, places))
        return [_placed(place, answer) for place, answer in zip(places, answers, strict=True)]

    def predict_files(self, files: Sequence[str | Path], advance: Advance | None = None) -> list[dict[str, Any]]:
        """Answers for each page of many files, of which some may not be readable.

        Args:
            files: as for `predict`.
            advance: told of each file that is read.

        Returns:
            In order, for each page ``{"file", …}`` with what `predict` gives; for a file that cannot be read, or not to its end,
            ``{"file", "error"}`` behind the pages that could.
        """
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
        return self.task.predict(self.model, pages)


def _placed(place: int | None, answer: dict[str, Any]) -> dict[str, Any]:
    return answer if place is None else {"page": place, **answer}


def _pages(images: Iterable[str | Path | Image.Image], places: list[int | None]) -> Iterator[Image.Image]:
    """All pages, one at a time; ``places`` gets the number of each within its file, None where the file has but one."""
    for image in images:
        if isinstance(image, Image.Image):
            places.append(None)
            yield as_read(image)
            continue
        several = page_count(Path(image)) > 1
        for number, page in enumerate(open_pages(Path(image)), 1):
            places.append(number if several else None)
            yield page


def load(source: str | Path, task: str | None = None) -> Model:
    """Loads a model folder (or hub id) whole.

    Raises:
        ModelError: no such model, weights are missing, or it is a model for another task.
    """
    chosen = task_named(task or task_of(str(source)))
    return Model(chosen, chosen.load_model(str(source)))


def task_of(source: str) -> str:
    """The task of a model: from its card, or from the kind of network.

    Raises:
        ModelError: there is no such model.
    """
    folder = local_folder(source)
    card = {} if folder is None else read_card(folder)
    if card.get("task") in TASKS:
        return str(card["task"])
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, local_files_only=folder is not None)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"cannot load a model from {source} ({first_line(error)})") from error
    if config.model_type == "vision-encoder-decoder":
        return "kie"
    return "layout" if any("ObjectDetection" in name for name in config.architectures or []) else "classification"
