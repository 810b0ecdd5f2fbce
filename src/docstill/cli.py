"""The command line: one thin function a verb.

Exit codes: 0 done; 2 the request, the data or a file is at fault (the message says what to do); 1 docstill is at
fault; 130 stopped with Ctrl-C. With ``--json`` stdout holds exactly one JSON document; all else goes to stderr.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.table import Table
from typer.core import TyperGroup

import docstill
from docstill import shipped
from docstill.errors import DocstillError, UserError
from docstill.progress import say


class _Verbs(TyperGroup):
    """Turns what a verb raises into one sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DocstillError as error:
            say(f"error: {error}")
            raise typer.Exit(2 if isinstance(error, UserError) else 1) from error
        except KeyboardInterrupt as error:
            say("stopped; run the same command again to go on where it stopped")
            raise typer.Exit(130) from error
        except MemoryError as error:
            say("error: memory ran out; use a smaller batch_size with more gradient_accumulation_steps")
            raise typer.Exit(1) from error
        except (RuntimeError, TypeError, AttributeError, LookupError, ValueError, OSError) as error:
            if type(error).__module__.startswith(("typer", "click")):  # how Typer itself ends a command
                raise
            say(traceback.format_exc())
            say("error: this is a fault in docstill; please report it with the lines above")
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_Verbs,
    help="Makes document models small and fast without losing what they know, and proves it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
TaskName = Annotated[str | None, typer.Option("--task", help="classification or kie; default: what the model is.")]
Out = Annotated[Path, typer.Option("--out", help="New folder; the result lies in OUT/model.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Settings = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Further settings of the stage.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the training split.")]
BatchSize = Annotated[int | None, typer.Option(help="Documents in a small batch.")]
Rate = Annotated[float | None, typer.Option(help="Peak learning rate.")]


@app.command()
def compress(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Changes to the recipe.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Run folder; default: runs/RECIPE. An interrupted run goes on.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a recipe: teacher and data in; small student, controls, measurements and report out.

    Example: docstill compress doctype data.train=pages/train data.validation=pages/validation --run runs/pages
    """
    folder = run or Path("runs") / Path(recipe).stem
    words = ["docstill", "compress", recipe, *(overrides or []), "--run", str(folder)]
    results = docstill.compress(recipe, folder, overrides or [], shlex.join(words))
    _finish(results, folder, as_json)


@app.command()
def demo(
    run: Annotated[Path, typer.Option(help="Run folder; an interrupted demo goes on.")] = Path("runs/demo"),
    as_json: Json = False,
) -> None:
    """Run the main job on generated pages: no data and no weights needed.

    Example: docstill demo
    """
    results = docstill.demo(run)
    _finish(results, run / "run", as_json)


@app.command()
def train(
    settings: Settings = None,
    task: Annotated[str, typer.Option(help="classification or kie.")] = "classification",
    new: Annotated[str | None, typer.Option(help="Train this size from scratch, e.g. resnet-18 or donut-mini.")] = None,
    model: Annotated[str | None, typer.Option(help="Or go on from this model folder or hub id.")] = None,
    data: Annotated[Path, typer.Option(help="Folder that holds train/ and validation/.")] = ...,  # type: ignore[assignment]
    out: Out = ...,  # type: ignore[assignment]
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a model on labels alone.

    Example: docstill train --new resnet-18 --data pages --out runs/teacher --epochs 40 augment=1
    """
    chosen = _settings(settings, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    _print_stage(docstill.train(task, _source(new, model), data, out, seed, **chosen), as_json)


@app.command()
def prune(
    model: Annotated[str, typer.Argument(help="Model folder or hub id.")],
    sparsity: Annotated[float, typer.Option(help="Share of the chosen weights that become zero.")],
    out: Out,
    of: Annotated[str, typer.Option(help="all, non-embedding, or a glob over parameter names.")] = "non-embedding",
    scope: Annotated[
        str, typer.Option(help="One threshold for all tensors (global) or one for each (layer).")
    ] = "global",
    task: TaskName = None,
    as_json: Json = False,
) -> None:
    """Set the smallest weights to zero, at once.

    Example: docstill prune runs/teacher/model --sparsity 0.5 --out runs/pruned
    """
    _print_stage(docstill.prune(model, out, task, sparsity=sparsity, of=of, scope=scope), as_json)


@app.command()
def distill(
    teacher: Annotated[str, typer.Argument(help="Model folder or hub id.")],
    settings: Settings = None,
    student: Annotated[str | None, typer.Option(help="Model folder to start from, e.g. a pruned one.")] = None,
    new: Annotated[str | None, typer.Option(help="Or a student of this size from scratch.")] = None,
    data: Annotated[Path, typer.Option(help="Folder that holds train/ and validation/.")] = ...,  # type: ignore[assignment]
    out: Out = ...,  # type: ignore[assignment]
    temperature: Annotated[float, typer.Option(help="Temperature of kd.")] = 2.0,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Weight of kd; the labels get 1 − alpha.")] = 0.5,
    task: TaskName = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a student on its teacher's probabilities and the labels.

    Example: docstill distill runs/teacher/model --student runs/pruned/model --data pages --out runs/student
    """
    chosen = _settings(settings, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    chosen.setdefault(
        "objectives",
        [{"kind": "labels", "weight": 1 - alpha}, {"kind": "kd", "temperature": temperature, "weight": alpha}],
    )
    _print_stage(docstill.distill(teacher, _source(new, student), data, out, task, seed, **chosen), as_json)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder or hub id.")],
    data: Annotated[Path, typer.Argument(help="A split's folder, or the folder that holds the splits.")],
    task: TaskName = None,
    split: Annotated[str | None, typer.Option(help="Default: validation.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first so many documents only.")] = None,
    as_json: Json = False,
) -> None:
    """Score a model on labelled documents.

    Example: docstill evaluate runs/pages/model pages --split validation --json
    """
    _print(docstill.evaluate(model, data, task, split, limit), as_json)


@app.command()
def score(
    predictions: Annotated[Path, typer.Argument(help="JSON lines, one answer a document.")],
    answers: Annotated[Path, typer.Argument(help="JSON lines, one right answer a document, in the same order.")],
    task: Annotated[str, typer.Option(help="kie or classification.")],
    as_json: Json = False,
) -> None:
    """Score any system's answers, without a model.

    Example: docstill score --task kie predictions.jsonl answers.jsonl --json
    """
    _print(docstill.score(task, predictions, answers), as_json)


@app.command()
def benchmark(
    models: Annotated[list[str], typer.Argument(help="Model folders or hub ids.")],
    data: Annotated[Path | None, typer.Option(help="Folder with pages to time with.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; default: all.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds.")] = 20,
    as_json: Json = False,
) -> None:
    """Measure models side by side: size, FLOPs, bytes, latency, memory.

    Example: docstill benchmark runs/pages/teacher/model runs/pages/model --data pages/validation
    """
    result = docstill.benchmark(models, data, threads, rounds)
    if as_json:
        _print(result, True)
        return
    table = Table("model", "parameters", "non-zero", "bytes", "part", "p50 ms", "p95 ms", "memory MB")
    for name, row in result["models"].items():
        parts = {"document": row["latency_ms"]} if "p50" in row["latency_ms"] else row["latency_ms"]
        for part, times in parts.items():
            size = (f"{row['params']['total']:,}", f"{row['params']['nonzero']:,}", f"{row['bytes']:,}")
            table.add_row(
                name, *size, part, f"{times['p50']:.2f}", f"{times['p95']:.2f}", f"{row['peak_memory_mb']:.0f}"
            )
    _table(table)


@app.command()
def compare(
    teacher: Annotated[str, typer.Argument(help="Model folder or hub id.")],
    student: Annotated[str, typer.Argument(help="Another, for the same task.")],
    data: Annotated[Path, typer.Argument(help="A split's folder, or the folder that holds the splits.")],
    task: TaskName = None,
    split: Annotated[str | None, typer.Option(help="Default: validation.")] = None,
    limit: Annotated[int | None, typer.Option(min=4, help="Look at the first so many documents only.")] = None,
    tokens: Annotated[str, typer.Option(help="pooled: alike documents; flattened: at alike places too.")] = "pooled",
    picture: Annotated[Path | None, typer.Option(help="PNG file for the heatmap.")] = None,
    as_json: Json = False,
) -> None:
    """Compare two models: layer by layer (CKA), and in their answers.

    Example: docstill compare runs/pages/teacher/model runs/pages/model pages --picture cka.png
    """
    found = docstill.compare(teacher, student, data, task, split, limit, tokens, picture)
    if as_json:
        _print(found, True)
        return
    similar, shown = found["similarity"], found.get("picture")
    head = {"n": found["n"], "global_cka": similar["global"], "by_chance": similar["chance"], **similar["parts"]}
    matched = {f"{pair['teacher']} ~ {pair['student']}": pair["cka"] for pair in _matched(similar["layers"])}
    _print({**head, "layers": matched, "agreement": found["agreement"], **({"picture": shown} if shown else {})}, False)


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="Model folder or hub id.")],
    files: Annotated[list[Path], typer.Argument(help="Pictures of pages.")],
    task: TaskName = None,
    as_json: Json = False,
) -> None:
    """Read pages with a model.

    Example: docstill predict runs/pages/model scan.jpg --json
    """
    answers = docstill.load(model, task).predict(files)
    _print([{"file": str(file), **answer} for file, answer in zip(files, answers, strict=True)], as_json)


@app.command()
def check(
    data: Annotated[Path, typer.Argument(help="A split's folder, or the folder that holds the splits.")],
    task: TaskName = None,
    as_json: Json = False,
) -> None:
    """Look at every page and label of a data set, and name all that is wrong. Exit code 2 if anything is.

    Example: docstill check pages
    """
    found = docstill.check(data, task)
    _print(found, as_json)
    if found["problems"]:
        raise typer.Exit(2)


@app.command()
def recipes(
    action: Annotated[str, typer.Argument(help="list, show NAME, or copy NAME [FILE].")] = "list",
    name: Annotated[str | None, typer.Argument()] = None,
    target: Annotated[Path | None, typer.Argument()] = None,
    as_json: Json = False,
) -> None:
    """List the shipped recipes, show one, or copy one out for editing.

    Example: docstill recipes copy doctype my-recipe.yaml
    """
    if action == "list":
        if as_json:
            _print(shipped.recipes(), True)
            return
        table = Table("recipe", "what it does")
        for key, about in shipped.recipes().items():
            table.add_row(key, about)
        _table(table)
    elif action in {"show", "copy"} and name is not None:
        if action == "show":
            text = shipped.find_recipe(name).read_text(encoding="utf-8")
            _print({"name": name, "recipe": text}, True) if as_json else sys.stdout.write(text)
        else:
            path = shipped.copy_recipe(name, target or Path.cwd())
            _print({"name": name, "file": str(path)}, as_json)
    else:
        raise UserError(f"`docstill recipes {action}` is not complete; use list, show NAME, or copy NAME [FILE]")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A finished run folder.")], as_json: Json = False) -> None:
    """Write a run's report.html again from its results.

    Example: docstill report runs/pages
    """
    _print({"report": str(docstill.report(run))}, as_json)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        sys.stdout.write(f"docstill {docstill.__version__}\n")
        raise typer.Exit


def main() -> None:
    """Runs the command line."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    app()


def _settings(pairs: list[str] | None, **flags: Any) -> dict[str, Any]:
    chosen = {name: value for name, value in flags.items() if value is not None}
    for pair in pairs or []:
        key, separator, text = pair.partition("=")
        if not separator:
            raise UserError(f"{pair!r} is not a setting; write key=value")
        chosen[key] = yaml.safe_load(text)
    return chosen


def _source(new: str | None, model: str | None) -> Any:
    if (new is None) == (model is None):
        raise UserError("give exactly one of: a size to begin from scratch (--new), or an existing model folder")
    if model is not None:
        return model
    from docstill.recipe import NewModel

    return NewModel(new=str(new))


def _finish(results: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        _print(results, True)
        return
    metric = results["primary_metric"]
    table = Table("", metric, "spread", "parameters", "non-zero", "ms a page (p50)")
    for row in results["rows"]:
        figure, latency = row["metrics"][metric], row["latency_ms"].get("document", row["latency_ms"])
        spread = "–" if figure["std"] is None else f"± {figure['std']:.4f}"
        size = (f"{row['params']['total']:,}", f"{row['params']['nonzero']:,}")
        table.add_row(row["name"], f"{figure['mean']:.4f}", spread, *size, f"{latency['p50']:.1f}")
    _table(table)
    sys.stdout.write(f"student: {folder / 'model'}\nreport:  {folder / 'report.html'}\n")


def _print_stage(done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print(done, True)
    else:
        sys.stdout.write(f"{done['text']}\nmodel: {done['model']}\n")


def _matched(layers: dict[str, Any]) -> list[dict[str, Any]]:
    """The matched layers by their short names."""
    return [
        {
            "teacher": layers["teacher_names"][pair["teacher"]],
            "student": layers["student_names"][pair["student"]],
            "cka": pair["cka"],
        }
        for pair in layers["matched"]
    ]


def _table(table: Table) -> None:
    from rich.console import Console

    Console(highlight=False).print(table)


def _print(value: Any, as_json: bool) -> None:
    """One JSON document, or the same as YAML for people."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    else:
        sys.stdout.write(
            yaml.safe_dump(json.loads(json.dumps(value, default=str)), sort_keys=False, allow_unicode=True)
        )


if __name__ == "__main__":
    main()
