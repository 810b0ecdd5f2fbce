"""Blended pages: the same blend for student and teacher, labels by share, off at the end, refused where it cannot be."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import docstill
import tiny
from docstill.batches import epoch_batches, page_set
from docstill.blending import blend
from docstill.errors import RecipeError
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import new_classifier
from docstill.objectives.base import Outputs
from docstill.objectives.kd import Kd
from docstill.objectives.labels import Labels
from docstill.recipe import parse_recipe
from docstill.settings import Training
from docstill.tasks.classification import Classification


def batch(side: int, pages: int = 4) -> dict[str, Any]:
    """Pages of one number each: the number is the page's target."""
    targets = torch.arange(pages)
    return {"pixel_values": targets.float()[:, None, None, None].expand(pages, 3, side, side), "targets": targets}


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(12))
def test_the_share_is_what_is_left_of_a_page_for_both_models(kind: str, seed: int) -> None:
    student, teacher = batch(20), batch(40)
    blend(kind, [student, teacher], random.Random(seed))
    assert torch.equal(student["partners"], teacher["partners"])
    assert sorted(student["partners"].tolist()) == [0, 1, 2, 3]
    for side in (student, teacher):
        assert 0.5 <= side["share"] <= 1 or side["share"] == pytest.approx(0.5, abs=0.05)
        expected = side["share"] * side["targets"] + (1 - side["share"]) * side["partners"]
        torch.testing.assert_close(side["pixel_values"].mean((1, 2, 3)), expected)
    # the same view: the teacher's, halved, is the student's, up to a row of pixels at the edge of the rectangle
    halved = functional.avg_pool2d(teacher["pixel_values"], 2)
    assert ((halved - student["pixel_values"]).abs() > 1e-5).float().mean() < 0.25
    assert student["share"] == pytest.approx(teacher["share"], abs=0.06)


def test_labels_of_a_blend_are_both_answers_by_share() -> None:
    torch.manual_seed(0)
    logits, targets, partners = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1]), torch.tensor([2, 2, 0, 1, 1])
    blended = Outputs(logits, targets, 5, blended=(partners, 0.7))
    soft = 0.7 * functional.one_hot(targets, 3) + 0.3 * functional.one_hot(partners, 3)
    expected = -(soft * logits.log_softmax(-1)).sum(-1).mean()
    assert Labels()(blended, None).item() == pytest.approx(expected.item(), abs=1e-6)
    assert Kd()(blended, Outputs(logits, targets, 5)).item() == pytest.approx(0, abs=1e-7)


def test_batches_blend_until_the_augmentation_falls(tmp_path: Path) -> None:
    task = Classification()
    pages = task.read(tiny.class_folders(tmp_path) / "train")
    student = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32))
    teacher = new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (48, 48))
    training = Training(epochs=10, batch_size=4, blend="mixup", augment_fade=0.2)
    examples = page_set(task, pages, student, teacher, training, seed=0)
    early, again = (list(epoch_batches(examples, 2, 0, 4, 0)) for _ in range(2))
    assert all("partners" in found["student"] for found in early)
    assert all(
        torch.equal(one["teacher"]["pixel_values"], two["teacher"]["pixel_values"])
        for one, two in zip(early, again, strict=True)
    )
    lesson = Lesson(task, student, teacher, make_objectives([{"kind": "labels"}, {"kind": "kd"}]))
    outputs, _ = lesson.outputs(early[0])
    assert outputs.blended is not None
    assert all(loss.value.isfinite() for loss in lesson(early[0]))
    plain = list(epoch_batches(page_set(task, pages, student, None, Training(), seed=0), 2, 0, 4, 0))
    assert "partners" not in plain[0]["student"]
    last = [
        found
        for seed in range(20)
        for found in epoch_batches(
            page_set(
                task, pages, student, None, Training(epochs=10, batch_size=4, blend="cutmix", augment_fade=1.0), seed
            ),
            9,
            0,
            4,
            0,
        )
    ]
    blended = sum("partners" in found["student"] for found in last)
    assert blended < 0.3 * len(last)


def test_a_run_with_blended_pages(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    content = tiny.recipe(data)
    content["stages"][1]["distill"]["blend"] = "cutmix"
    results = docstill.compress(parse_recipe(content), tmp_path / "run")
    assert [row["name"] for row in results["rows"]] == ["teacher", "student", "no-kd"]


def test_what_blended_pages_cannot_be_used_for(tmp_path: Path) -> None:
    content = tiny.recipe(tmp_path)
    distill = content["stages"][1]["distill"]
    distill["blend"] = "mixup"
    distill["objectives"] = [{"kind": "labels"}, {"kind": "dkd"}]
    with pytest.raises(RecipeError, match="recipe has 1 mistake") as error:
        parse_recipe(content)
    assert error.value.problems[0].startswith("stages.1.distill.objectives.1.kind: dkd takes every page to have one")
    distill["objectives"] = [{"kind": "kd"}]
    content["task"] = "kie"
    with pytest.raises(RecipeError) as error:
        parse_recipe(content)
    assert any("blend: is for classification, the task is kie" in problem for problem in error.value.problems)
