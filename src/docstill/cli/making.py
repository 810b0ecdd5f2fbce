"""Verbs that make models: whole recipes, studies, single stages."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

import docstill
from docstill.cli.app import BatchSize, Epochs, Json, Out, Rate, Seed, Settings, TaskName, app
from docstill.cli.output import print_run, print_stage, print_value
from docstill.errors import UserError
from docstill.shipped import located

ImageSize = Annotated[
    str | None,
    typer.Option(
        help="HEIGHTxWIDTH of the pages in pixels, such as 512x352; not for an existing model, unless it is a Donut. Default: its own, for a new detector what fits the pages."
    ),
]


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
    results = docstill.compress(recipe, folder, _quoted(overrides), shlex.join(words))
    print_run(results, folder, as_json)


@app.command()
def study(
    grid: Annotated[str, typer.Argument(metavar="STUDY", help="A YAML file, or the name of a shipped study.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Changes to the study.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the study; default: runs/STUDY. An interrupted study goes on.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a grid of recipes: teachers × students × methods × seeds, with one table and a page of plots.

    Example: docstill study distildoc data.train=pages/train data.validation=pages/validation --run runs/study
    """
    folder = run or Path("runs") / Path(grid).stem
    words = ["docstill", "study", grid, *(overrides or []), "--run", str(folder)]
    results = docstill.study(grid, folder, _quoted(overrides), shlex.join(words))
    if as_json:
        print_value(results, True)
        return
    sys.stdout.write((folder / "table.md").read_text(encoding="utf-8"))
    sys.stdout.write(f"page: {folder / 'study.html'}\n")


@app.command()
def demo(
    run: Annotated[Path, typer.Option(help="Run folder; an interrupted demo goes on.")] = Path("runs/demo"),
    as_json: Json = False,
) -> None:
    """Run the main job on generated labels, from the small teacher that ships: no data and no weights to find.

    Example: docstill demo
    """
    results = docstill.demo(run, workers=min(4, os.cpu_count() or 1))
    print_run(results, run / "run", as_json)


@app.command()
def synth(
    kind: Annotated[str, typer.Argument(help="pages, labels, small-labels, receipts, layout or page-kinds.")],
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    n: Annotated[int, typer.Option("-n", help="How many documents.")],
    seed: Seed = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 1,
    fonts: Annotated[Path | None, typer.Option(help="A folder with fonts; default: those of the extra synth.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="For pages and layout: a UTF-8 text file.")] = None,
    form: Annotated[str, typer.Option(help="For receipts: nested (CORD's keys) or flat (SROIE's).")] = "nested",
    wear: Annotated[float, typer.Option(help="How worn the paper is, 0 to 1.")] = 1.0,
    glyphs: Annotated[bool, typer.Option(help="Say where each character stands, to learn reading from.")] = False,
    papers: Annotated[Path | None, typer.Option(help="A folder with photographs of paper to print on.")] = None,
    backgrounds: Annotated[Path | None, typer.Option(help="A folder with photographs for documents to lie on.")] = None,
    as_json: Json = False,
) -> None:
    """Generate documents with their ground truth: pictures and metadata.jsonl, COCO annotations, or class folders.

    Example: docstill synth labels parcels/train -n 1000 --workers 2
    """
    done = docstill.synth(
        kind,
        out,
        n,
        seed=seed,
        workers=workers,
        fonts=fonts,
        corpus=corpus,
        form=form,
        wear=wear,
        glyphs=glyphs,
        papers=papers,
        backgrounds=backgrounds,
    )
    if as_json:
        print_value(done, True)
        return
    sys.stdout.write(f"{done['n']} {done['kind']} in {done['out']}\n")


@app.command()
def train(
    settings: Settings = None,
    task: Annotated[str, typer.Option(help="classification, kie or layout.")] = "classification",
    new: Annotated[str | None, typer.Option(help="Train this size from scratch, e.g. resnet-18 or donut-mini.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Or go on from this model folder, hub id, or shipped:small-labels.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that holds train/ and validation/; data.train.KEY=VALUE draws documents."),
    ] = None,
    out: Out = ...,  # type: ignore[assignment]
    image_size: ImageSize = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a model on labels alone.

    Example: docstill train --new resnet-18 --data pages --out runs/teacher --epochs 40 augment=1

    Example: docstill train --task kie --new donut-micro --data packets data.train.synth=small-labels data.train.n=2000 --out runs/t
    """
    pairs, places = _apart(settings)
    chosen = _settings(pairs, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    splits = _data(data, places)
    source = _source(new, model, image_size, chosen.pop("config", None))
    print_stage(docstill.train(task, source, splits, out, seed, **chosen), as_json)


@app.command()
def prune(
    model: Annotated[str, typer.Argument(help="Model folder, hub id, or shipped:small-labels.")],
    out: Out,
    settings: Settings = None,
    method: Annotated[
        str, typer.Option(help="magnitude, pattern, depth, ffn, channels, vocabulary, merges, backbone or resolution.")
    ] = "magnitude",
    sparsity: Annotated[
        float | None, typer.Option(help="For magnitude: share of the chosen weights that become zero.")
    ] = None,
    of: Annotated[
        str | None, typer.Option(help="all, non-embedding or a glob over names; for depth and ffn encoder or decoder.")
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(
            help="One threshold for all tensors (global; lamp: magnitudes made comparable first) or one for each (layer)."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder that holds train/ and validation/, for methods that look at pages.")
    ] = None,
    task: TaskName = None,
    as_json: Json = False,
) -> None:
    """Make a model smaller at once: smallest weights to zero, or whole blocks, units, channels out.

    Example: docstill prune runs/teacher/model --sparsity 0.5 --out runs/pruned

    Example: docstill prune runs/teacher/model --method depth keep=0.5 --out runs/shallow
    """
    chosen = _settings(settings, method=method, sparsity=sparsity, of=of, scope=scope)
    print_stage(docstill.prune(model, out, task, data, **chosen), as_json)


@app.command()
def distill(
    teacher: Annotated[str, typer.Argument(help="Model folder, hub id, or shipped:small-labels.")],
    settings: Settings = None,
    student: Annotated[
        str | None, typer.Option(help="Model folder to start from, e.g. a pruned one, or shipped:small-labels.")
    ] = None,
    new: Annotated[str | None, typer.Option(help="Or a student of this size from scratch.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that holds train/ and validation/; data.train.KEY=VALUE draws documents."),
    ] = None,
    out: Out = ...,  # type: ignore[assignment]
    image_size: ImageSize = None,
    temperature: Annotated[
        float | None, typer.Option(help="Temperature of kd; not for layout.  [default: 2.0]")
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Weight of kd, for layout of query; the labels get 1 − alpha.  [default: 0.5]"),
    ] = None,
    task: TaskName = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Train a student on the labels and its teacher's probabilities, for layout its boxes too.

    Example: docstill distill runs/teacher/model --student runs/pruned/model --data pages --out runs/student
    """
    pairs, places = _apart(settings)
    chosen = _settings(pairs, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate)
    splits = _data(data, places)
    if "objectives" in chosen:
        if temperature is not None or alpha is not None:
            raise UserError(
                "--temperature and --alpha are for the usual objectives, and objectives=… was given; write both into it"
            )
    else:
        from docstill.api import usual_objectives
        from docstill.loaded import task_of

        task = task or task_of(teacher)
        chosen["objectives"] = usual_objectives(task, temperature, alpha)
    source = _source(new, student, image_size, chosen.pop("config", None))
    print_stage(docstill.distill(teacher, source, splits, out, task, seed, **chosen), as_json)


def _settings(pairs: list[str] | None, **flags: Any) -> dict[str, Any]:
    chosen = {name: value for name, value in flags.items() if value is not None}
    for pair in _quoted(pairs):
        key, separator, text = pair.partition("=")
        if not separator:
            raise UserError(f"{pair!r} is not a setting; write key=value")
        try:
            chosen[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"{pair!r} is no YAML ({' '.join(str(error).split())}); mend the value") from error
    return chosen


def _quoted(pairs: list[str] | None) -> list[str]:
    """The pairs with quotes around values such as 2:4: YAML would read 124, and a shell strips the quotes that are written."""
    return [re.sub(r"=(\d+:\d+)$", r"='\1'", pair) for pair in pairs or []]


def _apart(pairs: list[str] | None) -> tuple[list[str], list[str]]:
    """Settings of the stage, and those that say where its documents are."""
    places = [pair for pair in pairs or [] if pair.startswith("data.")]
    return [pair for pair in pairs or [] if pair not in places], places


def _data(folder: Path | None, places: list[str]) -> Any:
    """Where a stage's documents are: a folder that holds the splits, or splits one by one, the others from the folder."""
    if not places:
        if folder is None:
            raise UserError("give --data, the folder that holds train/ and validation/")
        return folder
    from docstill.data.splits import find_splits
    from docstill.recipe_text import overridden

    if folder is not None and not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give --data a folder that holds validation/")
    there = find_splits(folder) if folder is not None else {}
    content: dict[str, Any] = {split: str(path) for split, path in there.items() if split != "test"}
    return overridden({"data": content}, places)["data"]


def _source(new: str | None, model: str | None, size: str | None, config: Any) -> Any:
    if (new is None) == (model is None):
        raise UserError("give exactly one of: a size to begin from scratch (--new), or an existing model folder")
    if model is not None:
        if config is not None:
            raise UserError("config=… is for a model from scratch (--new); an existing one has its own")
        if size is None:
            return model
        from docstill.settings import Resized

        located(model)  # a name that is none is said as a sentence
        return Resized(load=model, image_size=_sides(size))
    if not isinstance(config, dict | None):
        raise UserError(f"config={config} is no mapping; write keys and values, such as config='{{decoder_layers: 3}}'")
    from docstill.settings import NewModel

    return NewModel(new=str(new), config=config or {}, image_size=None if size is None else _sides(size))


def _sides(text: str) -> tuple[int, int]:
    """Height and width from `512x352`."""
    parts = text.lower().replace("×", "x").split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f"--image-size {text} is no size; give HEIGHTxWIDTH in pixels, such as 512x352")
    return int(parts[0]), int(parts[1])
