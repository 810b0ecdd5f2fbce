"""Lessons: the teacher is frozen, in eval, and asked only when an objective needs it."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from docstill.batches import _for_processes, epoch_batches, page_set
from docstill.errors import DataError, ModelError, UserError
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import new_classifier
from docstill.models.detector import new_detector
from docstill.models.io import DocumentModel
from docstill.objectives import OBJECTIVES
from docstill.optimiser import seed_everything
from docstill.recipe import Generated
from docstill.settings import DistillStage, Training
from docstill.sources import stream_of
from docstill.tasks.base import ModelSpec
from docstill.tasks.classification import Classification
from docstill.tasks.kie import Kie
from docstill.tasks.layout import Layout
from kie_tiny import tiny_folder
from layout_tiny import KINDS, TINY_RCNN, coco_folder

TASK = Classification()
DEEPER = {**tiny.TINY_VIT["config"], "num_hidden_layers": 3}  # type: ignore[dict-item]


def _model(seed: int, labels: tuple[str, ...] = tiny.KINDS) -> DocumentModel:
    seed_everything(seed)
    return new_classifier("vit-tiny", tiny.TINY_VIT["config"], labels, (32, 32))


def _batch(data: Path, student: DocumentModel, teacher: DocumentModel | None) -> dict[str, Any]:
    examples = page_set(TASK, TASK.read(data / "train"), student, teacher, Training(augment=1.0), seed=0)
    return next(epoch_batches(examples, 0, 0, 6, 0))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.class_folders(tmp_path_factory.mktemp("lesson"))


def test_labels_alone_call_the_teacher_zero_times(data: Path) -> None:
    student, teacher = _model(0), _model(1)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    teacher.network.register_forward_hook(count)
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "labels"}]))
    assert lesson.teacher is None
    lesson(_batch(data, student, None))
    assert calls == 0
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "labels"}, {"kind": "kd"}]))
    lesson(_batch(data, student, teacher))
    assert calls == 1


def test_the_teacher_stays_frozen_and_in_eval(data: Path) -> None:
    student, teacher = _model(0), _model(1)
    teacher.network.train()
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "kd"}]))
    lesson.train()
    assert not teacher.network.training
    assert all(not parameter.requires_grad for parameter in teacher.network.parameters())
    losses = lesson(_batch(data, student, teacher))
    losses[0].value.backward()
    assert all(parameter.grad is None for parameter in teacher.network.parameters())
    inside = {id(parameter) for parameter in lesson.parameters()}
    assert not inside & {id(parameter) for parameter in teacher.network.parameters()}


def test_a_student_that_is_its_teacher_has_nothing_to_learn(data: Path) -> None:
    student, teacher = _model(0), _model(0)
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "kd"}]))
    assert lesson(_batch(data, student, teacher))[0].value.item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_with_another_label_order_is_matched_by_name(data: Path) -> None:
    teacher = _model(0)
    turned = DocumentModel("classification", _model(0).network, teacher.processor, [tiny.KINDS[2], *tiny.KINDS[:2]])
    order = [turned.labels.index(kind) for kind in tiny.KINDS]
    with torch.no_grad():
        weight, bias = turned.network.classifier.weight.clone(), turned.network.classifier.bias.clone()
        for row, place in enumerate(order):
            turned.network.classifier.weight[place], turned.network.classifier.bias[place] = weight[row], bias[row]
    lesson = Lesson(TASK, teacher, turned, make_objectives([{"kind": "kd"}]))
    TASK.check_pair(turned, teacher)
    assert lesson(_batch(data, teacher, turned))[0].value.item() == pytest.approx(0, abs=1e-6)


def test_other_class_names_are_refused() -> None:
    with pytest.raises(ModelError, match="only the teacher has stripes"):
        TASK.check_pair(_model(0, ("bars", "dots", "stripes")), _model(0))


def test_a_module_that_does_not_exist_lists_the_nearest(data: Path) -> None:
    student, teacher = _model(0), _model(1)
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "hint", "student_module": "vit.layer.0"}]))
    with pytest.raises(ModelError, match=r"the student's .* no module 'vit\.layer\.0'; did you mean .*vit\.layers\.0"):
        lesson.prepare(_batch(data, student, teacher))


def test_a_list_of_layers_is_not_run_by_itself(data: Path) -> None:
    student, teacher = _model(0), _model(1)
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "hint", "student_module": "vit.layers"}]))
    with pytest.raises(ModelError, match=r"the student's vit\.layers is not run by itself .*; name a module that is"):
        lesson.prepare(_batch(data, student, teacher))


def test_a_layer_that_only_the_student_has_is_said_to_be_the_teachers(data: Path) -> None:
    student, teacher = new_classifier("vit-tiny", DEEPER, tiny.KINDS, (32, 32)), _model(1)
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "hint", "student_module": "vit.layers.2"}]))
    with pytest.raises(
        ModelError, match=r"the teacher's ViT\w+ has no module 'vit\.layers\.2'; did you mean .*vit\.layers\."
    ):
        lesson.prepare(_batch(data, student, teacher))


def test_teacher_outputs_that_are_not_finite_name_the_files(data: Path) -> None:
    student, teacher = _model(0), _model(1)
    teacher.network.classifier.weight.data.fill_(float("nan"))
    batch = _batch(data, student, teacher)
    lesson = Lesson(TASK, student, teacher, make_objectives([{"kind": "kd"}]))
    with pytest.raises(ModelError, match=batch["files"][0]):
        lesson(batch)


def test_two_hints_have_two_names() -> None:
    entries = [{"kind": "hint", "student_module": "a"}, {"kind": "hint", "student_module": "b"}]
    assert [weighted.name for weighted in make_objectives(entries)] == ["hint", "hint-2"]


def test_so_they_have_where_a_kind_has_a_hyphen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "logit-gap", OBJECTIVES["labels"])
    entries = [{"kind": "logit-gap"}, {"kind": "labels"}, {"kind": "logit-gap"}]
    assert [weighted.name for weighted in make_objectives(entries)] == ["logit-gap", "labels", "logit-gap-2"]


def test_views_depend_on_seed_epoch_and_document_alone(data: Path) -> None:
    student = _model(0)
    examples = page_set(TASK, TASK.read(data / "train"), student, None, Training(augment=1.0), seed=0)
    small = {
        file: pixels
        for batch in epoch_batches(examples, 1, 0, 1, 0)
        for file, pixels in zip(batch["files"], batch["student"]["pixel_values"], strict=True)
    }
    large = {
        file: pixels
        for batch in epoch_batches(examples, 1, 0, 5, 1)
        for file, pixels in zip(batch["files"], batch["student"]["pixel_values"], strict=True)
    }
    other = {
        file: pixels
        for batch in epoch_batches(examples, 2, 0, 5, 0)
        for file, pixels in zip(batch["files"], batch["student"]["pixel_values"], strict=True)
    }
    assert small.keys() == large.keys()
    assert all(torch.equal(small[file], large[file]) for file in small)
    assert any(not torch.equal(small[file], other[file]) for file in small)
    skipped = [batch["files"] for batch in epoch_batches(examples, 1, 2, 5, 0)]
    assert skipped == [batch["files"] for batch in epoch_batches(examples, 1, 0, 5, 0)][2:]


def test_what_both_are_shown_is_made_once_and_is_what_each_would_be_shown(data: Path) -> None:
    pages, training = TASK.read(data / "train"), DistillStage(objectives=[{"kind": "kd"}], augment=1.0, blend="mixup")
    shared = page_set(TASK, pages, _model(0), _model(1), training, seed=0)
    assert shared.alike
    apart = replace(shared, alike=False)
    for one, other in zip(epoch_batches(shared, 0, 0, 4, 0), epoch_batches(apart, 0, 0, 4, 0), strict=True):
        for name in ("student", "teacher"):
            assert one[name].keys() == other[name].keys()
            assert all(np.array_equal(one[name][key], other[name][key]) for key in one[name])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_page_is_the_same_sentence_in_whatever_process_it_is_read(workers: int, tmp_path: Path) -> None:
    pages = TASK.read(tiny.class_folders(tmp_path / "data") / "train")
    examples = page_set(TASK, pages, _model(0), None, Training(), seed=0)
    bad = pages.documents[5].file
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(UserError) as error:
        list(epoch_batches(examples, 0, 0, 6, workers))
    assert str(error.value).startswith(f"{bad}: is damaged")
    assert "Traceback" not in str(error.value)


def test_errors_with_a_list_of_problems_come_whole_out_of_other_processes() -> None:
    again = pickle.loads(pickle.dumps(DataError("these pages are bad", ["a.png: is empty", "b.png: is damaged"])))
    assert isinstance(again, DataError)
    assert again.problems == ["a.png: is empty", "b.png: is damaged"]
    assert str(again) == "these pages are bad\n  a.png: is empty\n  b.png: is damaged"


def test_other_processes_are_handed_no_weights(data: Path) -> None:
    """Where they do not begin as copies of this one everything is sent, and a network with SimKD's classifier cannot be."""
    student, teacher = _model(0), _model(1)
    training = DistillStage(objectives=[{"kind": "simkd"}], augment=1.0)
    Lesson(TASK, student, teacher, make_objectives([{"kind": "simkd"}]))
    examples = page_set(TASK, TASK.read(data / "train"), student, teacher, training, seed=0)
    sent = pickle.dumps(_for_processes(examples))
    assert len(sent) < 20_000
    one, other = (collected.collate([collected[0], collected[3]]) for collected in (examples, pickle.loads(sent)))
    assert one["files"] == other["files"]
    assert torch.equal(one["teacher"]["pixel_values"], other["teacher"]["pixel_values"])


@pytest.mark.parametrize("task", ["kie", "drawn", "layout"])
def test_pages_of_every_task_can_be_sent(task: str, tmp_path: Path) -> None:
    if task == "layout":
        pages = Layout().read(coco_folder(tmp_path / "data") / "train")
        height, width = TINY_RCNN["image_size"]
        model = new_detector(TINY_RCNN["new"], TINY_RCNN["config"], KINDS, (height, width))
        examples = page_set(Layout(), pages, model, model, Training(), seed=0)
    else:
        pages = Kie().read(tiny_folder(tmp_path / "train"))
        if task == "drawn":
            stream = stream_of(Generated(synth="small-labels", n=6))
            pages = replace(pages, documents=list(stream.first()), stream=stream)
        new = ModelSpec("donut-tiny")
        models = Kie().new_model(new, pages), Kie().new_model(new, pages)
        examples = page_set(Kie(), pages, *models, Training(), seed=0)
    again = pickle.loads(pickle.dumps(_for_processes(examples)))
    one, other = (collected.collate([collected[1]])["student"] for collected in (examples, again))
    assert one.keys() == other.keys()
    assert torch.equal(one["pixel_values"], other["pixel_values"])
