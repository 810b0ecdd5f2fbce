"""Key information extraction: a page goes in, JSON comes out.

Models are Donuts, data are image folders with ``metadata.jsonl``. The answer is written as text with tags
(``<s_total>9.00</s_total>``) and read token by token: each token of the answer, and the end, is one decision. The
start token is given, not decided.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from docstill.data.document import Document
from docstill.data.donut_folder import read_donut_folder
from docstill.data.json_tokens import canonical, json_to_tokens, tag_tokens
from docstill.decoding.blank import is_blank
from docstill.decoding.confidence import CONFIDENCE, calibrated, curve_of, curves, sure_and_right, worth
from docstill.decoding.looking import seen
from docstill.decoding.reading import Reading, nothing, reading
from docstill.decoding.schema import SCHEMA, schema_of, to_card
from docstill.decoding.steps import Steps
from docstill.decoding.writing import asleep, generate
from docstill.errors import DataError, ModelError, UserError
from docstill.metrics.fields import document_f1, field_scores, nearest_truth
from docstill.metrics.reading import normalised_edit_distance
from docstill.metrics.tree import ted_accuracy
from docstill.models.donut import add_tags, load_donut, new_donut, new_donut_like, resize_positions
from docstill.models.donut_answers import (
    IGNORED,
    answers_batch,
    rows_of,
    same_vocabulary,
    spelling,
)
from docstill.models.donut_page import canvas_size, page_to_pixels, placed, placement
from docstill.models.donut_tokens import addable, character_tokenizer, encode, lacks_one, unknown_characters, vocabulary
from docstill.models.glyphs import in_patches, kinds_in_patches, kinds_of_characters
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.progress import counter
from docstill.pruning.merges import MERGES
from docstill.tasks.base import Advance, Batch, Evaluation, Judged, ModelSpec, Pages, View, as_learnt, open_page
from docstill.tasks.key_order import KEY_ORDER, find_order, is_sorted, written_by
from docstill.tasks.spelling import in_tokens_of_student

MOST_PAGES, MOST_PIXELS = 16, 16 * 640 * 480
"""What is read at a time: so many pages, and so many pixels of the network's input, for memory grows with them."""
TIMED_TOKENS = 32
WRITING_PART = "decoder."
"""Path of the part that writes; its activations have one position for each token of the answer."""

Item = TypeVar("Item")


class Kie:
    """The task `kie`; see `docstill.tasks.base.Task` for what each method owes."""

    name = "kie"
    primary_metric = "field_f1"

    def read(self, folder: Path, training: Pages | None = None) -> Pages:
        """Reads one split: images and ``metadata.jsonl``."""
        return Pages(folder, read_donut_folder(folder))

    def new_model(self, spec: ModelSpec, pages: Pages, teacher: DocumentModel | None = None) -> DocumentModel:
        """A Donut from scratch: the teacher's vocabulary or one made from ``pages``, room for their longest answer."""
        answers = [answer for document in pages.documents for answer in _answers(document)]
        texts, tags = [json_to_tokens(answer) for answer in answers], set().union(*map(tag_tokens, answers))
        tokenizer = character_tokenizer(texts, tags) if teacher is None else teacher.processor.tokenizer
        positions = _room(max((len(encode(tokenizer, text)) + 1 for text in texts), default=0))
        if teacher is None:
            return new_donut(spec.new, spec.config, texts, tags, spec.image_size, positions)
        return new_donut_like(teacher, spec.new, spec.config, spec.image_size, positions)

    def load_model(self, source: str) -> DocumentModel:
        """Loads a Donut whole."""
        return load_donut(source)

    def adapt(self, model: DocumentModel, pages: Pages) -> None:
        """Adds the tags, and to a vocabulary of single characters those, that it lacks, and room for the longest answer."""
        answers = [answer for document in pages.documents for answer in _answers(document)]
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
            wrong = [line for answer in _answers(document) for line in _unwritable(model, known, answer)]
            if wrong:
                problems.append(f"{document.where}: {'; also, '.join(dict.fromkeys(wrong))}")
        if problems:
            headline = (
                f"the model cannot write these answers in {pages.folder}; mend them, or use a model made for them"
            )
            raise DataError(headline, problems)

    def check_scored(self, pages: Pages) -> None:
        """Nothing to check: every page has an answer."""

    def texts(self, pages: Pages) -> list[str]:
        """Every answer of every document, with its tags."""
        return [json_to_tokens(answer) for document in pages.documents for answer in _answers(document)]

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
        answers = _answers(document)
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
            kind of character, and ``kinds``, how many there are.
        """
        batch: Batch = {
            "pixel_values": torch.stack([example["pixel_values"] for example in examples]),
            **answers_batch(model, [example["ids"] for example in examples]),
        }
        if any("glyphs" in example for example in examples):
            kinds = kinds_of_characters(model.processor.tokenizer)
            batch["glyphs"] = kinds_in_patches([example.get("glyphs", []) for example in examples], kinds)
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

        What the model writes and cannot be parsed has no fields, and scores 0. ``confidence`` says what the confidences
        of fields and of documents are worth, calibrated as the model's card says.
        """
        readings = self._read_all(model, pages, advance, view)
        answers = [found.fields for found in readings]
        truths = _truths(pages, answers)
        sure = sure_and_right(readings, truths, model.card)
        scores = field_scores(answers, truths)
        distances = [
            normalised_edit_distance(found.text, written_by(model, truth))
            for found, truth in zip(readings, truths, strict=True)
        ]
        metrics: dict[str, Any] = {
            "field_f1": float(scores.f1),
            "precision": float(scores.precision),
            "recall": float(scores.recall),
            "ted_accuracy": _mean([ted_accuracy(answer, truth) for answer, truth in zip(answers, truths, strict=True)]),
            "reading": 1 - _mean(distances),
            "per_field": scores.per_field,
            "confidence": worth(sure, model.card),
        }
        judged = [
            Judged(_inside(pages.folder, document.file), truth, answer, float(document_f1(answer, truth)))
            for document, truth, answer in zip(pages.documents, truths, answers, strict=True)
        ]
        # Under a key, for an answer may itself hold a field of the name that `score` looks for.
        return Evaluation(metrics, judged, [{"file": one.file, "gt_parse": one.predicted} for one in judged], sure)

    def predict(self, model: DocumentModel, images: Iterable[Image.Image]) -> list[dict[str, Any]]:
        """``fields``, the JSON that was read; how sure of each, and of all; ``text``, as the model wrote it; ``blank``."""
        fields, documents = curve_of(model.card, "fields"), curve_of(model.card, "documents")
        return [
            {
                "fields": found.fields,
                "confidence": calibrated(found.confidence, fields),
                "document_confidence": 0.0 if found.blank else calibrated(found.whole, documents),
                "text": found.text,
                "blank": found.blank,
            }
            for chunk in _chunks(images, pages_at_once(model))
            for found in self._read(model, chunk)
        ]

    def before_learning(self, model: DocumentModel, pages: Pages) -> None:
        """Notes the schema of the answers on the model's card: from now on the model writes nothing else.

        Of a model that has not learnt here, also in which order it writes keys.
        """
        if not {SCHEMA, KEY_ORDER} & model.card.keys() and pages.stream is None:
            find_order(self, model, pages)
        tokenizer = model.processor.tokenizer
        answers = [answer for document in pages.documents for answer in _answers(document)]
        # What was not seen is spelt in more tokens than what tokens were merged for.
        length = len if MERGES in model.card else lambda text: len(encode(tokenizer, text))
        model.card[SCHEMA] = to_card(schema_of(answers, length))

    def after_learning(self, model: DocumentModel, pages: Pages) -> None:
        """Fits the confidences of fields and documents to what is right on ``pages``, and notes the curves on the card."""
        with counter("looking at how sure the student is", len(pages.documents)) as advance:
            readings = self._read_all(model, pages, advance)
        model.card[CONFIDENCE] = curves(readings, _truths(pages, [found.fields for found in readings]))

    def latency_parts(self, model: DocumentModel, images: Sequence[Image.Image]) -> dict[str, Callable[[], int]]:
        """`encoder`: a page, until the decoder can begin; `per_token`: a token; `document`: a page, from picture to JSON."""
        pages = [self._pixels(model, [as_learnt(model, image)]) for image in images]
        tokens = min(TIMED_TOKENS, model.network.config.decoder.max_position_embeddings)
        turns = {name: itertools.cycle(range(len(images))) for name in ("encoder", "per_token", "document")}
        begun: list[Steps] = []

        def begin(turn: int) -> Steps:
            return Steps(model.network, seen(model.network, pages[turn]))

        def encoder() -> int:
            with asleep(model.network):
                begin(next(turns["encoder"]))
            return 1

        def per_token() -> int:
            with asleep(model.network):
                if not begun:
                    begun.extend(begin(turn) for turn in range(len(pages)))
                steps = begun[next(turns["per_token"])]
                steps.rewind()
                generate(model, tokens, steps=steps, least=tokens)
            return int(tokens)

        def document() -> int:
            image = images[next(turns["document"])]
            is_blank(image)  # costs time, but a blank page is timed like any other
            self._write(model, [as_learnt(model, image)])
            return 1

        return {"encoder": encoder, "per_token": per_token, "document": document}

    def _pixels(self, model: DocumentModel, images: Sequence[Image.Image]) -> Tensor:
        processor = model.processor.image_processor
        pages = [torch.from_numpy(page_to_pixels(image, processor, None)) for image in images]
        return torch.stack(pages).to(model.device)

    def _read_all(
        self, model: DocumentModel, pages: Pages, advance: Advance | None = None, view: View | None = None
    ) -> list[Reading]:
        """What the model reads on every page of a split, in order."""
        readings: list[Reading] = []
        for documents in _chunks(pages.documents, pages_at_once(model)):
            readings += self._read(model, (open_page(document, view) for document in documents))
            if advance is not None:
                advance(len(documents))
        return readings

    def _read(self, model: DocumentModel, images: Iterable[Image.Image]) -> list[Reading]:
        """What the model reads on a batch of pages; it is not asked for those that are blank.

        Of a model that learnt from smaller pages than these, one page at a time is held as large as it is.
        """
        inked, shown = [], []
        for image in images:
            inked.append(not is_blank(image))
            shown += [as_learnt(model, image)] * inked[-1]
        written = iter(self._write(model, shown) if shown else [])
        return [next(written) if there else nothing() for there in inked]

    def _write(self, model: DocumentModel, images: Sequence[Image.Image]) -> list[Reading]:
        with asleep(model.network):
            rows, likely = generate(
                model, model.network.config.decoder.max_position_embeddings, pixels=self._pixels(model, images)
            )
        answers = zip(rows[:, 1:].tolist(), likely.tolist(), strict=True)
        return [reading(model.processor.tokenizer, row, probabilities) for row, probabilities in answers]


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


def _answers(document: Document) -> Sequence[Any]:
    if document.target is None:
        raise UserError(f"{document.where} has no ground_truth; kie needs one for every page, add it to metadata.jsonl")
    return document.variants or [document.target]


def _truths(pages: Pages, answers: Sequence[Any]) -> list[Any]:
    """Of each document the right answer that its own is nearest to, as a model can write it: a 0 is read as "0", which is right."""
    return [
        nearest_truth(answer, [canonical(right) for right in _answers(document)])
        for document, answer in zip(pages.documents, answers, strict=True)
    ]


def _inside(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)


def _unwritable(model: DocumentModel, vocabulary: Set[str], answer: Any) -> list[str]:
    """Why a model cannot write an answer; nothing if it can."""
    tokenizer, room = model.processor.tokenizer, model.network.config.decoder.max_position_embeddings
    if lacking := sorted(tag_tokens(answer) - vocabulary):
        return [f"the vocabulary has no tag {', '.join(lacking)}"]
    text, wrong = written_by(model, answer), []
    if unknown := sorted(unknown_characters(tokenizer, text)):
        repair = "; `docstill train --model` adds the bare 1" if "1" in unknown and lacks_one(tokenizer) else ""
        wrong.append(f"the vocabulary has no character {', '.join(map(repr, unknown))}{repair}")
    if (length := len(encode(tokenizer, text)) + 1) > room:
        wrong.append(f"the answer takes {length} tokens, the decoder has room for {room}")
    return wrong


def pages_at_once(model: DocumentModel) -> int:
    """How many pages are read in one batch; of 2560 × 1920 pixels, as published, one."""
    height, width = canvas_size(model.processor.image_processor)
    return max(1, min(MOST_PAGES, MOST_PIXELS // (height * width)))


def answer_ids(model: DocumentModel, text: str) -> list[int]:
    """Start token, the text of tags, ``</s>``."""
    tokenizer = model.processor.tokenizer
    return [model.network.config.decoder_start_token_id, *encode(tokenizer, text), tokenizer.eos_token_id]


def _room(longest: int) -> int:
    """Positions for answers a quarter longer than the longest seen, in steps of 32."""
    return -(-int(longest * 1.25) // 32) * 32


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0


def _shown(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
