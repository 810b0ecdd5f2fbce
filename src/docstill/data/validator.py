"""Looks at a whole data set before hours are spent on it: `docstill check`."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from docstill.data.class_folders import scan_class_folders
from docstill.data.coco_folder import annotations_of, scan_coco_folder
from docstill.data.document import Document
from docstill.data.donut_folder import METADATA, scan_donut_folder
from docstill.data.images import IMAGE_SUFFIXES, page_count, probe_image
from docstill.data.json_tokens import json_to_tokens, survives
from docstill.data.splits import find_splits
from docstill.errors import UserError


def check(data: str | Path, task: str | None = None) -> dict[str, Any]:
    """Reads every split, every line and every picture.

    Args:
        data: a split's folder, or the folder that holds the splits.
        task: ``kie``, ``layout`` or ``classification``; default: kie where there is a `metadata.jsonl`, layout where there
            are COCO annotations.

    Returns:
        ``{"data", "task", "splits": {name: {"n", …}}, "problems": […], "warnings": […]}``. For kie a split also has
        ``fields`` (documents by top-level key) and ``longest_target`` (characters of the longest answer as tokens), for
        classification ``labels`` (documents by label), for layout ``regions`` (by class) and ``empty`` (pages without any).
        Problems must be mended; warnings are worth a look.

    Raises:
        UserError: there is no such folder, or no such task.
    """
    data = Path(data)
    if not data.is_dir():
        raise UserError(f"there is no folder {data}; give a data set's folder")
    splits = find_splits(data) or {data.resolve().name: data}
    chosen = task or _guessed(list(splits.values()))
    readers = {"kie": _kie, "layout": _layout, "classification": _classification}
    if chosen not in readers:
        raise UserError(f"there is no task {chosen!r} to check; choose one of {', '.join(readers)}")
    problems: list[str] = []
    warnings: list[str] = []
    documents, about = readers[chosen](splits, problems, warnings)
    for document in (document for pages in documents.values() for document in pages):
        if bad := probe_image(document.file):
            problems.append(f"{document.file}: {bad}")
            continue
        try:
            count = page_count(document.file)
        except UserError as error:
            problems.append(str(error))
            continue
        if count > 1:
            warnings.append(
                f"{document.file}: has {count} pages, only the first is used; split it into pictures of one page"
            )
    warnings += _shared(documents)
    return {"data": str(data), "task": chosen, "splits": about, "problems": problems, "warnings": warnings}


def _guessed(folders: list[Path]) -> str:
    """The task that the files are for."""
    if any((folder / METADATA).is_file() for folder in folders):
        return "kie"
    return "layout" if any(annotations_of(folder) for folder in folders) else "classification"


Splits = dict[str, list[Document]]


def _kie(splits: dict[str, Path], problems: list[str], warnings: list[str]) -> tuple[Splits, dict[str, Any]]:
    documents: Splits = {}
    about = {}
    for split, folder in splits.items():
        found, wrong = scan_donut_folder(folder)
        problems += [f"{folder}: {problem}" for problem in wrong]
        documents[split] = found
        fields = Counter(key for document in found if isinstance(document.target, dict) for key in document.target)
        longest = max((len(json_to_tokens(variant)) for document in found for variant in document.variants), default=0)
        about[split] = {"n": len(found), "fields": dict(fields), "longest_target": longest}
        warnings += [
            f"{folder / document.where}: the answer does not survive JSON to tokens and back: {lost}"
            for document in found
            for variant in document.variants
            if (lost := survives(variant))
        ]
        if not wrong:
            warnings += _unnamed(folder, found, METADATA)
    return documents, about


def _unnamed(folder: Path, documents: list[Document], source: str) -> list[str]:
    """Pictures that are not named would go unused without a word."""
    named = {document.file for document in documents}
    unnamed = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path not in named
    )
    if not unnamed:
        return []
    return [f"{folder}: {len(unnamed)} picture(s) that {source} does not name, such as {unnamed[0]}; they are not used"]


def _classification(splits: dict[str, Path], problems: list[str], warnings: list[str]) -> tuple[Splits, dict[str, Any]]:
    documents: Splits = {}
    about = {}
    labels: list[str] | None = None
    for split, folder in splits.items():  # the training split comes first
        found, wrong = scan_class_folders(folder, labels)
        problems += [f"{folder}: {problem}" for problem in wrong]
        if split == "train":
            labels = found.labels or None
        documents[split] = found.documents
        counts = Counter(found.labels[document.target] for document in found.documents)
        about[split] = {"n": len(found.documents), "labels": {label: counts[label] for label in found.labels}}
        warnings += [
            f"{folder / label}: one picture only, too few to learn from or to measure with"
            for label in found.labels
            if counts[label] == 1
        ]
        warnings += [
            f"{folder}: no pictures of {label}, which the training split has"
            for label in found.labels
            if not (folder / label).is_dir()
        ]
    return documents, about


def _layout(splits: dict[str, Path], problems: list[str], warnings: list[str]) -> tuple[Splits, dict[str, Any]]:
    documents: Splits = {}
    about = {}
    labels: list[str] | None = None
    for split, folder in splits.items():  # the training split comes first
        found, wrong, doubtful = scan_coco_folder(folder, labels)
        problems += [f"{folder}: {problem}" for problem in wrong]
        warnings += [f"{folder}: {warning}" for warning in doubtful]
        if split == "train":
            labels = found.labels or None
        documents[split] = found.documents
        counts = Counter(found.labels[label] for document in found.documents for label in document.target.labels)
        empty = sum(not document.target.boxes for document in found.documents)
        regions = {label: counts[label] for label in found.labels}
        about[split] = {"n": len(found.documents), "regions": regions, "empty": empty}
        warnings += [f"{folder}: no regions of {label}" for label in found.labels if not counts[label]]
        if not wrong and (source := annotations_of(folder)):
            warnings += _unnamed(folder, found.documents, source.name)
    return documents, about


def _shared(documents: Splits) -> list[str]:
    """Pictures that stand in two splits: a score on them says nothing."""
    homes: dict[str, tuple[str, Path]] = {}
    found = []
    for split, pages in documents.items():
        for document in pages:
            try:
                with open(document.file, "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError:  # `probe_image` has named it
                continue
            other, first = homes.setdefault(digest, (split, document.file))
            if other != split:
                found.append(f"{document.file}: the same picture as {first} in {other}; remove it from one of them")
    return found
