"""Looks at a whole data set before hours are spent on it: `docstill check`."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar
from warnings import catch_warnings, simplefilter

from docstill.data.answers import doubtful_answers, lossy
from docstill.data.class_folders import scan_class_folders
from docstill.data.coco_folder import annotated_below, annotations_of, scan_coco_folder
from docstill.data.document import Document
from docstill.data.donut_folder import METADATA, repeated_keys, scan_donut_folder
from docstill.data.images import composed, open_image, page_count, pictures
from docstill.data.json_tokens import json_to_tokens
from docstill.data.splits import find_splits
from docstill.errors import UserError
from docstill.progress import counter

Found = TypeVar("Found")

THREADS = min(8, os.cpu_count() or 1)
"""So many pages are looked at side by side; most of decoding and hashing leaves Python's lock to others."""


class Shared(NamedTuple):
    """A picture that stands in two splits.

    Attributes:
        file: the second of the two.
        first: where it stands, too.
        split: the name of that split.
    """

    file: Path
    first: Path
    split: str


@dataclass(frozen=True)
class Findings:
    """What a look at several splits has found.

    Attributes:
        splits: of each by name, ``n`` and what else its task counts; see `check`.
        problems: must be mended.
        warnings: worth a look.
        shared: pictures in two splits, whatever their files are packed as.
    """

    splits: dict[str, Any]
    problems: list[str]
    warnings: list[str]
    shared: list[Shared]


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
    splits = splits_of(Path(data))
    chosen = task or guessed(splits)
    found = check_splits(splits, chosen)
    shared = [
        f"{file}: the same picture as {first} in {split}; remove it from one of them"
        for file, first, split in found.shared
    ]
    return {
        "data": str(Path(data)),
        "task": chosen,
        "splits": found.splits,
        "problems": found.problems,
        "warnings": found.warnings + shared,
    }


def check_splits(splits: Mapping[str, Path], task: str) -> Findings:
    """As `check`, for splits that may lie anywhere.

    Args:
        splits: folders by name, ``train`` first: the others may have no classes but its.
        task: ``kie``, ``layout`` or ``classification``.

    Raises:
        UserError: no such task.
    """
    readers = {"kie": _kie, "layout": _layout, "classification": _classification}
    if task not in readers:
        raise UserError(f"there is no task {task!r} to check; choose one of {', '.join(readers)}")
    problems: list[str] = []
    warnings: list[str] = []
    documents, about = readers[task](splits, problems, warnings)
    homes: dict[bytes, tuple[str, Path]] = {}
    shared: list[Shared] = []
    pages = [(split, document.file) for split, found in documents.items() for document in found]
    seen = look_at([file for _, file in pages], _seen, "looking at pages")
    for (split, file), picture in zip(pages, seen, strict=True):
        if isinstance(picture, str):
            problems.append(picture)
            continue
        if picture.pages > 1:
            warnings.append(
                f"{file}: has {picture.pages} pages, only the first is used; split it into pictures of one page"
            )
        other, first = homes.setdefault(picture.pixels, (split, file))
        if other != split:  # a score on it says nothing
            shared.append(Shared(file, first, other))
    return Findings(about, problems, warnings, shared)


def look_at(files: Sequence[Path], look: Callable[[Path], Found], title: str) -> list[Found]:
    """What ``look`` finds in each file, in their order; threads share the work, a bar tells the time left.

    Args:
        files: pictures.
        look: safe in threads, and hands back little: all that it finds is kept.
        title: of the bar.
    """
    found: list[Found] = []
    rest = iter(files)
    with catch_warnings(), counter(title, len(files)) as advance, ThreadPoolExecutor(THREADS) as pool:
        # Decoding sets Python's filters and restores them, for the whole process: threads would undo one another's. Here
        # all of them set and restore filters under which nothing is shown; the usual ones are back when all have ended.
        simplefilter("ignore")
        try:
            ahead = deque(pool.submit(look, file) for file in islice(rest, 4 * THREADS))
            while ahead:
                found.append(ahead.popleft().result())
                ahead.extend(pool.submit(look, file) for file in islice(rest, 1))
                advance(1)
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the pages in hand alone
    return found


def same_files(first: Sequence[Document], second: Sequence[Document]) -> list[tuple[Path, Path]]:
    """The pictures of ``second`` that are in ``first``, too, byte for byte: each with the one there.

    No picture is decoded, and a file is read only if one of the other split has just its size.
    """
    of_size: defaultdict[int, list[Path]] = defaultdict(list)
    for document in first:
        of_size[document.file.stat().st_size].append(document.file)
    known: dict[int, dict[bytes, Path]] = {}
    shared = []
    for document in second:
        size = document.file.stat().st_size
        if size not in of_size:
            continue
        if size not in known:
            known[size] = {_bytes(file): file for file in reversed(of_size[size])}  # of twins the first stays
        twin = known[size].get(_bytes(document.file))
        if twin is not None:
            shared.append((document.file, twin))
    return shared


def splits_of(data: Path) -> dict[str, Path]:
    """The splits that a data set's folder holds, or the one that it is.

    Raises:
        UserError: there is no such folder.
    """
    if not data.is_dir():
        raise UserError(f"there is no folder {data}; give a data set's folder")
    return find_splits(data) or {data.resolve().name: data}


def guessed(splits: Mapping[str, Path]) -> str:
    """The task that the files are for."""
    if any((folder / METADATA).is_file() for folder in splits.values()):
        return "kie"
    if any(annotations_of(folder) for folder in splits.values()):
        return "layout"
    below = [
        path
        for folder in splits.values()
        for path in (*sorted(folder.glob(f"*/{METADATA}")), *sorted(folder.glob("metadata.csv")))
    ]
    if below:
        raise UserError(
            f"{below[0]} looks like the answers of documents, which are read from one {METADATA} at the top of a split's folder, with file_name "
            "relative to it; write them so, or name the task with --task"
        )
    if inside := [place for folder in splits.values() for place in annotated_below(folder)]:
        raise UserError(
            f"{inside[0]} has a file of annotations beside it and looks like a split of layout pages; give that folder, call it train/ or "
            "validation/, or name the task with --task"
        )
    elsewhere = [path for folder in splits.values() for path in sorted(folder.glob("annotations/*.json"))]
    if elsewhere:  # as COCO itself lies on a disk
        raise UserError(
            f"{elsewhere[0]} looks like COCO annotations, which are looked for beside the folder of a split's pictures; lay them out as train/ and "
            "train.json, validation/ and validation.json (links will do), or name the task with --task"
        )
    return "classification"


def _bytes(file: Path) -> bytes:
    """A hash of a file."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "blake2b").digest()


_COUNTING = Lock()
"""Whatever is named .pdf is counted by PDFium, which threads must not share; counting takes no time beside decoding."""


class _Seen(NamedTuple):
    """What is kept of a picture."""

    pixels: bytes
    pages: int


def _seen(file: Path) -> _Seen | str:
    """A picture's hash and pages, or what is wrong with it."""
    try:
        pixels = _pixels(file)
        with _COUNTING:
            return _Seen(pixels, page_count(file))
    except UserError as error:
        return str(error)


def _pixels(file: Path) -> bytes:
    """A hash of what a model sees of a picture, upright 8-bit RGB, however the file is packed."""
    image = open_image(file)
    return hashlib.blake2b(image.tobytes(), key=f"{image.mode} {image.size}".encode()).digest()


Splits = dict[str, list[Document]]


def _kie(splits: Mapping[str, Path], problems: list[str], warnings: list[str]) -> tuple[Splits, dict[str, Any]]:
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
            f"{folder / where}: the answer does not survive JSON to tokens and back: {lost}"
            for where, lost in lossy(found)
        ]
        warnings += [
            f"{folder / where}: the same key twice in one object ({', '.join(map(repr, keys))}), of which the last counts; keep one, or "
            "give the key a list of both values"
            for where, keys in repeated_keys(folder)
        ]
        warnings += doubtful_answers(found, folder)
        if not wrong:
            warnings += _unnamed(folder, found, METADATA)
    return documents, about


def _unnamed(folder: Path, documents: list[Document], source: str) -> list[str]:
    """Pictures that are not named would go unused without a word."""
    named = {document.file for document in documents}
    unnamed = sorted(str(path.relative_to(folder)) for path in pictures(folder) if path not in named)
    if not unnamed:
        return []
    return [f"{folder}: {len(unnamed)} picture(s) that {source} does not name, such as {unnamed[0]}; they are not used"]


def _classification(
    splits: Mapping[str, Path], problems: list[str], warnings: list[str]
) -> tuple[Splits, dict[str, Any]]:
    documents: Splits = {}
    about = {}
    labels: list[str] | None = None
    for split, folder in splits.items():  # the training split comes first
        found, wrong = scan_class_folders(folder, labels)
        problems += [f"{folder}: {problem}" for problem in wrong]
        if split == "train":
            labels = found.labels or None
        documents[split] = found.documents
        if split == "train" and len(found.labels) == 1:
            warnings.append(
                f"{folder}: holds one label only, {found.labels[0]}, so that there is nothing to tell apart"
            )
        counts = Counter(found.labels[document.target] for document in found.documents)
        about[split] = {"n": len(found.documents), "labels": {label: counts[label] for label in found.labels}}
        warnings += [
            f"{folder / label}: one picture only, too few to learn from or to measure with"
            for label in found.labels
            if counts[label] == 1
        ]
        folders = {composed(path.name) for path in folder.iterdir()} if folder.is_dir() else set()
        warnings += [
            f"{folder}: no pictures of {label}, which the training split has"
            for label in found.labels
            if label not in folders
        ]
    return documents, about


def _layout(splits: Mapping[str, Path], problems: list[str], warnings: list[str]) -> tuple[Splits, dict[str, Any]]:
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
        counts = Counter(found.labels[label] for document in found.documents for label in document.target.single)
        empty = sum(not document.target.boxes for document in found.documents)
        regions = {label: counts[label] for label in found.labels}
        about[split] = {"n": len(found.documents), "regions": regions, "empty": empty}
        if not wrong:  # else they may be on the pages that were left out
            warnings += [f"{folder}: no regions of {label}" for label in found.labels if not counts[label]]
        if not wrong and (source := annotations_of(folder)):
            warnings += _unnamed(folder, found.documents, source.name)
    return documents, about
