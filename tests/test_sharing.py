"""A frozen part that is the teacher's own runs once a batch, and nothing that is learnt from depends on it."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny
from docstill.batches import epoch_batches, page_set
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.optimiser import seed_everything
from docstill.pruning.depth import prune_depth
from docstill.settings import Training
from docstill.sharing import in_common
from docstill.tasks.base import Task
from docstill.tasks.classification import Classification
from docstill.tasks.kie import Kie
from kie_tiny import tiny_donut, tiny_folder

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")

KD = [{"kind": "labels"}, {"kind": "kd"}]


def _runs(module: nn.Module) -> list[int]:
    """Grows by one whenever the module is run by itself, and not recalled."""
    found: list[int] = []
    first = next(part for part in module.modules() if not list(part.children()))
    first.register_forward_hook(lambda *_: found.append(1))
    return found


def _donuts() -> tuple[Kie, DocumentModel, DocumentModel]:
    teacher = tiny_donut(changes={"decoder": {"decoder_layers": 3}})
    shallow, _, _ = prune_depth(teacher.network, {}, 2, of="decoder")
    return Kie(), teacher, replace(teacher, network=shallow)


def _resnets() -> tuple[Classification, DocumentModel, DocumentModel]:
    seed_everything(0)
    teacher = new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (32, 32))  # type: ignore[arg-type]
    student = copy.deepcopy(teacher)
    nn.init.normal_(student.network.classifier[1].weight)
    return Classification(), teacher, student


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shared")
    return {"kie": tiny_folder(root / "kie"), "classification": tiny.class_folders(root / "kinds") / "train"}


def _lesson(
    task: Task,
    teacher: DocumentModel,
    student: DocumentModel,
    folder: Path,
    freeze: list[str],
    objectives: list[dict[str, Any]] = KD,
) -> tuple[Lesson, dict[str, Any]]:
    examples = page_set(task, task.read(folder), student, teacher, Training(augment=1.0), seed=0)
    batch = next(epoch_batches(examples, 0, 0, 4, 0))
    lesson = Lesson(task, student, teacher, make_objectives(objectives), freeze)
    lesson.prepare(batch)
    return lesson.train(), batch


@pytest.mark.parametrize(("made", "path"), [(_donuts, "encoder"), (_resnets, "resnet")])
def test_it_runs_once_a_batch_with_the_same_losses_and_gradients(made: Any, path: str, data: dict[str, Path]) -> None:
    task, teacher, student = made()
    lesson, batch = _lesson(task, teacher, student, data[task.name], [path])
    part = teacher.network.get_submodule(path)
    assert [theirs for _, theirs in lesson.shared] == [part]
    runs = _runs(part)

    def learnt() -> list[torch.Tensor]:
        lesson.zero_grad()
        losses = [loss.value for loss in lesson(batch)]
        torch.stack(losses).sum().backward()
        grown = [weights.grad for weights in lesson.parameters() if weights.grad is not None]
        return [*losses, *grown]

    shared = learnt()
    assert not runs
    assert "forward" not in vars(part)
    lesson.shared = ()
    apart = learnt()
    assert runs == [1]
    assert len(shared) > 3
    assert all(torch.equal(one, other) for one, other in zip(shared, apart, strict=True))


def test_what_differs_or_learns_or_is_looked_into_runs_for_itself(data: dict[str, Path]) -> None:
    task, teacher, student = _donuts()
    assert not _lesson(task, teacher, student, data["kie"], [])[0].shared
    assert not _lesson(task, teacher, student, data["kie"], ["decoder.model.decoder.layers"])[0].shared
    inside = "encoder.encoder.layers.0"
    hint = [*KD, {"kind": "hint", "student_module": inside, "teacher_module": inside}]
    assert not _lesson(task, teacher, student, data["kie"], ["encoder"], hint)[0].shared
    assert _lesson(task, teacher, student, data["kie"], [inside], hint)[0].shared
    with torch.no_grad():
        next(student.network.encoder.parameters())[0] += 1e-6
    assert not _lesson(task, teacher, student, data["kie"], ["encoder"])[0].shared


def test_another_page_is_not_recalled(data: dict[str, Path]) -> None:
    task, teacher, student = _donuts()
    lesson, batch = _lesson(task, teacher, student, data["kie"], ["encoder"])
    runs = _runs(teacher.network.encoder)
    batch["teacher"]["pixel_values"] = batch["teacher"]["pixel_values"].flip(0)
    with torch.no_grad():
        _, answer = lesson.outputs(batch)
        alone = task.forward(teacher, batch["teacher"])
    assert runs == [1, 1]
    assert answer is not None
    assert torch.equal(answer.logits, alone.logits)


def test_modules_that_the_teacher_lacks_are_not_in_common() -> None:
    _, teacher, student = _resnets()
    student.network.resnet.more = nn.Linear(2, 2)
    frozen = {path: student.network.get_submodule(path) for path in ("resnet.more", "resnet", "resnet.embedder")}
    assert in_common(frozen, teacher.network, []) == [
        (student.network.resnet.embedder, teacher.network.resnet.embedder)
    ]
