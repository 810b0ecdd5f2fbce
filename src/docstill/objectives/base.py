"""What a forward pass leaves behind, and what an objective is.

Every task turns a batch into `Outputs`, for the teacher and the student *on the same decisions*; an objective is a
small module that compares the two. An objective therefore knows nothing of tasks, and is written and tested once.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model
from torch import Tensor, nn

from docstill.models.patches import Patches

UNLABELLED = -100
"""The target of a decision whose right answer is not known; cross entropy leaves it out."""
EVERY_TASK = ("classification", "kie", "layout")
BACKGROUND = -1
"""What lies in a region where no labelled region is."""


@dataclass
class Looks:
    """What a detector makes of regions that it was given; a student and its teacher look at the same ones, in one order.

    Boxes are left, top, right, bottom as shares of the page, so that networks with inputs of other sizes agree on them.
    Classes stand in the alphabetical order of their names.

    Attributes:
        pages: ``(N,)`` int64, the document of each region.
        given: ``(N, 4)`` float32, the regions; no gradients.
        classes: ``(N, C)`` logits of the classes: their softmax with ``background``, or each one's sigmoid without.
        background: ``(N,)`` logit of no class at all; None for a network that scores each class by itself.
        boxes: ``(N, C, 4)`` where each class would lie; DETR-type networks say the same for all classes (an expanded view).
        truths: ``(N,)`` int64, what lies there by the labels: the class, `BACKGROUND`, or `UNLABELLED` if that is not known.
        pooled: ``(N, D, S, S)`` float32 features of the region, cut out of the feature maps (RoIAlign); None unless asked for.
        names: class names, in alphabetical order.
    """

    pages: Tensor
    given: Tensor
    classes: Tensor
    background: Tensor | None
    boxes: Tensor
    truths: Tensor
    pooled: Tensor | None = None
    names: tuple[str, ...] = ()


@dataclass
class Outputs:
    """What one model made of one batch, padding and prompts already gone.

    Attributes:
        logits: ``(N, C)`` float32, one row a decision that is scored: a page, a position of the answer, a region.
        targets: ``(N,)`` int64, the right answers of those decisions; `UNLABELLED` where none is known.
        documents: how many documents the batch held.
        features: float32 activations tapped by module path; the first axis is the document.
        loss: the task's own supervised loss (a mean over decisions), where cross entropy on ``logits`` is not it.
        answers: for a network that writes, the path of the part that does, and ``(B, T)`` bool, True where a position
            is scored: what that part makes of padding never counts.
        blended: where pages were laid over one another, ``(N,)`` the right answers of the second ones, and the share of the
            first; see `docstill.blending`.
        glyphs: where it is known which character stands where: ``(G, 3)`` int64 document, patch of the encoder's output and
            kind of character, and how many kinds there are; one row with -1 for both for a page that is known to hold none.
        tags: for a network that writes, ``(N,)`` bool, True where the right token is a tag or the end, False in a value.
        looks: for a detector, what it makes of the regions that are compared.
        patches: for a page classifier that hands on tokens, where on the page they stand, if that is known.
        frames: for a detector, ``(B, 4)``: the share of the input's width, height, width, height that each page fills, from the top
            left; the rest is padding.
        reckoned: whether ``logits`` are log probabilities that were put together from others, so that nothing but their softmax
            means anything.
    """

    logits: Tensor
    targets: Tensor
    documents: int
    features: dict[str, Tensor] = field(default_factory=dict)
    loss: Tensor | None = None
    answers: tuple[str, Tensor] | None = None
    blended: tuple[Tensor, float] | None = None
    glyphs: tuple[Tensor, int] | None = None
    tags: Tensor | None = None
    looks: Looks | None = None
    patches: Patches | None = None
    frames: Tensor | None = None
    reckoned: bool = False


class Objective(nn.Module):
    """One thing the student is asked to do: ``forward(student, teacher) -> scalar mean``.

    The engine multiplies the mean by its share of the optimisation step (so that accumulated small batches weigh
    exactly like one large batch); ``average`` says what the mean runs over.

    Options are the keyword arguments of ``__init__``, with types; the recipe checks them (see `options_of`).
    Parameters of an objective (projectors) are trained with the student and thrown away after.
    """

    needs_teacher: ClassVar[bool] = True
    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "decisions"

    one_answer: ClassVar[bool] = False
    """Whether it takes every decision to have one right answer, so that blended pages are not for it."""

    teacher_logits: Literal["largest", "all", "none"] = "none"
    """Which of the teacher's logits, kept from an earlier look, can stand in for it; none where it looks inside the teacher."""
    temperature: float = 1.0
    """What the teacher's logits are divided by."""

    tasks: ClassVar[tuple[str, ...]] = ("classification", "kie")
    """The tasks it makes sense for."""
    looks: ClassVar[bool] = False
    """Whether it compares ``Outputs.looks``, which are made only where they are asked for."""
    pools: ClassVar[bool] = False
    """Whether it compares ``Looks.pooled``, too."""

    student_modules: tuple[str, ...] = ()
    teacher_modules: tuple[str, ...] = ()

    def __init__(self) -> None:
        """No options; without this, those of an objective that has none would be read off `nn.Module`."""
        super().__init__()

    def know(self, card: Mapping[str, Any]) -> None:
        """Sees the student's model card before `attach`: what was done to it earlier."""

    def attach(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Sees the two networks before training; may change the student's, as `detach` must be able to undo or settle."""

    def detach(self) -> None:
        """Called once when training has ended: leaves an ordinary network behind."""

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Sees the outputs of one dry batch before training, to make projectors from their shapes."""

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """The scalar to be made small.

        Args:
            student: outputs that carry gradients.
            teacher: the teacher's outputs on the same decisions; None if ``needs_teacher`` is false.
        """
        raise TypeError(f"{type(self).__name__} has no forward(student, teacher)")


class ObjectiveOptions(BaseModel):
    """What every objective of a recipe may say, whatever its kind."""

    model_config = ConfigDict(extra="forbid")
    kind: str
    weight: float = Field(default=1.0, ge=0)


def options_of(kind: str, objective: type[Objective]) -> type[ObjectiveOptions]:
    """The pydantic model of a recipe's entry for ``objective``, made from its constructor's signature."""
    hints = typing.get_type_hints(objective.__init__, include_extras=True)
    fields: dict[str, Any] = {"kind": (Literal[kind], kind)}
    for name, parameter in inspect.signature(objective).parameters.items():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints[name], default)
    return create_model(f"{objective.__name__}Options", __base__=ObjectiveOptions, **fields)
