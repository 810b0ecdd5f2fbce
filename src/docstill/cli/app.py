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
from docstill.errors import MEMORY, DocstillError, UserError, out_of_memory
from docstill.progress import say

RESUMED = frozenset({"compress", "demo", "distill", "study", "train"})
"""Verbs that go on where they were stopped."""


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
                say(
                    f"error: {MEMORY}; a teacher that was trained in this one can be taken along: teacher=FOLDER/teacher/model"
                )
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
