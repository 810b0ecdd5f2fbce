"""Answers as a Donut's decoder takes them: rows of ids, batches of inputs and labels, and one network's ids as another's."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from docstill.models.donut_tokens import form_ids, tags_in, vocabulary
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
    """Whether both have the same tokens; if not, the student's were trimmed or merged, and the teacher spells each (`check_pair`)."""
    first, second = teacher.processor.tokenizer, student.processor.tokenizer
    sizes = {model.network.config.decoder.vocab_size for model in (teacher, student)}
    return len(sizes) == 1 and _same(first, len(first), second, len(second))


@functools.lru_cache(maxsize=4)
def _same(teacher: Any, theirs: int, student: Any, ours: int) -> bool:
    return vocabulary(teacher) == vocabulary(student)


class Spelling(NamedTuple):
    """How a teacher spells the tokens of its student.

    Attributes:
        ids: ``(V, L)`` int64: of each token of the student its tokens of the teacher, then `IGNORED`.
        lengths: ``(V,)`` int64: how many those are; 0 where the teacher cannot spell it.
    """

    ids: Tensor
    lengths: Tensor

    def spelt(self, row: Tensor) -> Tensor:
        """The teacher's ids of an answer that is given in the student's."""
        ids = self.ids[row]
        return ids[ids != IGNORED]

    def fitting(self, row: Tensor, room: int) -> Tensor:
        """As much of an answer in the student's ids as the teacher spells in ``room`` tokens."""
        return row[: int((self.lengths[row].cumsum(0) <= room).sum())]


def spelling(teacher: DocumentModel, student: DocumentModel, device: torch.device | None = None) -> Spelling:
    """See `Spelling`; kept until tokens are added to either, since it is asked for in every step."""
    first, second = teacher.processor.tokenizer, student.processor.tokenizer
    return _spelling(first, len(first), second, len(second), device)


@functools.lru_cache(maxsize=4)
def _spelling(teacher: Any, theirs: int, student: Any, ours: int, device: torch.device | None) -> Spelling:
    known, own, whole = vocabulary(teacher), vocabulary(student), student.get_added_vocab()
    rows: list[list[int]] = []
    for token in sorted(own, key=lambda token: own[token]):
        if token in known:
            rows.append([known[token]])
        elif token in whole:  # a tag is never spelt in pieces, merged ones are spelt in tags
            rows.append([known[tag] for tag in tags_in(token)] if known.keys() >= {*tags_in(token)} else [])
        else:
            ids = [piece.id for piece in teacher.backend_tokenizer.model.tokenize(token)]
            rows.append([] if teacher.unk_token_id in ids else ids)
    longest = max(map(len, rows))
    padded = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows], device=device)
    return Spelling(padded, torch.tensor([len(row) for row in rows], device=device))
