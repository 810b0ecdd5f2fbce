"""A folder of generated documents: whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from docstill.errors import UserError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder that takes ``folder``'s place when all is written.

    Raises:
        UserError: the folder is not empty, or cannot be written; then nothing is kept.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and (not folder.is_dir() or folder.samefile(Path.cwd())):
        raise UserError(
            f"{folder} is {'the folder that you are in' if folder.is_dir() else 'a file'}; give a new folder"
        )
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; give a new folder")
    scratch = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir(parents=True)
        yield scratch
        if folder.exists():
            folder.rmdir()
        os.replace(scratch, folder)
    except OSError as error:
        raise UserError(f"could not write to {folder} ({error}); nothing was kept, make room and run again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
