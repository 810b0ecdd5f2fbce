"""In which order a Donut writes the keys of an object: its targets, in training and as a teacher, must have the same.

Donut's code sorts keys, the last one first, unless told not to, and published models are of both kinds (CORD's has the labels' order). A
model that learnt here says on its card if it is of the second kind; of any other it is found out from what it thinks likelier.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from docstill.data.json_tokens import as_categories, json_to_tokens
from docstill.decoding.schema import SCHEMA
from docstill.models.donut_tokens import categories
from docstill.models.io import DocumentModel, fastest_device
from docstill.tasks.base import Pages, Task, drawn, example_in_use, on_device

KEY_ORDER = "key_order"
"""Key of a model's card; absent: sorted, the last one first."""
AS_LABELLED = "as labelled"
LOOKED_AT = 4
CLEARLY = 0.1
"""By so much must the mean −log probability of a token be smaller; a network from scratch has no order."""


def is_sorted(model: DocumentModel) -> bool:
    """Whether the model writes keys sorted, the last one first."""
    return model.card.get(KEY_ORDER) != AS_LABELLED


def written_by(model: DocumentModel, answer: Any) -> str:
    """An answer as text of tags, its keys in the model's order and its categories as the model's tokens."""
    return json_to_tokens(as_categories(answer, categories(model.processor.tokenizer)), is_sorted(model))


def know_order(task: Task, model: DocumentModel, pages: Pages) -> None:
    """Finds out the order of a model that has not learnt here; of any other, its card says it."""
    if not {SCHEMA, KEY_ORDER} & model.card.keys():
        find_order(task, model, pages)


def find_order(task: Task, model: DocumentModel, pages: Pages) -> None:
    """Notes on the card of a model from elsewhere in which order it writes keys, from what it says of some labelled pages."""
    documents = [
        document
        for document in drawn(pages, 64).documents
        if json_to_tokens(document.target) != json_to_tokens(document.target, sort_keys=False)
    ][:LOOKED_AT]
    if not documents:
        return
    surprise = {}
    training, device = model.network.training, model.device
    model.network.eval().to(fastest_device())
    for order in ("sorted", AS_LABELLED):
        model.card[KEY_ORDER] = order
        surprise[order] = sum(_surprise(task, model, document, pages) for document in documents) / len(documents)
    model.network.train(training).to(device)
    del model.card[KEY_ORDER]
    if surprise[AS_LABELLED] < surprise["sorted"] - CLEARLY:
        model.card[KEY_ORDER] = AS_LABELLED


def same_order(model: DocumentModel, other: DocumentModel) -> None:
    """Has ``model`` write keys in the order of ``other``."""
    model.card.pop(KEY_ORDER, None)
    if not is_sorted(other):
        model.card[KEY_ORDER] = AS_LABELLED


def in_one_order(
    task: Task, teacher: DocumentModel, student: DocumentModel, pages: Pages
) -> tuple[DocumentModel, DocumentModel]:
    """Both in the teacher's order, so that token by token they are shown the same answers; the models given stay as they are.

    Args:
        task: of both.
        teacher: if it has not learnt here, its order is found out.
        student: whatever its own order is.
        pages: labelled.
    """
    first, second = (replace(model, card=dict(model.card)) for model in (teacher, student))
    know_order(task, first, pages)
    same_order(second, first)
    return first, second


def _surprise(task: Task, model: DocumentModel, document: Any, pages: Pages) -> float:
    """The mean −log probability of the tokens of the first right answer."""
    batch = task.collate(model, [example_in_use(task, model, document, pages.labels)])
    with torch.inference_mode():
        outputs = task.forward(model, on_device(batch, model.device))
    return float(functional.cross_entropy(outputs.logits.float(), outputs.targets))
