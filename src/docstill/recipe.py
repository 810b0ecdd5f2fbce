"""Recipes: what `docstill compress` is to do. One pydantic model; the YAML file mirrors it one to one.

All mistakes are reported at once, one line each: key path, what was given, what is allowed, the nearest name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from docstill.errors import RecipeError
from docstill.fitting import not_drawn_for, unfit_for_stream, unfit_objectives, unfit_training
from docstill.mistakes import mistakes
from docstill.prune_settings import PRUNED_TASKS, PruneStage
from docstill.recipe_text import read_yaml
from docstill.settings import DistillStage, Resized, Source, Stage, Training, TrainStage, shipped_source
from docstill.strict import Strict

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


class Teacher(Strict):
    """A teacher that is trained first."""

    model: Source
    train: TrainStage

    @field_validator("model", mode="before")
    @classmethod
    def _where_it_ships(cls, value: Any) -> Any:
        return shipped_source(value)


class Recipe(Strict):
    """A whole compression: teacher and data in; student, controls, measurements and report out."""

    task: Literal["classification", "kie", "layout"]
    teacher: str | Teacher
    """A model folder or hub id, ``shipped:NAME``, or a model to be trained first."""
    student: Source | None = None
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
        sources = {".student": self.student}
        if isinstance(self.teacher, Teacher):
            sources[".teacher.model"] = self.teacher.model
        if self.task != "kie":
            problems += [
                f"{where}.image_size: for a model that is there it is for kie, the task is {self.task}; give the model alone"
                for where, source in sources.items()
                if isinstance(source, Resized)
            ]
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
