"""Which settings are not for a task, or not for documents that are drawn while training."""

from __future__ import annotations

from typing import Any

from docstill.prune_settings import PruneStage
from docstill.settings import DistillStage, Training, TrainStage


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

    instead = {("simkd", "layout"): "heads, which is SimKD for detectors, or "}
    fitting = [kind for kind, objective in OBJECTIVES.items() if task in objective.tasks]
    return [
        f"{index}.kind: {entry['kind']} is for {' and '.join(OBJECTIVES[entry['kind']].tasks)}, the task is {task}; choose "
        f"{instead.get((entry['kind'], task), '')}one of {', '.join(fitting)}"
        for index, entry in enumerate(objectives)
        if entry["kind"] not in fitting
    ]


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
