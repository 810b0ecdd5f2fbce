"""The Typer app that the verbs hang on; what they raise becomes one sentence and an exit code here, and only here."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import docstill
from docstill.errors import MEMORY, DocstillError, UserError, out_of_memory, way_out
from docstill.progress import say

RESUMED = frozenset({"compress", "demo", "distill", "study", "train"})
"""Verbs that go on where they were stopped."""
_SMALLER = (
    "pictures of fewer pixels, a model that takes smaller pages or, where it is a GPU's memory, the processor "
    "(CUDA_VISIBLE_DEVICES= before the command)"
)
LESS_MEMORY = {
    "compare": f"memory ran out; compare fewer documents (--limit), --tokens pooled or fewer --layers, or give {_SMALLER}",
    "benchmark": f"memory ran out; measure one model at a time, or give {_SMALLER}",
    "compress": MEMORY,
    "distill": MEMORY,
    "evaluate": f"memory ran out while pages were read; give fewer models --against, or {_SMALLER}",
    "explain": f"memory ran out while pages were read; draw fewer (--limit), or give {_SMALLER}",
    "predict": f"memory ran out while pages were read; give fewer files at a time, {_SMALLER}",
    "study": MEMORY,
    "synth": "memory ran out while documents were drawn; draw in fewer processes (--workers)",
    "train": MEMORY,
}
"""What each verb can do with less memory."""
TAKEN_ALONG = {
    "compress": "; a teacher that was trained in this one can be taken along: teacher=FOLDER/teacher/model",
    "study": "; teachers that were trained in this one can be taken along: teachers.NAME=FOLDER/teachers/NAME/model",
}
"""What need not be done again in another folder."""


class Verbs(TyperGroup):
    """Turns what a verb raises into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the verb."""
        try:
            done = super().invoke(ctx)
            sys.stdout.flush()
            return done
        except DocstillError as error:
            say(f"error: {error}")
            raise typer.Exit(2 if isinstance(error, UserError) else 1) from error
        except KeyboardInterrupt as error:
            goes_on = ctx.invoked_subcommand in RESUMED
            say("stopped; run the same command again to go on where it stopped" if goes_on else "stopped")
            raise typer.Exit(130) from error
        except BrokenPipeError as error:  # whoever read the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from error
        except (MemoryError, RuntimeError, TypeError, AttributeError, LookupError, ValueError, OSError) as error:
            if type(error).__module__.startswith(("typer", "click")):  # how Typer itself ends a command
                raise
            if out_of_memory(error):
                verb = ctx.invoked_subcommand
                usual = LESS_MEMORY.get(verb, "memory ran out; end other programs, or use a machine that has more")
                say(f"error: {way_out(error, usual)}{TAKEN_ALONG.get(verb, '')}")
                raise typer.Exit(1) from error
            say(traceback.format_exc())
            say("error: this is a fault in docstill; please report it with the lines above")
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=Verbs,
    help="Makes document models small and fast without losing what they know, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
TaskName = Annotated[
    str | None, typer.Option("--task", help="classification, kie or layout; default: what the model is.")
]
Out = Annotated[Path, typer.Option("--out", help="New folder; the result lies in OUT/model.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Further settings of the stage.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training split.")]
BatchSize = Annotated[int | None, typer.Option(help="Documents in a small batch.")]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate.")]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        sys.stdout.write(f"docstill {docstill.__version__}\n")
        raise typer.Exit
