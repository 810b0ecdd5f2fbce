"""Classification: a page goes in, a class comes out. Data are class folders ``split/label/*.jpg``.

Logits are always handed on in the alphabetical order of the class names, so that a teacher whose classes stand in
another order than the data's is matched by name.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from docstill.data.class_folders import read_class_folders
from docstill.data.document import Document
from docstill.errors import ModelError
from docstill.metrics.classification import Floats, Ints, classification_metrics, per_class_accuracy, softmax
from docstill.models.classifier import load_classifier, new_classifier
from docstill.models.io import DocumentModel
from docstill.models.labelled import replace_classes, same_pages_and_classes
from docstill.models.patches import patches_of
from docstill.objectives.base import UNLABELLED, Outputs
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
    drawn,
    open_page,
)

EVALUATION_BATCH = 32
SAMPLE = 64
"""Training pages that a new classifier's processor takes its mean and spread from."""


class Classification:
    """The task `classification`; see `docstill.tasks.base.Task` for what each method owes."""

    name = "classification"
    primary_metric = "accuracy"

    def read(self, folder: Path, training: Pages | None = None) -> Pages:
        """Reads one split of class folders."""
        found = read_class_folders(folder, labels=training.labels if training else None)
        return Pages(folder, found.documents, found.labels)

    def new_model(self, spec: ModelSpec, pages: Pages, teacher: DocumentModel | None = None) -> DocumentModel:
        """A classifier from scratch for the classes of ``pages``, and for pages as bright as a sample of them."""
        sample = (open_page(document, None) for document in drawn(pages, SAMPLE).documents)
        return new_classifier(spec.new, spec.config, pages.labels, spec.image_size, sample)

    def load_model(self, source: str) -> DocumentModel:
        """Loads a classifier whole."""
        return load_classifier(source)

    def adapt(self, model: DocumentModel, pages: Pages) -> None:
        """A new head where the model knows other classes; all else stays."""
        if set(model.labels) != set(pages.labels):
            replace_classes(model, pages.labels)

    def check_pair(self, teacher: DocumentModel, student: DocumentModel) -> None:
        """Both must know the same classes, in any order."""
        if set(teacher.labels) != set(student.labels):
            raise ModelError(difference_of_classes("the teacher", teacher.labels, "the student", student.labels))

    def check_model(self, model: DocumentModel, pages: Pages) -> None:
        """Every class of the pages must be one of the model's."""
        if not set(pages.labels) <= set(model.labels):
            raise ModelError(difference_of_classes("the model", model.labels, str(pages.folder), pages.labels))

    def check_scored(self, pages: Pages) -> None:
        """Nothing to check: every page has a class."""

    def texts(self, model: DocumentModel, pages: Pages) -> list[str]:
        """None: a classifier writes nothing."""
        return []

    def aligned(self, teacher: DocumentModel, student: DocumentModel, theirs: Outputs, ours: Outputs) -> Outputs:
        """As they are: both know the same classes, in the same order."""
        return theirs

    def shown(self, teacher: DocumentModel, student: DocumentModel, batch: Batch, ours: Outputs) -> Batch:
        """Nothing: what is compared is in the batch."""
        return {}

    def example(
        self,
        model: DocumentModel,
        document: Document,
        image: Image.Image,
        labels: Sequence[str],
        rng: random.Random | None,
    ) -> dict[str, Any]:
        """The page through the model's own processor, and the index of its class in alphabetical order, or `UNLABELLED`."""
        pixels = model.processor(images=image, return_tensors="pt")["pixel_values"][0]
        target = UNLABELLED
        if document.target is not None:
            target = sorted(model.labels).index(labels[document.target])
        return {"pixel_values": pixels, "target": target}

    def shown_alike(self, first: DocumentModel, second: DocumentModel) -> bool:
        """With the same processor and the same classes, in any order."""
        return same_pages_and_classes(first, second)

    def collate(self, model: DocumentModel, examples: Sequence[dict[str, Any]]) -> Batch:
        """``pixel_values`` (B, 3, H, W) and ``targets`` (B,)."""
        return {
            "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
            "targets": torch.tensor([example["target"] for example in examples]),
        }

    def forward(self, model: DocumentModel, batch: Batch) -> Outputs:
        """Logits (B, C) in the alphabetical order of the class names."""
        pixels = batch["pixel_values"]
        logits = model.network(pixel_values=pixels).logits.float()
        if model.labels != sorted(model.labels):
            logits = logits[:, np.argsort(model.labels).tolist()]
        blended = (batch["partners"], batch["share"]) if "partners" in batch else None
        patches = patches_of(model.network.config, *pixels.shape[2:])
        return Outputs(logits, batch["targets"], documents=len(logits), blended=blended, patches=patches)

    def page_size(self, model: DocumentModel) -> tuple[int, int]:
        """(width, height) of the network's input."""
        size = model.processor.size
        if size.get("height"):
            return size["width"], size["height"]
        return size["shortest_edge"], size["shortest_edge"]

    def evaluate(
        self, model: DocumentModel, pages: Pages, advance: Advance | None = None, view: View | None = None
    ) -> Evaluation:
        """Accuracy, macro-F1, calibration; a document's score is the probability of its right class."""
        logits, names = self.logits(model, pages, advance, view), sorted(model.labels)
        probabilities, labels = softmax(logits), _right(pages, names)
        metrics: dict[str, Any] = dict(classification_metrics(probabilities, labels))
        metrics["per_class"] = per_class_accuracy(probabilities, labels, names)
        judged = [
            Judged(
                document.where,
                names[label],
                {"label": names[row.argmax()], "probability": round(float(row.max()), 4)},
                float(row[label]),
            )
            for document, label, row in zip(pages.documents, labels, probabilities, strict=True)
        ]
        return Evaluation(
            metrics,
            judged,
            [
                {"file": document.where, "logits": row.tolist(), "label": int(label)}
                for document, row, label in zip(pages.documents, logits, labels, strict=True)
            ],
            {
                "documents": [
                    (float(row.max()), bool(row.argmax() == label))
                    for row, label in zip(probabilities, labels, strict=True)
                ]
            },
        )

    def logits(
        self, model: DocumentModel, pages: Pages, advance: Advance | None = None, view: View | None = None
    ) -> Floats:
        """Logits ``(n, C)`` in the alphabetical order of the class names; pages need no labels.

        Raises:
            ModelError: they are not finite; the files are named.
        """
        self.check_model(model, pages)
        rows = []
        for start in range(0, len(pages.documents), EVALUATION_BATCH):
            part = pages.documents[start : start + EVALUATION_BATCH]
            rows.append(self._logits(model, (open_page(document, view) for document in part)))
            _check_finite(rows[-1], [document.where for document in part])
            if advance is not None:
                advance(len(part))
        return np.concatenate(rows)

    def before_learning(self, model: DocumentModel, pages: Pages) -> None:
        """Nothing to note: the classes are in the network's own configuration."""

    def after_learning(self, model: DocumentModel, pages: Pages, found: Evaluation | None = None) -> None:
        """Nothing to note: `calibrate` in a recipe folds its temperature into the weights."""

    def predict(self, model: DocumentModel, images: Iterable[Image.Image]) -> list[dict[str, Any]]:
        """The class of each page, with its probability and all others."""
        names, answers = sorted(model.labels), []
        for number, image in enumerate(images, 1):
            rows = self._logits(model, [image])
            _check_finite(rows, [f"page {number}"])
            row = softmax(rows)[0]
            ranked = sorted(zip(names, row.tolist(), strict=True), key=lambda pair: -pair[1])
            answers.append({"label": ranked[0][0], "probability": ranked[0][1], "probabilities": dict(ranked)})
        return answers

    def latency_parts(self, model: DocumentModel, images: Sequence[Image.Image]) -> dict[str, Callable[[], int]]:
        """`document`: one page from picture to class."""
        turn = iter(range(10**9))

        def document() -> int:
            softmax(self._logits(model, [images[next(turn) % len(images)]]))
            return 1

        return {"document": document}

    def _logits(self, model: DocumentModel, images: Iterable[Image.Image]) -> Floats:
        """``(n, C)``; one page at a time is held as large as it is."""
        pages = [as_learnt(model, image) for image in images]
        pixels = model.processor(images=pages, return_tensors="pt")["pixel_values"].to(model.device)
        training = model.network.training
        model.network.eval()
        # Not inference_mode: what BEiT keeps for all networks (positions of a window) must serve in training, too.
        with torch.no_grad():
            outputs = self.forward(model, {"pixel_values": pixels, "targets": torch.empty(0)})
        model.network.train(training)
        logits: Floats = outputs.logits.double().cpu().numpy()
        return logits


def _right(pages: Pages, names: Sequence[str]) -> Ints:
    """The right class of each page, as a place among ``names``."""
    return np.array([names.index(pages.labels[document.target]) for document in pages.documents], dtype=np.int64)


def _check_finite(rows: Floats, names: Sequence[str]) -> None:
    """Refuses logits that are no numbers: they would be scored as the first class."""
    bad = [name for name, row in zip(names, rows, strict=True) if not np.isfinite(row).all()]
    if bad:
        raise ModelError(
            f"the model's outputs are not finite on {', '.join(bad[:8])}; look at the model and these files, or train it again "
            "with a lower learning_rate"
        )
