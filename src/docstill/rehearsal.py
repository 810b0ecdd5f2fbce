"""What a recipe will ask of its student, tried on a few pages before anybody learns: what cannot be done is said now, not after hours."""

from __future__ import annotations

import copy
from dataclasses import replace

from docstill.errors import DataError, UserError
from docstill.models.io import DocumentModel
from docstill.prune_settings import PruneStage
from docstill.prune_stage import prune
from docstill.recipe import Recipe, Teacher
from docstill.settings import DistillStage, Resized, Stage
from docstill.stages import Bench, begin, first_look, labels_only


def rehearse(recipe: Recipe, bench: Bench, teacher: str | Teacher) -> list[str]:
    """Makes teacher and student, cuts the student, and shows each stage's objectives a few pages; nothing of it is kept.

    Weights that are not there yet are random ones.

    Args:
        recipe: whose stages are tried.
        bench: its data; a teacher in it counts for nothing.
        teacher: a model folder or hub id, or how the teacher will be trained.

    Returns:
        ``stages.0.distill: …`` for the first stage that cannot be done; empty if all can.

    Raises:
        UserError: teacher or student cannot be made at all.
        DataError: a page cannot be used.
    """
    source = teacher.model if isinstance(teacher, Teacher) else teacher
    taught = begin(source, bench, None)
    if isinstance(teacher, Teacher):
        bench.task.adapt(taught, bench.training)
    bench.task.check_model(taught, bench.training)
    # Without one of its own, the student will begin as the teacher that has learnt, with its tags, characters and classes.
    student = copy.deepcopy(taught) if recipe.student is None else begin(recipe.student, bench, taught)
    if isinstance(recipe.student, str | Resized):
        bench.task.adapt(student, bench.training)
    bench = replace(bench, teacher=taught)
    for number, stage in enumerate(recipe.stages):
        try:
            _try(stage, bench, student)
        except DataError:
            raise
        except UserError as error:
            return [f"stages.{number}.{stage.kind}: {error}"]
    return []


def _try(stage: Stage, bench: Bench, student: DocumentModel) -> None:
    settings = stage.settings
    if isinstance(settings, PruneStage):
        # Which parts go is another matter: to find that out takes pages.
        prune(bench.task, student, settings.without_pages(), bench.training)
        return
    objectives = settings.objectives if isinstance(settings, DistillStage) else labels_only(settings)
    first_look(bench, student, settings, objectives)
