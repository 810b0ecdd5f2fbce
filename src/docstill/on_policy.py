"""The student writes, the teacher grades: on-policy distillation (GKD; Agarwal et al. 2024, arXiv 2306.13649, section 3.1).

A student that only ever continues right answers never learns what to do after a mistake of its own. For a share of the small
batches it therefore writes the answers itself, each token drawn from its probabilities as they are now and held to its
schema; then both networks look at what was written, and objectives compare them there. Nothing is known to be right in such
an answer, so the labels say nothing of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from docstill.decoding.writing import drawn_answers
from docstill.errors import ModelError
from docstill.models.donut_answers import answers_batch, rows_of, same_vocabulary, spelling
from docstill.models.io import DocumentModel
from docstill.objectives.base import UNLABELLED, Outputs
from docstill.tasks.base import Task

OWN = "own"
"""Key of a batch whose answers the student is to write."""
LONGER = 1.25
"""An answer may be so many times as long as the longest right one of its batch."""


def with_own_answers(
    task: Task, student: DocumentModel, teacher: DocumentModel | None, batch: dict[str, Any]
) -> dict[str, Any]:
    """The batch with what the student writes in the place of the labels, for both networks.

    A dry batch, with the student in eval mode, keeps its labels.

    Raises:
        ModelError: the task's models write nothing, or there is no teacher to grade.
    """
    if task.name != "kie" or teacher is None:
        raise ModelError(
            f"on_policy is for students that write and have a teacher, the task is {task.name}; leave it out"
        )
    ours, theirs = batch["student"], batch["teacher"]
    longest = ours["decoder_input_ids"].shape[1]
    room = teacher.network.config.decoder.max_position_embeddings
    if student.network.training:
        most = min(round(longest * LONGER) + 1, room)
        rows = drawn_answers(student, ours["pixel_values"].to(student.device), most)
    else:
        rows = rows_of(ours)
    same = rows
    if not same_vocabulary(teacher, student):
        spelt = spelling(teacher, student)
        rows = [spelt.fitting(row, room + 1) for row in rows]
        same = [spelt.spelt(row) for row in rows]
    return {
        **batch,
        "student": {**ours, **answers_batch(student, rows)},
        "teacher": {**theirs, **answers_batch(teacher, same)},
    }


def unlabelled(outputs: Outputs) -> Outputs:
    """The same decisions, of none of which the right answer is known."""
    return replace(outputs, targets=torch.full_like(outputs.targets, UNLABELLED))
