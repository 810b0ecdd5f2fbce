"""Values weigh more than tags: by hand, however a batch is split, and only where there are tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from docstill.batches import epoch_batches, page_set
from docstill.data.json_tokens import json_to_tokens
from docstill.errors import ModelError, RecipeError
from docstill.lesson import Lesson, make_objectives
from docstill.models.donut_tokens import form_ids
from docstill.objectives.base import UNLABELLED, Outputs
from docstill.objectives.divergences import divergence
from docstill.objectives.kd import Kd
from docstill.objectives.labels import Labels
from docstill.recipe import parse_recipe
from docstill.settings import Training
from docstill.tasks.kie import Kie
from kie_tiny import ANSWERS, tiny_donut, tiny_folder

TAGS = torch.tensor([True, False, True, False])


def pair() -> tuple[Outputs, Outputs]:
    torch.manual_seed(0)
    ours, theirs, targets = torch.randn(4, 5), torch.randn(4, 5), torch.tensor([0, 3, 1, 4])
    return Outputs(ours, targets, 2, tags=TAGS), Outputs(theirs, targets, 2, tags=TAGS)


def test_labels_by_hand() -> None:
    student, _ = pair()
    losses = -student.logits.log_softmax(-1)[range(4), student.targets]
    expected = (losses[0] + 3 * losses[1] + losses[2] + 3 * losses[3]) / 4
    assert Labels(value_weight=3.0)(student, None).item() == pytest.approx(expected.item(), rel=1e-6)


def test_labels_divide_by_the_labelled_alone_and_take_smoothing_along() -> None:
    student, _ = pair()
    student.targets[1] = UNLABELLED
    p = student.logits.log_softmax(-1)
    losses = -0.9 * p[range(4), student.targets.clamp(min=0)] - 0.1 * p.mean(-1)
    expected = (losses[0] + losses[2] + 3 * losses[3]) / 3
    assert Labels(smoothing=0.1, value_weight=3.0)(student, None).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("kind", ["forward", "jsd"])
def test_kd_by_hand(kind: Any) -> None:
    student, teacher = pair()
    distances = divergence(kind, student.logits / 2, teacher.logits / 2, 0.5)
    expected = 4 * (distances * torch.tensor([1.0, 0.25, 1.0, 0.25])).mean()
    found = Kd(temperature=2.0, divergence=kind, value_weight=0.25)(student, teacher)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_weight_of_one_is_the_plain_objective_to_the_last_bit() -> None:
    student, teacher = pair()
    assert torch.equal(Labels(value_weight=1.0)(student, None), Labels()(student, None))
    assert torch.equal(Kd(value_weight=1.0)(student, teacher), Kd()(student, teacher))


def test_a_task_without_tags_is_refused() -> None:
    student, teacher = pair()
    student.tags = None
    for objective in (Labels(value_weight=2.0), Kd(value_weight=2.0)):
        with pytest.raises(ModelError, match="value_weight 2 is given, but this task writes no tags"):
            objective(student, teacher)


def test_tags_separator_and_end_are_form_and_everything_else_is_value(tmp_path: Path) -> None:
    model, task = tiny_donut(), Kie()
    pages = task.read(tiny_folder(tmp_path, ANSWERS[:2]))
    batch = next(epoch_batches(page_set(task, pages, model, None, Training(), 0), 0, 0, 2, 0))["student"]
    ids, tags = batch["targets"].tolist(), batch["tags"].tolist()
    tokens = model.processor.tokenizer.convert_ids_to_tokens(ids)
    values = "".join(token for token, tag in zip(tokens, tags, strict=True) if not tag)
    form = [token for token, tag in zip(tokens, tags, strict=True) if tag]
    assert sorted(values) == sorted("Ash & Co9.00Birch12.50")
    assert form == ["<s_total>", "</s_total>", "<s_shop>", "</s_shop>", "</s>"] * 2
    assert model.processor.tokenizer.convert_tokens_to_ids("<sep/>") in form_ids(model.processor.tokenizer)
    assert json_to_tokens(ANSWERS[0]).startswith("<s_total>")


def test_eight_accumulated_batches_of_one_are_one_batch_of_eight(tmp_path: Path) -> None:
    task, student, teacher = Kie(), tiny_donut(0), tiny_donut(1)
    pages = task.read(tiny_folder(tmp_path, [*ANSWERS, *ANSWERS]))
    entries = [{"kind": "labels", "value_weight": 2.0}, {"kind": "kd", "value_weight": 3.0}]
    lesson = Lesson(task, student, teacher, make_objectives(entries))
    examples = page_set(task, pages, student, teacher, Training(), seed=0)
    (whole,) = epoch_batches(examples, 0, 0, 8, 0)
    totals = lesson.counts(whole)
    expected = {loss.name: loss.value.item() for loss in lesson(whole)}
    summed = dict.fromkeys(totals, 0.0)
    for batch in epoch_batches(examples, 0, 0, 1, 0):
        for loss in lesson(batch):
            summed[loss.name] += loss.value.item() * loss.count / totals[loss.name]
    assert summed == pytest.approx(expected, rel=1e-4)
    plain = Lesson(task, student, teacher, make_objectives([{"kind": "labels"}, {"kind": "kd"}]))
    assert all(loss.value.item() < expected[loss.name] for loss in plain(whole))


def test_classification_has_no_tags_and_the_recipe_says_so(tmp_path: Path) -> None:
    content = tiny.recipe(tmp_path)
    content["stages"][1]["distill"]["objectives"][1]["value_weight"] = 2.0
    with pytest.raises(RecipeError) as error:
        parse_recipe(content)
    assert error.value.problems == [
        "stages.1.distill.objectives.1.value_weight: is for kie, the task is classification; leave it out"
    ]
    assert parse_recipe({**content, "task": "kie"}).task == "kie"
