"""What models lose on pages that are worse, or other, than those they learnt from: `docstill evaluate … --shift`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from typing import Any

from PIL import Image

from docstill.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from docstill.data.document import Document
from docstill.data.regions import Regions
from docstill.models.io import DocumentModel
from docstill.tasks.base import Advance, Pages, Task

SHOWN = {
    "classification": ("accuracy", "ece", "augrc"),
    "kie": ("field_f1", "ted_accuracy", "reading"),
    "layout": ("ap", "ap50", "ap75"),
}
"""The metrics that are followed, the task's primary one first."""


def looks(models: int, documents: int) -> int:
    """How many pages are scored for `under_corruptions`, for a progress bar."""
    return models * documents * (1 + len(CORRUPTIONS) * len(SEVERITIES))


def under_corruptions(
    task: Task, models: Mapping[str, DocumentModel], pages: Pages, advance: Advance | None = None
) -> dict[str, Any]:
    """Each model on ``pages`` as they are, and with each corruption at each severity.

    A page is damaged the same way for all models: chance comes from its file, the corruption and the severity.

    Returns:
        For each model ``{"clean": {metric: value}, "rows": [{"corruption", "severity", metric: value}], "mean": {metric:
        value over all rows}, "drop": clean − mean of the primary metric}``.
    """
    found = {}
    for name, model in models.items():
        clean = _figures(task, model, pages, None, advance)
        rows: list[dict[str, Any]] = []
        for kind in CORRUPTIONS:
            for severity in SEVERITIES:
                view = partial(damaged, kind=kind, severity=severity)
                figures = _figures(task, model, pages, view, advance)
                rows.append({"corruption": kind, "severity": severity, **figures})
        mean = {metric: sum(row[metric] for row in rows) / len(rows) for metric in clean}
        found[name] = {"clean": clean, "rows": rows, "mean": mean, "drop": _drop(task, clean, mean)}
    return found


def on_other_pages(
    task: Task, models: Mapping[str, DocumentModel], pages: Pages, others: Pages, advance: Advance | None = None
) -> dict[str, Any]:
    """Each model on ``pages`` and on ``others``, of the same classes or fields but from elsewhere.

    Returns:
        For each model ``{"clean", "shifted": {metric: value}, "drop": clean − shifted of the primary metric}``.
    """
    found = {}
    for name, model in models.items():
        clean, shifted = (_figures(task, model, part, None, advance) for part in (pages, others))
        found[name] = {"clean": clean, "shifted": shifted, "drop": _drop(task, clean, shifted)}
    return found


def damaged(image: Image.Image, document: Document, kind: str, severity: int) -> Image.Image:
    """The document's page with one corruption, the same at every call."""
    return corrupt(image, kind, severity, random.Random(f"{document.where}:{kind}:{severity}"))


def known_to_all(models: Mapping[str, DocumentModel]) -> list[str]:
    """Classes that every one of the models knows, in the order of the first; none of models without classes."""
    first, *others = models.values()
    return [label for label in first.labels if all(label in other.labels for other in others)]


def missing_labels(pages: Pages, others: Pages) -> list[str]:
    """Classes of ``pages`` that no document of ``others`` has."""
    if not pages.labels:
        return []
    present = set()
    for document in others.documents:
        regions = isinstance(document.target, Regions)
        present |= {others.labels[label] for label in (document.target.single if regions else [document.target])}
    return sorted(set(pages.labels) - present)


def _figures(task: Task, model: DocumentModel, pages: Pages, view: Any, advance: Advance | None) -> dict[str, float]:
    metrics = task.evaluate(model, pages, advance, view).metrics
    return {name: float(metrics[name]) for name in SHOWN[task.name]}


def _drop(task: Task, clean: Mapping[str, float], other: Mapping[str, float]) -> float:
    return clean[task.primary_metric] - other[task.primary_metric]
