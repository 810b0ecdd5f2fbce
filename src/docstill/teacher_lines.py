"""What a teacher says of pages, kept while it speaks: a line of JSON a page in one file, appended after every few pages.

So an interrupted look goes on where it was. Half a line, which a kill may leave at the end, is dropped, and its page asked about
again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from docstill.data.document import Document
from docstill.files import full_disk_said
from docstill.fingerprints import add_model, add_page
from docstill.models.io import DocumentModel
from docstill.progress import counter

CHUNK = 16
"""Pages that are asked about at a time."""


def key_of(teacher: DocumentModel, documents: Sequence[Document]) -> str:
    """Stands for teacher and pages in the name of what is kept: no other teacher's lines are ever taken."""
    key = hashlib.blake2b(digest_size=16)
    add_model(key, teacher)
    for document in documents:
        add_page(key, document)
    return key.hexdigest()


def said_of(
    documents: Sequence[Document],
    path: Path,
    title: str,
    ask: Callable[[Sequence[Document]], list[dict[str, Any]]],
) -> Iterator[dict[str, Any]]:
    """The line of each page, in order, one at a time: those that ``path`` holds, then those that are still to be asked for.

    Args:
        documents: the pages; always the same ones for a ``path``.
        path: the file that keeps the lines.
        title: what the bar is called.
        ask: gives the lines of at most `CHUNK` pages.
    """
    with counter(title, len(documents)) as advance:
        done = 0
        for line in _whole_lines(path):
            yield line
            done += 1
        advance(done)
        while rest := documents[done : done + CHUNK]:
            more = ask(rest)
            path.parent.mkdir(parents=True, exist_ok=True)
            with full_disk_said(path), open(path, "a", encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in more)
            yield from more
            done += len(more)
            advance(len(more))


def _whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of an earlier call; behind the last of them the file is cut off."""
    if not path.is_file():
        return
    whole = 0
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            yield json.loads(line)
            whole += len(line)
    if whole < path.stat().st_size:
        with full_disk_said(path):
            os.truncate(path, whole)
