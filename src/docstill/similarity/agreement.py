"""Whether two models answer alike: the decisions of one batch, and a summary over all documents.

A decision is a page, or a position of the right answer that both models were given up to there. For kie the answers that
the models write by themselves are compared as well, field by field.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from docstill.metrics.fields import document_f1, field_scores
from docstill.metrics.reading import reading_similarity
from docstill.metrics.tree import same_answer, ted_accuracy


@dataclass(frozen=True)
class Answered:
    """One document: what is right (of several right answers the one that the student is nearest to), and what each model answered.

    ``likeness`` in [0, 1] orders the documents on which they disagree; 1 means that they agree.
    """

    file: str
    image: str
    expected: Any
    teacher: Any
    student: Any
    likeness: float
    right: tuple[bool, bool]


def decisions(teacher: Tensor, student: Tensor) -> tuple[list[bool], list[float]]:
    """For each decision: is the likeliest answer the same, and KL(teacher ‖ student) in nats.

    Args:
        teacher: logits ``(N, C)``.
        student: logits ``(N, C)`` of the same classes or tokens.
    """
    same = (teacher.argmax(-1) == student.argmax(-1)).tolist()
    wanted, given = (
        functional.log_softmax(logits.double(), dim=-1) for logits in (teacher, student.to(teacher.device))
    )
    divergence = functional.kl_div(given, wanted, reduction="none", log_target=True).sum(-1).clamp_min(0)
    return same, divergence.tolist()


def classified(logits: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """The class of each row of logits, and its probability.

    Args:
        logits: ``(N, C)``.
        names: the C classes, in the order of the logits.
    """
    best = torch.softmax(logits.double(), dim=-1).max(-1)
    return [
        {"label": names[index], "probability": round(probability, 4)}
        for probability, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def agreement_on_classes(documents: Sequence[Answered], divergences: Sequence[float]) -> dict[str, Any]:
    """Share of pages that get the same class, mean divergence, and who is right."""
    same = [document.teacher["label"] == document.student["label"] for document in documents]
    truth = {"accuracy": _both(*zip(*(document.right for document in documents), strict=True))}
    return {"top1": _mean(same), "kl": _mean(divergences), **_who_is_right(documents), "against_truth": truth}


def agreement_on_fields(
    documents: Sequence[Answered],
    nearest: Sequence[tuple[Any, Any]],
    texts: Sequence[tuple[str, str]],
    same: Sequence[bool],
    divergences: Sequence[float],
) -> dict[str, Any]:
    """How alike the written answers are, the teacher's taken as the truth, and who is right.

    Args:
        documents: what was answered; ``teacher`` and ``student`` are JSON values.
        nearest: the right answer of each document that the teacher is nearest to, and the student.
        texts: what was answered as text with tags, teacher and student.
        same: for each token of the right answers, whether both find the same likeliest; empty where vocabularies differ.
        divergences: KL for each of these tokens.
    """
    teacher, student = [document.teacher for document in documents], [document.student for document in documents]
    truth = {
        "exact": _both(*zip(*(document.right for document in documents), strict=True)),
        "field_f1": _both(
            [field_scores(teacher, [right for right, _ in nearest]).f1],
            [field_scores(student, [right for _, right in nearest]).f1],
        ),
    }
    return {
        "exact": _mean([same_answer(a, b) for a, b in zip(teacher, student, strict=True)]),
        "field_f1": float(field_scores(student, teacher).f1),
        "ted_accuracy": _mean([ted_accuracy(b, a) for a, b in zip(teacher, student, strict=True)]),
        "reading": _mean([reading_similarity(b, a) for a, b in texts]),
        "tokens": _mean(same) if same else None,
        "kl": _mean(divergences) if divergences else None,
        **_who_is_right(documents),
        "against_truth": truth,
    }


def likeness_of_fields(teacher: Any, student: Any) -> float:
    """Field F1 of one document's answers; below 1 where they differ in anything at all."""
    return float(document_f1(student, teacher))


def disagreements(documents: Sequence[Answered]) -> list[dict[str, Any]]:
    """The documents that are answered differently, least alike first."""
    return [
        {
            "file": document.file,
            "image": document.image,
            "expected": document.expected,
            "teacher": document.teacher,
            "student": document.student,
            "likeness": round(document.likeness, 4),
        }
        for document in sorted(documents, key=lambda document: (document.likeness, document.file))
        if document.likeness < 1
    ]


def _who_is_right(documents: Sequence[Answered]) -> dict[str, Any]:
    rights = [document.right for document in documents]
    names = {"both_right": (True, True), "only_teacher_right": (True, False)}
    names |= {"only_student_right": (False, True), "none_right": (False, False)}
    return {name: rights.count(pair) for name, pair in names.items()}


def _both(teacher: Sequence[float], student: Sequence[float]) -> dict[str, float]:
    """What each model scores against the truth, and how much more the student does."""
    of_teacher, of_student = _mean(teacher), _mean(student)
    return {"teacher": of_teacher, "student": of_student, "difference": of_student - of_teacher}


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values))
