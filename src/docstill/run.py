"""The run folder: atomic writes, `metrics.jsonl`, what is done, and the refusal to mix two recipes in one folder.

A step of a run is a folder; it is done when its `done.json` is there, which is written last. So resuming is: walk the
steps, skip those that are done.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from docstill.errors import InUse, RecipeError, UserError
from docstill.recipe import differences

DONE = "done.json"
CHECKPOINT = "last.pt"
LOCK = ".lock"
RECIPE = "recipe.yaml"


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that takes ``path``'s place only when it was written whole.

    Raises:
        UserError: the disk is full or not writable; the old file stays as it was.
    """
    scratch = path.with_name(f".{path.name}.partial")
    try:
        with full_disk_said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(scratch, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
    except BaseException:
        with suppress(OSError):  # on a disk that only reads, even a file that is not there
            scratch.unlink(missing_ok=True)
        raise


@contextmanager
def full_disk_said(path: Path) -> Iterator[None]:
    """Says of a full or closed disk, while ``path`` is written, what to do.

    Raises:
        UserError: the disk is full, or nothing may be written there.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        if full or (isinstance(error, RuntimeError) and "write" in str(error).lower()):  # torch hides the errno
            raise UserError(
                f"the disk is full: {path} could not be written and the last good one stays; make room and run the same command again"
            ) from error
        if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise UserError(
                f"{path} may not be written ({error.strerror}); give a folder that you may write to"
            ) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, as UTF-8."""
    with atomic(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file that docstill wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_lines(path: Path, values: Iterable[Any]) -> None:
    """Writes a JSON-lines file atomically."""
    write_text(path, "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def read_lines(path: Path) -> list[Any]:
    """Reads a JSON-lines file that docstill wrote whole."""
    # not splitlines, which breaks lines at characters that names of files may hold
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def copy_whole(source: Path, target: Path) -> None:
    """Copies a folder; ``target`` is what it was before, or the whole copy."""
    scratch = target.with_name(f".{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch)
    shutil.rmtree(target, ignore_errors=True)
    scratch.rename(target)


def open_run(folder: Path, text: str, name: str = RECIPE) -> None:
    """Makes the run folder, or checks that it belongs to the same recipe.

    Args:
        folder: the run folder.
        text: the resolved recipe, or study, as YAML.
        name: the file that it is kept in.

    Raises:
        RecipeError: something was done there with another recipe; lists what differs.
    """
    path = folder / name
    refuse_file(folder)
    if path.exists():
        changed = differences(path.read_text(encoding="utf-8"), text)
        if not changed:
            return
        if has_begun(folder):
            raise RecipeError(
                f"{folder} was begun with another {path.stem}; give another --run folder, or undo these changes",
                changed,
            )
    elif folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no {name}; give an empty or new folder with --run")
    write_text(path, text)


def refuse_file(folder: Path) -> None:
    """Raises UserError where a folder is to be and a file is."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a new folder")


def has_begun(folder: Path) -> bool:
    """Whether anything was done in a run folder: a step finished, or a checkpoint written, or somebody is at it or a part of it."""
    done = any(folder.rglob(DONE)) or any(folder.rglob(CHECKPOINT))
    return done or in_use(folder) or any(in_use(lock.parent) for lock in folder.rglob(LOCK))


@contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Keeps a second process out of the run folder; the lock goes with the process, however it ends.

    Raises:
        InUse: another process works in the folder, and is not to be waited for.
    """
    try:
        lock = FileLock(folder / LOCK).acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise InUse(f"another process is working in {folder}; wait for it, or give another --run folder") from error
    with lock:
        yield


def in_use(folder: Path) -> bool:
    """Whether another process works in the run folder."""
    try:
        with locked(folder):
            return False
    except InUse:
        return True


def step(folder: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Does ``work`` unless ``folder`` says that it is done; returns what it reported, now or then.

    The report says in ``seconds`` how long it took, unless the work knows better (a training that was stopped and went on).
    """
    done = folder / DONE
    if done.is_file():
        report: dict[str, Any] = read_json(done)
        return report
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    report = work()
    report = {"seconds": round(time.perf_counter() - began, 2), **report}
    write_json(done, report)
    return report


def seconds_spent(folder: Path) -> float:
    """Time that all finished steps below ``folder`` took, over however many calls."""
    return sum(float(read_json(done).get("seconds", 0)) for done in folder.rglob(DONE))


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, each with its ``step``; cut back to the checkpoint on resume."""

    def __init__(self, path: Path, resume_step: int) -> None:
        self.path = path
        kept = [line for line in read_metrics(path) if line["step"] <= resume_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, **values: Any) -> None:
        """Appends one line."""
        with full_disk_said(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; a last line cut short by a kill is dropped."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines
