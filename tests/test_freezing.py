"""`freeze`: modules of the student that stay as they are while the rest learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import docstill
import tiny
from docstill.cli import app
from docstill.errors import ModelError, UserError
from docstill.lesson import Lesson, make_objectives
from docstill.loaded import load
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.optimiser import seed_everything
from docstill.tasks.classification import Classification

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")

TASK = Classification()
SHARED: dict[str, Any] = {"epochs": 1, "batch_size": 4, "precision": "fp32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tiny.class_folders(tmp_path_factory.mktemp("frozen"))
    (root / "start").mkdir()
    _resnet().save(root / "start" / "model")
    return root


def _resnet() -> DocumentModel:
    seed_everything(0)
    return new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (32, 32))  # type: ignore[arg-type]


def _learn(data: Path, out: Path, **settings: Any) -> dict[str, torch.Tensor]:
    start = data / "start" / "model"
    docstill.distill(start, str(start), data, out, **SHARED | {"learning_rate": 0.01} | settings)
    return dict(load(out / "model").model.network.state_dict())


def test_what_is_frozen_is_the_same_to_the_bit_batch_norms_and_all(data: Path, tmp_path: Path) -> None:
    before = _resnet().network.state_dict()
    after = _learn(data, tmp_path / "run", freeze=["resnet.embedder"])
    held = {name for name in before if name.startswith("resnet.embedder.")}
    assert any("running_mean" in name for name in held)
    assert all(torch.equal(before[name], after[name]) for name in held)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"classifier.1.weight", "classifier.1.bias"} <= moved
    assert any("running_mean" in name for name in moved)


def test_a_single_path_may_be_given_as_it_is(data: Path, tmp_path: Path) -> None:
    words = ["train", "--model", str(data / "start" / "model"), "--data", str(data), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*words, "freeze=resnet", "epochs=1", "batch_size=4"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert "resnet frozen" in result.stdout + result.stderr
    before, after = _resnet().network.state_dict(), load(tmp_path / "run" / "model").model.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"classifier.1.weight", "classifier.1.bias"}


def test_a_lesson_gives_the_weights_back(data: Path) -> None:
    student = _resnet()
    lesson = Lesson(TASK, student, None, make_objectives([{"kind": "labels"}]), ["resnet"])
    lesson.train()
    assert student.network.classifier.training
    assert not any(module.training for module in student.network.resnet.modules())
    assert not any(weights.requires_grad for weights in student.network.resnet.parameters())
    lesson.finish()
    assert all(weights.requires_grad for weights in student.network.parameters())


def test_to_freeze_everything_is_refused() -> None:
    with pytest.raises(UserError, match=r"freeze names resnet, classifier, which is all of the student.*name fewer"):
        Lesson(TASK, _resnet(), None, make_objectives([{"kind": "labels"}]), ["resnet", "classifier"])


def test_a_module_that_is_not_there_lists_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"no module 'resnet\.embeder'; did you mean .*resnet\.embedder"):
        Lesson(TASK, _resnet(), None, make_objectives([{"kind": "labels"}]), ["resnet.embeder"])


def test_frozen_weights_are_not_pruned_meanwhile(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"freeze keeps \d+ of these tensors as they are.*give prune an `of`"):
        _learn(data, tmp_path / "refused", freeze="resnet.embedder", prune={"sparsity": 0.5})
    after = _learn(data, tmp_path / "run", freeze="resnet.embedder", prune={"sparsity": 0.5, "of": "resnet.encoder.*"})
    assert (after["resnet.encoder.stages.1.layers.0.layer.0.convolution.weight"] == 0).any()


def test_the_twin_is_frozen_as_its_student_is(data: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(data, teacher=str(data / "start" / "model"), student=None)
    recipe["stages"] = [
        {
            "distill": {
                **SHARED,
                "learning_rate": 0.01,
                "freeze": ["resnet"],
                "objectives": [{"kind": "labels"}, {"kind": "kd"}],
            }
        }
    ]
    docstill.compress(recipe, tmp_path / "run")
    before = _resnet().network.state_dict()
    for row in ("student", "no-kd"):
        after = load(tmp_path / "run" / "seed-0" / row / "1-distill" / "model").model.network.state_dict()
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {"classifier.1.weight", "classifier.1.bias"}, row
