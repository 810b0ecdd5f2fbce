"""The main job: walks a recipe from teacher and data to student, controls, measurements and report.

Read `compress` from top to bottom; each call below it is one step of the run, done once, skipped when it is done.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from docstill.calibration import check_enough, temperature_of
from docstill.chains import DOCUMENTS, MODEL, OUTPUTS, Chain, Taught, without_teacher
from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.data.unlabelled import problems_of, read_unlabelled
from docstill.data.validator import check_splits, same_files
from docstill.decoding.schema import SCHEMA
from docstill.decoding.speculative import drafted_by
from docstill.deploy.benchmark import Contender
from docstill.deploy.hardware import hardware
from docstill.doubts import (
    classes_without_regions,
    extra_pages,
    lossy_answers,
    nothing_to_teach,
    shared_pictures,
    unmeasured_classes,
    unwritable_answers,
    warn,
)
from docstill.engine import BEST
from docstill.errors import DataError, ModelError, RecipeError, UserError
from docstill.files import copy_whole, read_json, read_lines, write_json, write_lines
from docstill.fingerprints import check_unchanged
from docstill.measure import measure
from docstill.metrics.classification import softmax
from docstill.models.donut_answers import same_vocabulary
from docstill.models.head import divide_logits
from docstill.models.io import DocumentModel, fastest_device, in_full_precision, local_folder
from docstill.optimiser import seed_everything
from docstill.progress import counter, say
from docstill.pruning.depth import KEPT_LAYERS
from docstill.pruning.merges import MERGES
from docstill.recipe import Generated, Recipe, Teacher, dump_recipe
from docstill.rehearsal import rehearse
from docstill.reporting.build import write_report
from docstill.results import DRAFTED, results_of
from docstill.run import (
    CALIBRATION,
    CHECKPOINT,
    DONE,
    EVALUATION,
    LOOKED_AT,
    LOOKS,
    has_learnt,
    locked,
    open_run,
    seconds_spent,
    step,
)
from docstill.settings import Resized, Stage
from docstill.shipped import located
from docstill.similarity.comparison import IN_A_RUN, layers_alike
from docstill.similarity.rows import share_of_same_answers
from docstill.sources import read_splits, stream_of
from docstill.stages import Bench, begin, know_schema, run_stage
from docstill.tasks import task_named
from docstill.tasks.base import BROUGHT_TO, Pages, Task
from docstill.tasks.key_order import KEY_ORDER
from docstill.tasks.kie_blank import BLANK_GUARD
from docstill.tasks.kie_reading import whole_document
from docstill.teacher_answers import sure_enough
from docstill.teacher_cache import FOLDER
from docstill.teacher_regions import with_regions

TIMED_PAGES = 20
"""At most; one for each round of timing, for long answers take longer than short ones."""


def compress(recipe: Recipe, run: Path, command: str = "", name: str = "", known: Path | None = None) -> dict[str, Any]:
    """Runs a recipe in the folder ``run``, or goes on where an earlier call was stopped.

    Args:
        recipe: what to do.
        run: the run folder; made if it is not there.
        command: the command that reproduces the run, for the report.
        name: what the report calls the run; default: the folder's name.
        known: a run with the same data and teacher; what it has found of them is taken over, not found again.

    Returns:
        The content of ``results.json``; beside it lie ``report.html`` and the student in ``model/``.

    Raises:
        RecipeError: the folder was begun with another recipe.
        DataError: documents are bad; all of them are named.
        ModelError: teacher or student cannot be used as asked.
    """
    taught = recipe.teacher.model if isinstance(recipe.teacher, Teacher) else recipe.teacher
    for source in (taught, recipe.student):  # a path that leads nowhere is said before the folder is this recipe's
        place = located(source.load) if isinstance(source, Resized) else source
        if isinstance(place, str):
            local_folder(place)
    open_run(run, dump_recipe(recipe))
    with locked(run):
        if not has_learnt(run):
            (run / LOOKED_AT / DONE).unlink(missing_ok=True)  # what was bad may have been mended
        if known is not None:
            _take_over(known, run)
        checked = step(run / LOOKED_AT, lambda: _check_data(recipe))
        task = task_named(recipe.task)
        training, validation = read_splits(task, recipe.data)
        bench = Bench(task, training, validation)
        warnings = warn(
            checked.get("warnings", [])  # runs begun by older versions have none
            + extra_pages(training)
            + extra_pages(validation)
            + classes_without_regions(task, training)
            + unmeasured_classes(task, training, validation)
            + lossy_answers(task, training)
            + lossy_answers(task, validation)
            + _measured_with(recipe.data.unlabelled, validation)
        )
        source = recipe.teacher if isinstance(recipe.teacher, str) else None
        check_unchanged(run, training, validation, source)
        task.check_scored(bench.validation)
        if recipe.calibrate:
            check_enough(bench.validation)  # now, not after hours
        if not any(run.glob("seed-*")) and (wrong := rehearse(recipe, bench, recipe.teacher)):
            raise RecipeError("the student cannot do what it is asked to", wrong)
        teacher = _teacher(recipe, bench, run)
        warnings += warn(
            nothing_to_teach(task, read_json(teacher.folder / EVALUATION / DONE)["metrics"])
            + [f"teacher: {line}" for line in unwritable_answers(task, teacher.model, bench.validation)]
        )
        unlabelled = _unlabelled(recipe, task, teacher, training)
        bench = replace(bench, teacher=teacher.model, unlabelled=unlabelled, shared=teacher.folder)
        more = 1 + len(unlabelled) / len(training.documents)

        chains = []
        for seed in range(recipe.seed, recipe.seed + recipe.repeats):
            student = Chain("student", seed, run / f"seed-{seed}" / "student", list(enumerate(recipe.stages, 1)))
            chains.append(student)
            if "no-kd" in recipe.controls and any(stage.kind == "distill" for stage in recipe.stages):
                chains.append(without_teacher(student, run / f"seed-{seed}" / "no-kd", more))
        for chain in chains:
            _run_chain(chain, recipe, bench, teacher)
        shutil.rmtree(teacher.folder / FOLDER, ignore_errors=True)
        compared = _compare(recipe, bench, teacher, chains)

        first = chains[0]
        # The first seed's student lies at the top of the run, so that deploying needs no search.
        copy_whole(first.folder / CALIBRATION / MODEL if recipe.calibrate else first.model_folder, run / MODEL)
        figures = step(run / "measurements", lambda: _measure(bench, teacher, chains, recipe))
        results = results_of(
            recipe, bench, teacher, chains, figures, compared, warnings, command, name or run.resolve().name
        )
        results["seconds"] = round(seconds_spent(run), 1)
        write_json(run / "results.json", results)
        write_report(results, run)
    return results


def _take_over(known: Path, run: Path) -> None:
    """Copies the steps of another run that depend on data and teacher alone, each whole or not at all."""
    for name in LOOKS:
        source, target = known / name, run / name
        if (source / DONE).is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_whole(source, target)
            write_json(target / DONE, read_json(target / DONE) | {"seconds": 0.0})  # spent once, in the other run


def _check_data(recipe: Recipe) -> dict[str, Any]:
    """Looks at every page once, before hours are spent; the report has ``warnings``."""
    say("checking the data")
    train, validation = recipe.data.train, recipe.data.validation
    splits = {"validation": validation}
    if isinstance(train, Generated):
        stream_of(train).page(0, 0)  # what is wrong with fonts, corpus or photographs is said now
    else:
        splits = {"train": train, **splits}
    found = check_splits(splits, recipe.task)
    problems = list(dict.fromkeys(found.problems))  # one folder may be both
    if recipe.data.unlabelled is not None:
        problems += problems_of(recipe.data.unlabelled)
    if problems:
        raise DataError(
            f"the data cannot be used, {len(problems)} problem(s) were found; mend these files and run again", problems
        )
    if isinstance(train, Generated):
        return {"warnings": []}
    pairs = [(file, first) for file, first, _ in found.shared]
    return {"warnings": shared_pictures(pairs, train, validation, found.splits["validation"]["n"])}


def _measured_with(unlabelled: Path | None, validation: Pages) -> list[str]:
    """A sentence on pages without labels that are measured with; nothing if there are none."""
    if unlabelled is None:
        return []
    pairs = same_files(read_unlabelled(unlabelled), validation.documents)
    return shared_pictures(pairs, unlabelled, validation.folder, len(validation.documents))


def _unlabelled(recipe: Recipe, task: Task, teacher: Taught, training: Pages) -> list[Document]:
    """The pages without labels; of kie those that the teacher answers surely enough; of both kie and layout as it does."""
    if recipe.data.unlabelled is None:
        return []
    documents = read_unlabelled(recipe.data.unlabelled)
    if recipe.task == "layout":
        confidence = recipe.data.confidence
        found = with_regions(task, teacher.model, documents, training.labels, teacher.folder, confidence)
        regions = sum(len(document.target.boxes) for document in found)
        say(
            f"on {len(found):,} of {len(documents):,} unlabelled pages the teacher finds regions with a score of "
            f"{confidence:g} or more, {regions:,} in all; the other pages are left out"
        )
        return found
    if recipe.task == "classification":
        return documents
    sure = sure_enough(task, teacher.model, documents, teacher.folder, recipe.data.confidence)
    say(
        f"of {len(documents):,} unlabelled pages the teacher answers {len(sure):,} with confidence {recipe.data.confidence:g}"
    )
    return sure


def _teacher(recipe: Recipe, bench: Bench, run: Path) -> Taught:
    """Trains the teacher if the recipe says so, loads it whole, scores it, and refuses one that is too weak."""
    task, folder = bench.task, run / "teacher"
    if isinstance(recipe.teacher, Teacher):
        source = str(train_teacher(recipe.teacher, bench, folder, recipe.seed))
    else:
        source = recipe.teacher
        folder.mkdir(exist_ok=True)
    model = task.load_model(source)
    taught = Taught(model, source, folder)
    figure = score_teacher(bench, model, folder / EVALUATION)[task.primary_metric]
    if recipe.teacher_floor is not None and figure < recipe.teacher_floor:
        raise ModelError(
            f"the teacher's {task.primary_metric} on the validation split is {figure:.4f}, below the recipe's teacher_floor of "
            f"{recipe.teacher_floor}; train it further, or lower the floor"
        )
    if recipe.calibrate:
        found = step(folder / CALIBRATION, lambda: _temperature(bench, model, folder / EVALUATION))
        divide_logits(model.network, found["temperature"])
    return taught


def score_teacher(bench: Bench, teacher: DocumentModel, folder: Path) -> dict[str, Any]:
    """Scores a teacher on the validation split, in a step of its own, before anybody learns from it; returns its metrics.

    Raises:
        ModelError: it does not know the classes of the data.
        DataError: there are answers that it cannot write.
    """
    task = bench.task
    task.check_model(teacher, bench.training)
    know_schema(task, teacher, bench.training)
    metrics: dict[str, Any] = step(folder, lambda: _evaluate(bench, teacher, folder, "scoring the teacher"))["metrics"]
    say(f"teacher: {task.primary_metric} {metrics[task.primary_metric]:.4f} on the validation split")
    return metrics


def train_teacher(teacher: Teacher, bench: Bench, folder: Path, seed: int) -> Path:
    """Trains a teacher in ``folder``, unless that is done; returns its model folder."""

    def train() -> dict[str, Any]:
        seed_everything(seed)
        model = begin(teacher.model, bench, None)
        bench.task.adapt(model, bench.training)
        report = run_stage(bench, model, Stage(train=teacher.train), folder, seed, "training the teacher")
        model.save(folder / MODEL)
        _forget(folder)
        return report

    step(folder, train)
    return folder / MODEL


def _run_chain(chain: Chain, recipe: Recipe, bench: Bench, teacher: Taught) -> None:
    task, previous = bench.task, chain.start
    for number, stage in chain.stages:
        folder, before = chain.stage_folder(number, stage), previous

        def work(stage: Stage = stage, folder: Path = folder, before: Path | None = before) -> dict[str, Any]:
            seed_everything(chain.seed)
            if before is not None:
                student = task.load_model(str(before))
            else:
                student = begin(teacher.source if recipe.student is None else recipe.student, bench, teacher.model)
                if isinstance(recipe.student, str | Resized):  # as a teacher that is trained further
                    task.adapt(student, bench.training)
                begun = {"stage": "begin", "from": "teacher" if recipe.student is None else str(recipe.student)}
                known = {
                    key: student.card[key]
                    for key in (SCHEMA, KEY_ORDER, BLANK_GUARD, KEPT_LAYERS, BROUGHT_TO, MERGES)
                    if key in student.card
                }
                student.card = {"lineage": [begun], **known}
            report = run_stage(
                bench, student, stage, folder, chain.seed, f"{chain.row}, seed {chain.seed}: {stage.kind}"
            )
            student.save(folder / MODEL)
            _forget(folder)
            return report

        step(folder, work)
        previous = folder / MODEL
        following = dict(chain.stages).get(number + 1)
        pruned = stage.kind == "prune" and following is not None and following.kind != "prune"
        if pruned and (chain.row, chain.seed) == ("student", recipe.seed):  # what learning adds can then be told
            _score(bench, previous, folder / EVALUATION, "scoring what is left")
    metrics = _score(bench, chain.model_folder, chain.folder / EVALUATION, f"scoring {chain.row}, seed {chain.seed}")
    figure = metrics[task.primary_metric]
    say(f"{chain.row}, seed {chain.seed}: {task.primary_metric} {figure:.4f}")
    if recipe.calibrate:
        step(chain.folder / CALIBRATION, lambda: _calibrated(bench, chain))


def _score(bench: Bench, model: Path, folder: Path, title: str) -> dict[str, Any]:
    """Scores a model folder on the validation split, in a step of its own; returns its metrics."""
    found = step(folder, lambda: _evaluate(bench, bench.task.load_model(str(model)), folder, title))
    metrics: dict[str, Any] = found["metrics"]
    return metrics


def _calibrated(bench: Bench, chain: Chain) -> dict[str, Any]:
    """Writes the chain's model once more, its temperature folded in."""
    model = bench.task.load_model(str(chain.model_folder))
    found = _temperature(bench, model, chain.folder / EVALUATION)
    divide_logits(model.network, found["temperature"])
    model.card.setdefault("lineage", []).append({"stage": "calibrate", "temperature": found["temperature"]})
    model.save(chain.folder / CALIBRATION / MODEL)
    return found


def _temperature(bench: Bench, model: DocumentModel, evaluation: Path) -> dict[str, Any]:
    """The temperature for a model, from what it answered when it was scored."""
    if not (evaluation / OUTPUTS).is_file():  # scored by a version that did not keep it
        _evaluate(bench, model, evaluation, "scoring once more, to calibrate")
    answers = read_lines(evaluation / OUTPUTS)
    logits = np.array([answer["logits"] for answer in answers])
    return temperature_of(bench.validation, softmax(logits), np.array([answer["label"] for answer in answers]))


def _compare(recipe: Recipe, bench: Bench, teacher: Taught, chains: list[Chain]) -> dict[str, list[dict[str, Any]]]:
    """Layers and answers of every student and control beside the teacher's, by row; empty if the recipe asks for none."""
    found: dict[str, list[dict[str, Any]]] = {}
    if not (recipe.task == "kie" if recipe.compare is None else recipe.compare):
        return found
    of_teacher = read_json(teacher.folder / EVALUATION / DOCUMENTS)
    for chain in chains:

        def work(chain: Chain = chain) -> dict[str, Any]:
            model = bench.task.load_model(str(chain.model_folder))
            for one in (teacher.model, model):
                one.network.to(fastest_device())
            answers = read_json(chain.folder / EVALUATION / DOCUMENTS)
            same = share_of_same_answers(recipe.task, of_teacher, answers)
            count = min(IN_A_RUN, len(bench.validation.documents))
            with counter(f"comparing {chain.row}, seed {chain.seed}", count) as advance:
                try:
                    alike = layers_alike(bench.task, teacher.model, model, bench.validation, advance)
                except UserError as error:  # no reason to lose a run that is otherwise done
                    alike = {"problem": f"Layers were not compared: {error}."}
            return {"seed": chain.seed, "same_answers": same, **alike}

        found.setdefault(chain.row, []).append(step(chain.folder / "similarity", work))
    return found


def _forget(folder: Path) -> None:
    """Drops a finished stage's checkpoints; its model and its curve stay."""
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)


def _evaluate(bench: Bench, model: DocumentModel, folder: Path, title: str) -> dict[str, Any]:
    model.network.to(fastest_device())
    with counter(title, len(bench.validation.documents)) as advance:
        evaluation = bench.task.evaluate(model, bench.validation, advance)
    write_json(folder / DOCUMENTS, [vars(document) for document in evaluation.documents])
    if bench.task.name == "classification":
        write_lines(folder / OUTPUTS, evaluation.answers)
    return {"metrics": evaluation.metrics}


def _measure(bench: Bench, teacher: Taught, chains: list[Chain], recipe: Recipe) -> dict[str, Any]:
    """Times the teacher and the first seed of each row; the no-KD control has the student's network."""
    say("measuring size, latency and memory")
    folders = {chain.row: chain.model_folder for chain in reversed(chains)}
    if "teacher" in recipe.controls:
        source = Path(teacher.source)
        as_it_lies = source.is_dir() and in_full_precision(source)  # as students are written: else bytes say nothing
        folders["teacher"] = source if as_it_lies else teacher.model.save(teacher.folder / MODEL)
    models = {row: (folder, bench.task.load_model(str(folder))) for row, folder in folders.items()}
    if "teacher" in models:  # it is held to the schema as its students are, which a folder from elsewhere does not say
        models["teacher"][1].card = dict(teacher.model.card)
    images = [open_image(document.file) for document in bench.validation.documents[:TIMED_PAGES]]
    beside = []
    if recipe.task == "kie" and "teacher" in models:
        (_, writes), (_, ahead) = models["teacher"], models["student"]
        if same_vocabulary(writes, ahead):
            beside.append(Contender(DRAFTED, {"document": whole_document(writes, images, drafted_by(ahead, writes))}))
    return {"hardware": hardware(), **measure(models, images, beside=beside)}
