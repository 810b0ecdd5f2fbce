"""What an objective sees, drawn for people: `docstill explain graph`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from docstill.data.document import Document
from docstill.models.io import DocumentModel
from docstill.objectives.graphkd import Graphkd
from docstill.tasks.base import Advance, Pages, Task, example_in_use, on_device


def graphs_of(
    task: Task,
    model: DocumentModel,
    pages: Pages,
    split: Literal["labels", "covariance"] = "labels",
    non_text: Sequence[str] | None = None,
    advance: Advance | None = None,
) -> list[dict[str, Any]]:
    """The graph that `graphkd` makes of the labelled regions of each page, with this model as the teacher.

    Args:
        task: layout.
        model: the teacher: its features say which text is alike.
        pages: labelled pages.
        split: as the objective's option.
        non_text: as the objective's option.
        advance: drives a progress bar.

    Returns:
        For each page ``file``, ``image``, ``size``; ``regions``, each with ``label`` and ``box`` (left, top, width, height in
        pixels) and the ``node`` it belongs to, None if another region covers it; ``nodes``, each with ``text`` and ``box``; and
        ``edges``, pairs of nodes, ``[i, i]`` for a merged one.
    """
    objective = Graphkd(split, None if non_text is None else tuple(non_text)).eval()
    model.network.eval()
    found = []
    for document in pages.documents:
        found.append(_graph_of(task, model, document, pages.labels, objective))
        if advance is not None:
            advance(1)
    return found


def _graph_of(
    task: Task, model: DocumentModel, document: Document, labels: Sequence[str], objective: Graphkd
) -> dict[str, Any]:
    example = example_in_use(task, model, document, labels)
    width, height = document.target.size
    single = [n for n, crowd in enumerate(document.target.crowd) if not crowd]
    page: dict[str, Any] = {
        "file": document.where,
        "image": str(document.file),
        "size": [width, height],
        "regions": [
            {"label": labels[document.target.labels[n]], "box": list(document.target.inside[n]), "node": None}
            for n in single
        ],
        "nodes": [],
        "edges": [],
    }
    if not single:
        return page
    asked = {
        "given": example["boxes"],
        "pages": torch.zeros(len(single), dtype=torch.int64),
        "looks": True,
        "pools": True,
    }
    batch = {**task.collate(model, [example]), **asked}
    with torch.no_grad():
        outputs = task.forward(model, on_device(batch, model.device))
    assert outputs.looks is not None
    for regions, graph in objective.graphs(outputs.looks):
        for node, members in enumerate(graph.members):
            for member in members:
                page["regions"][int(regions[member])]["node"] = node
        scale = torch.tensor([width, height, width, height])
        for (left, top, right, bottom), text in zip((graph.boxes * scale).tolist(), graph.text.tolist(), strict=True):
            box = [round(number, 1) for number in (left, top, right - left, bottom - top)]
            page["nodes"].append({"text": text, "box": box})
        page["edges"] = [list(edge) for edge in graph.edges]
    return page
