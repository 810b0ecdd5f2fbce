"""Two models on the same labelled pages: how alike are they inside, and in what they answer?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from docstill.errors import UserError
from docstill.metrics.cka import LEAST
from docstill.models.io import DocumentModel
from docstill.similarity.agreement import disagreements
from docstill.similarity.layers import TOKENS
from docstill.similarity.pair import Pair
from docstill.tasks.base import Advance, Pages, Task, drawn
from docstill.tasks.key_order import in_one_order

SHOWN = 20
"""Documents on which the two disagree most that are named."""
IN_A_RUN = 256
"""Documents at most that a run compares layers on."""


def comparison(
    task: Task,
    teacher: DocumentModel,
    student: DocumentModel,
    pages: Pages,
    tokens: str = "pooled",
    advance: Advance | None = None,
    patterns: Sequence[str] = (),
) -> dict[str, Any]:
    """Layers by CKA, and answers, over all documents of ``pages``.

    Args:
        task: of both models.
        teacher: its layers are the rows.
        student: its layers are the columns.
        pages: labelled documents; decoders are given the right answer up to each position, its keys in the teacher's order.
        tokens: ``pooled`` or ``flattened``; see `docstill.similarity.layers`.
        advance: for a progress bar.
        patterns: which layers, by path; default: all blocks of both networks.

    Returns:
        ``{"n", "similarity", "agreement", "disagreements"}``, as `docs/similarity.md` describes them.

    Raises:
        UserError: fewer documents than CKA needs, no such ``tokens``, or no such layers.
        ModelError: layers that cannot be compared.
    """
    if tokens not in TOKENS:
        raise UserError(f"tokens can be {' or '.join(TOKENS)}, {tokens!r} given")
    if len(pages.documents) < LEAST:
        raise UserError(f"{pages.folder} holds {len(pages.documents)} documents, CKA needs at least {LEAST}; give more")
    for model in (teacher, student):
        task.check_model(model, pages)
    if task.name == "kie":
        teacher, student = in_one_order(task, teacher, student, pages)
        task.check_model(student, pages)  # merged tokens may be fewer in its own order
    pair = Pair(task, teacher, student, tokens, patterns)
    pair.see(pages, advance=advance)
    return {
        "n": len(pages.documents),
        "similarity": pair.similarity(),
        "agreement": pair.agreement(),
        "disagreements": disagreements(pair.documents)[:SHOWN],
    }


def layers_alike(
    task: Task, teacher: DocumentModel, student: DocumentModel, pages: Pages, advance: Advance | None = None
) -> dict[str, Any]:
    """The layers alone, tokens pooled, on at most `IN_A_RUN` documents: ``{"n", "similarity"}``.

    Raises:
        UserError: fewer documents than CKA needs.
        ModelError: a network whose layers cannot be compared.
    """
    if len(pages.documents) < LEAST:
        raise UserError(f"{pages.folder} holds {len(pages.documents)} documents, CKA needs at least {LEAST}; give more")
    some = drawn(pages, IN_A_RUN)
    if task.name == "kie":
        teacher, student = in_one_order(task, teacher, student, some)
    pair = Pair(task, teacher, student)
    pair.see(some, advance=advance, answers=False)
    return {"n": len(some.documents), "similarity": pair.similarity()}
