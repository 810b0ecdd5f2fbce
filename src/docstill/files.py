"""Files and folders that are whole or not there: written beside their place and renamed; JSON and JSON lines as docstill writes them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from docstill.errors import UserError


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
        # torch says what became of its file, and hides why
        hidden = isinstance(error, RuntimeError) and any(
            word in str(error).lower() for word in ("write", "unexpected pos")
        )
        if hidden or any(isinstance(cause, OSError) and cause.errno in _FULL for cause in _causes(error)):
            raise UserError(
                f"the disk is full: {path} could not be written and the last good one stays; make room and run the same command again"
            ) from error
        if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise UserError(
                f"{path} may not be written ({error.strerror}); give a folder that you may write to"
            ) from error
        raise


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those during whose handling it came."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def check_writable(path: Path) -> None:
    """Raises UserError if no file can be written at ``path``: found out before the work, and without a trace there."""
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not folder.is_dir():
        raise UserError(f"{path} cannot be written, since {folder} is a file; give a path below a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{path} may not be written; give a folder that you may write to")


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
