"""Key information extraction: a page goes in, JSON comes out.

Models are Donuts, data are image folders with ``metadata.jsonl``. The answer is written as text with tags
(``<s_total>9.00</s_total>``) and read token by token: each token of the answer, and the end, is one decision. The
start token is given, not decided.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from docstill.data.document import Document
from docstill.data.donut_folder import read_donut_folder
from docstill.data.json_tokens import json_to_tokens, tag_tokens
from docstill.decoding.confidence import CONFIDENCE, calibrated, curve_of, curves, sure_and_right, worth
from docstill.decoding.reading import Reading
from docstill.decoding.schema import SCHEMA, schema_of, to_card
from docstill.errors import DataError, ModelError
from docstill.metrics.fields import document_f1, field_scores
from docstill.metrics.reading import normalised_edit_distance, without_gaps
from docstill.metrics.tree import ted_accuracy
from docstill.models.donut import add_tags, load_donut, new_donut, new_donut_like, resize_positions
from docstill.models.donut_answers import (
    IGNORED,
    answers_batch,
    rows_of,
    same_vocabulary,
    spelling,
)
from docstill.models.donut_page import canvas_size, placed, placement
from docstill.models.donut_tokens import addable, character_tokenizer, encode, lacks_one, vocabulary
from docstill.models.glyphs import in_patches, kinds_in_patches, kinds_of_characters
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.progress import counter
from docstill.pruning.merges import MERGES
from docstill.tasks.base import Advance, Batch, Evaluation, Judged, ModelSpec, Pages, View
from docstill.tasks.key_order import is_sorted, know_order, written_by
from docstill.tasks.kie_answers import answer_ids, answers_of, truths_of, unwritable
from docstill.tasks.kie_blank import blank_pages, know_guard
from docstill.tasks.kie_reading import latency_parts, read_images, read_pages
from docstill.tasks.spelling import in_tokens_of_student

WRITING_PART = "decoder."
"""Path of the part that writes; its activations have one position for each token of the answer."""


class Kie:
    """The task `kie`; see `docstill.tasks.base.Task` for what each method owes."""

    name = "kie"
    primary_metric = "field_f1"

    def read(self, folder: Path, training: Pages | None = None) -> Pages:
        """Reads one split: images and ``metadata.jsonl``."""
        return Pages(folder, read_donut_folder(folder))

    def new_model(self, spec: ModelSpec, pages: Pages, teacher: DocumentModel | None = None) -> DocumentModel:
        """A Donut from scratch: the teacher's vocabulary or one made from ``pages``, room for their longest answer."""
        answers = [answer for document in pages.documents for answer in answers_of(document)]
        texts, tags = [json_to_tokens(answer) for answer in answers], set().union(*map(tag_tokens, answers))
        tokenizer = character_tokenizer(texts, tags) if teacher is None else teacher.processor.tokenizer
        positions = _room(max((len(encode(tokenizer, text)) + 1 for text in texts), default=0))
        if teacher is None:
            return new_donut(spec.new, spec.config, texts, tags, spec.image_size, positions)
        merged = {MERGES: teacher.card[MERGES]} if MERGES in teacher.card else {}
        if merged:  # what was not seen takes more tokens than what tokens were merged for
            positions = max(positions, teacher.network.config.decoder.max_position_embeddings)
        student = new_donut_like(teacher, spec.new, spec.config, spec.image_size, positions)
        student.card |= merged
        return student

    def load_model(self, source: str) -> DocumentModel:
        """Loads a Donut whole."""
        return load_donut(source)

    def adapt(self, model: DocumentModel, pages: Pages) -> None:
        """Adds the tags, and to a vocabulary of single characters those, that it lacks, and room for the longest answer."""
        answers = [answer for document in pages.documents for answer in answers_of(document)]
        tags, characters = set().union(*map(tag_tokens, answers)), set().union(*map(json_to_tokens, answers))
        tokenizer = model.processor.tokenizer
        if tags - tokenizer.get_vocab().keys() or addable(tokenizer, characters) or lacks_one(tokenizer):
            add_tags(model, sorted(tags), characters)
        longest = max(
            (len(encode(model.processor.tokenizer, written_by(model, answer))) + 1 for answer in answers), default=0
        )
        if longest > model.network.config.decoder.max_position_embeddings:
            resize_positions(model, _room(longest))

    def check_pair(self, teacher: DocumentModel, student: DocumentModel) -> None:
        """Both must have the same vocabulary, token for token, or the teacher must spell each token of the student."""
        if same_vocabulary(teacher, student):
            return
        first, second = vocabulary(teacher.processor.tokenizer), vocabulary(student.processor.tokenizer)
        rows = [model.network.config.decoder.vocab_size for model in (teacher, student)]
        other = second.keys() != first.keys() and len(second) == rows[1]
        if other and spelling(teacher, student).lengths.all():  # trimmed or merged; see `aligned`
            return
        only = [
            (name, sorted(set(a) - set(b))) for name, a, b in (("teacher", first, second), ("student", second, first))
        ]
        parts = [f"only the {name} has {_shown(map(repr, tokens))}" for name, tokens in only if tokens]
        moved = sorted(token for token in set(first) & set(second) if first[token] != second[token])
        if moved:
            parts.append(f"{len(moved)} tokens have other ids ({_shown(map(repr, moved))})")
        if not parts:
            parts.append(f"the embeddings have {rows[0]} and {rows[1]} rows")
        raise ModelError(
            f"teacher and student do not have the same vocabulary ({'; '.join(parts)}); "
            "make the student from the teacher, or train both from one"
        )

    def check_model(self, model: DocumentModel, pages: Pages) -> None:
        """Every tag and character must be in the vocabulary, every answer must fit into the decoder.

        Raises:
            DataError: one line for each document with an answer that the model cannot write.
        """
        known, problems = vocabulary(model.processor.tokenizer).keys(), []
        for document in pages.documents:
            wrong = [line for answer in answers_of(document) for line in unwritable(model, known, answer)]
            if wrong:
                problems.append(f"{document.where}: {'; also, '.join(dict.fromkeys(wrong))}")
        if problems:
            headline = (
                f"the model cannot write these answers in {pages.folder}; mend them, or use a model made for them"
            )
            raise DataError(headline, problems)

    def check_scored(self, pages: Pages) -> None:
        """Nothing to check: every page has an answer."""

    def texts(self, model: DocumentModel, pages: Pages) -> list[str]:
        """Every answer of every document, with its tags, keys in the model's order."""
        return [written_by(model, answer) for document in pages.documents for answer in answers_of(document)]

    def aligned(self, teacher: DocumentModel, student: DocumentModel, theirs: Outputs, ours: Outputs) -> Outputs:
        """Where the student's tokens were trimmed or merged, what the teacher says of them, in their order.

        Raises:
            ModelError: the two spell an answer differently, so that their decisions are not the same.
        """
        if same_vocabulary(teacher, student):
            return theirs
        return in_tokens_of_student(theirs, ours, spelling(teacher, student, ours.logits.device))

    def shown(self, teacher: DocumentModel, student: DocumentModel, batch: Batch, ours: Outputs) -> Batch:
        """The student's answers in the teacher's tokens, where they have others: a text may be spelt in more than one way."""
        if same_vocabulary(teacher, student):
            return {}
        spelt = spelling(teacher, student)
        return answers_batch(teacher, [spelt.spelt(row) for row in rows_of(batch)])

    def example(
        self,
        model: DocumentModel,
        document: Document,
        image: Image.Image,
        labels: Sequence[str],
        rng: random.Random | None,
    ) -> dict[str, Any]:
        """The page on the model's canvas, and the answer's ids.

        With ``rng`` one of the document's answers and a place on the canvas are drawn; without, it is the first answer
        and the middle.

        Returns:
            ``pixel_values`` (3, H, W) float32; ``ids`` (L,) int64: start token, answer, ``</s>``; where it is known which
            character stands where, ``glyphs``: a list of characters with their patches.

        Raises:
            DataError: the answer is longer than the decoder can read.
        """
        answers = answers_of(document)
        answer = answers[0] if rng is None else rng.choice(answers)
        where = placement(image.size, model.processor.image_processor, rng)
        pixels = placed(image, model.processor.image_processor, where)
        ids = answer_ids(model, written_by(model, answer))
        room = model.network.config.decoder.max_position_embeddings
        if len(ids) - 1 > room:
            raise DataError(
                "an answer is too long for the model",
                [f"{document.where}: {len(ids) - 1} tokens, the decoder has room for {room}"],
            )
        example: dict[str, Any] = {"pixel_values": torch.from_numpy(pixels), "ids": torch.tensor(ids)}
        if document.glyphs is not None:
            example["glyphs"] = in_patches(document.glyphs, where, model.network.config.encoder)
        return example

    def shown_alike(self, first: DocumentModel, second: DocumentModel) -> bool:
        """With the same canvas in the same patches, the same tokens, and room for the same answers."""
        return _canvas_and_tokens(first) == _canvas_and_tokens(second)

    def collate(self, model: DocumentModel, examples: Sequence[dict[str, Any]]) -> Batch:
        """Examples of one model as one batch.

        Returns:
            ``pixel_values`` (B, 3, H, W); ``decoder_input_ids`` (B, L), padded on the right; ``labels`` (B, L): the
            token that follows each, -100 where there is none; ``targets`` (N,): the labels that are not -100; ``tags``
            (N,) bool: whether each of those is a tag or the end; where it is known, ``glyphs`` (G, 3): document, patch,
            kind of character, -1 for both where a page holds none, and ``kinds``, how many there are.
        """
        batch: Batch = {
            "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
            **answers_batch(model, [example["ids"] for example in examples]),
        }
        if any("glyphs" in example for example in examples):
            kinds = kinds_of_characters(model.processor.tokenizer)
            batch["glyphs"] = kinds_in_patches([example.get("glyphs") for example in examples], kinds)
            batch["kinds"] = len(kinds)
        return batch

    def forward(self, model: DocumentModel, batch: Batch) -> Outputs:
        """Logits (N, vocabulary) at the positions that are scored, document after document."""
        height, width = canvas_size(model.processor.image_processor)
        if tuple(batch["pixel_values"].shape[-2:]) != (height, width):
            given = " × ".join(map(str, batch["pixel_values"].shape[-2:]))
            raise ModelError(
                f"the pages are {given} pixels, the model takes {height} × {width} alone; let its processor prepare them"
            )
        answer = model.network(
            pixel_values=batch["pixel_values"], decoder_input_ids=batch["decoder_input_ids"], use_cache=False
        )
        scored = batch["labels"] != IGNORED
        result = Outputs(
            answer.logits[scored].float(),
            batch["targets"],
            documents=len(batch["pixel_values"]),
            answers=(WRITING_PART, scored),
            tags=batch["tags"],
        )
        if "glyphs" in batch:
            result.glyphs = batch["glyphs"], batch["kinds"]
        return result

    def page_size(self, model: DocumentModel) -> tuple[int, int]:
        """(width, height) of the canvas."""
        height, width = canvas_size(model.processor.image_processor)
        return width, height

    def evaluate(
        self, model: DocumentModel, pages: Pages, advance: Advance | None = None, view: View | None = None
    ) -> Evaluation:
        """Field F1, TED accuracy and reading, against the right answer of each document that is nearest; a document's score is its F1.

        What the model writes and cannot be parsed has no fields, and scores 0. ``blank`` says how many ``pages`` were not shown to
        the model, as they have no writing on them, and how many of those have fields all the same. ``confidence`` says what the confidences
        of fields and of documents are worth, calibrated as the model's card says.
        """
        readings = read_pages(model, pages, advance, view)
        answers = [found.fields for found in readings]
        truths = truths_of(pages, answers)
        sure = sure_and_right(readings, truths, model.card)
        scores = field_scores(answers, truths)
        distances = [
            normalised_edit_distance(without_gaps(found.text), without_gaps(written_by(model, truth)))
            for found, truth in zip(readings, truths, strict=True)
        ]
        metrics: dict[str, Any] = {
            "field_f1": float(scores.f1),
            "precision": float(scores.precision),
            "recall": float(scores.recall),
            "ted_accuracy": _mean([ted_accuracy(answer, truth) for answer, truth in zip(answers, truths, strict=True)]),
            "reading": 1 - _mean(distances),
            "blank": blank_pages(readings, truths),
            "per_field": scores.per_field,
            "confidence": worth(sure, model.card),
        }
        judged = [
            Judged(_inside(pages.folder, document.file), truth, answer, float(document_f1(answer, truth)))
            for document, truth, answer in zip(pages.documents, truths, answers, strict=True)
        ]
        # Under a key, for an answer may itself hold a field of the name that `score` looks for.
        return Evaluation(
            metrics, judged, [{"file": one.file, "gt_parse": one.predicted} for one in judged], sure, readings
        )

    def predict(self, model: DocumentModel, images: Iterable[Image.Image]) -> list[dict[str, Any]]:
        """``fields``, the JSON that was read; how sure of each, and of all; ``text``, as the model wrote it; ``blank``."""
        return fields_of(model, read_images(model, images))

    def before_learning(self, model: DocumentModel, pages: Pages) -> None:
        """Notes the schema of the answers on the model's card: from now on the model writes nothing else.

        Also whether pages without writing are kept from it and, of a model that has not learnt here, in which order it writes keys.
        """
        know_order(self, model, pages)
        know_guard(model, pages)
        tokenizer = model.processor.tokenizer
        answers = [answer for document in pages.documents for answer in answers_of(document)]
        # What was not seen is spelt in more tokens than what tokens were merged for.
        length = len if MERGES in model.card else lambda text: len(encode(tokenizer, text))
        model.card[SCHEMA] = to_card(schema_of(answers, length))

    def after_learning(self, model: DocumentModel, pages: Pages, found: Evaluation | None = None) -> None:
        """Fits the confidences of fields and documents to what is right on ``pages``, and notes the curves on the card."""
        if found is not None:
            readings = found.readings
        else:
            with counter("looking at how sure the student is", len(pages.documents)) as advance:
                readings = read_pages(model, pages, advance)
        model.card[CONFIDENCE] = curves(readings, truths_of(pages, [one.fields for one in readings]))

    def latency_parts(self, model: DocumentModel, images: Sequence[Image.Image]) -> dict[str, Callable[[], int]]:
        """See `docstill.tasks.kie_reading.latency_parts`."""
        return latency_parts(model, images)


def fields_of(model: DocumentModel, readings: Iterable[Reading]) -> list[dict[str, Any]]:
    """What `Kie.predict` gives of each reading, confidences calibrated as the model's card says."""
    fields, documents = curve_of(model.card, "fields"), curve_of(model.card, "documents")
    return [
        {
            "fields": found.fields,
            "confidence": calibrated(found.confidence, fields),
            "document_confidence": 0.0 if found.blank else calibrated(found.whole, documents),
            "text": found.text,
            "blank": found.blank,
        }
        for found in readings
    ]


def _canvas_and_tokens(model: DocumentModel) -> tuple[Any, ...]:
    """All of a model that an example depends on."""
    config = model.network.config
    return (
        model.processor.image_processor.to_dict(),
        config.encoder.to_dict(),
        vocabulary(model.processor.tokenizer),
        config.decoder_start_token_id,
        config.decoder.max_position_embeddings,
        is_sorted(model),
    )


def _inside(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)


def _room(longest: int) -> int:
    """Positions for answers a quarter longer than the longest seen, in steps of 32."""
    return -(-int(longest * 1.25) // 32) * 32


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0


def _shown(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
