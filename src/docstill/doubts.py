"""Data that can be learnt from, though not every answer can come out right, or scores flatter: what is said before hours are spent."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from docstill.data.answers import doubtful_answers, lossy
from docstill.data.coco import some
from docstill.data.document import Document
from docstill.data.images import page_count
from docstill.data.json_tokens import json_to_tokens, survives, tokens_to_json
from docstill.errors import DataError, UserError
from docstill.models.donut_tokens import decode, encode, unknown_characters
from docstill.models.io import DocumentModel
from docstill.progress import say
from docstill.robustness import missing_labels
from docstill.tasks.base import Pages, Task

SHOWN = 3


def warn(lines: list[str]) -> list[str]:
    """Says each line at the terminal, and hands them back for the results."""
    for line in lines:
        say(f"warning: {line}")
    return lines


def lossy_answers(task: Task, pages: Pages) -> list[str]:
    """Sentences on the answers of a split that the text of tags cannot carry, or hardly as they are meant; none if there are none."""
    if task.name != "kie":
        return []
    doubtful = doubtful_answers(pages.documents, pages.folder)
    if not (found := lossy(pages.documents)):
        return doubtful
    return [
        *doubtful,
        f"{len(found):,} of {len(pages.documents):,} answers in {pages.folder} do not survive JSON to tokens and back, so that "
        f"they cannot come out right; `docstill check` names all: {some([': '.join(line) for line in found], SHOWN)}",
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


def respelt_answers(task: Task, model: DocumentModel, pages: Pages) -> list[str]:
    """A sentence on the answers of a split that come back from the model's tokenizer changed; nothing if there are none.

    Many tokenizers make one space of several, or of letters that look alike the usual ones.
    """
    found = [] if task.name != "kie" else list(respelt(model.processor.tokenizer, pages.documents))
    if not found:
        return []
    return [
        f"{len(found):,} of {len(pages.documents):,} answers in {pages.folder} are spelt otherwise by the model's tokenizer, so that they "
        f"cannot come out right to the letter; spell them so, too: {some(found, SHOWN)}"
    ]


def respelt(tokenizer: Any, documents: Sequence[Document]) -> Iterator[str]:
    """For each document whose answer a tokenizer gives back changed, where it is and the first value that is."""
    for document in documents:
        text = json_to_tokens(document.target)
        if survives(document.target) or unknown_characters(tokenizer, text):
            continue  # said elsewhere
        again = decode(tokenizer, encode(tokenizer, text))
        values, spelt = (list(_values(tokens_to_json(written))) for written in (text, again))
        for value, other in itertools.zip_longest(values, spelt):
            if value != other:
                yield f"{document.where} ({value!r} becomes {other!r})"
                break


def _values(answer: Any) -> Iterator[str]:
    if isinstance(answer, dict | list):
        for part in answer.values() if isinstance(answer, dict) else answer:
            yield from _values(part)
    elif answer.strip():
        yield answer.strip()


def nothing_to_teach(task: Task, metrics: dict[str, Any]) -> list[str]:
    """A sentence on a teacher that knows nothing; nothing for any other."""
    if metrics[task.primary_metric] != 0:
        return []
    return [f"the teacher's {task.primary_metric} on the validation split is 0, so that it has nothing to teach"]


def kept_from_model(blank: dict[str, int]) -> list[str]:
    """A sentence on pages that have fields and were not shown to the model, for no writing was found on them; nothing if there are none."""
    count = blank["with_fields"]
    if not count:
        return []
    return [
        f"no writing was found on {count:,} page{'s' * (count > 1)} with fields, so the model was not shown {'them' if count > 1 else 'it'} and answered "
        'nothing; with "blank_guard": false in its docstill.json it is shown every page'
    ]


def extra_pages(pages: Pages) -> list[str]:
    """A sentence on pictures of several pages, of which only the first is seen; nothing if there are none."""
    found = []
    for document in pages.documents:
        if document.file.suffix.lower() in (".tif", ".tiff"):
            with contextlib.suppress(UserError):  # a damaged one is told of where it is read
                if (count := page_count(document.file)) > 1:
                    found.append(f"{document.where} ({count})")
    if not found:
        return []
    return [
        f"{len(found):,} of {len(pages.documents):,} pictures in {pages.folder} have several pages, of which only the first is seen; "
        f"split them: {some(found, SHOWN)}"
    ]


def unmeasured_classes(task: Task, training: Pages, validation: Pages) -> list[str]:
    """A sentence on the classes that are learnt but that no page of the validation split has; nothing if there are none."""
    missing = set(missing_labels(training, validation)) - set(missing_labels(training, training))
    if not missing:
        return []
    what = "regions" if task.name == "layout" else "pages"
    return [
        f"{validation.folder} has no {what} of {some(sorted(missing))}, which {training.folder} has, so that nothing says how "
        f"well a model knows them; add some, or remove them from {training.folder}"
    ]


def classes_without_regions(task: Task, training: Pages) -> list[str]:
    """A sentence on the classes that the training split lists but has no region of; nothing if there are none."""
    missing = missing_labels(training, training) if task.name == "layout" else []
    if not missing or len(missing) == len(training.labels):
        return []
    return [
        f"{training.folder} has no regions of {some(missing)}, which it lists; the student does not learn that there is such a class"
    ]


def shared_pictures(pairs: Sequence[tuple[Path, Path]], training: Path, validation: Path, count: int) -> list[str]:
    """A sentence on pictures that are learnt from and measured with; nothing if there are none.

    Args:
        pairs: pictures of the validation split, each with the same one in the training split.
        training: the training split.
        validation: the validation split.
        count: how many documents it has.
    """
    if not pairs:
        return []
    named = [f"{file.relative_to(validation)} ({first.relative_to(training)} there)" for file, first in pairs]
    return [
        f"{len(pairs):,} of {count:,} pictures in {validation} are in {training}, too, so that scores are better than they would "
        f"be on new pages; remove them from one of the two (`docstill check` names all, if one folder holds both): "
        f"{some(named, SHOWN)}"
    ]
