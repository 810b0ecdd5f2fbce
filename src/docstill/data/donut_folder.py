"""Image folders with `metadata.jsonl`, as the published Donut data sets are laid out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docstill.data.document import Document
from docstill.errors import DataError

METADATA = "metadata.jsonl"


def read_donut_folder(folder: Path) -> list[Document]:
    """Reads one split: a line for each picture, with ``file_name`` and ``ground_truth``.

    ``ground_truth`` is an object, or an object written as a JSON string, that holds ``gt_parse`` (the answer) or
    ``gt_parses`` (several that count as right).

    Raises:
        DataError: everything that is wrong, at once, with line numbers.
    """
    path = folder / METADATA
    if not path.is_file():
        raise DataError(
            f"cannot read {folder}",
            [f"there is no {METADATA}; expected pictures and a {METADATA} with file_name and ground_truth"],
        )
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"cannot read {path}", [f"it is not UTF-8 (byte {error.start}); save it as UTF-8"]) from error
    documents: list[Document] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        result = _document(folder, line, f"{METADATA}:{number}")
        if isinstance(result, str):
            problems.append(f"{METADATA}:{number}: {result}")
            continue
        name = str(result.file)
        if name in seen:
            problems.append(f"{METADATA}:{number}: {result.file.name} was already given in line {seen[name]}")
        seen.setdefault(name, number)
        documents.append(result)
    if not documents and not problems:
        problems.append(f"{METADATA} is empty; expected one line a picture")
    if problems:
        raise DataError(f"the documents in {folder} cannot be used", problems)
    return documents


def _document(folder: Path, line: str, where: str) -> Document | str:
    """The document of one line, or what is wrong with it."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        return f"broken JSON ({error.msg} at column {error.colno})"
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or "ground_truth" not in entry:
        return "expected an object with file_name and ground_truth"
    name = Path(entry["file_name"])
    if name.is_absolute() or ".." in name.parts:
        return f"file_name {entry['file_name']!r} leads out of the folder; give a path relative to it"
    if not (folder / name).is_file():
        return f"the picture {entry['file_name']} is missing"
    variants = _variants(entry["ground_truth"])
    if isinstance(variants, str):
        return variants
    return Document(folder / name, variants[0], tuple(variants), where)


def _variants(truth: Any) -> list[Any] | str:
    if isinstance(truth, str):
        try:
            truth = json.loads(truth)
        except json.JSONDecodeError as error:
            return f"ground_truth is not JSON ({error.msg} at column {error.colno})"
    if not isinstance(truth, dict):
        return "ground_truth must be an object with gt_parse or gt_parses"
    if "gt_parse" in truth:
        variants = [truth["gt_parse"]]
    elif isinstance(truth.get("gt_parses"), list) and truth["gt_parses"]:
        variants = truth["gt_parses"]
    else:
        return "ground_truth holds neither gt_parse nor a list gt_parses"
    if not all(isinstance(variant, dict | list) for variant in variants):
        return "gt_parse must be an object or a list of objects"
    return variants
