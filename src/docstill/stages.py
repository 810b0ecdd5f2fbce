"""The stages: one step from model to model. Each changes the student it is given and says what it did."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from docstill.batches import PageSet, epoch_batches, page_set
from docstill.checkpoint import Extra
from docstill.data.document import Document
from docstill.decoding.confidence import CONFIDENCE
from docstill.decoding.schema import SCHEMA
from docstill.doubts import respelt_answers, unwritable_answers, warn
from docstill.engine import Trainee, fit
from docstill.errors import RecipeError, UserError
from docstill.fitting import unfit_objectives, unfit_training
from docstill.lesson import Lesson, make_objectives
from docstill.models.io import DocumentModel, fastest_device
from docstill.objective_settings import made_objective
from docstill.objectives import OBJECTIVES
from docstill.optimiser import seed_everything
from docstill.progress import bar
from docstill.prune_settings import PruneStage
from docstill.prune_stage import prune
from docstill.pruning.magnitude import magnitude_masks, select_weights
from docstill.pruning.masks import Masks, apply_masks
from docstill.pruning.resolution import at_size
from docstill.pruning.schedule import cubic_sparsity
from docstill.settings import DistillStage, GradualPruning, NewModel, Resized, Source, Stage, Training, TrainStage
from docstill.shipped import located
from docstill.tasks.base import BROUGHT_TO, Batch, Evaluation, ModelSpec, Pages, Task
from docstill.tasks.key_order import same_order
from docstill.tasks.spelling import check_spelt_alike
from docstill.teacher_answers import with_teacher_answers, writable
from docstill.teacher_cache import FOLDER, TeacherCache, ask_once

DRY, DRY_PIXELS = 8, 8_000_000
"""Documents, and pixels of them, that objectives take their scales and shapes from: the same ones whatever the small batches."""


@dataclass(frozen=True)
class Bench:
    """What every stage works with."""

    task: Task
    training: Pages
    validation: Pages
    teacher: DocumentModel | None = None
    unlabelled: Sequence[Document] = ()
    """Pages that only stages with a teacher look at."""
    shared: Path | None = None
    """Folder for what stages of all seeds can use; default: each stage's own."""


def run_stage(
    bench: Bench, student: DocumentModel, stage: Stage, folder: Path, seed: int, title: str
) -> dict[str, Any]:
    """Runs one stage on ``student`` in place; what is kept while it runs lies in ``folder``.

    Returns:
        What was done: ``name``, ``text`` (a sentence), ``seconds`` and the stage's own figures.
    """
    began = time.perf_counter()
    settings = stage.settings
    if isinstance(settings, PruneStage):
        known = SCHEMA in student.card
        know_schema(bench.task, student, bench.training)  # before, for tokens are merged as the model writes them
        if bench.teacher is not None:
            same_order(student, bench.teacher)
        before = replace(student, card=dict(student.card))
        report = prune(bench.task, student, settings, bench.training, bench.validation)
        student.card.pop(CONFIDENCE, None)  # fitted to the network as it was
        if not known:  # lengths of values are counted in the tokens that are left
            student.card.pop(SCHEMA, None)
            know_schema(bench.task, student, bench.training)
            same_order(student, before)
    elif isinstance(settings, DistillStage):
        report = learn(bench, student, settings, settings.objectives, folder, seed, title)
    else:
        report = learn(bench, student, settings, labels_only(settings), folder, seed, title)
    report = {"name": stage.kind, "seconds": round(time.perf_counter() - began, 2), **report}
    student.card.setdefault("lineage", []).append(
        {"stage": stage.kind, "settings": stage.settings.model_dump(mode="json")}
    )
    return report


def begin(source: Source, bench: Bench, teacher: DocumentModel | None) -> DocumentModel:
    """A model as nobody has taught it here: one from scratch, with the vocabulary of ``teacher`` if there is one, or one that is loaded.

    Raises:
        UserError: pages of another size for a network that is no Donut.
        ModelError: the model cannot be made, or loaded.
    """
    if isinstance(source, NewModel):
        return bench.task.new_model(ModelSpec(source.new, source.config, source.image_size), bench.training, teacher)
    if isinstance(source, Resized):
        if bench.task.name != "kie":
            raise UserError(
                f"another image_size for {source.load} was given, which is for kie, the task is {bench.task.name}; leave it out"
            )
        model = at_size(bench.task.load_model(located(source.load)), source.image_size)
        model.card = {key: value for key, value in model.card.items() if key != BROUGHT_TO}
        return model
    return bench.task.load_model(source)


def know_schema(task: Task, model: DocumentModel, pages: Pages | None) -> None:
    """Holds a model that has not learnt here to the schema of the answers, as those are that have; else rows would compare grammars."""
    if pages is not None and SCHEMA not in model.card:
        task.before_learning(model, pages)


def labels_only(settings: Training) -> list[dict[str, Any]]:
    """The objectives of plain training; for a distil stage, what its no-KD control learns from: all but the teacher's."""
    if isinstance(settings, TrainStage):
        reading = [{"kind": "reading", "weight": settings.reading}] if settings.reading else []
        return [{"kind": "labels", "smoothing": settings.smoothing}, *reading]
    if not isinstance(settings, DistillStage):
        return [{"kind": "labels"}]
    alone = [entry for entry in settings.objectives if not OBJECTIVES[entry["kind"]].needs_teacher]
    others = [entry for entry in alone if entry["kind"] != "labels"]
    labels = [entry for entry in alone if entry["kind"] == "labels"]
    return [{**labels[0], "weight": 1.0} if labels else {"kind": "labels"}, *others]


def learn(
    bench: Bench,
    student: DocumentModel,
    settings: Training,
    objectives: list[dict[str, Any]],
    folder: Path,
    seed: int,
    title: str,
) -> dict[str, Any]:
    """Trains ``student`` on the objectives; masks stay at zero throughout."""
    task, began = bench.task, time.perf_counter()
    if isinstance(settings, DistillStage) and settings.on_policy and task.name != "kie":
        raise UserError(f"on_policy is for kie, the task is {task.name}; leave it out")
    unfit = [line.lstrip(".") for line in unfit_training("", settings, task.name)]
    if unfit := unfit + [f"objectives.{line}" for line in unfit_objectives(objectives, task.name)]:
        raise RecipeError("these settings do not fit", unfit)
    task.check_model(student, bench.training)
    warnings = warn(
        unwritable_answers(task, student, bench.validation) + respelt_answers(task, student, bench.validation)
    )
    task.check_scored(bench.validation)
    if bench.teacher is not None and _asks(settings, objectives):
        task.check_pair(bench.teacher, student)
    task.before_learning(student, bench.training)
    if bench.teacher is not None:
        same_order(student, bench.teacher)
    seed_everything(seed)
    lesson = _lesson(bench, student, settings, objectives)
    training, kept = bench.training, 0
    by_teacher = isinstance(settings, DistillStage) and settings.answers == "teacher" and bench.teacher is not None
    if by_teacher:
        training, kept = _teacher_answers(bench, student, folder)
    if lesson.teacher is not None:
        more = bench.unlabelled
        if task.name == "kie":  # pages that the teacher has answered
            more = writable(task, student, training, more)
        training = replace(training, documents=[*training.documents, *more])
    beside = bench.teacher if isinstance(settings, DistillStage) else None
    examples = page_set(task, training, student, lesson.teacher, settings, seed, beside)
    student.card[BROUGHT_TO] = list(examples.cache.size)
    device = fastest_device()
    # Convolutions run a quarter faster in this order of memory, on a CPU in bf16 as on a GPU; the numbers are the same.
    student.network.to(device, memory_format=torch.channels_last)
    if lesson.teacher is not None:
        lesson.teacher.network.to(device, memory_format=torch.channels_last)
    cache = None
    if lesson.teacher is not None and isinstance(settings, DistillStage) and settings.cache_logits:
        check_spelt_alike(lesson.teacher, student, task.texts(student, training))
        cache = _asked_once(lesson, examples, settings, (bench.shared or folder) / FOLDER, device)
        examples = replace(examples, teacher=None)
    lesson.prepare(_dry(examples))
    count = len(training.documents)
    pruning = Pruning(student, settings.prune)
    latest: list[Evaluation] = []

    def validate() -> dict[str, float]:
        latest[:] = [task.evaluate(student, bench.validation)]
        plain = {name: value for name, value in latest[0].metrics.items() if isinstance(value, float)}
        return {task.primary_metric: plain.pop(task.primary_metric), **plain}

    trainee = Trainee(
        lesson=lesson,
        student=student.network,
        batches=lambda epoch, skip: epoch_batches(examples, epoch, skip, settings.batch_size, settings.workers),
        batches_per_epoch=math.ceil(count / settings.batch_size),
        counts=lesson.counts,
        validate=validate,
        after_step=pruning.after_step,
        eligible=pruning.finished,
        extra=Extra(pruning.state, pruning.restore),
    )
    around = time.perf_counter() - began
    with bar(title) as advance:
        progress = fit(trainee, settings, folder, seed, advance)
    began = time.perf_counter()
    lesson.finish()
    as_looked_at = settings.keep == "last" or progress.best_step in (0, progress.step)
    task.after_learning(student, bench.validation, latest[0] if latest and as_looked_at else None)
    student.network.to(memory_format=torch.contiguous_format)
    pruned = f", pruned to {settings.prune.sparsity:.0%} of {settings.prune.of} on the way" if settings.prune else ""
    anew = " drawn anew in each epoch" if training.stream is not None else ""
    names = " + ".join(f"{weight:g} × {name}" for weight, name in zip(lesson.weights, lesson.names, strict=True))
    held = f", {' and '.join(settings.freeze)} frozen" if settings.freeze else ""
    return {
        "text": f"Trained for {settings.epochs:g} epochs on {count:,} documents{anew} with {names}{held}{pruned}; "
        f"best {task.primary_metric} on the validation split {progress.best:.4f} at step {progress.best_step} of {progress.step}."
        + (f" {_read(len(bench.training.documents), kept)}" if by_teacher else "")
        + ("" if cache is None else f" {_said(cache)}"),
        "best": progress.best,
        "best_step": progress.best_step,
        "steps": progress.step,
        "seconds": round(progress.seconds + around + time.perf_counter() - began, 2),
        "teacher_asked": lesson.teacher is not None,
        "warnings": warnings,
    }


def first_look(bench: Bench, student: DocumentModel, settings: Training, objectives: list[dict[str, Any]]) -> None:
    """Shows objectives a few pages as `learn` does before its first step, so that what it would refuse is said; nobody learns.

    Raises:
        UserError: student, teacher and objectives do not go together.
    """
    bench.task.check_model(student, bench.training)
    if bench.teacher is not None and _asks(settings, objectives):
        bench.task.check_pair(bench.teacher, student)
        if isinstance(settings, DistillStage) and settings.cache_logits:
            check_spelt_alike(bench.teacher, student, bench.task.texts(student, bench.training))
    lesson = _lesson(bench, student, settings, objectives)
    lesson.prepare(_dry(page_set(bench.task, bench.training, student, lesson.teacher, settings, seed=0)))
    lesson.finish()


def _asks(settings: Training, objectives: list[dict[str, Any]]) -> bool:
    """Whether a teacher is asked anything; one that is not may have another vocabulary, or other classes."""
    answers = isinstance(settings, DistillStage) and settings.answers == "teacher"
    return answers or any(OBJECTIVES[entry["kind"]].needs_teacher for entry in objectives)


def _lesson(bench: Bench, student: DocumentModel, settings: Training, objectives: list[dict[str, Any]]) -> Lesson:
    """Student, teacher and objectives together.

    Raises:
        UserError: weights are to be pruned while they are frozen.
        ModelError: student, teacher and objectives do not go together.
    """
    lesson = Lesson(bench.task, student, bench.teacher, make_objectives(objectives), settings.freeze)
    if settings.freeze and settings.prune is not None:
        chosen = select_weights(student.network, settings.prune.of)
        weights = dict(student.network.named_parameters())
        if held := [name for name in chosen if not weights[name].requires_grad]:
            raise UserError(
                f"prune takes weights of {settings.prune.of}, and freeze keeps {len(held)} of these tensors as they are ({held[0]} and so on); give "
                "prune an `of` that leaves them out, such as 'decoder.*', or prune in a stage of its own"
            )
    return lesson


def _dry(examples: PageSet) -> Batch:
    """The batch that objectives are shown before the first step; where some pages say what stands on them, one of these is in it."""
    width, height = examples.cache.size
    count = min(DRY, max(1, DRY_PIXELS // (width * height)))
    batch = next(epoch_batches(examples, 0, 0, count, 0))
    known = [index for index, document in enumerate(examples.pages.documents) if document.glyphs is not None]
    if known and set(known).isdisjoint(batch["indices"]):
        batch = examples.collate([examples[index] for index in (known[0], *batch["indices"][1:])])
    return batch


def _teacher_answers(bench: Bench, student: DocumentModel, folder: Path) -> tuple[Pages, int]:
    """The training pages with what the teacher writes for them; see `docstill.teacher_answers`."""
    assert bench.teacher is not None
    if bench.task.name != "kie":
        raise UserError(f"answers: teacher is for kie, the task is {bench.task.name}; leave it out")
    return with_teacher_answers(bench.task, bench.teacher, student, bench.training, bench.shared or folder)


def _read(documents: int, kept: int) -> str:
    return (
        f"What counted as right was the teacher's answer on {documents - kept:,} of {documents:,} documents; on {kept:,} it was "
        "not well-formed, or not one that the student can write, and the label stayed."
    )


def _asked_once(
    lesson: Lesson, examples: PageSet, settings: DistillStage, folder: Path, device: torch.device
) -> TeacherCache:
    """Asks the teacher about all documents, now or in an earlier call, and lets the lesson recall what it said."""
    objectives = [made_objective(entry) for entry in settings.objectives]
    temperature = max(objective.temperature for objective in objectives if objective.needs_teacher)
    whole = [
        entry["kind"]
        for entry, objective in zip(settings.objectives, objectives, strict=True)
        if objective.teacher_logits == "all"
    ]
    cache = ask_once(examples, folder, settings.cache_logits, temperature, device, whole)
    assert examples.teacher is not None
    examples.teacher.network.to("cpu")  # no longer asked: room for the student
    lesson.recall = cache.outputs
    return cache


def _said(cache: TeacherCache) -> str:
    return (
        f"The teacher was asked once: {min(cache.largest, cache.classes):,} of {cache.classes:,} logits were kept, with "
        f"{cache.held():.2%} of its probability at temperature {cache.temperature:g}, in {cache.bytes() / 1e6:,.1f} MB."
    )


class Pruning:
    """Keeps masks at zero through training, and raises sparsity by the cubic schedule where the stage asks for it."""

    def __init__(self, student: DocumentModel, gradual: GradualPruning | None) -> None:
        self.student, self.gradual = student, gradual
        self.start: Masks = student.masks

    def after_step(self, step: int, steps: int) -> None:
        """To be called after each optimisation step."""
        gradual = self.gradual
        if gradual is not None:
            begin, end = self._span(gradual, steps)
            if begin < step <= end and (step % gradual.every == 0 or step == end):
                sparsity = cubic_sparsity(step, begin, end, gradual.sparsity)
                self.student.masks = magnitude_masks(
                    self.student.network,
                    sparsity,
                    scope=gradual.scope,
                    of=gradual.of,
                    within=self.student.masks or None,
                )
        if self.student.masks:
            apply_masks(self.student.network, self.student.masks)

    def finished(self, step: int, steps: int) -> bool:
        """Whether the final sparsity is reached: weights from before it must not be handed on as the best."""
        return self.gradual is None or step >= self._span(self.gradual, steps)[1]

    @staticmethod
    def _span(gradual: GradualPruning, steps: int) -> tuple[int, int]:
        """First and last step of pruning; at least one step, and never past the end of training."""
        begin = min(round(gradual.begin * steps), steps - 1)
        return begin, max(round(gradual.end * steps), begin + 1)

    def state(self) -> dict[str, Any]:
        """The masks, for the checkpoint."""
        return {"masks": dict(self.student.masks)}

    def restore(self, state: dict[str, Any]) -> None:
        """Puts the masks back."""
        self.student.masks = dict(state["masks"])
