"""Looks at a whole data set before hours are spent on it: `docstill check`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docstill.data.class_folders import read_class_folders
from docstill.data.document import Document
from docstill.data.donut_folder import METADATA, read_donut_folder
from docstill.data.images import probe_image
from docstill.data.json_tokens import json_to_tokens, survives
from docstill.data.splits import find_splits
from docstill.errors import DataError, UserError

Advance = Callable[[int], None]


def check(data: str | Path, task: str | None = None) -> dict[str, Any]:
    """Reads every split, every line and every picture.

    Args:
        data: a split's folder, or the folder that holds the splits.
        task: ``kie`` or ``classification``; default: kie where there is a `metadata.jsonl`.

    Returns:
        ``{"data", "task", "splits": {name: {"n", …}}, "problems": […], "warnings": […]}``. Problems must be mended;
        warnings are worth a look.

    Raises:
        UserError: there is no such folder, or no such task.
    """
    data = Path(data)
    if not data.is_dir():
        raise UserError(f"there is no folder {data}; give a data set's folder")
    splits = find_splits(data) or {data.name: data}
    chosen = task or ("kie" if any((folder / METADATA).is_file() for folder in splits.values()) else "classification")
    readers = {"kie": _kie, "classification": _classification}
    if chosen not in readers:
        raise UserError(f"there is no task {chosen!r} to check; choose one of {', '.join(readers)}")
    problems: list[str] = []
    warnings: list[str] = []
    documents, about = readers[chosen](splits, problems, warnings)
    problems += [
        f"{document.file}: {bad}"
        for pages in documents.values()
        for document in pages
        if (bad := probe_image(document.file))
    ]
    warnings += _shared(documents)
    return {"data": str(data), "task": chosen, "splits": about, "problems": problems, "warnings": warnings}


Splits = dict[str, list[Document]]


def _kie(splits: dict[str, Path], problems: list[str], warnings: list[str]) -> tuple[Splits, dict[str, Any]]:
    documents: Splits = {}
    about = {}
    for split, folder in splits.items():
        try:
            documents[split] = read_donut_folder(folder)
        except DataError as error:
            problems += [f"{folder}: {problem}" for problem in error.problems]
            continue
        fields = Counter(
            key for document in documents[split] if isinstance(document.target, dict) for key in document.target
        )
        longest = max(
            (len(json_to_tokens(variant)) for document in documents[split] for variant in document.variants), default=0
        )
        about[split] = {"n": len(documents[split]), "fields": dict(fields), "longest_target": longest}
        for document in documents[split]:
            for variant in document.variants:
                if lost := survives(variant):
                    warnings.append(
                        f"{folder / document.where}: the answer does not survive JSON to tokens and back: {lost}"
                    )
    return documents, about


def _classification(splits: dict[str, Path], problems: list[str], warnings: list[str]) -> tuple[Splits, dict[str, Any]]:
    documents: Splits = {}
    about = {}
    labels: list[str] | None = None
    for split, folder in splits.items():
        try:
            found = read_class_folders(folder, labels=None if split == "train" else labels)
        except DataError as error:
            problems += [f"{folder}: {problem}" for problem in error.problems]
            continue
        labels = found.labels if labels is None else labels
        documents[split] = found.documents
        counts = Counter(found.labels[document.target] for document in found.documents)
        about[split] = {"n": len(found.documents), "labels": {label: counts[label] for label in found.labels}}
        warnings += [
            f"{folder / label}: one picture only, nothing can be learned from it"
            for label in found.labels
            if counts[label] == 1
        ]
        warnings += [
            f"{folder}: no pictures of {label}, which the training split has"
            for label in found.labels
            if not counts[label]
        ]
    return documents, about


def _shared(documents: Splits) -> list[str]:
    """Pictures that stand in two splits: a score on them says nothing."""
    homes: dict[str, tuple[str, Path]] = {}
    found = []
    for split, pages in documents.items():
        for document in pages:
            digest = hashlib.sha256(document.file.read_bytes()).hexdigest()
            other, file = homes.setdefault(digest, (split, document.file))
            if other != split:
                found.append(f"{document.file}: the same picture as {file} in {other}; remove it from one of them")
    return found
