"""Data that can be learnt from, though not every answer can come out right: what is said before hours are spent."""

from __future__ import annotations

from docstill.data.coco import some
from docstill.data.validator import lossy
from docstill.errors import DataError
from docstill.models.io import DocumentModel
from docstill.progress import say
from docstill.tasks.base import Pages, Task

SHOWN = 3


def warn(lines: list[str]) -> list[str]:
    """Says each line at the terminal, and hands them back for the results."""
    for line in lines:
        say(f"warning: {line}")
    return lines


def lossy_answers(task: Task, pages: Pages) -> list[str]:
    """A sentence on the answers of a split that the text of tags cannot carry; nothing if there are none."""
    found = lossy(pages.documents) if task.name == "kie" else []
    if not found:
        return []
    return [
        f"{len(found):,} of {len(pages.documents):,} answers in {pages.folder} do not survive JSON to tokens and back, so that "
        f"they cannot come out right; `docstill check` names all: {some([': '.join(line) for line in found], SHOWN)}"
    ]


def unwritable_answers(task: Task, model: DocumentModel, pages: Pages) -> list[str]:
    """A sentence on the answers of a split that the model has no room or no tokens for; nothing if there are none."""
    try:
        task.check_model(model, pages)
    except DataError as error:
        return [
            f"{len(error.problems):,} of {len(pages.documents):,} answers in {pages.folder} cannot be written by the model, so "
            f"that they cannot come out right; mend them, or use a model made for them: {some(error.problems, SHOWN)}"
        ]
    return []
