"""Layout: a page goes in, the regions on it come out, each with a class and a box. Data are COCO folders.

Student and teacher meet on the same regions, as shares of the page: whatever size each network takes pages at, and however
it fits them in. Classes are handed on in the alphabetical order of their names, so that a teacher with another order is
matched by name.
"""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from docstill.data.coco_folder import read_coco_folder
from docstill.data.document import Document
from docstill.data.regions import Regions, Size
from docstill.errors import DataError, MissingExtra, ModelError
from docstill.metrics.bootstrap import Figures
from docstill.metrics.detection import Seen, Truth, flattened, metrics_of_pages
from docstill.metrics.detection_draws import figures_over_pages
from docstill.metrics.regions import page_f1
from docstill.models.detection import Answers, check_learns, detect, glance, learn, look
from docstill.models.detector import fitting_size, load_detector, new_detector
from docstill.models.io import DocumentModel
from docstill.models.labelled import replace_classes, same_pages_and_classes
from docstill.objectives.base import BACKGROUND, Looks, Outputs
from docstill.objectives.looks import of_classes, with_looks
from docstill.objectives.positions import reframed
from docstill.tasks.base import (
    Advance,
    Batch,
    Evaluation,
    Judged,
    ModelSpec,
    Pages,
    View,
    as_learnt,
    difference_of_classes,
    open_page,
)
from docstill.tasks.found import Found, WhenAsked

EVALUATION_BATCH = 8
MOST = 300
"""Regions of a page that are handed out, surest first."""
LEAST = 0.05
ON_IT = 0.5
"""Overlap with a labelled region from which a region counts as one of its class."""


class Layout:
    """The task `layout`; see `docstill.tasks.base.Task` for what each method owes."""

    name = "layout"
    primary_metric = "ap"

    def read(self, folder: Path, training: Pages | None = None) -> Pages:
        """Reads one split of a COCO folder."""
        if importlib.util.find_spec("faster_coco_eval") is None:
            raise MissingExtra("scoring boxes", "layout")
        found = read_coco_folder(folder, labels=training.labels if training else None)
        pages = Pages(folder, found.documents, found.labels)
        # Pages from elsewhere come with names of classes alone, and no pages that could have regions of them.
        if training is not None and training.documents and (strange := set(_there(pages)) - set(_there(training))):
            raise DataError(
                f"the pages in {folder} cannot be used",
                [
                    f"{name}: has regions here, but none in {training.folder}; label some there, or remove these"
                    for name in sorted(strange)
                ],
            )
        return pages

    def new_model(self, spec: ModelSpec, pages: Pages, teacher: DocumentModel | None = None) -> DocumentModel:
        """A detector from scratch for the classes of ``pages``; its input is no squarer than they are."""
        size = spec.image_size or fitting_size([document.target.size for document in pages.documents])
        return new_detector(spec.new, spec.config, _there(pages) or pages.labels, size)

    def load_model(self, source: str) -> DocumentModel:
        """Loads a detector whole."""
        return load_detector(source)

    def adapt(self, model: DocumentModel, pages: Pages) -> None:
        """New classes where the model knows others than those that ``pages`` have regions of; all else stays."""
        if set(model.labels) != set(there := _there(pages) or pages.labels):
            replace_classes(model, there)

    def check_pair(self, teacher: DocumentModel, student: DocumentModel) -> None:
        """The teacher must know the student's classes, in any order; it may know more, which `aligned` leaves out."""
        if not set(teacher.labels) >= set(student.labels):
            raise ModelError(difference_of_classes("the teacher", teacher.labels, "the student", student.labels))
        check_learns(student.network)

    def check_model(self, model: DocumentModel, pages: Pages) -> None:
        """Every class that the pages have regions of must be one of the model's."""
        if not set(there := _there(pages)) <= set(model.labels):
            raise ModelError(difference_of_classes("the model", model.labels, str(pages.folder), there))

    def check_scored(self, pages: Pages) -> None:
        """At least one page must have a region; crowds are none, for nobody can miss them."""
        if not any_regions(pages):
            raise DataError(
                "nothing can be scored",
                [f"{pages.folder}: none of its {len(pages.documents)} pages has a region, crowds aside; label some"],
            )

    def texts(self, model: DocumentModel, pages: Pages) -> list[str]:
        """None: a detector writes nothing."""
        return []

    def aligned(self, teacher: DocumentModel, student: DocumentModel, theirs: Outputs, ours: Outputs) -> Outputs:
        """The teacher's maps as the student sees the page; a class that the student does not know is background to its teacher."""
        theirs = reframed(theirs, ours)
        if ours.looks is None or theirs.looks is None or ours.looks.names == theirs.looks.names:
            return theirs
        return with_looks(theirs, of_classes(theirs.looks, ours.looks.names, ours.looks.truths))

    def shown(self, teacher: DocumentModel, student: DocumentModel, batch: Batch, ours: Outputs) -> Batch:
        """The student's regions; if none are compared, the teacher need not answer, and is seen through its features alone."""
        return {"glance": True} if ours.looks is None else {"given": ours.looks.given, "pages": ours.looks.pages}

    def example(
        self,
        model: DocumentModel,
        document: Document,
        image: Image.Image,
        labels: Sequence[str],
        rng: random.Random | None,
    ) -> dict[str, Any]:
        """The page through the model's own processor, how much of the input it fills, and its regions."""
        pixels, frame = self._prepared(model, image)
        regions: Regions = document.target
        names = sorted(model.labels)
        single = [index for index, crowd in enumerate(regions.crowd) if not crowd]
        inside = regions.inside
        boxes = np.array([inside[index] for index in single], dtype=np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        width, height = regions.size
        return {
            "pixel_values": pixels,
            "frame": frame,
            "boxes": torch.from_numpy(boxes / np.array([width, height, width, height], dtype=np.float32)),
            "classes": torch.tensor(
                [names.index(labels[regions.labels[index]]) for index in single], dtype=torch.int64
            ),
        }

    def shown_alike(self, first: DocumentModel, second: DocumentModel) -> bool:
        """With the same processor and the same classes, in any order."""
        return same_pages_and_classes(first, second)

    def collate(self, model: DocumentModel, examples: Sequence[dict[str, Any]]) -> Batch:
        """``pixel_values`` (B, 3, H, W), ``frames`` (B, 4), ``boxes`` (B, T, 4) and ``classes`` (B, T), padded with -1."""
        most = max(1, *(len(example["classes"]) for example in examples))
        boxes = torch.zeros(len(examples), most, 4)
        classes = torch.full((len(examples), most), -1)
        for row, example in enumerate(examples):
            boxes[row, : len(example["classes"])] = example["boxes"]
            classes[row, : len(example["classes"])] = example["classes"]
        return {
            **padded([(example["pixel_values"], example["frame"]) for example in examples]),
            "boxes": boxes,
            "classes": classes,
            "targets": torch.zeros(len(examples), dtype=torch.int64),
        }

    def forward(self, model: DocumentModel, batch: Batch) -> Outputs:
        """The network's own loss and, if ``looks`` is set, what it says of regions: ``given`` ones, or those it chose."""
        pixels, frames, pools = batch["pixel_values"], batch["frames"], bool(batch.get("pools"))
        order = np.argsort(model.labels).tolist()
        answers: Answers | None
        if "glance" in batch:
            glance(model.network, pixels, frames)
            return Outputs(pixels.new_zeros(len(pixels), 1), batch["targets"], documents=len(pixels), frames=frames)
        if "given" in batch:
            pages, given = batch["pages"], batch["given"]
            answers, loss = look(model.network, pixels, frames, pages, given * frames[pages], pools), None
        else:
            there = batch["classes"] >= 0
            place = torch.tensor(order, device=pixels.device)
            boxes = [row[kept] * frame for row, kept, frame in zip(batch["boxes"], there, frames, strict=True)]
            labels = [place[row[kept]] for row, kept in zip(batch["classes"], there, strict=True)]
            learnt = learn(model.network, pixels, boxes, labels, bool(batch.get("looks")), pools)
            answers, loss = learnt.answers, learnt.loss
            pages, given = learnt.pages, (learnt.given / frames[learnt.pages]).detach()
        if answers is None:
            return Outputs(
                pixels.new_zeros(len(pixels), 1), batch["targets"], documents=len(pixels), loss=loss, frames=frames
            )
        looks = Looks(
            pages,
            given,
            answers.classes[:, order],
            answers.background,
            answers.boxes[:, order] / frames[pages][:, None],
            _truths(given, pages, batch["boxes"], batch["classes"]),
            answers.pooled,
            tuple(sorted(model.labels)),
        )
        plain = Outputs(looks.classes, batch["targets"], documents=len(pixels), loss=loss, frames=frames)
        return with_looks(plain, looks)

    def page_size(self, model: DocumentModel) -> tuple[int, int]:
        """(width, height) of the network's input."""
        size = model.processor.size
        for height, width in (("height", "width"), ("max_height", "max_width"), ("longest_edge", "longest_edge")):
            if size.get(height):
                return int(size[width]), int(size[height])
        raise ModelError(f"the image processor's size {dict(size)} is not known; give one with height and width")

    def evaluate(
        self, model: DocumentModel, pages: Pages, advance: Advance | None = None, view: View | None = None
    ) -> Evaluation:
        """COCO's figures; a document's score is the F1 of its regions at an overlap of 0.5."""
        return self.judged(pages, self.regions(model, pages, advance, view))

    def regions(
        self, model: DocumentModel, pages: Pages, advance: Advance | None = None, view: View | None = None
    ) -> list[Found]:
        """What the model finds on each page, at most `MOST` regions."""
        self.check_model(model, pages)
        found: list[Found] = []
        for start in range(0, len(pages.documents), EVALUATION_BATCH):
            part = pages.documents[start : start + EVALUATION_BATCH]
            found += self._found(model, ((open_page(document, view), document.target.size) for document in part))
            if advance is not None:
                advance(len(part))
        return found

    def judged(self, pages: Pages, found: Sequence[Found]) -> Evaluation:
        """What was found on each page beside what is there; the pages in the order that `read` gave them.

        Raises:
            DataError: no page has a region.
        """
        self.check_scored(pages)
        both = list(zip(pages.documents, found, strict=True))
        metrics = metrics_of_pages(_beside(pages, found), pages.labels)
        # Validations between epochs ask for the metrics alone.
        judged = WhenAsked(len(both), lambda place: _judged(*both[place], pages.labels))
        return Evaluation(metrics, judged, list(found))

    def figures(self, pages: Pages, found: Sequence[Found]) -> Figures:
        """The figures over any of the pages, for intervals; see `figures_over_pages`."""
        truths, detections, count = flattened(_beside(pages, found))
        return figures_over_pages(truths, detections, len(pages.labels), count)

    def before_learning(self, model: DocumentModel, pages: Pages) -> None:
        """Nothing to note: the classes are in the network's own configuration."""

    def after_learning(self, model: DocumentModel, pages: Pages, found: Evaluation | None = None) -> None:
        """Nothing to note."""

    def predict(self, model: DocumentModel, images: Iterable[Image.Image]) -> list[dict[str, Any]]:
        """The regions of each page, surest first: class, box (left, top, width, height in pixels of the page), score."""
        pages = ((image, image.size) for image in images)
        answers = []
        while part := self._found(model, islice(pages, EVALUATION_BATCH)):
            answers += [{"regions": found.regions(LEAST)} for found in part]
        return answers

    def latency_parts(self, model: DocumentModel, images: Sequence[Image.Image]) -> dict[str, Callable[[], int]]:
        """`document`: one page from picture to regions."""
        turn = iter(range(10**9))

        def document() -> int:
            image = images[next(turn) % len(images)]
            self._found(model, [(image, image.size)])[0].regions()
            return 1

        return {"document": document}

    def _found(self, model: DocumentModel, images: Iterable[tuple[Image.Image, Size]]) -> list[Found]:
        """What lies on each page, in pixels of a page of the size beside it; one page at a time is held as large as it is."""
        examples, sizes = [], []
        for image, size in images:
            examples.append(self._prepared(model, as_learnt(model, image)))
            sizes.append(size)
        if not examples:
            return []
        prepared = padded(examples)
        training = model.network.training
        model.network.eval()
        # Not inference_mode: what DETR-type networks keep from call to call (anchors) must serve in training, too.
        with torch.no_grad():
            pixels, frames = (prepared[name].to(model.device) for name in ("pixel_values", "frames"))
            found = detect(model.network, pixels, frames, MOST)
        model.network.train(training)
        return [
            _in_pixels(page, frame, size, model.labels)
            for page, frame, size in zip(found, prepared["frames"], sizes, strict=True)
        ]

    def _prepared(self, model: DocumentModel, image: Image.Image) -> tuple[Tensor, Tensor]:
        """``(3, H, W)`` pixels, and ``(4,)`` which share of the input's width, height, width, height the page fills."""
        batch = model.processor(images=[_wide_enough(image, *self.page_size(model))], return_tensors="pt")
        pixels = batch["pixel_values"][0]
        if "pixel_mask" not in batch:
            return pixels, torch.ones(4)
        filled = batch["pixel_mask"][0].bool()
        across, down = filled.any(0).float().mean(), filled.any(1).float().mean()
        return pixels, torch.stack([across, down, across, down])


def padded(prepared: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """Pages in one batch: ``pixel_values`` (B, 3, H, W), and ``frames`` (B, 4) which share of it each page fills.

    Some processors of others keep no fixed size: their pages are padded to the largest of the batch.
    """
    height, width = (max(pixels.shape[side] for pixels, _ in prepared) for side in (1, 2))
    together, frames = torch.zeros(len(prepared), 3, height, width), torch.ones(len(prepared), 4)
    for row, (pixels, frame) in enumerate(prepared):
        _, down, across = pixels.shape
        together[row, :, :down, :across] = pixels
        frames[row] = frame * torch.tensor([across / width, down / height]).repeat(2)
    return {"pixel_values": together, "frames": frames}


def any_regions(pages: Pages) -> bool:
    """Whether a page has a region that can be found or missed; crowds cannot."""
    return not all(all(document.target.crowd) for document in pages.documents)


def _there(pages: Pages) -> list[str]:
    """The classes that have regions, in the order of ``pages``."""
    seen = {label for document in pages.documents for label in document.target.labels}
    return [label for number, label in enumerate(pages.labels) if number in seen]


def _wide_enough(image: Image.Image, width: int, height: int) -> Image.Image:
    """A page so long that fitted into ``width × height`` nothing would be left of its other side is drawn out a little."""
    least = (-(-image.height // height), -(-image.width // width))
    if image.width >= least[0] and image.height >= least[1]:
        return image
    return image.resize((max(image.width, least[0]), max(image.height, least[1])))


def _in_pixels(page: dict[str, Tensor], frame: Tensor, size: Size, labels: Sequence[str]) -> Found:
    width, height = size
    shares = (page["boxes"].cpu() / frame).clamp(0, 1)
    corners = (shares * torch.tensor([width, height, width, height])).numpy()
    kept = (corners[:, 2:] > corners[:, :2]).all(1)
    classes = page["labels"].cpu().numpy().astype(np.int32)
    return Found(labels, classes[kept], corners[kept], page["scores"].float().cpu().numpy()[kept])


def _beside(pages: Pages, found: Sequence[Found]) -> Iterator[tuple[list[Truth], Seen]]:
    """Of each page what is there, and what was found."""
    for page, (document, one) in enumerate(zip(pages.documents, found, strict=True)):
        yield _there_on(page, document), one.seen(pages.labels)


def _there_on(page: int, document: Document) -> list[Truth]:
    regions: Regions = document.target
    rows = zip(regions.labels, regions.boxes, regions.areas, regions.crowd, strict=True)
    return [Truth(page, *row) for row in rows]


def _judged(document: Document, found: Found, labels: Sequence[str]) -> Judged:
    regions: Regions = document.target
    expected: dict[str, Any] = {
        "size": list(regions.size),
        "regions": [
            {"label": labels[label], "box": list(box)}
            for box, label, crowd in zip(regions.inside, regions.labels, regions.crowd, strict=True)
            if not crowd
        ],
    }
    predicted = {"regions": found.regions(LEAST)}
    return Judged(document.where, expected, predicted, page_f1(expected, predicted))


def _truths(given: Tensor, pages: Tensor, boxes: Tensor, classes: Tensor) -> Tensor:
    """What lies in each region by the labels: the class of the labelled region it lies on best, or nothing."""
    found = torch.full_like(pages, BACKGROUND)
    for page in range(len(boxes)):
        known, here = classes[page] >= 0, pages == page
        if known.any() and here.any():
            overlap, best = box_iou(given[here], boxes[page][known]).max(1)
            found[here] = torch.where(overlap >= ON_IT, classes[page][known][best], BACKGROUND)
    return found
