"""The loop: schedules, windows, precision, tensorboard, and equal losses however the batch is split, through the CLI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import docstill
import tiny
from docstill.board import Board
from docstill.checkpoint import Extra, load_checkpoint
from docstill.cli import app
from docstill.engine import Loss, Trainee, optimise
from docstill.errors import DocstillError, UserError
from docstill.optimiser import choose_precision, learning_rate_factor, make_optimizer
from docstill.run import read_metrics
from kie_tiny import tiny_donut

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


def test_biases_and_norms_do_not_decay_nor_a_swins_tables_of_position_biases() -> None:
    network = tiny_donut().network
    decays, not_decays = make_optimizer(network, 0.1, 0.05).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert (decays["weight_decay"], not_decays["weight_decay"]) == (0.05, 0)
    assert all(parameter.dim() > 1 and "bias" not in names[id(parameter)] for parameter in decays["params"])
    others = [names[id(parameter)] for parameter in not_decays["params"]]
    assert sum(name.endswith("relative_position_bias_table") for name in others) == sum(network.config.encoder.depths)
    assert len(decays["params"]) + len(others) == len(names)


def test_precision_is_what_was_asked_for() -> None:
    assert choose_precision("fp32") == "fp32"
    assert choose_precision("bf16") == "bf16"


@pytest.mark.parametrize("native", [True, False])
def test_a_processor_that_multiplies_bf16_is_asked_to(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert choose_precision("auto") == ("bf16" if native else "fp32")


def test_tensorboard_shows_each_step_once_also_after_a_stop(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for resume, steps in ((0, range(1, 8)), (4, range(5, 7))):
        board = Board(tmp_path, resume)
        for step in steps:
            board.add({"step": step, "loss": 1.0 / step, "validation": {"ap": step / 10}})
        board.close()
    seen = EventAccumulator(str(tmp_path / "tensorboard"))
    seen.Reload()
    for name in ("loss", "validation/ap"):
        assert [event.step for event in seen.Scalars(name)] == [1, 2, 3, 4, 5, 6], name


@pytest.mark.parametrize("content", [b"", b"hello, this is text", bytes(100)])
def test_a_damaged_checkpoint_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"last\.pt cannot be read; delete it to begin this stage again"):
        load_checkpoint(tmp_path / "last.pt", torch.nn.Linear(1, 1), None, Extra())


@pytest.mark.parametrize(
    ("loss_of", "pages", "said"),
    [
        (torch.mean, [1.0, torch.nan], r"the loss is nan on the batch of 1\.png"),
        # a root's slope at 0 is without end, and 0 times it no number
        (lambda y: (y * 0).sum().sqrt() + 2, [1.0, 1.0], r"the gradient is nan on 0\.png, 1\.png; look at these files"),
    ],
)
def test_what_is_not_finite_leaves_the_weights_as_they_were(
    loss_of: Callable[[Tensor], Tensor], pages: list[float], said: str
) -> None:
    class Lesson(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = torch.nn.Linear(1, 1)

        def forward(self, batch: dict[str, Any]) -> list[Loss]:
            return [Loss("labels", loss_of(self.line(batch["x"])), 1.0, 1)]

    lesson = Lesson()
    before = lesson.line.weight.clone()
    trainee = Trainee(lesson, lesson.line, lambda epoch, skip: iter(()), 1, lambda batch: {"labels": 1}, dict)
    optimizer = torch.optim.SGD(lesson.parameters(), 0.1)
    group = [{"files": [f"{index}.png"], "x": torch.full((1, 1), page)} for index, page in enumerate(pages)]
    with pytest.raises(DocstillError, match=said):
        optimise(trainee, optimizer, group, torch.autocast("cpu", enabled=False), 1.0, False)
    assert torch.equal(lesson.line.weight, before)
    assert lesson.line.weight.grad is None


def test_one_number_a_channel_is_a_sentence() -> None:
    class Lesson(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1)

        def forward(self, batch: dict[str, Any]) -> list[Loss]:
            return [Loss("labels", self.norm(batch["x"]).mean(), 1.0, 1)]

    lesson = Lesson()
    trainee = Trainee(lesson, lesson.norm, lambda epoch, skip: iter(()), 1, lambda batch: {"labels": 1}, dict)
    optimizer = torch.optim.SGD(lesson.parameters(), 0.1)
    group = [{"files": ["a.png"], "x": torch.ones(1, 1, 1, 1)}]
    with pytest.raises(UserError, match="a batch of 1 page of this size leaves one number a channel"):
        optimise(trainee, optimizer, group, torch.autocast("cpu", enabled=False), 1.0, False)


def test_several_processes_for_one_network_are_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="2 processes were started to train one network"):
        docstill.train("classification", data / "start" / "model", data, tmp_path / "out", epochs=1)


def test_gradual_pruning_hands_on_the_final_sparsity(data: Path, tmp_path: Path) -> None:
    """The best weights so far may be from before the last weights were pruned; those must not be handed on."""
    _train(data, tmp_path / "a", "epochs=4", "batch_size=8", "prune={sparsity: 0.5, begin: 0.0, end: 0.5, every: 1}")
    from docstill import load
    from docstill.pruning.masks import sparsity_report

    model = load(tmp_path / "a" / "model").model
    pruned = sparsity_report(model.network, model.masks)[0]
    assert pruned["zero"] == round(0.5 * pruned["total"])
