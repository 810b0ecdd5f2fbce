"""The verbs as Python functions: `docstill.compress`, `docstill.evaluate`, `docstill.load(path).predict(images)`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from docstill.compression import TIMED_PAGES
from docstill.compression import compress as compress_recipe
from docstill.data.coco_folder import results_of
from docstill.data.images import IMAGE_SUFFIXES, as_read, open_image, open_pages, page_count
from docstill.data.splits import find_splits, resolve_split
from docstill.data.unlabelled import problems_of, read_unlabelled
from docstill.errors import DataError, ModelError, UserError
from docstill.explaining import graphs_of
from docstill.measure import hardware, measure
from docstill.models.io import DocumentModel, local_folder, read_card
from docstill.progress import counter
from docstill.recipe import Recipe, load_recipe
from docstill.reporting.build import write_report
from docstill.reporting.graphs import write_graphs
from docstill.reporting.shift import write_shift
from docstill.robustness import known_to_all, looks, missing_labels, on_other_pages, under_corruptions
from docstill.run import read_json, write_text
from docstill.scoring import intervals_of, unknown_told_apart
from docstill.settings import NewModel
from docstill.shipped import STUDIES, find_recipe
from docstill.similarity.comparison import comparison
from docstill.similarity.heatmap import picture_of, save_heatmap
from docstill.single_stage import one_stage
from docstill.studies.grid import Study, load_study
from docstill.studies.walk import run_study
from docstill.tasks import TASKS, task_named
from docstill.tasks.base import Evaluation, Pages, Task, drawn
from docstill.tasks.classification import Classification


@dataclass(frozen=True)
class Model:
    """A loaded model folder that answers for pages."""

    task: Task
    model: DocumentModel

    def predict(self, images: Iterable[str | Path | Image.Image]) -> list[dict[str, Any]]:
        """Answers for each page, in order.

        Args:
            images: files or Pillow images of any mode. Each page of a PDF or TIFF is a document of its own.

        Returns:
            For classification ``{"label", "probability", "probabilities"}``, for kie ``{"fields", "confidence", …}``, for
            layout ``{"regions"}``; see `docs/results.md`. Answers for files of several pages begin with ``page``, from 1.
        """
        places: list[int | None] = []
        answers = self.task.predict(self.model, _pages(images, places))
        return [
            answer if place is None else {"page": place, **answer}
            for place, answer in zip(places, answers, strict=True)
        ]


def _pages(images: Iterable[str | Path | Image.Image], places: list[int | None]) -> Iterator[Image.Image]:
    """All pages, one at a time; ``places`` gets the number of each within its file, None where the file has but one."""
    for image in images:
        if isinstance(image, Image.Image):
            places.append(None)
            yield as_read(image)
            continue
        several = page_count(Path(image)) > 1
        for number, page in enumerate(open_pages(Path(image)), 1):
            places.append(number if several else None)
            yield page


def load(source: str | Path, task: str | None = None) -> Model:
    """Loads a model folder (or hub id) whole.

    Raises:
        ModelError: no such model, weights are missing, or it is a model for another task.
    """
    chosen = task_named(task or task_of(str(source)))
    return Model(chosen, chosen.load_model(str(source)))


def compress(
    recipe: str | Path | Recipe, run: str | Path, overrides: Sequence[str] = (), command: str = ""
) -> dict[str, Any]:
    """Runs a recipe; see `docstill.compression.compress`. ``recipe`` is a file, a shipped recipe's name, or a `Recipe`."""
    if isinstance(recipe, Recipe):
        return compress_recipe(recipe, Path(run), command)
    path = find_recipe(str(recipe))
    return compress_recipe(load_recipe(path, list(overrides)), Path(run), command)


def study(
    grid: str | Path | Study, run: str | Path, overrides: Sequence[str] = (), command: str = ""
) -> dict[str, Any]:
    """Runs a grid of recipes; see `docstill.studies.walk.run_study`. ``grid`` is a file, a shipped study's name, or a `Study`."""
    chosen = grid if isinstance(grid, Study) else load_study(find_recipe(str(grid), STUDIES), list(overrides))
    return run_study(chosen, Path(run), command)


def evaluate(
    model: str | Path,
    data: str | Path,
    task: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    shift: str | Path | None = None,
    against: Sequence[str | Path] = (),
    outputs: str | Path | None = None,
    page: str | Path | None = None,
    intervals: bool = False,
    ood: str | Path | None = None,
) -> dict[str, Any]:
    """Scores a model on labelled documents: ``{"task", "model", "data", "n", "metrics"}``, and what else is asked for.

    Args:
        model: a model folder or hub id.
        data: a split's folder, or the folder that holds the splits.
        task: default: what the model is.
        split: default: ``validation``.
        limit: score so many documents only, drawn at random, always the same ones.
        shift: ``corruptions`` (see `docs/robustness.md`), or a folder with labelled pages from elsewhere, or with their splits.
        against: models to be shifted beside it, such as its teacher and its no-KD twin.
        outputs: file for what the model answers, as `docstill.score` reads it: JSON lines, for layout COCO's results.
        page: HTML file for the plots of a shift.
        intervals: kie and classification: add ``intervals``, as `docstill.score` does.
        ood: classification: a folder with pages of no known class; adds ``ood``, as `docstill.score` does.

    Raises:
        UserError: an option that is not for this task, or without another that it needs.
        ModelError: the model does not fit the data.
        DataError: documents are bad; all of them are named.
    """
    loaded = load(model, task)
    if loaded.task.name == "layout" and intervals:
        raise UserError("intervals are for kie and classification; evaluate a layout detector without them")
    if loaded.task.name != "classification" and ood is not None:
        raise UserError(
            f"unknown pages (ood) are told apart by a classifier's probabilities, {model} is for {loaded.task.name}; leave them out"
        )
    if outputs is not None and Path(outputs).is_dir():
        raise UserError(f"{outputs} is a folder; give a file for the outputs")
    if against and shift is None:
        raise UserError("models to be set against need a shift; add shift=corruptions, or a folder with other pages")
    if page is not None and shift is None:
        raise UserError("the page shows a shift; add shift=corruptions, or a folder with other pages, or leave it out")
    folder = resolve_split(Path(data), split)
    pages = loaded.task.read(folder)
    unknown = None if ood is None else _unknown(Path(ood))
    if limit is not None:
        pages = drawn(pages, limit, in_order=True)
        unknown = None if unknown is None else drawn(unknown, limit, in_order=True)
    with counter("scoring", len(pages.documents)) as advance:
        evaluation = loaded.task.evaluate(loaded.model, pages, advance)
    if outputs is not None:
        write_text(Path(outputs), _outputs(loaded.task, pages, evaluation))
    result: dict[str, Any] = {
        "task": loaded.task.name,
        "model": str(model),
        "data": str(folder),
        "n": len(pages.documents),
        "metrics": evaluation.metrics,
    }
    if intervals:
        right = evaluation.answers  # a classifier's lines hold the right classes, too
        if loaded.task.name == "kie":
            right = [{"gt_parse": document.expected} for document in evaluation.documents]
        result["intervals"] = intervals_of(loaded.task.name, evaluation.answers, right, Path(model), folder)
    if unknown is not None:
        assert isinstance(loaded.task, Classification)
        with counter("unknown pages", len(unknown.documents)) as advance:
            rows = loaded.task.logits(loaded.model, unknown, advance).tolist()
        said = [{"logits": row} for row in rows]
        result["ood"] = unknown_told_apart(evaluation.answers, said, Path(model), unknown.folder)
    if shift is not None:
        others = {str(source): load(source, loaded.task.name).model for source in against}
        result["shift"] = _shifted(loaded.task, {str(model): loaded.model, **others}, pages, shift, split, limit)
        if page is not None:
            write_shift(result, Path(page))
    return result


def _unknown(folder: Path) -> Pages:
    """Pages of no known class, all of which can be read."""
    documents = read_unlabelled(folder)
    if problems := problems_of(folder):
        raise DataError(f"the unknown pages in {folder} cannot be used; mend or remove these files", problems)
    return Pages(folder, documents)


def _outputs(task: Task, pages: Pages, evaluation: Evaluation) -> str:
    """What a model answered, as `docstill.scoring.score` reads it."""
    if task.name == "layout":
        return json.dumps(results_of(pages.folder, pages.documents, evaluation.answers)) + "\n"
    return "".join(json.dumps(answer) + "\n" for answer in evaluation.answers)


def _shifted(
    task: Task,
    models: dict[str, DocumentModel],
    pages: Pages,
    shift: str | Path,
    split: str | None,
    limit: int | None,
) -> dict[str, Any]:
    """What `evaluate` adds under ``shift``."""
    if str(shift) == "corruptions":
        if task.name == "layout":
            raise UserError(
                "corruptions turn and warp pages, and the labelled boxes would not move with them; for layouts give a folder with "
                "labelled pages from elsewhere"
            )
        with counter("under corruptions", looks(len(models), len(pages.documents))) as advance:
            return {"kind": "corruptions", "models": under_corruptions(task, models, pages, advance)}
    folder = resolve_split(Path(shift), split if find_splits(Path(shift)) else None)
    others = task.read(folder, Pages(folder, [], known_to_all(models)))
    if limit is not None:
        others = drawn(others, limit, in_order=True)
    with counter("on other pages", len(models) * (len(pages.documents) + len(others.documents))) as advance:
        found = on_other_pages(task, models, pages, others, advance)
    about = {"kind": "pages", "data": str(folder), "n": len(others.documents)}
    return {**about, "missing_labels": missing_labels(pages, others), "models": found}


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
    loaded = load(model, "layout")
    folder = resolve_split(Path(data), split)
    pages = drawn(loaded.task.read(folder), limit)
    loaded.task.check_model(loaded.model, pages)
    with counter("drawing graphs", len(pages.documents)) as advance:
        graphs = graphs_of(loaded.task, loaded.model, pages, by, non_text, advance)
    page = write_graphs(graphs, Path(out), f"Graphs of {folder.name}")
    return {"model": str(model), "data": str(folder), "page": str(page), "graphs": graphs}


def benchmark(
    models: Sequence[str | Path], data: str | Path | None = None, threads: int | None = None, rounds: int = 20
) -> dict[str, Any]:
    """Measures models side by side: ``{"hardware", "models": {name: figures}}``.

    Args:
        models: model folders of one task.
        data: pages to time with; default: a blank page, which says nothing about answers that end early.
        threads: CPU threads; default: all.
        rounds: interleaved rounds.
    """
    loaded = {str(source): load(source) for source in models}
    if len({model.task.name for model in loaded.values()}) > 1:
        given = ", ".join(f"{name} ({model.task.name})" for name, model in loaded.items())
        raise ModelError(f"only models of one task can be timed side by side, {given} given")
    images = [Image.new("RGB", (850, 1100), "white")]
    if data is not None:
        files = sorted(path for path in Path(data).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise UserError(f"{data} holds no images; give a folder with pages")
        images = [open_image(path) for path in files[:TIMED_PAGES]]
    folders = {name: _saved(name) for name in loaded}
    figures = measure({name: (folders[name], model.model) for name, model in loaded.items()}, images, rounds, threads)
    return {"hardware": hardware(), "models": figures}


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
    with counter("comparing", len(pages.documents)) as advance:
        found = comparison(first.task, first.model, second.model, pages, tokens, advance, layers)
    result = {"task": first.task.name, "teacher": str(teacher), "student": str(student), "data": str(folder), **found}
    if picture is not None:
        save_heatmap(picture_of(found["similarity"], found["n"]), Path(picture))
        result["picture"] = str(picture)
    return result


def train(
    task: str,
    model: str | NewModel,
    data: str | Path | Mapping[str, Any],
    out: str | Path,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """One `train` stage: learns from the labels. The result lies in ``out/model``.

    Args:
        task: what is learnt.
        model: a model folder or hub id, or a size to begin from scratch.
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
    student: str | NewModel,
    data: str | Path | Mapping[str, Any],
    out: str | Path,
    task: str | None = None,
    seed: int = 0,
    **settings: Any,
) -> dict[str, Any]:
    """One `distill` stage: learns from the teacher, which is scored first. The result lies in ``out/model``.

    ``data`` is as for `train`.

    Returns:
        As for `train`, with ``teacher``, its ``model`` and ``metrics`` on the validation split, and ``warnings``.
    """
    return one_stage("distill", settings, task or task_of(str(teacher)), student, out, data, seed, str(teacher))


def report(run: str | Path) -> Path:
    """Writes ``report.html`` again from the run's ``results.json``."""
    path = Path(run) / "results.json"
    if not path.is_file():
        raise UserError(f"{run} holds no results.json; give a run folder that `docstill compress` has finished")
    return write_report(read_json(path), Path(run))


def task_of(source: str) -> str:
    """The task of a model: from its card, or from the kind of network."""
    folder = local_folder(source)
    card = {} if folder is None else read_card(folder)
    if card.get("task") in TASKS:
        return str(card["task"])
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source, local_files_only=folder is not None)
    if config.model_type == "vision-encoder-decoder":
        return "kie"
    return "layout" if any("ObjectDetection" in name for name in config.architectures or []) else "classification"


def _saved(source: str) -> Path:
    """A local folder for ``source``; a hub id's cached snapshot."""
    folder = local_folder(source)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source))
