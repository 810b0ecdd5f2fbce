"""Recipes: what `docstill compress` is to do. One pydantic model; the YAML file mirrors it one to one.

All mistakes are reported at once, one line each: key path, what was given, what is allowed, the nearest name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from docstill.errors import RecipeError
from docstill.mistakes import choice, mistakes


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NewModel(_Strict):
    """A model from scratch: a size by name, and changes to its transformers config."""

    new: str
    config: dict[str, Any] = Field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    """(height, width) in pixels; default: the size's own."""


class Data(_Strict):
    """Where the documents are."""

    train: Path
    validation: Path
    unlabelled: Path | None = None
    """Pages of the same kinds without labels, for distil stages: there the teacher says what they are."""


class GradualPruning(_Strict):
    """Magnitude pruning spread over a training stage by the cubic schedule."""

    sparsity: Annotated[float, Field(gt=0, lt=1)]
    scope: Literal["global", "layer"] = "global"
    of: str = "non-embedding"
    begin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the stage's steps after which pruning begins."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the stage's steps after which the final sparsity is reached."""
    every: Annotated[int, Field(gt=0)] = 10
    """Steps between two looks at the magnitudes."""


class Training(_Strict):
    """How a network is trained; used by `train` and `distill`."""

    epochs: Annotated[float, Field(gt=0)] = 10
    batch_size: Annotated[int, Field(gt=0)] = 16
    gradient_accumulation_steps: Annotated[int, Field(gt=0)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    augment: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Strength of the document-safe augmentation; 0 is none. Teacher and student see the same view."""
    augment_fade: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the epochs, at the end, over which the augmentation falls to nothing."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that decode and augment pages; 0 does it in the training process."""
    evaluate_every: Annotated[float, Field(gt=0)] = 1
    """Epochs between two looks at the validation split; the best of them is kept."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 2.0
    """Minutes between two checkpoints inside an epoch; one is always written at its end."""
    keep: Literal["best", "last"] = "best"
    """Which weights the stage hands on."""
    tensorboard: bool = False
    prune: GradualPruning | None = None


class TrainStage(Training):
    """Learn from the labels alone."""

    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class PruneStage(_Strict):
    """Set the smallest weights to zero, at once."""

    method: Literal["magnitude"] = "magnitude"
    sparsity: Annotated[float, Field(gt=0, lt=1)]
    scope: Literal["global", "layer"] = "global"
    of: str = "non-embedding"
    """`all`, `non-embedding`, or a glob over parameter names."""


class DistillStage(Training):
    """Learn from the teacher."""

    objectives: Annotated[list[dict[str, Any]], Field(min_length=1)]

    @model_validator(mode="after")
    def _objectives_hold(self) -> DistillStage:
        problems = objective_problems(self.objectives)
        if problems:
            raise ValueError("\n".join(problems))
        return self


class Stage(_Strict):
    """One step from model to model; exactly one of its keys is given."""

    train: TrainStage | None = None
    prune: PruneStage | None = None
    distill: DistillStage | None = None

    @model_validator(mode="after")
    def _one(self) -> Stage:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"a stage has exactly one key of {', '.join(Stage.model_fields)}")
        return self

    @property
    def kind(self) -> str:
        """`train`, `prune` or `distill`."""
        return next(iter(self.model_fields_set))

    @property
    def settings(self) -> TrainStage | PruneStage | DistillStage:
        """The settings under the stage's one key."""
        settings: TrainStage | PruneStage | DistillStage = getattr(self, self.kind)
        return settings


class Teacher(_Strict):
    """A teacher that is trained first."""

    model: str | NewModel
    train: TrainStage


class Recipe(_Strict):
    """A whole compression: teacher and data in; student, controls, measurements and report out."""

    task: Literal["classification", "kie"]
    teacher: str | Teacher
    """A model folder or hub id, or a model to be trained first."""
    student: str | NewModel | None = None
    """Default: a copy of the teacher."""
    data: Data
    stages: Annotated[list[Stage], Field(min_length=1)]
    controls: list[Literal["teacher", "no-kd"]] = ["teacher", "no-kd"]
    repeats: Annotated[int, Field(gt=0)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    teacher_floor: float | None = None
    """Refuse to distil from a teacher whose primary metric on the validation split is below this."""
    calibrate: bool = False
    """Scale teacher, students and controls by a temperature at their end, folded into the model; classification only."""
    compare: bool | None = None
    """Compare the layers of student and no-KD control with the teacher's by CKA; default: for kie alone."""

    @model_validator(mode="after")
    def _only_classifiers_are_calibrated(self) -> Recipe:
        if self.calibrate and self.task != "classification":
            raise ValueError(f"calibrate is for classification, the task is {self.task}; leave it out")
        return self

    @model_validator(mode="after")
    def _unlabelled_pages_have_a_use(self) -> Recipe:
        if self.data.unlabelled is None:
            return self
        if self.task != "classification":
            raise ValueError(f"data.unlabelled is for classification, the task is {self.task}; leave it out")
        if not any(
            isinstance(stage.settings, DistillStage)
            and any(entry["kind"] != "labels" for entry in stage.settings.objectives)
            for stage in self.stages
        ):
            raise ValueError(
                "data.unlabelled needs a distil stage with an objective that asks the teacher; add one, or leave it out"
            )
        return self


def objective_problems(objectives: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a list of objectives, as lines `0.temperature: …`; empty if nothing is."""
    from docstill.objectives import OBJECTIVES
    from docstill.objectives.base import options_of

    problems = []
    for index, entry in enumerate(objectives):
        kind = entry.get("kind")
        if kind not in OBJECTIVES:
            problems.append(f"{index}.kind: " + choice(kind, list(OBJECTIVES)))
            continue
        options = options_of(str(kind), OBJECTIVES[str(kind)])
        try:
            checked = options.model_validate(entry)
            OBJECTIVES[str(kind)](**checked.model_dump(exclude={"kind", "weight"}))
        except ValidationError as error:
            problems += [f"{index}.{line}" for line in mistakes(error, options)]
        except ValueError as error:  # options that are right each by itself, and wrong together
            problems.append(f"{index}.{error}")
    return problems


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
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise RecipeError(f"{source} is not valid YAML", [f"{where}{getattr(error, 'problem', error)}"]) from error
    if not isinstance(content, dict):
        raise RecipeError(f"{source} is not a recipe", ["expected a mapping that starts with `task:`"])
    problems = [problem for entry in overrides or [] if (problem := _override(content, entry))]
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


def _override(content: dict[str, Any], entry: str) -> str | None:
    key, separator, text = entry.partition("=")
    if not separator or not key:
        return f"{entry!r}: expected key.path=value"
    node: Any = content
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        try:
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        except (ValueError, IndexError):
            return f"{key}: there is no entry {part} under {'.'.join(parents[:depth])} (it has {len(node)} entries, counted from 0)"
        if not isinstance(node, dict | list):
            return f"{key}: {'.'.join(parents[: depth + 1])} is {node!r}, it has no keys"
    try:
        value = yaml.safe_load(text)
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, yaml.YAMLError) as error:
        return f"{key}: {error}"
    return None
