"""A model folder that answers for pages: `docstill.load(path).predict(images)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from docstill.data.images import as_read, open_pages, page_count
from docstill.models.io import DocumentModel, local_folder, read_card
from docstill.tasks import TASKS, task_named
from docstill.tasks.base import Task


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
        answers = self.task.predict(self.model, _pages(images, places))
        return [
            answer if place is None else {"page": place, **answer}
            for place, answer in zip(places, answers, strict=True)
        ]


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
    """The task of a model: from its card, or from the kind of network."""
    folder = local_folder(source)
    card = {} if folder is None else read_card(folder)
    if card.get("task") in TASKS:
        return str(card["task"])
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, local_files_only=folder is not None)
    if config.model_type == "vision-encoder-decoder":
        return "kie"
    return "layout" if any("ObjectDetection" in name for name in config.architectures or []) else "classification"
