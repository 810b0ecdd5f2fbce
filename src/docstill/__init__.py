"""docstill makes document models small and fast without losing what they know, and proves it.

The verbs are functions here; they are loaded when first used, so that ``import docstill`` stays light and never
imports torch by itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docstill.api import benchmark, compare, compress, distill, explain, prune, study, train
    from docstill.checking import check
    from docstill.conversion import convert
    from docstill.demonstration import demo
    from docstill.errors import DataError, DocstillError, MissingExtra, ModelError, RecipeError, UserError
    from docstill.evaluation import evaluate
    from docstill.loaded import load
    from docstill.reporting.build import report
    from docstill.scoring import score
    from docstill.settings import NewModel, Resized
    from docstill.synthesis.generator import synth

__version__ = "0.1.0"

__all__ = [
    "DataError",
    "DocstillError",
    "MissingExtra",
    "ModelError",
    "NewModel",
    "RecipeError",
    "Resized",
    "UserError",
    "__version__",
    "benchmark",
    "check",
    "compare",
    "compress",
    "convert",
    "demo",
    "distill",
    "evaluate",
    "explain",
    "load",
    "prune",
    "report",
    "score",
    "study",
    "synth",
    "train",
]

_HOMES = {
    **dict.fromkeys(
        (
            "benchmark",
            "compare",
            "compress",
            "distill",
            "explain",
            "prune",
            "study",
            "train",
        ),
        "docstill.api",
    ),
    **dict.fromkeys(
        ("DataError", "DocstillError", "MissingExtra", "ModelError", "RecipeError", "UserError"), "docstill.errors"
    ),
    **dict.fromkeys(("NewModel", "Resized"), "docstill.settings"),
    "check": "docstill.checking",
    "convert": "docstill.conversion",
    "demo": "docstill.demonstration",
    "evaluate": "docstill.evaluation",
    "load": "docstill.loaded",
    "report": "docstill.reporting.build",
    "score": "docstill.scoring",
    "synth": "docstill.synthesis.generator",
}
_NEED_TORCH = frozenset({"docstill.api", "docstill.demonstration", "docstill.evaluation", "docstill.loaded"})


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'docstill' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(home), name)
    except ModuleNotFoundError as error:
        if home not in _NEED_TORCH or (error.name or "").startswith("docstill"):
            raise
        from docstill.errors import MissingExtra

        raise MissingExtra(f"docstill.{name}", "train") from error


def __dir__() -> list[str]:
    return __all__
