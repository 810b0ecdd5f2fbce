"""Progress bars with time left: rich, on stderr, quiet when that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One line for the person at the terminal; never on stdout, which belongs to results."""
    console.print(text, markup=False, soft_wrap=True)


@contextmanager
def bar(title: str, total: int | None = None) -> Iterator[Callable[[int, int, str], None]]:
    """A bar; the yielded function is called with (done, total, short text)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as progress:
        line = progress.add_task(title, total=total, note="")
        yield lambda done, of, note: progress.update(line, completed=done, total=of, note=note)


@contextmanager
def counter(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is advanced by a number of things."""
    done = 0
    with bar(title, total) as update:

        def advance(more: int) -> None:
            nonlocal done
            done += more
            update(done, total, "")

        yield advance
