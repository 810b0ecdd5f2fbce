"""The command line: one thin function a verb.

Exit codes: 0 done; 2 the request, the data or a file is at fault (the message says what to do); 1 docstill is at
fault; 130 stopped with Ctrl-C. With ``--json`` stdout holds one JSON document, or nothing if the verb failed; all
else goes to stderr.
"""

from __future__ import annotations

import os

from docstill.cli import looking, making, measuring  # noqa: F401  # importing them hangs their verbs on the app
from docstill.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command line."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    app()
