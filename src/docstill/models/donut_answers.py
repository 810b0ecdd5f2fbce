"""Answers as a Donut's decoder takes them: rows of ids, batches of inputs and labels, and one network's ids as another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from docstill.models.donut_tokens import form_ids, vocabulary
from docstill.models.io import DocumentModel

IGNORED = -100


def answers_batch(model: DocumentModel, rows: Sequence[Tensor]) -> dict[str, Tensor]:
    """Answers as one batch.

    Args:
        model: its tokenizer says what is padding and what a tag.
        rows: ids of each answer: start token, answer, ``</s>``.

    Returns:
        ``decoder_input_ids`` (B, L), padded on the right; ``labels`` (B, L): the token that follows each, `IGNORED` where there
        is none; ``targets`` (N,): the labels that are not; ``tags`` (N,) bool: whether each of those is a tag or the end.
    """
    longest = max(len(row) for row in rows) - 1
    inputs = torch.full((len(rows), longest), model.processor.tokenizer.pad_token_id)
    labels = torch.full((len(rows), longest), IGNORED)
    for number, row in enumerate(rows):
        inputs[number, : len(row) - 1], labels[number, : len(row) - 1] = row[:-1], row[1:]
    targets = labels[labels != IGNORED]
    tags = torch.isin(targets, torch.tensor(form_ids(model.processor.tokenizer)))
    return {"decoder_input_ids": inputs, "labels": labels, "targets": targets, "tags": tags}


def rows_of(batch: Mapping[str, Any]) -> list[Tensor]:
    """The ids that `answers_batch` made a batch from."""
    pairs = zip(batch["decoder_input_ids"], batch["labels"], strict=True)
    return [torch.cat([inputs[:1], labels[labels != IGNORED]]) for inputs, labels in pairs]


def same_vocabulary(teacher: DocumentModel, student: DocumentModel) -> bool:
    """Whether both have as many tokens; if not, the student's were trimmed and are some of the teacher's (`check_pair`)."""
    sizes = {model.network.config.decoder.vocab_size for model in (teacher, student)}
    return len(sizes) == 1


def teacher_ids(teacher: DocumentModel, student: DocumentModel) -> Tensor:
    """Of each token of the student, in the order of its ids, the teacher's id."""
    first, second = vocabulary(teacher.processor.tokenizer), vocabulary(student.processor.tokenizer)
    return torch.tensor([first[token] for token in sorted(second, key=lambda token: second[token])])
