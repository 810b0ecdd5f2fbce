"""How hard objectives pull: ratios by hand, and the sentences about those that drown the labels or do nothing beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import docstill
from docstill import single_stage
from docstill.cli.output import print_stage
from docstill.gradients import gradient_ratios, mean_ratios, unbalanced
from docstill.models.classifier import new_classifier
from docstill.recipe import parse_recipe
from tiny import KINDS, TINY_VIT, class_folders, recipe


def test_ratios_by_hand() -> None:
    student = nn.ParameterList([nn.Parameter(torch.tensor([3.0, 4.0]))])
    weights = student[0]
    other = nn.Parameter(torch.tensor([1.0]))
    losses = {
        "labels": (weights**2).sum() / 2,  # gradient (3, 4), norm 5
        "kd": 10 * weights.sum() + 0 * other.sum(),  # (10, 10), norm 14.14
        "hint": (7 * other).sum(),  # does not reach the weights
        "nothing": torch.tensor(3.0),
    }
    ratios = gradient_ratios(losses, student)
    assert ratios == {"kd": pytest.approx(200**0.5 / 5), "hint": 0.0, "nothing": 0.0}
    sum(losses.values()).backward()  # the graphs are still there


def test_what_drowns_the_labels_is_told_of_while_there_is_time(
    tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = class_folders(tmp_path / "data")
    teacher = new_classifier("vit-tiny", TINY_VIT["config"], KINDS, (32, 32)).save(tmp_path / "teacher")
    student = new_classifier("vit-tiny", TINY_VIT["config"], KINDS, (32, 32)).save(tmp_path / "student")
    for name, weight, told in (("loud", 0.0001, 1), ("even", 5.0, 0), ("faint", 50_000.0, 1)):
        objectives = [{"kind": "labels", "weight": weight}, {"kind": "kd", "weight": 5.0}]
        folder = tmp_path / name
        docstill.distill(teacher, str(student), data, folder, objectives=objectives, epochs=4, batch_size=4)
        steps = len((folder / "metrics.jsonl").read_text().splitlines())
        at = f"warning: after {steps // 4 * 2 + 1} of {steps} steps: the gradient of kd was"
        assert capsys.readouterr().err.count(at) == told, name


def test_no_labels_no_ratios() -> None:
    student = nn.ParameterList([nn.Parameter(torch.ones(2))])
    assert gradient_ratios({"kd": student[0].sum()}, student) == {}
    assert gradient_ratios({"kd": student[0].sum(), "labels": torch.tensor(1.0)}, student) == {}


def test_only_objectives_that_drown_the_labels_or_do_nothing_are_named() -> None:
    lines = [
        {"step": 1, "gradients": {"roi": 30.0, "pkd": 0.5, "heads": 0.02, "hint": 0.03, "silent": 0.0}},
        {"step": 2},
        {"step": 3, "gradients": {"roi": 120.0, "pkd": 19.0, "heads": 0.005, "hint": 0.02, "silent": 0.0}},
    ]
    means = {"roi": 60.0, "pkd": 9.5**0.5, "heads": 0.01, "hint": 0.0006**0.5}
    assert mean_ratios(lines) == pytest.approx(means)
    loud, faint = unbalanced(lines, "student, seed 0")
    assert loud.startswith("student, seed 0: the gradient of roi was 60 times that of the labels")
    assert faint.startswith("student, seed 0: the gradient of heads was 0.01 of that of the labels")


def test_a_run_keeps_the_ratios_and_warns(tmp_path: Path, one_thread: None) -> None:
    data = class_folders(tmp_path / "data")
    loud = [{"kind": "labels", "weight": 0.0001}, {"kind": "kd", "weight": 5.0}]
    content = recipe(data, student=TINY_VIT)
    content["stages"] = [{"distill": {"objectives": loud, "epochs": 2, "batch_size": 4}}]
    results = docstill.compress(parse_recipe(content), tmp_path / "run")
    assert any("student, seed 0: the gradient of kd was" in line for line in results["warnings"])
    path = tmp_path / "run" / "seed-0" / "student" / "1-distill" / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    with_ratios = [line["epoch"] for line in lines if line.get("gradients")]
    assert len(with_ratios) == 2, "one look an epoch"
    alone = tmp_path / "run" / "seed-0" / "no-kd" / "1-distill" / "metrics.jsonl"
    assert "gradients" not in alone.read_text(), "nothing to compare where there are only labels"


def test_a_single_stage_scores_its_teacher_first_and_warns(
    tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = class_folders(tmp_path / "data")
    teacher = new_classifier("vit-tiny", TINY_VIT["config"], KINDS, (32, 32)).save(tmp_path / "teacher")
    order: list[str] = []
    whole = single_stage.run_stage
    monkeypatch.setattr(
        single_stage, "run_stage", lambda *given: order.append(capsys.readouterr().err) or whole(*given)
    )
    loud = [{"kind": "labels", "weight": 0.0001}, {"kind": "kd", "weight": 5.0}]
    settings = {"objectives": loud, "epochs": 2, "batch_size": 4, "precision": "fp32"}
    student = new_classifier("vit-tiny", TINY_VIT["config"], KINDS, (32, 32)).save(tmp_path / "student")
    done = docstill.distill(teacher, str(student), data, tmp_path / "out", **settings)
    found = docstill.evaluate(teacher, data)["metrics"]
    assert done["teacher"] == {"model": str(teacher), "metrics": found}
    assert f"teacher: accuracy {found['accuracy']:.4f} on the validation split" in order[0]
    (warning,) = [line for line in done["warnings"] if "gradient" in line]
    assert warning.startswith("distill: the gradient of kd was")
    print_stage(done, False)
    assert f"warning: {warning}" in capsys.readouterr().out
    trained = docstill.train("classification", str(student), data, tmp_path / "trained", epochs=1, batch_size=4)
    assert "teacher" not in trained
    assert not [line for line in trained["warnings"] if "gradient" in line]
