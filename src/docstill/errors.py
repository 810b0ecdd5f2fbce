"""The errors docstill raises on purpose.

::

    DocstillError                something went wrong and we can say what        (exit code 1)
    └── UserError                the request, the data or a file is at fault      (exit code 2)
        ├── RecipeError          a recipe does not hold; lists every problem
        ├── DataError            documents are bad; lists every problem, with file and line
        ├── ModelError           a model folder cannot be used as asked
        ├── InUse                another process works in the run folder
        └── MissingExtra         an optional part is not installed

Every message is a sentence: what was given, what was expected, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class DocstillError(Exception):
    """Base of all errors raised on purpose."""


class UserError(DocstillError):
    """The user can mend this: the message says how."""


class _Problems(UserError):
    """A headline and every problem found, one a line."""

    def __init__(self, headline: str, problems: Sequence[str]) -> None:
        self.headline = headline
        self.problems = list(problems)
        super().__init__("\n".join([headline, *(f"  {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[_Problems], tuple[str, list[str]]]:
        """How a process that decodes pages hands it on."""
        return type(self), (self.headline, self.problems)


class RecipeError(_Problems):
    """A recipe that does not hold: one line a problem, with its key path."""


class DataError(_Problems):
    """Bad documents: one line a problem, with file and, where there is one, line number."""


class ModelError(UserError):
    """A model folder that cannot be used as asked."""


class InUse(UserError):
    """A run folder that another process works in."""


class MissingExtra(UserError):
    """A part of docstill that needs an extra which is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f'{what} needs packages that are not installed; run: pip install "docstill[{extra}]"')


MEMORY = (
    "memory ran out in one batch; give a smaller batch_size (with more gradient_accumulation_steps to learn from as many documents "
    "a step), a smaller image size or, for answers that are written, shorter ones (`docstill check` names very long ones), and another folder"
)
SHARED_MEMORY = (
    "a process that makes batches had no room left in shared memory (/dev/shm), of which Docker gives 64 MB; start the container with "
    "--shm-size=2g, or give workers=0, which needs none, in another folder"
)
KILLED = (
    "a process that makes batches was killed from outside, as systems do when memory runs out; give fewer workers, each of which "
    "holds batches of its own, or a smaller batch_size, in another folder"
)
_NO_ROOM = ("out of memory", "can't allocate memory", "cannot allocate memory", "_alloc_failed")


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, the system, a processor's allocator or a GPU's has no room, or a process that makes batches had none.

    torch often says so in words alone, and what became of such a process in the cause of the error.
    """
    if isinstance(error, MemoryError) or way_out(error, ""):
        return True
    return isinstance(error, RuntimeError | OSError) and any(word in str(error).lower() for word in _NO_ROOM)


def way_out(error: BaseException, usual: str = MEMORY) -> str:
    """What to do where memory ran out: `SHARED_MEMORY` or `KILLED`, if it was a process that makes batches, otherwise ``usual``."""
    said = f"{error}; {error.__cause__ or ''}".lower()
    if "out of shared memory" in said or ("</torch_" in said and "no space left on device" in said):
        return SHARED_MEMORY
    return KILLED if "dataloader worker" in said and "killed by signal: killed" in said else usual


def nearest(name: str, among: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known: ``; did you mean …?``, or nothing if none is near."""
    near = difflib.get_close_matches(name, list(among), n=1)
    return f"; did you mean {near[0]}?" if near else ""
