"""The verbs as Python functions: `docstill.compress`, `docstill.compare`, `docstill.train`; others have files of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from docstill.compression import TIMED_PAGES
from docstill.compression import compress as compress_recipe
from docstill.data.images import open_image, pictures
from docstill.data.splits import resolve_split
from docstill.decoding.speculative import drafted_by
from docstill.deploy.benchmark import Contender
from docstill.deploy.hardware import hardware
from docstill.errors import ModelError, UserError
from docstill.explaining import graphs_of
from docstill.files import check_writable
from docstill.loaded import load, task_of
from docstill.measure import measure
from docstill.models.io import fastest_device, local_folder
from docstill.progress import counter
from docstill.recipe import Recipe, load_recipe, parse_recipe
from docstill.recipe_text import overridden
from docstill.reporting.graphs import write_graphs
from docstill.settings import Source
from docstill.shipped import STUDIES, find_recipe, located
from docstill.similarity.comparison import comparison
from docstill.similarity.heatmap import picture_of, save_heatmap
from docstill.single_stage import one_stage
from docstill.studies.grid import Study, load_study
from docstill.studies.walk import run_study
from docstill.tasks.base import drawn
from docstill.tasks.kie_reading import whole_document


def compress(
    recipe: str | Path | Recipe | Mapping[str, Any], run: str | Path, overrides: Sequence[str] = (), command: str = ""
) -> dict[str, Any]:
    """Runs a recipe; see `docstill.compression.compress`.

    ``recipe`` is a file, a shipped recipe's name, a `Recipe`, or a mapping that holds what such a file does.
    """
    if isinstance(recipe, Recipe):
        return compress_recipe(recipe, Path(run), command)
    if isinstance(recipe, Mapping):
        chosen = parse_recipe(overridden(deepcopy(dict(recipe)), overrides))
    else:
        chosen = load_recipe(find_recipe(str(recipe)), list(overrides))
    return compress_recipe(chosen, Path(run), command)


def study(
    grid: str | Path | Study, run: str | Path, overrides: Sequence[str] = (), command: str = ""
) -> dict[str, Any]:
    """Runs a grid of recipes; see `docstill.studies.walk.run_study`. ``grid`` is a file, a shipped study's name, or a `Study`."""
    chosen = grid if isinstance(grid, Study) else load_study(find_recipe(str(grid), STUDIES), list(overrides))
    return run_study(chosen, Path(run), command)


def explain(
    model: str | Path,
    data: str | Path,
    out: str | Path,
    split: str | None = None,
    limit: int = 4,
    by: Literal["labels", "covariance"] = "labels",
    non_text: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Draws the graphs that the objective `graphkd` makes of pages, with ``model`` as the teacher.

    Args:
        model: a layout detector.
        data: a split's folder, or the folder that holds the splits; labelled.
        out: an HTML file.
        split: default: ``validation``.
        limit: so many pages, drawn at random, always the same ones.
        by: what tells text from the rest: ``labels`` or ``covariance``.
        non_text: names of the classes that are no text, for ``labels``; default: names that such classes usually have.

    Returns:
        ``{"model", "data", "page", "graphs"}``; what a graph holds stands at `docstill.explaining.graphs_of`.
    """
    if by == "covariance" and non_text:
        raise UserError("names that are no text were given, but covariance looks at no names; leave one of them out")
    if Path(out).is_dir():
        raise UserError(f"{out} is a folder; give the path of an HTML file")
    loaded = load(model, "layout")
    folder = resolve_split(Path(data), split)
    pages = drawn(loaded.task.read(folder), limit)
    loaded.task.check_model(loaded.model, pages)
    loaded.model.network.to(fastest_device())
    with counter("drawing graphs", len(pages.documents)) as advance:
        graphs = graphs_of(loaded.task, loaded.model, pages, by, non_text, advance)
    page = write_graphs(graphs, Path(out), f"Graphs of {folder.name}")
    return {"model": str(model), "data": str(folder), "page": str(page), "graphs": graphs}


def benchmark(
    models: Sequence[str | Path],
    data: str | Path | None = None,
    threads: int | None = None,
    rounds: int = 20,
    draft: str | Path | None = None,
) -> dict[str, Any]:
    """Measures models side by side: ``{"hardware", "models": {name: figures}}``.

    Args:
        models: model folders of one task.
        data: pages to time with; default: a blank page, which says nothing about answers that end early.
        threads: CPU threads; default: all.
        rounds: interleaved rounds.
        draft: a model that writes ahead of the first one, timed in the same rounds: adds ``drafted``, ``{"model", "draft",
            "latency_ms"}``; see `load`.

    Raises:
        UserError: one model and no list, none, or one that is given twice.
        ModelError: a model cannot be loaded, they are for several tasks, or the draft does not go with the first.
    """
    if isinstance(models, str | Path):
        raise UserError(f"benchmark takes a list of models, {models} was given alone; give [{str(models)!r}]")
    if not models:
        raise UserError("no models were given to be measured; give one or more model folders")
    places = [Path(source).expanduser().resolve() for source in models]
    if twice := [str(source) for number, source in enumerate(models) if places[number] in places[:number]]:
        raise UserError(f"{twice[0]} was given twice, and its times could not be told apart; give each model once")
    loaded = {str(source): load(source) for source in models}
    if len({model.task.name for model in loaded.values()}) > 1:
        given = ", ".join(f"{name} ({model.task.name})" for name, model in loaded.items())
        raise ModelError(f"only models of one task can be timed side by side, {given} given")
    images = [Image.new("RGB", (850, 1100), "white")]
    if data is not None:
        files = pictures(Path(data))
        if not files:
            raise UserError(f"{data} holds no images; give a folder with pages")
        images = [open_image(path) for path in files[:TIMED_PAGES]]
    folders = {name: _saved(name) for name in loaded}
    beside = []
    if draft is not None:
        first, drafted = str(models[0]), f"{models[0]}, drafted by {draft}"
        writes_ahead = drafted_by(load(draft).model, loaded[first].model)
        beside = [Contender(drafted, {"document": whole_document(loaded[first].model, images, writes_ahead)})]
    figures = measure(
        {name: (folders[name], model.model) for name, model in loaded.items()}, images, rounds, threads, beside
    )
    result = {"hardware": hardware(), "models": figures}
    if draft is not None:
        result["drafted"] = {"model": first, "draft": str(draft), **figures.pop(drafted)}
    return result


def compare(
    teacher: str | Path,
    student: str | Path,
    data: str | Path,
    task: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    tokens: str = "pooled",
    picture: str | Path | None = None,
    layers: Sequence[str] = (),
) -> dict[str, Any]:
    """How alike two models are: layer by layer (CKA), and in their answers; see `docs/similarity.md`.

    Args:
        teacher: a model folder or hub id.
        student: another, for the same task and the same classes.
        data: a split's folder, or the folder that holds the splits; labelled.
        task: default: what the teacher is.
        split: default: ``validation``.
        limit: look at so many documents only, drawn at random, always the same ones.
        tokens: ``pooled`` (documents are compared) or ``flattened`` (documents and places).
        picture: PNG file for the heatmap of all layers against all.
        layers: paths of modules, with ``*`` for any name; default: all blocks of both networks.
    """
    if picture is not None:
        if Path(picture).is_dir():
            raise UserError(f"{picture} is a folder; give a PNG file for the picture")
        check_writable(Path(picture))
    first, second = load(teacher, task), load(student, task)
    if "layout" in (first.task.name, second.task.name):
        raise UserError(
            "the layers of layout detectors cannot be compared yet; `docstill evaluate` scores them, and a run's report draws what "
            "they see side by side"
        )
    if first.task.name != second.task.name:
        raise ModelError(
            f"only models of one task can be compared, {teacher} is for {first.task.name} and {student} for {second.task.name}"
        )
    if first.task.name == "classification":
        first.task.check_pair(first.model, second.model)
    folder = resolve_split(Path(data), split)
    pages = first.task.read(folder)
    if limit is not None:
        pages = drawn(pages, limit)
    for one in (first, second):
        one.model.network.to(fastest_device())
    with counter("comparing", len(pages.documents)) as advance:
        found = comparison(first.task, first.model, second.model, pages, tokens, advance, layers)
    result = {"task": first.task.name, "teacher": str(teacher), "student": str(student), "data": str(folder), **found}
    if picture is not None:
        save_heatmap(picture_of(found["similarity"], found["n"]), Path(picture))
        result["picture"] = str(picture)
    return result


def train(
    task: str,
    model: Source,
    data: str | Path | Mapping[str, Any],
    out: str | Path,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """One `train` stage: learns from the labels. The result lies in ``out/model``.

    Args:
        task: what is learnt.
        model: a model folder, a hub id, ``shipped:NAME``, a `docstill.NewModel` to begin from scratch, or a `docstill.Resized`.
        data: the folder that holds the splits; or, as in a recipe, ``{"train": …, "validation": FOLDER}``, where ``train`` may
            be generated documents: ``{"synth": "labels", "n": 20000}``.
        out: a new folder, or one in which the same stage was stopped.
        seed: of everything random.
        settings: those of the stage.
    """
    return one_stage("train", settings, task, model, out, data, seed)


def prune(
    model: str | Path, out: str | Path, task: str | None = None, data: str | Path | None = None, **settings: Any
) -> dict[str, Any]:
    """One `prune` stage, at once; ``data`` for methods that look at pages. The result lies in ``out/model``."""
    return one_stage("prune", settings, task or task_of(str(model)), str(model), out, data)


def distill(
    teacher: str | Path,
    student: Source,
    data: str | Path | Mapping[str, Any],
    out: str | Path,
    task: str | None = None,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """One `distill` stage: learns from the teacher, which is scored first. The result lies in ``out/model``.

    ``data`` is as for `train`. Without ``objectives`` they are `usual_objectives`. A student that knows other classes, or lacks tags, gets those of the data first, as in a recipe.

    Returns:
        As for `train`, with ``teacher``, its ``model`` and ``metrics`` on the validation split, and ``warnings``.
    """
    task = task or task_of(str(teacher))
    settings = {"objectives": usual_objectives(task), **settings}
    return one_stage("distill", settings, task, student, out, data, seed, str(teacher))


def usual_objectives(task: str, temperature: float | None = None, alpha: float | None = None) -> list[dict[str, Any]]:
    """The labels, and what the teacher says: its probabilities (`kd`), for layout its scores and boxes (`query`).

    Args:
        task: `layout` or another.
        temperature: of `kd`; default: 2.
        alpha: weight of the teacher; the labels get 1 − alpha; default: 0.5.

    Raises:
        UserError: a temperature for layout.
    """
    if task == "layout" and temperature is not None:
        raise UserError("a temperature was given, which is for kd, and kd is not for layout; leave it out")
    share = 0.5 if alpha is None else alpha
    kd = {"kind": "kd", "temperature": 2.0 if temperature is None else temperature}
    taught = {"kind": "query"} if task == "layout" else kd
    return [{"kind": "labels", "weight": 1 - share}, {**taught, "weight": share}]


def _saved(source: str) -> Path:
    """A local folder for ``source``; a hub id's cached snapshot."""
    folder = local_folder(located(source))
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source))
