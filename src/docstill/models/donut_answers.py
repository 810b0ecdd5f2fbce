"""Answers as a Donut's decoder takes them: rows of ids, batches of inputs and labels, and one network's ids as another's."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from docstill.errors import ModelError
from docstill.models.donut_tokens import form_ids, vocabulary
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs

IGNORED = -100
_NEVER = -60.0
"""The log probability of what has none; finite, for objectives divide and subtract it."""


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
    """Whether both have as many tokens; if not, the student's were trimmed or merged, and the teacher spells each (`check_pair`)."""
    sizes = {model.network.config.decoder.vocab_size for model in (teacher, student)}
    return len(sizes) == 1


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


def spelling(teacher: DocumentModel, student: DocumentModel) -> Spelling:
    """See `Spelling`; kept until tokens are added to either, since it is asked for in every step."""
    first, second = teacher.processor.tokenizer, student.processor.tokenizer
    return _spelling(first, len(first), second, len(second))


@functools.lru_cache(maxsize=4)
def _spelling(teacher: Any, theirs: int, student: Any, ours: int) -> Spelling:
    known, own, whole = vocabulary(teacher), vocabulary(student), student.get_added_vocab()
    rows: list[list[int]] = []
    for token in sorted(own, key=lambda token: own[token]):
        if token in known:
            rows.append([known[token]])
        else:  # a tag is never spelt in pieces
            ids = [] if token in whole else [piece.id for piece in teacher.backend_tokenizer.model.tokenize(token)]
            rows.append([] if teacher.unk_token_id in ids else ids)
    longest = max(map(len, rows))
    padded = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in rows])
    return Spelling(padded, torch.tensor([len(row) for row in rows]))


def in_tokens_of_student(theirs: Outputs, ours: Outputs, spelt: Spelling) -> Outputs:
    """What a teacher says of an answer, as if it chose among its student's tokens.

    Before each token of the student the teacher has read the same text. With its own tokens c₁ … cₙ of the right one, each with what it
    says right before it,

        p(right token) ∝ p(c₁) · … · p(cₙ)
        p(other token) ∝ p(c)                 if it is the one token c of the teacher, and c ≠ c₁ or n = 1; else 0

    Nothing is said of texts that only begin like the right token: what the teacher would have read after them is not known. Where all
    tokens are the teacher's own, its logits stay as they are.

    Raises:
        ModelError: the two spell an answer differently, so that their decisions are not the same.
    """
    device = theirs.logits.device
    ids, lengths = spelt.ids.to(device), spelt.lengths.to(device)
    rows, sizes = ids[ours.targets], lengths[ours.targets]
    if not torch.equal(rows[rows != IGNORED], theirs.targets):
        raise ModelError(
            "teacher and student spell an answer with other tokens, so that they cannot be compared token by token; trim or merge "
            "the student's vocabulary on the data that it is distilled on"
        )
    starts = sizes.cumsum(0) - sizes
    first = ids[:, 0].clamp(min=0)
    same = replace(theirs, targets=ours.targets, tags=ours.tags)
    if bool((lengths == 1).all()):
        return replace(same, logits=theirs.logits[:, first])
    likely = theirs.logits.log_softmax(-1)
    found = likely[starts][:, first].masked_fill(lengths != 1, _NEVER)
    right = likely.gather(1, theirs.targets.unsqueeze(1)).squeeze(1)
    decisions = torch.arange(len(sizes), device=device).repeat_interleave(sizes)
    long = (sizes > 1).nonzero().squeeze(1)
    whole = torch.zeros_like(right[: len(sizes)]).index_add_(0, decisions, right)[long]
    # By the teacher's id, the student's token that is just that.
    alone = torch.full((likely.shape[1],), IGNORED, device=device)
    alone[first[lengths == 1]] = (lengths == 1).nonzero().squeeze(1)
    begun = alone[rows[long, 0]]
    kept = begun != IGNORED
    found[long[kept], begun[kept]] = _NEVER
    found[long, ours.targets[long]] = whole
    return replace(same, logits=found.clamp(min=_NEVER), reckoned=True)
