"""`calibrate: true`: the temperature is folded into what is handed over, the teacher teaches with its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

import docstill
import tiny
from docstill import compression
from docstill.calibration import temperature_of
from docstill.errors import ModelError, RecipeError, UserError
from docstill.metrics.classification import softmax
from docstill.metrics.temperature import scaled
from docstill.models.classifier import new_classifier
from docstill.models.head import divide_logits, head_of
from docstill.optimiser import seed_everything
from docstill.recipe import parse_recipe
from docstill.tasks.classification import Classification


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Data, and a run that calibrates."""
    root = tmp_path_factory.mktemp("calibrated")
    data = tiny.class_folders(root / "data", validation=4)
    content = tiny.recipe(data, calibrate=True)
    content["teacher"]["train"]["epochs"] = 1
    return data, root / "run", compression.compress(parse_recipe(content), root / "run")


def test_every_row_says_what_the_temperature_did(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, results = finished
    assert [row["name"] for row in results["rows"] if "calibration" in row] == ["teacher", "student", "no-kd"]
    student = next(row for row in results["rows"] if row["name"] == "student")
    assert student["calibration"]["before"]["ece"]["mean"] == student["metrics"]["ece"]["mean"]
    assert student["calibration"]["temperature"]["mean"] > 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<h2>Calibration</h2>" in page


def test_the_model_that_is_handed_over_is_scaled(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    data, run, results = finished
    row = next(row for row in results["rows"] if row["name"] == "student")
    temperature = row["calibration"]["temperature"]["values"][0]
    plain, handed = (
        docstill.load(path) for path in (run / "seed-0" / "student" / "2-distill" / "model", run / "model")
    )
    pages = handed.task.read(data / "validation")
    task = Classification()
    raw, soft = (softmax(task.logits(one.model, pages)) for one in (plain, handed))
    assert np.allclose(soft, scaled(raw, temperature), atol=1e-5)
    card = json.loads((run / "model" / "docstill.json").read_text(encoding="utf-8"))
    assert card["lineage"][-1] == {"stage": "calibrate", "temperature": temperature}


def test_the_teacher_teaches_with_its_temperature(
    finished: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data, run, results = finished
    temperature = results["rows"][0]["calibration"]["temperature"]["values"][0]
    weights = head_of(docstill.load(run / "teacher" / "model").model.network).weight.detach().clone()
    seen = []

    def look(bench: Any, *_: Any, **__: Any) -> dict[str, Any]:
        seen.append(head_of(bench.teacher.network).weight.detach().clone())
        raise InterruptedError

    monkeypatch.setattr(compression, "run_stage", look)
    content = tiny.recipe(data, calibrate=True)
    content["teacher"] = str(run / "teacher" / "model")
    with pytest.raises(InterruptedError):
        compression.compress(parse_recipe(content), tmp_path / "run")
    assert torch.allclose(seen[0], weights / temperature, rtol=1e-5)


def test_an_overconfident_model_is_mended(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data", validation=40)
    seed_everything(0)
    model = new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (32, 32))
    divide_logits(model.network, 1 / 400)
    pages = Classification().read(data / "validation")
    labels = np.array([document.target for document in pages.documents])
    found = temperature_of(pages, softmax(Classification().logits(model, pages)), labels)
    assert found["temperature"] > 2
    assert found["after"]["nll"] < found["before"]["nll"]
    assert found["after"]["ece"] < found["before"]["ece"]


def test_too_few_pages_are_refused_before_anything_is_learnt(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data", validation=3)
    with pytest.raises(UserError, match="validation holds 9 pages, too few to fit a temperature to; give 10 or more"):
        compression.compress(parse_recipe(tiny.recipe(data, calibrate=True)), tmp_path / "run")
    assert not (tmp_path / "run" / "teacher").exists()
    pages = Classification().read(data / "validation")
    with pytest.raises(UserError, match="too few to fit a temperature to"):
        temperature_of(pages, np.full((9, 3), 1 / 3), np.arange(9) % 3)


def test_networks_that_end_in_two_classifiers_are_refused_those_with_layers_as_wide_are_not() -> None:
    """DeiT's distilled form answers the mean of two: to divide one by the temperature would change answers."""
    numbers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    two = DeiTForImageClassificationWithTeacher(DeiTConfig(**numbers, image_size=32, num_labels=3))
    with pytest.raises(ModelError, match="DeiTForImageClassificationWithTeacher ends in 2 and takes their mean"):
        divide_logits(two, 2.0)
    labels = [f"kind {number}" for number in range(16)]
    one = new_classifier("vit-tiny", tiny.TINY_VIT["config"], labels, (32, 32)).network  # queries have 16 outputs, too
    assert head_of(one) is one.classifier


def test_what_cannot_be_calibrated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="calibrate is for classification"):
        parse_recipe(tiny.recipe(tmp_path, task="kie", calibrate=True))
    network = torch.nn.Linear(2, 2)
    network.config = type("Config", (), {"num_labels": 3, "model_type": "none"})()  # type: ignore[assignment]
    with pytest.raises(ModelError, match="ends in a linear layer"):
        divide_logits(network, 2.0)
