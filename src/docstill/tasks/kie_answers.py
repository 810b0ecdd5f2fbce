"""The right answers of a document: as a model writes them, whether it can, and which one counts."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from docstill.data.document import Document
from docstill.data.json_tokens import canonical, tag_tokens
from docstill.errors import UserError
from docstill.metrics.fields import nearest_truth
from docstill.models.donut_tokens import encode, lacks_one, unknown_characters
from docstill.models.io import DocumentModel
from docstill.tasks.base import Pages
from docstill.tasks.key_order import written_by


def answers_of(document: Document) -> Sequence[Any]:
    """All answers of a document that count as right, the first of them its own.

    Raises:
        UserError: it has none.
    """
    if document.target is None:
        raise UserError(f"{document.where} has no ground_truth; kie needs one for every page, add it to metadata.jsonl")
    return document.variants or [document.target]


def truths_of(pages: Pages, answers: Sequence[Any]) -> list[Any]:
    """Of each document the right answer that its own is nearest to, as a model can write it: a 0 is read as "0", which is right."""
    return [
        nearest_truth(answer, [canonical(right) for right in answers_of(document)])
        for document, answer in zip(pages.documents, answers, strict=True)
    ]


def answer_ids(model: DocumentModel, text: str) -> list[int]:
    """Start token, the text of tags, ``</s>``."""
    tokenizer = model.processor.tokenizer
    return [model.network.config.decoder_start_token_id, *encode(tokenizer, text), tokenizer.eos_token_id]


def unwritable(model: DocumentModel, vocabulary: Set[str], answer: Any) -> list[str]:
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
