"""Image folders with `metadata.jsonl`, as the published Donut data sets are laid out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from docstill.data.document import Document, Glyphs
from docstill.data.glyphs import glyphs_of
from docstill.data.images import find_file
from docstill.data.json_tokens import AsWritten
from docstill.errors import DataError

METADATA = "metadata.jsonl"
DEEPEST = 50
"""Objects and lists within one another."""


def read_donut_folder(folder: Path) -> list[Document]:
    """Reads one split: a line for each picture, with ``file_name`` and ``ground_truth``.

    ``ground_truth`` is an object, or an object written as a JSON string, that holds ``gt_parse`` (the answer) or
    ``gt_parses`` (several that count as right). A line may also say where each character stands: in ``glyphs``, or in
    ``lines`` of text with their boxes.

    Raises:
        DataError: everything that is wrong, at once, with line numbers.
    """
    documents, problems = scan_donut_folder(folder)
    if problems:
        raise DataError(f"the documents in {folder} cannot be used", problems)
    return documents


def scan_donut_folder(folder: Path) -> tuple[list[Document], list[str]]:
    """As `read_donut_folder`, but hands back what could be read together with everything that is wrong."""
    path = folder / METADATA
    if not path.is_file():
        return [], [f"there is no {path}; expected pictures and a {METADATA} with file_name and ground_truth"]
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        return [], [f"{METADATA}: is not UTF-8 (byte {error.start}); save it as UTF-8"]
    except OSError as error:
        return [], [f"{METADATA}: cannot be read ({error.strerror})"]
    documents: list[Document] = []
    problems: list[str] = []
    seen: dict[Path, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        file, variants, glyphs, wrong = _read_line(folder, line)
        if file is not None and seen.setdefault(file, number) != number:
            wrong.append(f"{file.relative_to(folder)} was already given in line {seen[file]}; keep one of the lines")
        if file is not None and not wrong:
            documents.append(Document(file, variants[0], tuple(variants), f"{METADATA}:{number}", glyphs))
        if wrong:
            problems.append(f"{METADATA}:{number}: {'; also, '.join(wrong)}")
    if not documents and not problems:
        problems.append(f"{METADATA}: is empty; expected one line a picture")
    return documents, problems


def repeated_keys(folder: Path) -> list[tuple[str, list[str]]]:
    """The lines of a split with an object that has a key twice, and these keys; the first of its values would be lost without a word.

    What cannot be read is left out; `scan_donut_folder` tells of it.
    """
    try:
        lines = (folder / METADATA).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    repeated: list[str] = []

    def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            repeated.extend(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        return found

    found = []
    for number, line in enumerate(lines, 1):
        repeated.clear()
        try:
            entry = json.loads(line, object_pairs_hook=noted)
            if isinstance(entry, dict) and isinstance(truth := entry.get("ground_truth"), str):
                json.loads(truth, object_pairs_hook=noted)
        except (ValueError, RecursionError):
            continue
        if repeated:
            found.append((f"{METADATA}:{number}", list(dict.fromkeys(repeated))))
    return found


def _read_line(folder: Path, line: str) -> tuple[Path | None, list[Any], Glyphs | None, list[str]]:
    """The picture (None if the line names none that is there), answers, characters, and everything that is wrong."""
    expected = "expected an object with file_name and ground_truth"
    try:
        entry = json.loads(line, parse_float=AsWritten)
    except json.JSONDecodeError as error:
        return None, [], None, [f"broken JSON ({error.msg} at column {error.colno})"]
    except (ValueError, RecursionError) as error:
        return None, [], None, [f"broken JSON ({_too_much(error)})"]
    if not isinstance(entry, dict):
        return None, [], None, [expected]
    name, file, wrong = entry.get("file_name"), None, []
    if not isinstance(name, str) or not name:
        wrong.append(f"{expected}, but file_name is missing")
    elif Path(name).is_absolute() or ".." in Path(name).parts:
        wrong.append(f"file_name {name!r} leads out of the folder; give a path relative to it")
    elif (file := find_file(folder, name)) is None:
        hint = "; write folders with /" if "\\" in name and find_file(folder, name.replace("\\", "/")) else ""
        wrong.append(f"the picture {name} is missing{hint}")
    if "ground_truth" not in entry:
        return file, [], None, [*wrong, f"{expected}, but ground_truth is missing"]
    variants = _variants(entry["ground_truth"])
    if isinstance(variants, str):
        return file, [], None, [*wrong, variants]
    glyphs = glyphs_of(entry, file)
    if isinstance(glyphs, str):
        return file, variants, None, [*wrong, glyphs]
    return file, variants, glyphs, wrong


def _variants(truth: Any) -> list[Any] | str:
    """The answers that a ``ground_truth`` holds, or what is wrong with it."""
    if isinstance(truth, str):
        try:
            truth = json.loads(truth, parse_float=AsWritten)
        except json.JSONDecodeError as error:
            return f"ground_truth is not JSON ({error.msg} at column {error.colno} of it)"
        except (ValueError, RecursionError) as error:
            return f"ground_truth is not JSON ({_too_much(error)})"
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
    return next(filter(None, map(_unusable, variants)), variants)


def _too_much(error: Exception) -> str:
    """What JSON has too much of to be read."""
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of thousands of digits"


def too_deep(value: Any) -> bool:
    """Whether an answer is nested deeper than `DEEPEST`."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        level = [
            part
            for item in level
            if isinstance(item, dict | list)
            for part in (item.values() if isinstance(item, dict) else item)
        ]
        depth += 1
    return bool(level)


def _unusable(value: Any) -> str | None:
    """What is wrong with an answer: there is no tag for an empty key, no text for half a character, no end to deep nesting."""
    if too_deep(value):
        return f"gt_parse is nested more than {DEEPEST} deep; flatten it"
    rest = [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            if "" in item:
                return 'gt_parse holds a key without a name (""); give every field a name'
            rest += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            rest += item
        elif isinstance(item, str) and any("\ud800" <= character <= "\udfff" for character in item):
            return f"gt_parse holds half a character in {item!r}; write it whole"
    return None
