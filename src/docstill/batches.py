"""From documents to the batches of an epoch: the same view of each page for student and teacher.

What happens to a page depends on (seed, epoch, index of the document) alone, not on batch size, worker or order; but for
its partner, where pages are blended, which comes from the same small batch. Where the teacher is asked only once, it depends
on the index alone: every epoch and every seed sees the page as the teacher saw it.

Generated documents are drawn here, a new one for each index of each epoch.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from docstill.blending import blend
from docstill.data.augment import augmented, faded
from docstill.data.document import Document
from docstill.data.images import open_image, shrink
from docstill.data.regions import Regions, moved
from docstill.errors import DataError, DocstillError
from docstill.models.io import DocumentModel
from docstill.objectives.base import UNLABELLED
from docstill.on_policy import OWN
from docstill.progress import say
from docstill.settings import DistillStage, Training
from docstill.tasks.base import Pages, Task

CACHE_BYTES = 2 * 2**30
AGAIN = "again"
"""Key of a batch: how many of its documents are generated ones of the first epoch that stand in for others."""


@dataclass
class PageCache:
    """Decoded and shrunk pages, kept in memory up to ``room`` bytes; decoding a scan costs more than a forward pass."""

    size: tuple[int, int]
    room: int = CACHE_BYTES
    kept: dict[int, Image.Image] = field(default_factory=dict)
    used: int = 0

    def get(self, pages: Pages, index: int) -> Image.Image:
        """The page, no larger than needed."""
        image = self.kept.get(index)
        if image is None:
            image = shrink(open_image(pages.documents[index].file), self.size)
            cost = image.width * image.height * 3
            if self.used + cost <= self.room:
                self.kept[index], self.used = image, self.used + cost
        return image


@dataclass(frozen=True)
class PageSet(Dataset[dict[str, Any]]):
    """One epoch of training examples, by index of the document."""

    task: Task
    pages: Pages
    student: DocumentModel
    teacher: DocumentModel | None
    training: Training
    seed: int
    cache: PageCache
    epoch: int = 0
    still: bool = False
    """Whether a page looks the same in every epoch."""
    alike: bool = False
    """Whether student and teacher are shown the same, so that it need not be made twice."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, document, again = self._page(index)
        key = f"{index}" if self.still else f"{self.seed}:{self.epoch}:{index}"
        strength = faded(self.training.augment, self.epoch, self.training.epochs, self.training.augment_fade)
        regions = document.target if isinstance(document.target, Regions) else None
        image, move = augmented(image, random.Random(key), strength, level=regions is not None)
        if regions is not None and move is not None:
            document = replace(document, target=moved(regions, move, image.size))
        example: dict[str, Any] = {"file": document.where, "index": index, AGAIN: again}
        for name, model in (("student", self.student), ("teacher", self.teacher)):
            if name == "teacher" and self.alike:
                example[name] = example["student"]
            elif model is not None:  # the same generator for both: the same random choices, the same view
                example[name] = self.task.example(
                    model, document, image, self.pages.labels, random.Random(key + ":view")
                )
        return example

    def _page(self, index: int) -> tuple[Image.Image, Document, bool]:
        """A page, no larger than needed, what is known of it, and whether it stands in for another.

        The first epoch's answers are known in advance, so that the models can write them; where they cannot write a later
        one (a character that no answer of the first epoch holds), the document that had its place in the first epoch is
        taken once more.
        """
        stream = self.pages.stream
        if stream is None or index >= stream.n:  # pages without labels come after the generated ones
            return self.cache.get(self.pages, index), self.pages.documents[index], False
        image, document = stream.page(self.epoch, index)
        again = self.epoch > 0 and not self._writable(document)
        if again:
            image, document = stream.page(0, index)
        return shrink(image, self.cache.size), document, again

    def _writable(self, document: Document) -> bool:
        try:
            for model in (self.student, self.teacher):
                if model is not None:
                    self.task.check_model(model, replace(self.pages, documents=[document]))
        except DataError:
            return False
        return True

    def collate(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch: ``files`` and their ``indices``, and one task batch for each model."""
        batch: dict[str, Any] = {
            "files": [example["file"] for example in examples],
            "indices": [example["index"] for example in examples],
            AGAIN: sum(example[AGAIN] for example in examples),
        }
        for name, model in (("student", self.student), ("teacher", self.teacher)):
            if model is not None:
                batch[name] = self.task.collate(model, [example[name] for example in examples])
        training = self.training
        share = training.on_policy if isinstance(training, DistillStage) else 0.0
        if share and random.Random(f"{self.seed}:{self.epoch}:{batch['files'][0]}:{OWN}").random() < share:
            batch[OWN] = True
            for name in ("student", "teacher"):
                batch[name]["targets"] = torch.full_like(batch[name]["targets"], UNLABELLED)
        whole = faded(1.0, self.epoch, training.epochs, training.augment_fade)
        key = f"{self.seed}:{self.epoch}:{batch['files'][0]}:blend"
        if training.blend != "none" and (rng := random.Random(key)).random() < whole:
            blend(training.blend, [batch[name] for name in ("student", "teacher") if name in batch], rng)
        return batch


@dataclass(frozen=True)
class _Batches(Dataset["dict[str, Any] | DocstillError"]):
    """Batches, by the indices of their documents.

    What is wrong with a page is handed on and not raised: of an error in another process torch makes one whose message is
    its traceback.
    """

    examples: PageSet

    def __getitem__(self, indices: list[int]) -> dict[str, Any] | DocstillError:
        try:
            return self.examples.collate([self.examples[index] for index in indices])
        except DocstillError as error:
            return error


def loaded(
    examples: PageSet, batches: Sequence[list[int]], workers: int, chance: torch.Generator | None = None
) -> Iterator[dict[str, Any]]:
    """The batches of these documents, in order, made in ``workers`` processes or, without any, in this one.

    Raises:
        DocstillError: a page cannot be used; the same, whichever process it is that finds out.
    """
    loader = DataLoader(
        _Batches(_for_processes(examples) if workers else examples),
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=chance,
    )
    for batch in loader:
        if isinstance(batch, DocstillError):
            raise batch
        yield batch


def _for_processes(examples: PageSet) -> PageSet:
    """The same without weights, which no process that makes batches needs, and of which some cannot be handed over.

    Nor do they keep pages: each begins anew with every epoch, and meets no page twice.
    """
    return replace(
        examples,
        cache=PageCache(examples.cache.size, room=0),
        student=_without_weights(examples.student),
        teacher=None if examples.teacher is None else _without_weights(examples.teacher),
    )


def _without_weights(model: DocumentModel) -> DocumentModel:
    return replace(model, network=SimpleNamespace(config=model.network.config), masks={})


def _as_it_is(batch: Any) -> Any:
    return batch


def page_set(
    task: Task,
    pages: Pages,
    student: DocumentModel,
    teacher: DocumentModel | None,
    training: Training,
    seed: int,
    beside: DocumentModel | None = None,
) -> PageSet:
    """The training examples of ``pages`` for a student and, if it is to be asked, a teacher.

    ``beside`` is a teacher that is not asked: the no-KD control sees pages brought to the same size first as the student does.
    """
    sizes = [task.page_size(model) for model in (student, teacher, beside) if model is not None]
    size = (max(width for width, _ in sizes), max(height for _, height in sizes))
    still = isinstance(training, DistillStage) and training.cache_logits > 0
    alike = teacher is not None and task.shown_alike(student, teacher)
    return PageSet(task, pages, student, teacher, training, seed, PageCache(size), still=still, alike=alike)


def epoch_batches(examples: PageSet, epoch: int, skip: int, batch_size: int, workers: int) -> Iterator[dict[str, Any]]:
    """The batches of one epoch, shuffled by (seed, epoch), without the first ``skip``."""
    chance = torch.Generator().manual_seed(hash_seed(examples.seed, epoch))
    order = torch.randperm(len(examples.pages.documents), generator=chance).tolist()
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    # A loader without a generator draws from torch's own, once each time it is made, and more often after a stop than without.
    again = 0
    for batch in loaded(replace(examples, epoch=epoch), batches[skip:], workers, chance):
        again += batch[AGAIN]
        yield batch
    if again:
        say(
            f"warning: {again:,} document{'s' if again > 1 else ''} of epoch {epoch + 1} had been seen in the first: the model cannot write the answers "
            "that were due, with characters or a length that the first epoch does not have; a larger n has more of them"
        )


def hash_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch; distinct for distinct (seed, epoch) in any run that ends."""
    return seed * 1_000_003 + epoch
