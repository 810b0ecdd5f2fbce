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


def out_of_memory(error: Exception) -> bool:
    """Whether Python, a processor's allocator or a GPU's has no room; torch's processor says so in words alone."""
    words = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


MEMORY = (
    "memory ran out in one batch; give a smaller batch_size (with more gradient_accumulation_steps to learn from as many documents "
    "a step), a smaller image size or, for answers that are written, shorter ones (`docstill check` names very long ones), and another folder"
)


def nearest(name: str, among: Iterable[str]) -> str:
    """The end of a sentence about a name that is not known: ``; did you mean …?``, or nothing if none is near."""
    near = difflib.get_close_matches(name, list(among), n=1)
    return f"; did you mean {near[0]}?" if near else ""
