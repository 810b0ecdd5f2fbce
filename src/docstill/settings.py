"""The settings of the stages, as recipes write them and single stages take them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from docstill.mistakes import choice, mistakes

if TYPE_CHECKING:
    from docstill.objectives.base import Objective


class Strict(BaseModel):
    """No key that is not known; never changed once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Side = Annotated[int, Field(gt=0)]


class NewModel(Strict):
    """A model from scratch: a size by name, and changes to its transformers config."""

    new: str
    config: dict[str, Any] = Field(default_factory=dict)
    image_size: tuple[Side, Side] | None = None
    """(height, width) in pixels; default: the size's own."""


Scope = Literal["global", "layer", "lamp"]
"""Where magnitudes are compared; see `docstill.pruning.magnitude`."""


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
    prune: GradualPruning | None = None


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


class PruneStage(Strict):
    """What all methods of pruning share: how they are told apart."""

    method: str

    def without_pages(self) -> PruneStage:
        """The same, but for what would take a look at pages."""
        return self


class MagnitudePrune(PruneStage):
    """Set the smallest weights to zero, at once."""

    method: Literal["magnitude"] = "magnitude"
    sparsity: Annotated[float, Field(gt=0, lt=1)]
    scope: Scope = "global"
    of: str = "non-embedding"
    """`all`, `non-embedding`, or a glob over parameter names."""


class PatternPrune(PruneStage):
    """Keep the N largest of every M weights."""

    method: Literal["pattern"]
    pattern: str = "2:4"
    """`N:M`, in quotes: YAML reads a bare 2:4 as the number 124."""
    of: str = "non-embedding"
    """As for magnitude."""

    @field_validator("pattern", mode="before")
    @classmethod
    def _pattern_holds(cls, value: Any) -> Any:
        found = re.fullmatch(r"(\d+):(\d+)", value) if isinstance(value, str) else None
        if found is None or not 0 < int(found[1]) < int(found[2]):
            raise ValueError(f'{value!r} given; write N:M in quotes with N below M, such as "2:4"')
        return value

    @property
    def counts(self) -> tuple[int, int]:
        """(N, M)."""
        kept, _, every = self.pattern.partition(":")
        return int(kept), int(every)


Pages = Annotated[int, Field(gt=0)]


class DepthPrune(PruneStage):
    """Take whole blocks out."""

    method: Literal["depth"]
    keep: float | int | list[int]
    """A share of each stage's blocks, or how many: of a network without stages, or of each stage."""
    of: Literal["all", "encoder", "decoder"] = "all"
    by: Literal["even", "influence"] = "even"
    """Evenly spaced blocks stay, or those that change most what passes through them."""
    pages: Pages = 64
    """How many training pages `influence` looks at."""

    def without_pages(self) -> PruneStage:
        """The same with evenly spaced blocks."""
        return self.model_copy(update={"by": "even"})

    @field_validator("keep", mode="before")
    @classmethod
    def _keep_holds(cls, value: Any) -> Any:
        numbers = value if isinstance(value, list) and value else [value]
        whole = all(isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in numbers)
        if whole or (isinstance(value, float) and 0 < value < 1):
            return value
        raise ValueError(f"{value!r} given; a share between 0 and 1, a number of blocks, or a list of numbers expected")


class FfnPrune(PruneStage):
    """Make the feed-forward layers narrower."""

    method: Literal["ffn"]
    keep: Annotated[float, Field(gt=0, lt=1)]
    """Share of the hidden units that stay, in every block."""
    of: Literal["all", "encoder", "decoder"] = "all"
    by: Literal["activation", "magnitude"] = "activation"
    pages: Pages = 64
    """How many training pages `activation` looks at."""

    def without_pages(self) -> PruneStage:
        """The same by magnitude."""
        return self.model_copy(update={"by": "magnitude"})


class ChannelPrune(PruneStage):
    """Make every stage of a ResNet narrower."""

    method: Literal["channels"]
    keep: Annotated[float, Field(gt=0, lt=1)]
    """Share of each stage's channels that stay."""


class VocabularyPrune(PruneStage):
    """Drop the tokens that the training answers do not need."""

    method: Literal["vocabulary"]
    characters: str = ""
    """Characters that must stay, besides printable ASCII and those of the training answers."""


class BackbonePrune(PruneStage):
    """Put a smaller backbone in the place of a detector's; layout only."""

    method: Literal["backbone"]
    to: str
    """The size of detector whose backbone it is to be, such as `faster-rcnn-r18`."""


class ResolutionPrune(PruneStage):
    """Take pages at a smaller size; for Donuts and layout detectors."""

    method: Literal["resolution"]
    keep: Annotated[float, Field(gt=0, lt=1)]
    """Share of each side of the input that stays, rounded to whole multiples of 32 pixels."""


PRUNING: dict[str, type[PruneStage]] = {
    "magnitude": MagnitudePrune,
    "pattern": PatternPrune,
    "depth": DepthPrune,
    "ffn": FfnPrune,
    "channels": ChannelPrune,
    "vocabulary": VocabularyPrune,
    "backbone": BackbonePrune,
    "resolution": ResolutionPrune,
}
"""Settings of each method of pruning, by its name."""


CUTS = (DepthPrune, FfnPrune, ChannelPrune, BackbonePrune, ResolutionPrune)
"""What makes a network smaller, whatever it has learnt."""
PRUNED_TASKS = {
    "vocabulary": ("kie",),
    "backbone": ("layout",),
    "resolution": ("kie", "layout"),
}
"""Methods that are not for every task, and what they are for."""


def _prune_class(value: Any) -> str:
    """The name of the class that reads these settings; magnitude where no method is named."""
    method = value.get("method", "magnitude") if isinstance(value, dict) else getattr(value, "method", "magnitude")
    return PRUNING[method].__name__ if method in PRUNING else str(method)


AnyPrune = Annotated[
    Annotated[MagnitudePrune, Tag("MagnitudePrune")]
    | Annotated[PatternPrune, Tag("PatternPrune")]
    | Annotated[DepthPrune, Tag("DepthPrune")]
    | Annotated[FfnPrune, Tag("FfnPrune")]
    | Annotated[ChannelPrune, Tag("ChannelPrune")]
    | Annotated[VocabularyPrune, Tag("VocabularyPrune")]
    | Annotated[BackbonePrune, Tag("BackbonePrune")]
    | Annotated[ResolutionPrune, Tag("ResolutionPrune")],
    Discriminator(_prune_class),
]


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


def as_checked(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry that holds, with the values that its options are read as: YAML reads 4e0 as a text."""
    from docstill.objectives import OBJECTIVES
    from docstill.objectives.base import options_of

    kind = str(entry["kind"])
    found = options_of(kind, OBJECTIVES[kind]).model_validate(entry).model_dump(exclude_unset=True)
    return {key: found[key] for key in entry}


def made_objective(entry: dict[str, Any]) -> Objective:
    """The objective of an entry that holds."""
    from docstill.objectives import OBJECTIVES

    options = {name: value for name, value in entry.items() if name not in ("kind", "weight")}
    return OBJECTIVES[entry["kind"]](**options)


def unfit_training(path: str, settings: Training, task: str) -> list[str]:
    """A line `path.key: …` for each setting of a training that is not for the task."""
    found = []
    if settings.blend != "none" and task != "classification":
        found.append(f"{path}.blend: is for classification, the task is {task}; leave it out")
    if isinstance(settings, TrainStage) and settings.reading and task != "kie":
        found.append(f"{path}.reading: is for kie, the task is {task}; leave it out")
    if isinstance(settings, TrainStage) and settings.smoothing and task == "layout":
        found.append(f"{path}.smoothing: is for classification and kie, the task is layout; leave it out")
    return found


def unfit_objectives(objectives: list[dict[str, Any]], task: str) -> list[str]:
    """A line `0.kind: …` for each objective, of a list that holds, which is not for the task."""
    from docstill.objectives import OBJECTIVES

    fitting = [kind for kind, objective in OBJECTIVES.items() if task in objective.tasks]
    return [
        f"{index}.kind: {entry['kind']} is for {' and '.join(OBJECTIVES[entry['kind']].tasks)}, the task is {task}; choose one "
        f"of {', '.join(fitting)}"
        for index, entry in enumerate(objectives)
        if entry["kind"] not in fitting
    ]


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
