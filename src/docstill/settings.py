"""The settings of the stages, as recipes write them and single stages take them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from docstill.errors import UserError
from docstill.mistakes import choice
from docstill.objective_settings import as_checked, made_objective, objective_problems
from docstill.prune_settings import PRUNING, AnyPrune, PruneStage, Scope
from docstill.shipped import located
from docstill.strict import Strict

Side = Annotated[int, Field(gt=0)]


class NewModel(Strict):
    """A model from scratch: a size by name, and changes to its transformers config."""

    new: str
    config: dict[str, Any] = Field(default_factory=dict)
    image_size: tuple[Side, Side] | None = None
    """(height, width) in pixels; default: the size's own."""


class Resized(Strict):
    """A Donut that is loaded, and from now on takes pages at another size; its windows know relative places alone, so no weight changes."""

    load: str
    """A folder, a hub id, or ``shipped:NAME``."""
    image_size: tuple[Side, Side]
    """(height, width) in pixels."""

    @field_validator("load", mode="before")
    @classmethod
    def _it_ships(cls, value: Any) -> Any:
        shipped_source(value)
        return value  # written down by its name, for its folder is another in every environment


def shipped_source(value: Any) -> Any:
    """As `docstill.shipped.located`, for a field that may hold anything else; a name that is none is a mistake in a recipe."""
    try:
        return located(value) if isinstance(value, str) else value
    except UserError as error:
        raise ValueError(str(error)) from error


def _source_class(value: Any) -> str:
    """The name of the class that reads where a network begins."""
    if isinstance(value, BaseModel):
        return type(value).__name__
    if isinstance(value, dict):
        return "Resized" if "load" in value else "NewModel"
    return "str"


Source = Annotated[
    Annotated[str, Tag("str")] | Annotated[NewModel, Tag("NewModel")] | Annotated[Resized, Tag("Resized")],
    Discriminator(_source_class),
]
"""Where a network begins: loaded from a folder or hub id, from scratch, or loaded for pages of another size."""


class GradualPruning(Strict):
    """Magnitude pruning spread over a training stage by the cubic schedule."""

    sparsity: Annotated[float, Field(gt=0, lt=1)]
    scope: Scope = "global"
    of: str = "non-embedding"
    begin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the stage's steps after which pruning begins."""
    end: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the stage's steps after which the final sparsity is reached."""
    every: Annotated[int, Field(gt=0)] = 10
    """Steps between two looks at the magnitudes."""

    @model_validator(mode="after")
    def _begins_before_its_end(self) -> GradualPruning:
        if self.begin >= self.end:
            raise ValueError(f".begin: {self.begin:g} given, which is not before end ({self.end:g}); give both")
        return self


class Training(Strict):
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
    """Share of the epochs, at the end, over which the augmentation falls towards nothing."""
    blend: Literal["none", "mixup", "cutmix"] = "none"
    """Lay pages of a batch over one another, of ever fewer batches while the augmentation falls; classification only."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that decode and augment pages; 0 does it in the training process, and keeps decoded pages in memory."""
    evaluate_every: Annotated[float, Field(gt=0)] = 1
    """Epochs between two looks at the validation split; the best of them is kept."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 2.0
    """Minutes between two checkpoints inside an epoch; one is always written at its end."""
    keep: Literal["best", "last"] = "best"
    """Which weights the stage hands on."""
    tensorboard: bool = False
    freeze: list[str] = Field(default_factory=list)
    """Paths of the student's modules that stay as they are, such as ``encoder``: their weights are not trained, batch norms and dropout off."""
    prune: GradualPruning | None = None

    @field_validator("freeze", mode="before")
    @classmethod
    def _one_path(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


_AS_DRAWN = (
    "reading must know where each character stands, which augmentation moves; leave augment out (generated pages are worn "
    "already), or reading"
)


class TrainStage(Training):
    """Learn from the labels alone."""

    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    reading: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the objective `reading`, for a Donut that learns to read from scratch on generated pages; about 20."""

    @model_validator(mode="after")
    def _pages_stay_as_drawn(self) -> TrainStage:
        if self.reading and self.augment:
            raise ValueError(_AS_DRAWN)
        return self


class DistillStage(Training):
    """Learn from the teacher."""

    objectives: Annotated[list[dict[str, Any]], Field(min_length=1)]
    cache_logits: Annotated[int, Field(ge=0)] = 0
    """Ask the teacher once, and keep so many of its largest logits of each decision on disk; 0 asks it in every epoch."""

    answers: Literal["labels", "teacher"] = "labels"
    """What counts as right: the labels, or what the teacher writes for each page; kie only."""

    on_policy: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the small batches whose answers the student writes itself, for the teacher to grade; kie only."""

    @model_validator(mode="after")
    def _objectives_hold(self) -> DistillStage:
        problems = [
            f".objectives.{line}"
            for line in objective_problems(self.objectives) or self._blended_problems() + self._pruned_problems()
        ] or self._cache_problems()
        made = [] if problems else [made_objective(entry) for entry in self.objectives]
        if self.on_policy and not problems and not any(objective.needs_teacher for objective in made):
            problems.append(
                ".on_policy: no objective asks the teacher, and nothing else can grade what the student writes; leave it out, or add "
                "one such as kd"
            )
        if problems:
            raise ValueError("\n".join(problems))
        self.objectives[:] = [as_checked(entry) for entry in self.objectives]
        if self.augment and any(entry["kind"] == "reading" for entry in self.objectives):
            raise ValueError(_AS_DRAWN)
        return self

    def _blended_problems(self) -> list[str]:
        from docstill.objectives import OBJECTIVES

        return [
            f"{index}.kind: {entry['kind']} takes every page to have one right answer, which blended pages do not have; "
            "leave blend out, or use another objective"
            for index, entry in enumerate(self.objectives)
            if self.blend != "none" and OBJECTIVES[entry["kind"]].one_answer
        ]

    def _pruned_problems(self) -> list[str]:
        held = [
            f"{index}.frozen: heads keeps the teacher's heads as they are, whose weights cannot be pruned meanwhile; leave prune out and prune in a "
            "stage of its own, or give frozen: false"
            for index, entry in enumerate(self.objectives)
            if self.prune is not None and entry["kind"] == "heads" and entry.get("frozen", True)
        ]
        return held + [
            f"{index}.kind: simkd puts the teacher's classifier in the place of the student's, whose weights cannot be pruned "
            "meanwhile; leave prune out and prune in a stage of its own, or use another objective"
            for index, entry in enumerate(self.objectives)
            if self.prune is not None and entry["kind"] == "simkd"
        ]

    def _cache_problems(self) -> list[str]:
        """Why the teacher cannot be asked just once: the view of a page changes, or it is looked into."""
        if not self.cache_logits:
            return []
        problems = [
            f".{key}: {getattr(self, key)} given, but cache_logits keeps what the teacher said of one view of each page; "
            f"leave one of the two out"
            for key in ("augment", "blend", "on_policy")
            if getattr(self, key) not in (0, "none")
        ]
        made = [made_objective(entry) for entry in self.objectives]
        problems += [
            f".objectives.{index}.kind: {entry['kind']} looks inside the teacher, and cache_logits keeps its logits alone; "
            "leave one of the two out"
            for index, (entry, objective) in enumerate(zip(self.objectives, made, strict=True))
            if objective.needs_teacher and objective.teacher_logits == "none"
        ]
        if not any(objective.needs_teacher for objective in made):
            problems.append(".cache_logits: no objective asks the teacher; leave it out, or add one such as kd")
        return problems


class Stage(Strict):
    """One step from model to model; exactly one of its keys is given."""

    train: TrainStage | None = None
    prune: AnyPrune | None = None
    distill: DistillStage | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults_alone(cls, value: Any) -> Any:
        """`- train:` with nothing under it is a stage, too."""
        return {key: {} if one is None else one for key, one in value.items()} if isinstance(value, dict) else value

    @field_validator("prune", mode="before")
    @classmethod
    def _method_is_known(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("method", "magnitude") not in PRUNING:
            raise ValueError(f".method: {choice(value['method'], list(PRUNING))}")
        return value

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
