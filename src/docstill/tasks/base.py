"""What a task is: the few things that differ between page classification, key information extraction and layout.

A task reads documents, makes examples and batches, runs a model into `Outputs`, and scores what came out. The
engine and the lesson know tasks only through the `Task` protocol below; where a stage or the report has something for one task alone, it
asks for the task's name.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor

from docstill.data.document import Document
from docstill.data.images import open_image, shrink
from docstill.decoding.reading import Reading
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.synthesis.stream import Stream

Advance = Callable[[int], None]
"""Called with the number of documents that are done; drives a progress bar."""

BROUGHT_TO = "pages_brought_to"
"""The key of the model card with the (width, height) near which pages were brought before they reached the model's processor."""

View = Callable[[Image.Image, Document], Image.Image]
"""Changes a page before a model sees it."""


@dataclass(frozen=True)
class Pages:
    """One split of a data set.

    Attributes:
        folder: where it was read from.
        documents: in a fixed order.
        labels: class names in the order of their indices; empty for kie.
        stream: where every epoch has new generated documents; ``documents`` are then those of the first.
    """

    folder: Path
    documents: list[Document]
    labels: list[str] = field(default_factory=list)
    stream: Stream | None = None


@dataclass(frozen=True)
class Judged:
    """One document of an evaluation: what was expected, what came, how good that is in [0, 1]."""

    file: str
    expected: Any
    predicted: Any
    score: float


@dataclass(frozen=True)
class Evaluation:
    """Metrics over a split, and what is behind them.

    Attributes:
        metrics: by name.
        documents: one for each document of the split, in order.
        answers: of each, all that the model answered: the line that `docstill.scoring.score` reads, for layout the regions.
        sure: of ``documents``, for kie also of ``fields``: how sure the model was of each, and whether it was right.
        readings: for kie, each document as the model read it.
    """

    metrics: dict[str, Any]
    documents: Sequence[Judged]
    answers: list[Any]
    sure: Mapping[str, Sequence[tuple[float, bool]]] = field(default_factory=dict)
    readings: Sequence[Reading] = ()


@dataclass(frozen=True)
class ModelSpec:
    """A model to be made from scratch: a name among the task's sizes, and changes to its transformers config."""

    new: str
    config: Mapping[str, Any] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None


Batch = dict[str, Any]
"""Tensors of one batch for one model, and a number or two. Tasks agree on ``targets`` only: ``(N,)`` int64, the decisions
that count."""


def on_device(batch: Mapping[str, Any], device: torch.device) -> Batch:
    """The batch with its tensors on ``device``."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


class Task(Protocol):
    """What the engine, the stages and the report ask of a task."""

    name: str
    primary_metric: str

    def read(self, folder: Path, training: Pages | None = None) -> Pages:
        """Reads one split; ``training`` is given for other splits, whose labels must be among its labels."""
        ...

    def new_model(self, spec: ModelSpec, pages: Pages, teacher: DocumentModel | None = None) -> DocumentModel:
        """A model with random weights, fit for ``pages`` (classes, vocabulary), or for the teacher's vocabulary."""
        ...

    def load_model(self, source: str) -> DocumentModel:
        """Loads a folder or a hub id whole; a missing or freshly initialised weight is a ModelError."""
        ...

    def adapt(self, model: DocumentModel, pages: Pages) -> None:
        """Makes a loaded model that is to be trained fit for ``pages``: their classes, their tags, their length."""
        ...

    def check_pair(self, teacher: DocumentModel, student: DocumentModel) -> None:
        """Raises ModelError unless both make the same decisions (same class names, same vocabulary)."""
        ...

    def check_model(self, model: DocumentModel, pages: Pages) -> None:
        """Raises ModelError unless the model can be trained or scored on ``pages`` (classes, tokens, length)."""
        ...

    def check_scored(self, pages: Pages) -> None:
        """Raises DataError unless answers on ``pages`` can be scored; asked before hours are spent on answers."""
        ...

    def texts(self, model: DocumentModel, pages: Pages) -> list[str]:
        """All answers of ``pages`` as ``model`` writes them; none where nothing is written."""
        ...

    def aligned(self, teacher: DocumentModel, student: DocumentModel, theirs: Outputs, ours: Outputs) -> Outputs:
        """The teacher's outputs over the student's choices, where those are some of the teacher's; else as they are."""
        ...

    def shown(self, teacher: DocumentModel, student: DocumentModel, batch: Batch, ours: Outputs) -> Batch:
        """What a teacher must look at besides its own batch, or instead: what the student chose to be compared on; mostly nothing.

        Args:
            teacher: it is not asked here.
            student: what it looked at is ``batch``, and what it made of that ``ours``.
            batch: see ``student``.
            ours: see ``student``.
        """
        ...

    def example(
        self,
        model: DocumentModel,
        document: Document,
        image: Image.Image,
        labels: Sequence[str],
        rng: random.Random | None,
    ) -> dict[str, Any]:
        """One document as this model sees it (its own preprocessing); ``rng`` is None outside training."""
        ...

    def shown_alike(self, first: DocumentModel, second: DocumentModel) -> bool:
        """Whether `example` makes the same of a document for both models."""
        ...

    def collate(self, model: DocumentModel, examples: Sequence[dict[str, Any]]) -> Batch:
        """Examples of one model as one batch of tensors, with ``targets``."""
        ...

    def forward(self, model: DocumentModel, batch: Batch) -> Outputs:
        """Runs the network; ``Outputs.features`` is filled in by the caller, who taps the modules."""
        ...

    def page_size(self, model: DocumentModel) -> tuple[int, int]:
        """(width, height) in pixels above which a page need not be decoded for this model."""
        ...

    def evaluate(
        self, model: DocumentModel, pages: Pages, advance: Advance | None = None, view: View | None = None
    ) -> Evaluation:
        """Scores the model on every document of ``pages``, through ``view``; one that fails scores 0, n stays."""
        ...

    def before_learning(self, model: DocumentModel, pages: Pages) -> None:
        """Notes on the model's card what it should know of the training split, before it learns from it."""
        ...

    def after_learning(self, model: DocumentModel, pages: Pages, found: Evaluation | None = None) -> None:
        """Notes on the model's card what the validation split says of it, once it has learnt; ``found`` there, if that is known already."""
        ...

    def predict(self, model: DocumentModel, images: Iterable[Image.Image]) -> list[dict[str, Any]]:
        """Plain answers: ``{"label", "probability", …}``, ``{"fields", "confidence", …}`` or ``{"regions": […]}``."""
        ...

    def latency_parts(self, model: DocumentModel, images: Sequence[Image.Image]) -> dict[str, Callable[[], int]]:
        """Named callables to be timed; each returns how many units (pages, tokens) it did."""
        ...


def drawn(pages: Pages, most: int, in_order: bool = False) -> Pages:
    """At most so many documents, drawn at random, the same ones every time: the first would be of one class.

    Args:
        pages: what is drawn from.
        most: so many.
        in_order: whether they keep their order.
    """
    if len(pages.documents) <= most:
        return pages
    places = random.Random(0).sample(range(len(pages.documents)), most)
    return replace(pages, documents=[pages.documents[place] for place in (sorted(places) if in_order else places)])


def as_learnt(model: DocumentModel, image: Image.Image) -> Image.Image:
    """A page as the model's training had it before its processor: a scan brought near to the size that is needed.

    Shrinking in one step or in two leaves other grays, and what a model learnt from is what it should be scored and used on.
    A model that learnt elsewhere gets the page as it is.
    """
    size = model.card.get(BROUGHT_TO)
    return image if size is None else shrink(image, (int(size[0]), int(size[1])))


def open_page(document: Document, view: View | None) -> Image.Image:
    """A document's page, through ``view`` if there is one."""
    image = open_image(document.file) if document.draw is None else document.draw()
    return image if view is None else view(image, document)


def example_in_use(
    task: Task, model: DocumentModel, document: Document, labels: Sequence[str], image: Image.Image | None = None
) -> dict[str, Any]:
    """`Task.example` of a page that is looked at and not learnt from: whoever asks for one outside training asks here.

    Args:
        task: the model's.
        model: what looks.
        document: what is looked at.
        labels: class names of the document's split, as `Task.example` takes them.
        image: its page, if it is open already.
    """
    page = open_page(document, None) if image is None else image
    return task.example(model, document, as_learnt(model, page), labels, None)


def difference_of_classes(first: str, first_labels: Sequence[str], second: str, second_labels: Sequence[str]) -> str:
    """In a sentence: which classes only one of the two has."""
    only_first = sorted(set(first_labels) - set(second_labels))
    only_second = sorted(set(second_labels) - set(first_labels))
    parts = [
        f"only {name} has {', '.join(only)}" for name, only in ((first, only_first), (second, only_second)) if only
    ]
    return (
        f"{first} and {second} do not have the same classes ({'; '.join(parts)}); use a model trained on these classes"
    )
