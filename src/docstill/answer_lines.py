"""Lines of predictions and of right answers, and which of them belong together: by name, or by place."""

from __future__ import annotations

import json
import posixpath
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from docstill.data.images import composed
from docstill.data.json_tokens import AsWritten
from docstill.errors import DataError, UserError

AROUND = {
    "kie": {"ground_truth", "gt_parse", "gt_parses"},
    "classification": {"probabilities", "logits", "label"},
}
"""Keys that make an object a line around an answer; a name beside them is that of the file, not a field of the document."""


class Line(NamedTuple):
    """One document's line.

    Attributes:
        value: the JSON of the line.
        where: how messages call it.
    """

    value: Any
    where: str


def numbered(values: list[Any], file: Path) -> list[Line]:
    """Lines that are called by ``file`` and their place."""
    return [Line(value, f"{file}:{number}") for number, value in enumerate(values, 1)]


def read_pairs(predictions: Path, answers: Path, task: str) -> tuple[list[Line], list[Line]]:
    """The lines of both files, those of the predictions in the order of the answers."""
    given, right = read_all(predictions, answers, task=task)
    names = [_name(line.value, task) for line in given], [_name(line.value, task) for line in right]
    if any(len(set(side)) < len(side) for side in names):  # of a file with several pages `predict` has an answer each
        names = [_with_page(line.value, task) for line in given], [_with_page(line.value, task) for line in right]
    if not all(names[0]) or not all(names[1]):
        if len(given) != len(right):
            raise UserError(
                f"{predictions} has {len(given)} lines and {answers} has {len(right)}; both need one line a document, in the "
                "same order, or a name (file or file_name) beside every answer"
            )
        return given, right
    if names[0] == names[1]:  # also where a page has several lines, one a question
        return given, right
    return _by_name(given, right, *names), right


def _by_name(
    given: list[Line], right: list[Line], given_names: list[tuple[str, ...]], right_names: list[tuple[str, ...]]
) -> list[Line]:
    """The predictions in the order of the answers.

    A prediction is for the answer whose path its own ends in; of several, for the longest. Where all predictions find their
    own this cannot be wrong: none has found a shorter one than it should.

    Raises:
        DataError: all names that stand in one file only, or twice in a file.
    """
    problems: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    for place, (name, line) in enumerate(zip(right_names, right, strict=True)):
        first = right[places.setdefault(name, place)]
        if first is not line:
            problems.append(
                f"{line.where}: {PurePosixPath(*name)} was already given in {first.where}; keep one of them"
            )
    found: dict[tuple[str, ...], Line] = {}
    for name, line in zip(given_names, given, strict=True):
        own = next((name[start:] for start in range(len(name)) if name[start:] in places), None)
        if own is None:
            problems.append(f"{line.where}: no right answer is named {PurePosixPath(*name)}")
        elif found.setdefault(own, line) is not line:
            problems.append(
                f"{line.where}: {PurePosixPath(*own)} was already given in {found[own].where}; keep one of them"
            )
    problems += [
        f"{right[place].where}: no prediction is named {PurePosixPath(*name)}"
        for name, place in places.items()
        if name not in found
    ]
    if problems:
        raise DataError(
            "predictions and right answers do not pair by their names; give both files the same documents, each once",
            problems,
        )
    return [found[name] for name in places]


def _name(value: Any, task: str) -> tuple[str, ...]:
    """The parts of the path that a line gives beside its answer; none if it gives none."""
    if not _is_around(value, task):
        return ()
    name = next((value[key] for key in ("file", "file_name") if isinstance(value.get(key), str)), "")
    if not name:
        return ()
    return PurePosixPath(posixpath.normpath(composed(name.replace("\\", "/")))).parts


def _with_page(value: Any, task: str) -> tuple[str, ...]:
    """The same, with the page of the file if the line gives that, too."""
    parts = _name(value, task)
    page = value.get("page") if parts else None
    return (*parts[:-1], f"{parts[-1]}, page {page}") if type(page) is int else parts


def _is_around(value: Any, task: str) -> bool:
    """Whether a line is not the answer itself, but holds one."""
    return isinstance(value, dict) and (bool(AROUND[task] & set(value)) or is_read(value) or is_unread(value))


def is_read(value: dict[str, Any]) -> bool:
    """Whether this is what `predict` says of a document that it has read."""
    return {"fields", "document_confidence"} <= set(value)


def is_unread(value: Any) -> bool:
    """Whether this is what `predict` says of a file that it could not read."""
    return isinstance(value, dict) and set(value) == {"file", "error"}


def read_all(*files: Path, task: str) -> list[list[Line]]:
    """The lines of each file."""
    problems: list[str] = []
    found = [_lines(file, problems, task) for file in files]
    if problems:
        raise DataError("these lines are not JSON", problems)
    return found


def _lines(path: Path, problems: list[str], task: str) -> list[Line]:
    """The lines of a file; those that are not JSON are added to ``problems``."""
    number_of = AsWritten if task == "kie" else float
    try:
        text = sys.stdin.buffer.read().decode("utf-8-sig") if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); give a file of JSON lines in UTF-8") from error
    if (entries := _array(text, number_of, task)) is not None:
        return [Line(entry, f"{path}: answer {number}") for number, entry in enumerate(entries, 1)]
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"{path} is empty; expected one JSON object a line")
    values = []
    for number, line in enumerate(lines, 1):
        try:
            values.append(Line(json.loads(line, parse_float=number_of), f"{path}:{number}"))
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{number}: not JSON ({error.msg} at column {error.colno})")
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}:{number}: cannot be read ({error})")
    return values


def _array(text: str, number_of: Callable[[str], Any], task: str) -> list[Any] | None:
    """The entries of a file that is one list of answers, as `predict --json` prints it; None for JSON lines."""
    if not text.lstrip().startswith("["):
        return None
    try:
        entries = json.loads(text, parse_float=number_of)
    except (ValueError, RecursionError):
        return None
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        return None
    # In one line a list may also be the answer for one document, which is a list of plain objects.
    several = "\n" in text.strip()
    return entries if several or all(_is_around(entry, task) for entry in entries) else None
