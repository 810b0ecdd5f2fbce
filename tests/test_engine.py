"""The loop: schedules, windows, precision, tensorboard, and equal losses however the batch is split, through the CLI."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import docstill
import tiny
from docstill.cli import app
from docstill.optimiser import choose_precision, learning_rate_factor
from docstill.run import read_metrics

GOLDEN = Path(__file__).parent / "golden" / "train_losses.json"


def _train(data: Path, out: Path, *settings: str) -> list[float]:
    result = CliRunner().invoke(
        app,
        [
            "train",
            "--model",
            str(data / "start" / "model"),
            "--data",
            str(data),
            "--out",
            str(out),
            "--json",
            "precision=fp32",
            *settings,
        ],
        catch_exceptions=False,
    )
    assert result.exit_code == 0, result.stderr
    return [line["loss"] for line in read_metrics(out / "metrics.jsonl")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from docstill.models.classifier import new_classifier
    from docstill.optimiser import seed_everything

    root = tiny.class_folders(tmp_path_factory.mktemp("data"), train=8)
    seed_everything(0)
    vit: dict[str, Any] = tiny.TINY_VIT
    (root / "start").mkdir()
    new_classifier(vit["new"], vit["config"], tiny.KINDS, (32, 32)).save(root / "start" / "model")
    return root


def test_eight_accumulated_batches_of_one_are_one_batch_of_eight(data: Path, tmp_path: Path) -> None:
    whole = _train(data, tmp_path / "a", "batch_size=8", "gradient_accumulation_steps=1", "epochs=3", "augment=1")
    parts = _train(data, tmp_path / "b", "batch_size=1", "gradient_accumulation_steps=8", "epochs=3", "augment=1")
    assert len(whole) == 9
    assert parts == pytest.approx(whole, abs=2e-4)
    assert whole[0] != pytest.approx(whole[-1], abs=1e-3), "it must learn something, or equality says nothing"


def test_so_they_are_where_the_scale_of_a_loss_is_measured(data: Path, tmp_path: Path) -> None:
    objectives = [{"kind": "labels"}, {"kind": "hint", "student_module": "vit.layers.0"}]
    found = []
    for size in (8, 1):
        out = tmp_path / str(size)
        shared = {"precision": "fp32", "epochs": 1, "objectives": objectives}
        shared |= {"batch_size": size, "gradient_accumulation_steps": 8 // size}
        docstill.distill(data / "start" / "model", docstill.NewModel(**tiny.SMALLER_VIT), data, out, **shared)
        found.append([line["hint"] for line in read_metrics(out / "metrics.jsonl")])
    assert len(found[0]) == 3
    assert found[0] == pytest.approx(found[1], abs=2e-4)


def test_losses_follow_the_golden_curve(data: Path, tmp_path: Path) -> None:
    losses = _train(data, tmp_path / "a", "batch_size=4", "epochs=2", "learning_rate=0.003")
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-3)


def test_warm_up_then_cosine() -> None:
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert max(factors) == factors[9] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] < 0.001


def test_precision_is_what_was_asked_for() -> None:
    assert choose_precision("fp32") == "fp32"
    assert choose_precision("bf16") == "bf16"
    assert choose_precision("auto") in {"fp32", "bf16"}


def test_tensorboard_is_written_when_asked_for(data: Path, tmp_path: Path) -> None:
    _train(data, tmp_path / "a", "epochs=1", "tensorboard=true")
    assert list((tmp_path / "a" / "tensorboard").glob("events*"))


def test_gradual_pruning_hands_on_the_final_sparsity(data: Path, tmp_path: Path) -> None:
    """The best weights so far may be from before the last weights were pruned; those must not be handed on."""
    _train(data, tmp_path / "a", "epochs=4", "batch_size=8", "prune={sparsity: 0.5, begin: 0.0, end: 0.5, every: 1}")
    from docstill import load
    from docstill.pruning.masks import sparsity_report

    model = load(tmp_path / "a" / "model").model
    pruned = sparsity_report(model.network, model.masks)[0]
    assert pruned["zero"] == round(0.5 * pruned["total"])
