"""The main job: walks a recipe from teacher and data to student, controls, measurements and report.

Read `compress` from top to bottom; each call below it is one step of the run, done once, skipped when it is done.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import docstill
from docstill.data.images import open_image
from docstill.data.validator import check
from docstill.engine import BEST, CHECKPOINT, METRICS
from docstill.errors import DataError, ModelError
from docstill.measure import hardware, measure
from docstill.models.io import DocumentModel
from docstill.optimiser import seed_everything
from docstill.progress import counter, say
from docstill.recipe import DistillStage, NewModel, Recipe, Stage, Teacher, dump_recipe
from docstill.reporting.build import write_report
from docstill.run import locked, open_run, read_json, read_metrics, seconds_spent, step, write_json
from docstill.stages import Bench, labels_only, run_stage
from docstill.tasks import task_named
from docstill.tasks.base import Judged, ModelSpec, Pages

MODEL = "model"
DOCUMENTS = "documents.json"
WORST = 10
TIMED_PAGES = 8
LATENCY_NOTE = (
    "One page at a time, from picture to answer, in rounds that take the models in turn; quote the ratios, "
    "absolute times depend on what else the machine does."
)


def compress(recipe: Recipe, run: Path, command: str = "", name: str = "") -> dict[str, Any]:
    """Runs a recipe in the folder ``run``, or goes on where an earlier call was stopped.

    Args:
        recipe: what to do.
        run: the run folder; made if it is not there.
        command: the command that reproduces the run, for the report.
        name: what the report calls the run; default: the folder's name.

    Returns:
        The content of ``results.json``; beside it lie ``report.html`` and the student in ``model/``.

    Raises:
        RecipeError: the folder was begun with another recipe.
        DataError: documents are bad; all of them are named.
        ModelError: teacher or student cannot be used as asked.
    """
    open_run(run, dump_recipe(recipe))
    with locked(run):
        step(run / "data", lambda: _check_data(recipe))
        task = task_named(recipe.task)
        training = task.read(recipe.data.train)
        bench = Bench(task, training, task.read(recipe.data.validation, training))
        teacher = _teacher(recipe, bench, run)
        bench = replace(bench, teacher=teacher.model)

        chains = []
        for seed in range(recipe.seed, recipe.seed + recipe.repeats):
            student = Chain("student", seed, run / f"seed-{seed}" / "student", list(enumerate(recipe.stages, 1)))
            chains.append(student)
            if "no-kd" in recipe.controls and any(stage.kind == "distill" for stage in recipe.stages):
                chains.append(_without_teacher(student, run / f"seed-{seed}" / "no-kd"))
        for chain in chains:
            _run_chain(chain, recipe, bench, teacher)

        first = chains[0]
        _hand_over(first.model_folder, run / MODEL)
        figures = step(run / "measurements", lambda: _measure(bench, teacher, chains, recipe))
        results = _results(recipe, bench, run, teacher, chains, figures, command, name or run.resolve().name)
        results["seconds"] = round(seconds_spent(run), 1)
        write_json(run / "results.json", results)
        write_report(results, run)
    return results


@dataclass(frozen=True)
class Taught:
    """The teacher of a run: the model, its folder, and what it scores."""

    model: DocumentModel
    source: str
    folder: Path


@dataclass(frozen=True)
class Chain:
    """The stages of one student or control with one seed, numbered, and where they are kept.

    ``start`` is a finished model folder that the first stage begins from, if the chain shares its first stages.
    """

    row: str
    seed: int
    folder: Path
    stages: list[tuple[int, Stage]]
    start: Path | None = None

    def stage_folder(self, number: int, stage: Stage) -> Path:
        """Where a stage keeps what it makes."""
        return self.folder / f"{number}-{stage.kind}"

    @property
    def model_folder(self) -> Path:
        """The model at the chain's end."""
        return self.stage_folder(*self.stages[-1]) / MODEL


def _check_data(recipe: Recipe) -> dict[str, Any]:
    """Looks at every page once, before hours are spent."""
    say("checking the data")
    problems = []
    for folder in dict.fromkeys([recipe.data.train, recipe.data.validation]):
        problems += check(folder, recipe.task)["problems"]
    if problems:
        raise DataError(
            f"the data cannot be used, {len(problems)} problem(s) were found; mend these files and run again", problems
        )
    return {}


def _teacher(recipe: Recipe, bench: Bench, run: Path) -> Taught:
    """Trains the teacher if the recipe says so, loads it whole, scores it, and refuses one that is too weak."""
    task, folder = bench.task, run / "teacher"
    if isinstance(recipe.teacher, Teacher):
        source = str(train_teacher(recipe.teacher, bench, folder, recipe.seed))
    else:
        source = recipe.teacher
        folder.mkdir(exist_ok=True)
    model = task.load_model(source)
    task.check_model(model, bench.training)
    taught = Taught(model, source, folder)
    metrics = step(
        folder / "evaluation", lambda: _evaluate(bench, model, folder / "evaluation", "scoring the teacher")
    )["metrics"]
    figure = metrics[task.primary_metric]
    say(f"teacher: {task.primary_metric} {figure:.4f} on the validation split")
    if recipe.teacher_floor is not None and figure < recipe.teacher_floor:
        raise ModelError(
            f"the teacher's {task.primary_metric} on the validation split is {figure:.4f}, below the recipe's teacher_floor of "
            f"{recipe.teacher_floor}; train it further, or lower the floor"
        )
    return taught


def train_teacher(teacher: Teacher, bench: Bench, folder: Path, seed: int) -> Path:
    """Trains a teacher in ``folder``, unless that is done; returns its model folder."""

    def train() -> dict[str, Any]:
        seed_everything(seed)
        model = _begin(teacher.model, bench, None)
        bench.task.adapt(model, bench.training)
        report = run_stage(bench, model, Stage(train=teacher.train), folder, seed, "training the teacher")
        model.save(folder / MODEL)
        _forget(folder)
        return report

    step(folder, train)
    return folder / MODEL


def _begin(source: str | NewModel, bench: Bench, teacher: DocumentModel | None) -> DocumentModel:
    if isinstance(source, NewModel):
        return bench.task.new_model(ModelSpec(source.new, source.config, source.image_size), bench.training, teacher)
    return bench.task.load_model(source)


def _without_teacher(student: Chain, folder: Path) -> Chain:
    """The no-KD control: the same stages from the same start, each distil stage learning from the labels alone.

    Stages before the first distil stage are the same for both, so the control begins from the student's.
    """
    first = next(index for index, (_, stage) in enumerate(student.stages) if stage.kind == "distill")
    start = student.stage_folder(*student.stages[first - 1]) / MODEL if first else None
    stages = [(number, _no_kd(stage)) for number, stage in student.stages[first:]]
    return Chain("no-kd", student.seed, folder, stages, start)


def _no_kd(stage: Stage) -> Stage:
    if not isinstance(stage.settings, DistillStage):
        return stage
    return Stage(distill=stage.settings.model_copy(update={"objectives": labels_only(stage.settings)}))


def _run_chain(chain: Chain, recipe: Recipe, bench: Bench, teacher: Taught) -> None:
    task, previous = bench.task, chain.start
    for number, stage in chain.stages:
        folder, before = chain.stage_folder(number, stage), previous

        def work(stage: Stage = stage, folder: Path = folder, before: Path | None = before) -> dict[str, Any]:
            if before is not None:
                student = task.load_model(str(before))
            else:
                seed_everything(chain.seed)
                student = _begin(teacher.source if recipe.student is None else recipe.student, bench, teacher.model)
                student.card = {
                    "lineage": [
                        {"stage": "begin", "from": "teacher" if recipe.student is None else str(recipe.student)}
                    ]
                }
            report = run_stage(
                bench, student, stage, folder, chain.seed, f"{chain.row}, seed {chain.seed}: {stage.kind}"
            )
            student.save(folder / MODEL)
            _forget(folder)
            return report

        step(folder, work)
        previous = folder / MODEL
    evaluation = chain.folder / "evaluation"

    def score() -> dict[str, Any]:
        return _evaluate(
            bench, task.load_model(str(chain.model_folder)), evaluation, f"scoring {chain.row}, seed {chain.seed}"
        )

    figure = step(evaluation, score)["metrics"][task.primary_metric]
    say(f"{chain.row}, seed {chain.seed}: {task.primary_metric} {figure:.4f}")


def _forget(folder: Path) -> None:
    """Drops a finished stage's checkpoints; its model and its curve stay."""
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)


def _evaluate(bench: Bench, model: DocumentModel, folder: Path, title: str) -> dict[str, Any]:
    with counter(title, len(bench.validation.documents)) as advance:
        evaluation = bench.task.evaluate(model, bench.validation, advance)
    write_json(folder / DOCUMENTS, [vars(document) for document in evaluation.documents])
    return {"metrics": evaluation.metrics}


def _hand_over(model: Path, target: Path) -> None:
    """Copies the first seed's student to ``run/model``, so that deploying needs no search."""
    scratch = target.with_name(".model.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(model, scratch)
    shutil.rmtree(target, ignore_errors=True)
    scratch.rename(target)


def _measure(bench: Bench, teacher: Taught, chains: list[Chain], recipe: Recipe) -> dict[str, Any]:
    """Times the teacher and the first seed of each row; the no-KD control has the student's network."""
    say("measuring size, latency and memory")
    folders = {chain.row: chain.model_folder for chain in reversed(chains)}
    if "teacher" in recipe.controls:
        folders["teacher"] = (
            Path(teacher.source) if Path(teacher.source).is_dir() else teacher.model.save(teacher.folder / MODEL)
        )
    models = {row: (folder, bench.task.load_model(str(folder))) for row, folder in folders.items()}
    images = [open_image(document.file) for document in bench.validation.documents[:TIMED_PAGES]]
    return measure(models, images)


def _results(
    recipe: Recipe,
    bench: Bench,
    run: Path,
    teacher: Taught,
    chains: list[Chain],
    figures: dict[str, Any],
    command: str,
    name: str,
) -> dict[str, Any]:
    evaluations: dict[str, list[tuple[int, Path]]] = {}
    for chain in chains:
        evaluations.setdefault(chain.row, []).append((chain.seed, chain.folder / "evaluation"))
    roles = {"student": "student", "no-kd": "control", "teacher": "teacher"}
    rows = [_row(row, roles[row], seeds, figures[row]) for row, seeds in evaluations.items()]
    if "teacher" in recipe.controls:
        rows.insert(0, _row("teacher", "teacher", [(recipe.seed, teacher.folder / "evaluation")], figures["teacher"]))
    curves = [_curve("teacher", recipe.seed, "train", teacher.folder)]
    curves += [
        _curve(chain.row, chain.seed, stage.kind, chain.stage_folder(number, stage))
        for chain in chains
        for number, stage in chain.stages
    ]
    first = chains[0]
    done = [read_json(first.stage_folder(number, stage) / "done.json") for number, stage in first.stages]
    if (teacher.folder / "done.json").is_file():
        report = read_json(teacher.folder / "done.json")
        done.insert(0, {**report, "name": "teacher"})
    return {
        "docstill": docstill.__version__,
        "name": name,
        "task": recipe.task,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(),
        "recipe": dump_recipe(recipe),
        "primary_metric": bench.task.primary_metric,
        "data": {
            split: {"path": str(pages.folder), "n": len(pages.documents)}
            for split, pages in (("train", bench.training), ("validation", bench.validation))
        },
        "stages": [{"name": entry["name"], "text": entry["text"], "seconds": entry["seconds"]} for entry in done],
        "rows": rows,
        "latency_note": LATENCY_NOTE,
        "curves": [curve for curve in curves if curve["points"]],
        "worst": _worst(bench.validation, first.folder / "evaluation", teacher.folder / "evaluation"),
        "warnings": _warnings(recipe),
    }


def _row(row: str, role: str, seeds: list[tuple[int, Path]], figures: dict[str, Any]) -> dict[str, Any]:
    found = [read_json(folder / "done.json")["metrics"] for _, folder in seeds]
    names = [metric for metric, value in found[0].items() if isinstance(value, float | int)]
    return {
        "name": row,
        "role": role,
        "seeds": [seed for seed, _ in seeds],
        "metrics": {metric: _summary([metrics[metric] for metrics in found]) for metric in names},
        "per_class": [metrics.get("per_class") or metrics.get("per_field") or {} for metrics in found],
        **figures,
    }


def _summary(values: list[float]) -> dict[str, Any]:
    """Mean and sample standard deviation; no spread from one value."""
    return {
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "values": [float(value) for value in values],
    }


def _curve(row: str, seed: int, stage: str, folder: Path) -> dict[str, Any]:
    return {"name": row, "seed": seed, "stage": stage, "points": read_metrics(folder / METRICS)}


def _worst(pages: Pages, student: Path, teacher: Path) -> list[dict[str, Any]]:
    judged = [Judged(**entry) for entry in read_json(student / DOCUMENTS)]
    of_teacher = {entry["file"]: entry["predicted"] for entry in read_json(teacher / DOCUMENTS)}
    files = {document.where: str(document.file) for document in pages.documents}
    return [
        {
            "file": document.file,
            "image": files.get(document.file),
            "expected": document.expected,
            "student": document.predicted,
            "teacher": of_teacher.get(document.file),
            "score": document.score,
        }
        for document in sorted(judged, key=lambda document: document.score)[:WORST]
    ]


def _warnings(recipe: Recipe) -> list[str]:
    warnings = []
    if recipe.repeats == 1:
        warnings.append("One seed only: differences between rows may be chance. Set repeats: 3 to see the spread.")
    return warnings
