"""Two models look at the same documents, each through its own preprocessing: features and answers, batch by batch."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL.Image import Image
from torch import Tensor

from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.data.json_tokens import canonical
from docstill.metrics.cka import LEAST
from docstill.metrics.fields import nearest_truth
from docstill.metrics.tree import same_answer
from docstill.models.blocks import Block
from docstill.models.io import DocumentModel
from docstill.similarity import agreement
from docstill.similarity.agreement import Answered
from docstill.similarity.exact import ROOM, joined
from docstill.similarity.layers import Features, layers_of, look, matched
from docstill.similarity.streaming import LayerCka
from docstill.tasks.base import Advance, Pages, Task, example_in_use

SAMPLES = {"pooled": 256, "flattened": 32}
"""Documents at most of one batch of CKA: their features are held at once. Those of all tokens are large, so `ROOM` limits them, too."""
PIXELS_AT_ONCE = 5_000_000
MOST_AT_ONCE = 16
EXCHANGE_SEED = 0
TOO_WIDE = (
    "The layers are too wide for the biased figures over so many documents: choose fewer layers, or pool the tokens."
)


class Pair:
    """Two models of one task, and what has been seen of them so far.

    Args:
        task: of both models.
        teacher: its layers are the rows.
        student: its layers are the columns.
        tokens: ``pooled`` or ``flattened``; see `docstill.similarity.layers`.
        patterns: which layers; default: all blocks.

    Raises:
        UserError: a pattern that fits no layer.
        ModelError: a network without blocks.
    """

    def __init__(
        self,
        task: Task,
        teacher: DocumentModel,
        student: DocumentModel,
        tokens: str = "pooled",
        patterns: Sequence[str] = (),
    ) -> None:
        self.task, self.models, self.tokens = task, (teacher, student), tokens
        self.blocks = layers_of(teacher.network, student.network, patterns)
        self.cka = LayerCka(len(self.blocks[0]), len(self.blocks[1]), seed=EXCHANGE_SEED)
        self.documents: list[Answered] = []
        self.nearest: list[tuple[Any, Any]] = []
        self.texts: list[tuple[str, str]] = []
        self.same: list[bool] = []
        self.divergences: list[float] = []
        self.one_vocabulary = task.name == "classification" or _one_vocabulary(teacher, student)

    def see(
        self, pages: Pages, samples: int | None = None, advance: Advance | None = None, answers: bool = True
    ) -> None:
        """Looks at all documents of ``pages``, in an order that mixes the classes, in batches of at most ``samples``.

        Unless ``samples`` are given, batches are as large as `SAMPLES` and `ROOM` allow; none is smaller than `LEAST`. With
        ``answers`` it lets both models answer, too, which takes much longer where answers are written.
        """
        documents = list(pages.documents)
        random.Random(0).shuffle(documents)
        for batch in even_batches(documents, samples or self._samples(documents[0], pages)):
            seen: tuple[list[list[Features]], ...] = ([], [])
            for start in range(0, len(batch), self._at_once()):
                part = batch[start : start + self._at_once()]
                for kept, rows in zip(seen, self._look(part, pages, answers), strict=True):
                    kept.append(rows)
                if advance is not None:
                    advance(len(part))
            self.cka.add(*(_whole(kept) for kept in seen))

    def _samples(self, document: Document, pages: Pages) -> int:
        """Documents of one batch, by what the features of one take."""
        if self.tokens == "pooled":
            return SAMPLES[self.tokens]
        size = sum(rows.nbytes for layers in self._look([document], pages, answers=False) for rows in layers)
        return min(SAMPLES[self.tokens], ROOM // size)

    def _at_once(self) -> int:
        pixels = max(width * height for width, height in map(self.task.page_size, self.models))
        return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // pixels))

    def _look(self, documents: Sequence[Document], pages: Pages, answers: bool) -> list[list[Features]]:
        images = [open_image(document.file) for document in documents]
        seen, logits = [], []
        for model, blocks in zip(self.models, self.blocks, strict=True):
            examples = [
                example_in_use(self.task, model, document, pages.labels, image)
                for document, image in zip(documents, images, strict=True)
            ]
            outputs, rows = look(self.task, model, blocks, self.task.collate(model, examples), self.tokens)
            seen.append(rows)
            logits.append(outputs.logits)
        if answers:
            self._answer(documents, images, pages, logits)
        return seen

    def _answer(
        self, documents: Sequence[Document], images: Sequence[Image], pages: Pages, logits: Sequence[Tensor]
    ) -> None:
        if self.one_vocabulary:
            same, divergences = agreement.decisions(*logits)
            self.same += same
            self.divergences += divergences
        if self.task.name == "classification":
            names = sorted(self.models[0].labels)
            classes = [agreement.classified(rows, names) for rows in logits]
            for document, first, second in zip(documents, *classes, strict=True):
                self._class(document, pages.labels[document.target], first, second)
        else:
            written = [self.task.predict(model, images) for model in self.models]
            for document, first, second in zip(documents, *written, strict=True):
                self._fields(document, first, second)

    def _class(self, document: Document, expected: str, teacher: dict[str, Any], student: dict[str, Any]) -> None:
        right = (teacher["label"] == expected, student["label"] == expected)
        likeness = (
            1.0 if teacher["label"] == student["label"] else 1 - min(teacher["probability"], student["probability"])
        )
        self.documents.append(Answered(document.where, str(document.file), expected, teacher, student, likeness, right))

    def _fields(self, document: Document, teacher: dict[str, Any], student: dict[str, Any]) -> None:
        truths = document.variants or (document.target,)
        answers = (teacher["fields"], student["fields"])
        written = [canonical(truth) for truth in truths]
        first, second = (nearest_truth(answer, written) for answer in answers)
        expected = truths[written.index(second)]
        right = (same_answer(answers[0], first), same_answer(answers[1], second))
        self.nearest.append((first, second))
        self.texts.append((teacher["text"], student["text"]))
        self.documents.append(
            Answered(
                document.where, str(document.file), expected, *answers, agreement.likeness_of_fields(*answers), right
            )
        )

    def similarity(self) -> dict[str, Any]:
        """CKA as `docstill compare` reports it; a figure that is not defined is None."""
        teacher, student = self.blocks
        matrix = self.cka.matrix()
        parts = list(dict.fromkeys(block.part for block in teacher))
        return {
            "global": _number(self.cka.overall()),
            "chance": _number(self.cka.overall(chance=True)),
            "parts": {part: self._part(part) for part in parts} if len(parts) > 1 else {},
            "estimator": "unbiased",
            "tokens": self.tokens,
            "layers": {
                "teacher_layers": [block.path for block in teacher],
                "student_layers": [block.path for block in student],
                "teacher_names": [block.name for block in teacher],
                "student_names": [block.name for block in student],
                "matrix": _rows(matrix),
                "matched": [
                    {"teacher": row, "student": column, "cka": _number(matrix[row, column])}
                    for row, column in matched(teacher, student)
                ],
            },
            "biased": {
                "global": _number(self.cka.overall("biased")),
                "chance": _number(self.cka.overall("biased", chance=True)),
                "matrix": _rows(self.cka.matrix("biased")),
                "note": TOO_WIDE if self.cka.too_wide else None,
            },
        }

    def _part(self, part: str) -> float | None:
        rows, columns = (_places(blocks, part) for blocks in self.blocks)
        return _number(self.cka.overall("unbiased", rows, columns)) if rows and columns else None

    def agreement(self) -> dict[str, Any]:
        """How far the answers agree; see `docstill.similarity.agreement`."""
        if self.task.name == "classification":
            return agreement.agreement_on_classes(self.documents, self.divergences)
        return agreement.agreement_on_fields(self.documents, self.nearest, self.texts, self.same, self.divergences)


def even_batches(documents: Sequence[Document], most: int) -> list[list[Document]]:
    """As few batches of at most ``most`` documents as there can be, of one size give or take one; never below `LEAST`."""
    count = max(1, min(math.ceil(len(documents) / max(most, LEAST)), len(documents) // LEAST))
    edges = np.linspace(0, len(documents), count + 1).round().astype(int)
    return [list(documents[start:end]) for start, end in itertools.pairwise(edges)]


def _whole(parts: Sequence[list[Features]]) -> list[Features]:
    """The layers of parts of a batch, each joined; the parts are emptied as that goes on, for both do not fit."""
    layers = [joined([part.pop() for part in parts]) for _ in range(len(parts[0]))]
    return layers[::-1]


def _one_vocabulary(teacher: DocumentModel, student: DocumentModel) -> bool:
    sizes = [model.network.config.decoder.vocab_size for model in (teacher, student)]
    words = [model.processor.tokenizer.get_vocab() for model in (teacher, student)]
    return bool(sizes[0] == sizes[1] and words[0] == words[1])


def _places(blocks: Sequence[Block], part: str) -> list[int]:
    return [index for index, block in enumerate(blocks) if block.part == part]


def _rows(matrix: Any) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in matrix]


def _number(value: float) -> float | None:
    """Rounded to 6 digits; None for what is not defined."""
    return round(float(value), 6) if math.isfinite(value) else None
