"""What is worth a look in the right answers of documents, before anybody learns them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from docstill.data.document import Document
from docstill.data.json_tokens import json_to_tokens, survives

LONG, LONGER = 2000, 4
"""Characters, and times the median, above both of which an answer is very long."""


def doubtful_answers(documents: Sequence[Document], folder: Path) -> list[str]:
    """Sentences on answers that can be learnt, though hardly as they are meant; none if there are none."""
    return _endless(documents, folder) + _questions(documents, folder) + _booleans(documents, folder)


def lossy(documents: Sequence[Document]) -> list[tuple[str, str]]:
    """The documents with an answer that does not survive JSON to tokens and back: where each is, and what is lost."""
    lost = ((document.where, [survives(variant) for variant in document.variants]) for document in documents)
    return [(where, next(filter(None, causes))) for where, causes in lost if any(causes)]


def _endless(documents: Sequence[Document], folder: Path) -> list[str]:
    """A decoder has room for the longest answer, and pays for it on every page."""
    lengths = {
        document.where: max(len(json_to_tokens(variant)) for variant in document.variants)
        for document in documents
        if document.variants
    }
    usual = statistics.median(lengths.values()) if lengths else 0
    return [
        f"{folder / where}: the answer has {length:,} characters, where half of all have {usual:,.0f} or fewer; a model makes room for the "
        "longest, in memory and time, so shorten it or leave the page out if it is a slip"
        for where, length in lengths.items()
        if length > max(LONG, LONGER * usual)
    ]


def _questions(documents: Sequence[Document], folder: Path) -> list[str]:
    """Of several answers any counts as right; in DocVQA's each is to a question of its own."""
    asked = [document.where for document in documents if len({_question(answer) for answer in document.variants}) > 1]
    if not asked:
        return []
    return [
        f"{folder}: {len(asked):,} page(s) with answers to several questions, such as {asked[0]}; models here read a page without being "
        "asked, and any of its gt_parses counts as right, so give each page one gt_parse with a field a question"
    ]


def _question(answer: Any) -> str:
    return json.dumps(answer.get("question")) if isinstance(answer, dict) else ""


def _booleans(documents: Sequence[Document], folder: Path) -> list[str]:
    found = [document.where for document in documents if any(map(_has_boolean, document.variants))]
    if not found:
        return []
    yes, no = json_to_tokens(True), json_to_tokens(False)
    return [
        f"{folder}: {len(found)} answer(s) with true or false, such as {found[0]}; they are learnt and scored as "
        f'the texts "{yes}" and "{no}", write what the page shows, in quotes'
    ]


def _has_boolean(value: Any) -> bool:
    """Whether a value somewhere in an answer is true or false."""
    if isinstance(value, dict | list):
        return any(map(_has_boolean, value.values() if isinstance(value, dict) else value))
    return isinstance(value, bool)
