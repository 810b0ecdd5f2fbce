"""Recipes: what `docstill compress` is to do. One pydantic model; the YAML file mirrors it one to one.

All mistakes are reported at once, one line each: key path, what was given, what is allowed, the nearest name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from docstill.errors import RecipeError, UserError
from docstill.mistakes import mistakes
from docstill.settings import (
    PRUNED_TASKS,
    DistillStage,
    NewModel,
    PruneStage,
    Stage,
    Strict,
    Training,
    TrainStage,
    unfit_objectives,
    unfit_training,
)
from docstill.shipped import find_teacher

SHIPPED = "shipped:"
"""Before the name of a model that comes with docstill."""
Control = Literal["teacher", "no-kd"]
REGION_CONFIDENCE = 0.5
"""Default of `data.confidence` for layout: scores of boxes that are right lie far below the probability of right tokens."""


class Generated(Strict):
    """Documents that are drawn while training, and written nowhere: `n` an epoch, new ones in every epoch."""

    synth: Literal["pages", "labels", "small-labels", "receipts"]
    n: Annotated[int, Field(gt=0)]
    seed: Annotated[int, Field(ge=0)] = 0
    """Not that of the run: all seeds of a run see the same documents."""
    fonts: Path | None = None
    corpus: Path | None = None
    """For pages."""
    form: Literal["nested", "flat"] = "nested"
    """For receipts."""
    wear: Annotated[float, Field(ge=0, le=1)] = 1.0
    papers: Path | None = None
    backgrounds: Path | None = None

    @model_validator(mode="after")
    def _options_are_of_the_kind(self) -> Generated:
        problems = []
        if self.corpus is not None and self.synth != "pages":
            problems.append(f".corpus: is for pages, synth is {self.synth}; leave it out")
        if self.form != "nested" and self.synth != "receipts":
            problems.append(f".form: is for receipts, synth is {self.synth}; leave it out")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def __str__(self) -> str:
        return f"generated {self.synth} of seed {self.seed}"


def _source(value: Any) -> str:
    """The name of the class that reads where documents come from."""
    return "Generated" if isinstance(value, dict | Generated) else "Path"


class Data(Strict):
    """Where the documents are."""

    train: Annotated[Annotated[Path, Tag("Path")] | Annotated[Generated, Tag("Generated")], Discriminator(_source)]
    validation: Path
    unlabelled: Path | None = None
    """Pages of the same kinds without labels, for distil stages: there the teacher says what they are."""
    confidence: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Unlabelled pages are left out if the teacher gives its own answer a lower mean token probability (kie); regions that it
    gives a lower score are, and pages without others (layout, where the default is `REGION_CONFIDENCE`)."""

    @field_validator("validation", "unlabelled", mode="before")
    @classmethod
    def _only_trained_on(cls, value: Any) -> Any:
        if isinstance(value, dict):
            raise ValueError("must be a folder, only data.train can be drawn; draw one with `docstill synth`")
        return value


def shipped_source(value: Any) -> Any:
    """The folder of a model that ships with docstill where ``shipped:NAME`` stands; anything else as it is."""
    if not isinstance(value, str) or not value.startswith(SHIPPED):
        return value
    try:
        return str(find_teacher(value.removeprefix(SHIPPED)))
    except UserError as error:
        raise ValueError(str(error)) from error


class Teacher(Strict):
    """A teacher that is trained first."""

    model: str | NewModel
    train: TrainStage


class Recipe(Strict):
    """A whole compression: teacher and data in; student, controls, measurements and report out."""

    task: Literal["classification", "kie", "layout"]
    teacher: str | Teacher
    """A model folder or hub id, ``shipped:NAME``, or a model to be trained first."""
    student: str | NewModel | None = None
    """Default: a copy of the teacher."""
    data: Data
    stages: Annotated[list[Stage], Field(min_length=1)]
    controls: list[Control] = Field(default_factory=lambda: list[Control](("teacher", "no-kd")))
    repeats: Annotated[int, Field(gt=0)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    teacher_floor: float | None = None
    """Refuse to distil from a teacher whose primary metric on the validation split is below this."""
    calibrate: bool = False
    """Scale teacher, students and controls by a temperature at their end, folded into the model; classification only."""
    compare: bool | None = None
    """Compare the layers of student and no-KD control with the teacher's by CKA; default: for kie alone. Not for layout."""

    @model_validator(mode="before")
    @classmethod
    def _regions_are_less_sure(cls, content: Any) -> Any:
        return with_confidence(content)

    @field_validator("teacher", "student", mode="before")
    @classmethod
    def _where_it_ships(cls, value: Any) -> Any:
        return shipped_source(value)

    @model_validator(mode="after")
    def _only_classifiers_are_calibrated(self) -> Recipe:
        if self.calibrate and self.task != "classification":
            raise ValueError(f"calibrate is for classification, the task is {self.task}; leave it out")
        return self

    @model_validator(mode="after")
    def _detectors_are_not_compared(self) -> Recipe:
        if self.compare and self.task == "layout":
            raise ValueError("compare is for classification and kie, the task is layout; leave it out")
        return self

    @model_validator(mode="after")
    def _objectives_fit_the_task(self) -> Recipe:
        problems = [
            f".stages.{number}.distill.objectives.{line}"
            for number, stage in enumerate(self.stages)
            if isinstance(stage.settings, DistillStage)
            for line in unfit_objectives(stage.settings.objectives, self.task)
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _only_kie_writes_answers(self) -> Recipe:
        distilled = [
            (f".stages.{number}.distill", stage.settings)
            for number, stage in enumerate(self.stages)
            if isinstance(stage.settings, DistillStage)
        ]
        keys = [f"{path}.answers" for path, settings in distilled if settings.answers != "labels"]
        keys += [f"{path}.on_policy" for path, settings in distilled if settings.on_policy] + [
            f"{path}.objectives.{index}.value_weight"
            for path, settings in distilled
            for index, entry in enumerate(settings.objectives)
            if entry.get("value_weight", 1) != 1
        ]
        if self.task != "kie" and keys:
            raise ValueError("\n".join(f"{key}: is for kie, the task is {self.task}; leave it out" for key in keys))
        return self

    @model_validator(mode="after")
    def _stages_fit_the_task(self) -> Recipe:
        """What would be refused when its turn comes, after hours of a teacher."""
        problems = [
            f".stages.{number}.prune.method: {stage.settings.method} is for {' and '.join(fitting)}, the task is {self.task}"
            for number, stage in enumerate(self.stages)
            if isinstance(stage.settings, PruneStage)
            and self.task not in (fitting := PRUNED_TASKS.get(stage.settings.method, (self.task,)))
        ]
        for number, stage in enumerate(self.stages):
            if isinstance(stage.settings, Training):
                problems += unfit_training(f".stages.{number}.{stage.kind}", stage.settings, self.task)
        if isinstance(self.teacher, Teacher):
            problems += unfit_training(".teacher.train", self.teacher.train, self.task)
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _generated_documents_fit(self) -> Recipe:
        if not isinstance(self.data.train, Generated):
            return self
        problems = [] if self.task == "kie" else [f".data.train: {not_drawn_for(self.task)}"]
        problems += [
            f".stages.{number}.{stage.kind}{line}"
            for number, stage in enumerate(self.stages)
            for line in unfit_for_stream(stage.settings)
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _unlabelled_pages_have_a_use(self) -> Recipe:
        used = self.data.unlabelled is not None and self.task != "classification"
        # the default is let through: it stands in every recipe that is written down whole
        if not used and self.data.confidence != Data.model_fields["confidence"].default:
            raise ValueError(
                "data.confidence is for data.unlabelled of kie and layout, the task is "
                f"{self.task} and unlabelled pages are {'given' if self.data.unlabelled else 'not given'}; leave it out"
            )
        if self.data.unlabelled is None:
            return self
        if not any(
            isinstance(stage.settings, DistillStage)
            and any(entry["kind"] != "labels" for entry in stage.settings.objectives)
            for stage in self.stages
        ):
            raise ValueError(
                "data.unlabelled needs a distil stage with an objective that asks the teacher; add one, or leave it out"
            )
        return self


def not_drawn_for(task: str) -> str:
    """Why documents are not drawn while training for a task."""
    return f"documents are drawn while training for kie alone, the task is {task}; draw a folder with `docstill synth`"


def unfit_for_stream(settings: Training | PruneStage) -> list[str]:
    """A line `.cache_logits: …` for each setting of a stage that keeps something of documents, which are never seen again."""
    if not isinstance(settings, DistillStage):
        return []
    kept = {"cache_logits": settings.cache_logits > 0, "answers": settings.answers == "teacher"}
    return [
        f".{key}: asks the teacher once about each document, and drawn ones are new in every epoch; leave it out, or draw a "
        "folder with `docstill synth`"
        for key, given in kept.items()
        if given
    ]


def with_confidence(content: Any) -> Any:
    """What a recipe or a study says, with the default of `data.confidence` where the teacher finds regions."""
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict) or content.get("task") != "layout" or data.get("unlabelled") is None:
        return content
    return {**content, "data": {"confidence": REGION_CONFIDENCE, **data}}


def load_recipe(source: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads a YAML recipe and applies ``key.path=value`` overrides.

    Raises:
        RecipeError: every mistake, one line each.
    """
    return parse_recipe(read_yaml(source, overrides), str(source))


def read_yaml(source: Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """The mapping that a YAML file holds, with ``key.path=value`` overrides.

    Raises:
        RecipeError: the file cannot be read, is not YAML, holds no mapping, or an override does not fit it.
    """
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"cannot read the recipe {source}", [f"{error.strerror}; see `docstill recipes list`"]
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"cannot read the recipe {source}", [f"it is not UTF-8 ({error}); save it as such"]
        ) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise RecipeError(f"{source} is not valid YAML", [f"{where}{getattr(error, 'problem', error)}"]) from error
    if not isinstance(content, dict):
        raise RecipeError(f"{source} is not a recipe", ["expected a mapping that starts with `task:`"])
    return overridden(_copied(content), overrides or [])


def _copied(value: Any) -> Any:
    """The same without parts that stand in two places (YAML's anchors), so that an override changes one alone."""
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return [_copied(child) for child in value] if isinstance(value, list) else value


def overridden(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``content``, changed in place by ``key.path=value``.

    Raises:
        RecipeError: an override does not fit it.
    """
    problems = [problem for entry in overrides if (problem := _override(content, entry))]
    if problems:
        raise RecipeError("an override does not hold", problems)
    return content


def parse_recipe(content: dict[str, Any], name: str = "the recipe") -> Recipe:
    """Validates a plain dict; see `load_recipe`."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        lines = mistakes(error, Recipe)
        raise RecipeError(f"{name} has {len(lines)} mistake{'s' if len(lines) > 1 else ''}", lines) from error


def parse_data(content: Mapping[str, Any]) -> Data:
    """Where the documents of a single stage are, as a recipe says it under ``data``.

    Raises:
        RecipeError: every mistake, one line each.
    """
    try:
        data = Data.model_validate(dict(content))
    except ValidationError as error:
        raise RecipeError("data does not hold", [f"data.{line}" for line in mistakes(error, Data)]) from error
    if data.unlabelled is not None:
        raise RecipeError("data does not hold", ["data.unlabelled: is for recipes; run one with `docstill compress`"])
    return data


def parse_stage(kind: str, settings: dict[str, Any]) -> Stage:
    """One stage from its settings, for the verbs that run a single stage.

    Raises:
        RecipeError: every mistake, one line each.
    """
    try:
        return Stage.model_validate({kind: settings})
    except ValidationError as error:
        lines = mistakes(error, Stage)
        raise RecipeError(f"these settings of {kind} do not hold", lines) from error


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every default written out, stages with their one key."""
    content = recipe.model_dump(mode="json")
    content["stages"] = [
        {kind: value for kind, value in stage.items() if value is not None} for stage in content["stages"]
    ]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def differences(old: str, new: str) -> list[str]:
    """Key paths whose values differ between two resolved recipes, as `key: old -> new`."""
    before, after = _flat(yaml.safe_load(old)), _flat(yaml.safe_load(new))
    return [
        f"{key}: {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}"
        for key in [*before, *(key for key in after if key not in before)]
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    ]


_ABSENT = object()


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    return {
        key: leaf
        for name, child in items
        for key, leaf in _flat(child, f"{path}.{name}" if path else str(name)).items()
    }


def _value(text: str, named: bool) -> Any:
    """What an override says; of a key that holds a name the text as it was written: 2024 is a folder, and so is `a #1`."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        if named:
            return text
        raise
    return text if named and value is not None and not isinstance(value, dict) and text[:1] not in "\"'" else value


_NAMED = re.compile(r"data\.(train|validation|unlabelled)|teacher|student|(teachers|students)\.[^.]+")
"""Keys that hold a folder or a hub id."""


def _override(content: dict[str, Any], entry: str) -> str | None:
    key, separator, text = entry.partition("=")
    if not separator or not key:
        return f"{entry!r}: expected key.path=value"
    node: Any = content
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        try:
            if isinstance(node, dict) and isinstance(node.get(part), str):
                node[part] = {}  # a name or a path gives way to the mapping that may stand in its place
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        except (ValueError, IndexError):
            return f"{key}: there is no entry {part} under {'.'.join(parents[:depth])} (it has {len(node)} entries, counted from 0)"
        if not isinstance(node, dict | list):
            return f"{key}: {'.'.join(parents[: depth + 1])} is {node!r}, it has no keys"
    try:
        value = _value(text, named=_NAMED.fullmatch(key) is not None)
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, yaml.YAMLError) as error:
        return f"{key}: {error}"
    return None
