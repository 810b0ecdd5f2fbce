"""The teacher's own answers in the place of labels (sequence-level distillation; Kim & Rush 2016, arXiv 1606.07947, section 3.2).

The teacher reads each page once and writes its answer, the likeliest token each time (the paper's beam of one); from then on that
is the right answer of the page. An answer that is not well-formed, or that the student cannot write, is never used: a labelled page
keeps its label, a page without one is left out, as it is where the teacher was not sure enough.

What was written lies in `answers-KEY.jsonl`, a line a page: ``file``, ``text`` as written, ``probability`` (the mean that the
teacher gives the tokens of its answer, up to the end; null if it is not well-formed). KEY stands for teacher and pages, so an
interrupted look goes on where it was, students of all seeds share one, and no other teacher's answers are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.data.json_tokens import json_to_tokens, tokens_to_json
from docstill.errors import DataError
from docstill.models.io import DocumentModel, fastest_device
from docstill.tasks.base import Pages, Task, example_in_use, on_device
from docstill.tasks.kie_answers import answer_ids
from docstill.teacher_lines import key_of, said_of


def with_teacher_answers(
    task: Task, teacher: DocumentModel, student: DocumentModel, pages: Pages, folder: Path
) -> tuple[Pages, int]:
    """``pages`` with the teacher's answers, and how many keep their label because the teacher's cannot be used."""
    documents = []
    for document, line in zip(pages.documents, read_by_teacher(task, teacher, pages, folder), strict=True):
        answered = _answered(document, line["text"])
        documents += [document] if answered is None else writable(task, student, pages, [answered]) or [document]
    kept = sum(found is document for found, document in zip(documents, pages.documents, strict=True))
    return replace(pages, documents=documents), kept


def sure_enough(
    task: Task, teacher: DocumentModel, documents: Sequence[Document], folder: Path, confidence: float
) -> list[Document]:
    """Those of some pages without labels that the teacher answers well-formed and with at least this mean probability."""
    pages = Pages(documents[0].file.parent, list(documents))
    lines = read_by_teacher(task, teacher, pages, folder)
    found = [
        _answered(document, line["text"])
        for document, line in zip(documents, lines, strict=True)
        if line["probability"] is not None and line["probability"] >= confidence
    ]
    return [document for document in found if document is not None]


def read_by_teacher(task: Task, teacher: DocumentModel, pages: Pages, folder: Path) -> list[dict[str, Any]]:
    """One line a page, in order: what the teacher wrote, now or in an earlier call; see the module's text."""

    def read(documents: Sequence[Document]) -> list[dict[str, Any]]:
        teacher.network.to(fastest_device())
        answers = task.predict(teacher, [open_image(document.file) for document in documents])
        return [
            {
                "file": document.where,
                "text": answer["text"],
                "probability": _probability(task, teacher, _answered(document, answer["text"])),
            }
            for document, answer in zip(documents, answers, strict=True)
        ]

    path = folder / f"answers-{key_of(teacher, pages.documents)}.jsonl"
    return list(said_of(pages.documents, path, "the teacher is reading", read))


def writable(task: Task, student: DocumentModel, pages: Pages, documents: Sequence[Document]) -> list[Document]:
    """Those whose answers the student has the tokens and the room for."""
    found = []
    for document in documents:
        try:
            task.check_model(student, replace(pages, documents=[document]))
        except DataError:
            continue
        found.append(document)
    return found


def well_formed(text: str) -> Any:
    """The JSON of an answer that says nothing beside it; None if the text is no such answer, so that it would be lost or mended.

    Keys may stand in any order, as a teacher from elsewhere writes them.
    """
    try:
        fields = tokens_to_json(text)
        again = json_to_tokens(fields, sort_keys=False)
    except (RecursionError, ValueError):  # a model may write anything
        return None
    if "text_sequence" in fields or "".join(again.split()) != "".join(text.split()):
        return None
    return fields


def _answered(document: Document, text: str) -> Document | None:
    fields = well_formed(text)
    return None if fields is None else replace(document, target=fields, variants=(fields,))


def _probability(task: Task, teacher: DocumentModel, document: Document | None) -> float | None:
    """The mean probability of the tokens of the teacher's own answer, each after those before it."""
    if document is None:
        return None
    ids = answer_ids(teacher, json_to_tokens(document.target, sort_keys=False))  # in the order that it was written in
    if len(ids) - 1 > teacher.network.config.decoder.max_position_embeddings:
        return None  # it filled the decoder to the last place, without an end
    try:
        example = example_in_use(task, teacher, document, [])
    except DataError:  # so it is in the order of the labels
        return None
    batch = task.collate(teacher, [{**example, "ids": torch.tensor(ids)}])
    training = teacher.network.training
    teacher.network.eval()
    with torch.inference_mode():
        outputs = task.forward(teacher, on_device(batch, teacher.device))
    teacher.network.train(training)
    chosen = outputs.logits.softmax(-1).gather(1, outputs.targets.unsqueeze(1))
    return round(chosen.mean().item(), 6)
