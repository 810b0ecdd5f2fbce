"""What a run is made of: a teacher, and chains of stages that end in a student or a control."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from docstill.models.io import DocumentModel
from docstill.settings import DistillStage, Stage
from docstill.stages import labels_only

MODEL = "model"
DOCUMENTS, OUTPUTS = "documents.json", "outputs.jsonl"
"""Of an evaluation: how each document was judged; for classification what was answered, as `docstill.scoring.score` reads it."""


@dataclass(frozen=True)
class Taught:
    """The teacher of a run: the model, its folder, and what it scores."""

    model: DocumentModel
    source: str
    folder: Path


@dataclass(frozen=True)
class Chain:
    """The stages of one student or control with one seed, numbered, and where they are kept.

    ``start`` is a finished model folder that the first stage begins from, if the chain shares its first stages.
    """

    row: str
    seed: int
    folder: Path
    stages: list[tuple[int, Stage]]
    start: Path | None = None

    def stage_folder(self, number: int, stage: Stage) -> Path:
        """Where a stage keeps what it makes."""
        return self.folder / f"{number}-{stage.kind}"

    @property
    def model_folder(self) -> Path:
        """The model at the chain's end."""
        return self.stage_folder(*self.stages[-1]) / MODEL


def without_teacher(student: Chain, folder: Path, more: float) -> Chain:
    """The no-KD control: the same stages from the same start, each distil stage learning from the labels alone.

    Stages before the first distil stage are the same for both, so the control begins from the student's. It cannot use
    unlabelled pages; it sees the labelled ones ``more`` times as often, so that both take as many steps.
    """
    first = next(index for index, (_, stage) in enumerate(student.stages) if stage.kind == "distill")
    start = student.stage_folder(*student.stages[first - 1]) / MODEL if first else None
    stages = [(number, no_kd(stage, more)) for number, stage in student.stages[first:]]
    return Chain("no-kd", student.seed, folder, stages, start)


def no_kd(stage: Stage, more: float) -> Stage:
    """The stage as the no-KD control runs it: a distil stage without its teacher and ``more`` times as long, others as they are."""
    settings = stage.settings
    if not isinstance(settings, DistillStage):
        return stage
    changes = {
        "objectives": labels_only(settings),
        "epochs": settings.epochs * more,
        "answers": "labels",
        "on_policy": 0.0,
    }
    # Not checked again: cache_logits without a teacher is no mistake here, it gives the control the student's views.
    return Stage.model_construct(distill=settings.model_copy(update=changes))
