"""What a study file may say, and the cells it stands for: each cell is one ordinary recipe."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from docstill.chains import no_kd
from docstill.errors import RecipeError
from docstill.fitting import unfit_training
from docstill.mistakes import mistakes
from docstill.objectives import OBJECTIVES
from docstill.objectives.base import options_of
from docstill.recipe import Data, Recipe, Teacher, parse_recipe, with_confidence
from docstill.recipe_text import read_yaml
from docstill.settings import DistillStage, Source, Stage, shipped_source

SHARED = ("train", "distill")
"""Stages that take the study's `training` settings where they say nothing else."""


class Study(BaseModel):
    """Teachers × students × methods, each cell with the same seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["classification", "kie", "layout"]
    data: Data
    teachers: Annotated[dict[str, str | Teacher], Field(min_length=1)]
    """Model folders, hub ids, or models that are trained once and shared."""
    students: Annotated[dict[str, Source | None], Field(min_length=1)]
    """Null is a copy of the teacher."""
    methods: Annotated[dict[str, list[dict[str, Any]]], Field(min_length=1)]
    """The stages of each method, as in a recipe."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of every train and distil stage that does not say otherwise."""
    pairs: list[tuple[str, str] | tuple[str, str, list[str]]] | None = None
    """Teacher and student of each pair, and its methods, if not all; default: every teacher with every student."""
    repeats: Annotated[int, Field(gt=0)] = 3
    seed: Annotated[int, Field(ge=0)] = 0
    teacher_floor: float | None = None
    calibrate: bool = False
    compare: bool | None = None
    """Both as in a recipe."""

    @field_validator("teachers", "students", mode="before")
    @classmethod
    def _where_they_ship(cls, content: Any) -> Any:
        return (
            {name: shipped_source(value) for name, value in content.items()} if isinstance(content, dict) else content
        )

    @model_validator(mode="before")
    @classmethod
    def _regions_are_less_sure(cls, content: Any) -> Any:
        return with_confidence(content)


@dataclass(frozen=True)
class Cell:
    """One teacher, one student, one method: one recipe, and the first cell that has the same no-KD twin.

    That cell's run holds the twin, unless it fails; then the next one's does (see `docstill.studies.walk`).
    """

    teacher: str
    student: str
    method: str
    recipe: Recipe
    twin: str | None

    @property
    def name(self) -> str:
        """The cell's folder."""
        return cell_name(self.teacher, self.student, self.method)


def cell_name(teacher: str, student: str, method: str) -> str:
    """``teacher--student--method``."""
    return f"{teacher}--{student}--{method}"


def load_study(source: Path, overrides: list[str] | None = None) -> Study:
    """Reads a study file and applies ``key.path=value`` overrides.

    Raises:
        RecipeError: every mistake, one line each; those inside a method's stages too.
    """
    return parse_study(read_yaml(source, overrides), str(source))


def parse_study(content: dict[str, Any], name: str = "the study") -> Study:
    """Validates a plain dict; see `load_study`."""
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        lines = mistakes(error, Study)
        raise RecipeError(f"{name} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}", lines) from error
    lines = _problems(study)
    if lines:
        raise RecipeError(f"{name} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}", lines)
    cells(
        study, {teacher: teacher for teacher in study.teachers}
    )  # no mistake of a cell may come after hours of teachers
    return study


def dump_study(study: Study) -> str:
    """The resolved study as YAML."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


def cells(study: Study, trained: dict[str, str]) -> list[Cell]:
    """The cells in the order they run: pair by pair.

    The no-KD twin of a student depends on its stages without a teacher, not on the teacher (unless it is a copy of it, takes
    its vocabulary, is compared with it, or takes as many steps as its labelled pages ask for): it is run once, beside the
    first cell that needs it.

    Args:
        study: what is asked.
        trained: the model folder or hub id of each teacher.
    """
    found: list[Cell] = []
    twins: dict[str, str] = {}
    for teacher, student, methods in _pairs(study):
        for method in methods:
            stages = study.methods[method]
            content: dict[str, Any] = {
                "task": study.task,
                "teacher": trained[teacher],
                "student": study.model_dump(mode="json")["students"][student],
                "data": study.model_dump(mode="json")["data"],
                "stages": _resolved(study, stages),
                "repeats": study.repeats,
                "seed": study.seed,
                "teacher_floor": study.teacher_floor,
                "calibrate": study.calibrate,
                "compare": study.compare,
            }
            name, twin, controls = cell_name(teacher, student, method), None, ["teacher"]
            if any("distill" in stage for stage in content["stages"]):
                own = study.task == "kie" or study.students[student] is None or study.compare
                own = own or (study.task == "layout" and study.data.unlabelled is not None)
                alone = [_without_teacher(Stage.model_validate(stage)) for stage in content["stages"]]
                twin = twins.setdefault(json.dumps([teacher if own else "", student, alone], sort_keys=True), name)
                if twin == name:
                    controls.append("no-kd")
            recipe = parse_recipe({**content, "controls": controls}, f"cell {name}")
            found.append(Cell(teacher, student, method, recipe, twin))
    return found


def _resolved(study: Study, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            kind: {**study.training, **(settings or {})} if kind in SHARED else settings
            for kind, settings in stage.items()
        }
        for stage in stages
    ]


def _without_teacher(stage: Stage) -> dict[str, Any]:
    """What the no-KD twin does in a stage, every default written out: twins are the same where this is the same."""
    settings = no_kd(stage, 1.0).settings
    content = {stage.kind: settings.model_dump(mode="json")}
    if isinstance(settings, DistillStage):
        content[stage.kind]["objectives"] = [
            options_of(entry["kind"], OBJECTIVES[entry["kind"]]).model_validate(entry).model_dump(mode="json")
            for entry in settings.objectives
        ]
    return content


def _pairs(study: Study) -> list[tuple[str, str, list[str]]]:
    pairs = study.pairs or list(itertools.product(study.teachers, study.students))
    return [(pair[0], pair[1], pair[2] if len(pair) == 3 else list(study.methods)) for pair in pairs]


def _problems(study: Study) -> list[str]:
    """What pydantic cannot see: names that do not exist, bad names, stages that do not hold, methods that are the same."""
    lines = []
    for group in ("teachers", "students", "methods"):
        for name in getattr(study, group):
            if not name or any(letter in name for letter in "/\\") or "--" in name or name.startswith("."):
                lines.append(
                    f"{group}.{name}: a name becomes part of a folder's name; it has no /, no \\, no -- and no dot first"
                )
    for name, teacher in study.teachers.items():
        if isinstance(teacher, Teacher):
            lines += unfit_training(f"teachers.{name}.train", teacher.train, study.task)
    once = {cell_name(teacher, student, method): 0 for teacher, student, methods in _pairs(study) for method in methods}
    for index, (teacher, student, methods) in enumerate(_pairs(study) if study.pairs else []):
        for method in methods:
            name = cell_name(teacher, student, method)
            once[name] += 1
            if once[name] == 2:
                lines.append(f"pairs.{index}: {teacher}, {student} and {method} stand here twice; leave one out")
        if teacher not in study.teachers:
            lines.append(f"pairs.{index}: there is no teacher {teacher!r}; one of {', '.join(study.teachers)} expected")
        if student not in study.students:
            lines.append(f"pairs.{index}: there is no student {student!r}; one of {', '.join(study.students)} expected")
        lines += [
            f"pairs.{index}: there is no method {name!r}; one of {', '.join(study.methods)} expected"
            for name in methods
            if name not in study.methods
        ]
    seen: dict[str, str] = {}
    for method, stages in study.methods.items():
        resolved = _resolved(study, stages)
        for index, stage in enumerate(resolved):
            try:
                Stage.model_validate(stage)
            except ValidationError as error:
                lines += [f"methods.{method}.{index}.{line}" for line in mistakes(error, Stage)]
        same = seen.setdefault(json.dumps(resolved, sort_keys=True, default=str), method)
        if same != method:
            lines.append(f"methods.{method}: the same as {same}; leave one out")
    return lines
