"""`docstill evaluate`: what the model answered is kept as `docstill score` reads it; intervals and unknown pages as score has them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import docstill
import tiny
from docstill import evaluation
from docstill.cli import app
from docstill.decoding.reading import Reading
from docstill.errors import DataError, UserError
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.tasks.classification import Classification
from docstill.tasks.kie import Kie
from kie_tiny import tiny_donut, tiny_folder

RIGHT = [
    {"shop": "Ash", "menu": [{"nm": "Tea", "price": "3.00"}, {"nm": "Pie"}]},
    {"shop": "Birch", "total": "1"},
    {"shop": "Ōno"},
    {"total": "9.00"},
]
READ = [
    RIGHT[0],
    {"shop": "Birch", "total": "7", "ground_truth": {"gt_parse": "a field of that name"}},
    {"gt_parse": "or of this"},
    {},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Data, a classifier whose classes stand in another order, pages of other kinds, and a Donut with its pages."""
    root = tmp_path_factory.mktemp("evaluate")
    torch.manual_seed(0)
    model = new_classifier("vit-tiny", tiny.TINY_VIT["config"], ["grid", "bars", "dots"], (32, 32))
    places = {"data": tiny.class_folders(root / "data", 1, 5), "classifier": model.save(root / "classifier")}
    for index in range(4):
        (root / "unknown" / "deep").mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 48), 20 * (index + 1)).save(root / "unknown" / "deep" / f"{index}.png")
    tiny_folder(root / "receipts" / "validation", RIGHT)
    return {
        **places,
        "unknown": root / "unknown",
        "receipts": root / "receipts",
        "donut": tiny_donut().save(root / "donut"),
    }


def sure(fields: Any) -> Any:
    """A confidence for each value."""
    if isinstance(fields, dict):
        return {key: sure(value) for key, value in fields.items()}
    return [sure(value) for value in fields] if isinstance(fields, list) else 0.5


def run(*words: str | Path) -> Any:
    done = CliRunner().invoke(app, [str(word) for word in (*words, "--json")])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_model_is_scored_where_networks_run_fastest(
    world: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    monkeypatch.setattr(
        evaluation, "fastest_device", lambda: torch.float64
    )  # `to` takes either; a second device is not there
    scored = Classification.forward

    def forward(task: Classification, model: DocumentModel, batch: dict[str, Any]) -> Outputs:
        seen.append(next(model.network.parameters()).dtype)
        return scored(task, model, {**batch, "pixel_values": batch["pixel_values"].double()})

    monkeypatch.setattr(Classification, "forward", forward)
    docstill.evaluate(world["classifier"], world["data"], shift=world["data"], against=[world["classifier"]])
    assert set(seen) == {torch.float64}


def test_a_classifiers_outputs_are_a_file_that_score_reads(world: dict[str, Path], tmp_path: Path) -> None:
    written, unknown = tmp_path / "new" / "outputs.jsonl", tmp_path / "unknown.jsonl"
    words = ("evaluate", world["classifier"], world["data"])
    found = run(*words, "--outputs", written, "--intervals", "--ood", world["unknown"])
    assert list(found) == ["task", "model", "data", "n", "metrics", "intervals", "ood"]
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert len(lines) == 15
    assert list(lines[0]) == ["file", "logits", "label"]
    assert (lines[0]["file"], lines[0]["label"], lines[5]["label"], lines[10]["label"]) == ("bars/0.png", 0, 1, 2)
    # the unknown pages as if they were of a class, so that there are outputs for them, too
    (tmp_path / "known").mkdir()
    os.symlink(world["unknown"] / "deep", tmp_path / "known" / "dots", target_is_directory=True)
    run("evaluate", world["classifier"], tmp_path / "known", "--outputs", unknown)
    scored = run("score", "--task", "classification", written, written, "--intervals", "--ood", unknown)
    assert scored["n"] == found["n"]
    assert {**scored["metrics"], "per_class": found["metrics"]["per_class"]} == found["metrics"]
    assert found["intervals"] == scored["intervals"]
    assert found["ood"] == scored["ood"]
    assert found["ood"]["n"] == 4
    assert set(found["ood"]) == {"n", "max_probability", "energy"}
    assert found["intervals"].keys() == found["metrics"].keys() - {"ece_floor", "per_class"}
    assert list(run(*words)) == ["task", "model", "data", "n", "metrics"]


def test_what_a_donut_read_is_a_file_that_score_reads(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where an answer holds a field of the name that score looks for."""
    monkeypatch.setattr(
        "docstill.tasks.kie.read_pages", lambda *_: [Reading("", fields, sure(fields), 0.5) for fields in READ]
    )
    written = tmp_path / "outputs.jsonl"
    found = run("evaluate", world["donut"], world["receipts"], "--outputs", written, "--intervals")
    assert json.loads(written.read_text().splitlines()[1]) == {"file": "1.png", "gt_parse": READ[1]}
    truth = world["receipts"] / "validation" / "metadata.jsonl"
    scored = run("score", "--task", "kie", written, truth, "--intervals")
    assert 0.3 < scored["metrics"]["field_f1"] < 0.9
    for name in ("field_f1", "precision", "recall", "ted_accuracy"):
        assert scored["metrics"][name] == pytest.approx(found["metrics"][name], abs=1e-12), name
    assert scored["metrics"]["per_field"] == found["metrics"]["per_field"]
    assert found["intervals"] == scored["intervals"]
    assert set(found["intervals"]) == {"field_f1", "precision", "recall", "ted_accuracy"}


def test_answers_that_the_model_cannot_write_are_told_of(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docstill.tasks.kie.read_pages", lambda *_: [Reading("", {}, {}, 0.5) for _ in range(2)])
    for told, key in ((False, "shop"), (True, "vendor")):
        data = tmp_path / key
        tiny_folder(data / "validation", [{"shop": "Ash"}, {key: "Ash"}])
        done = CliRunner().invoke(app, ["evaluate", str(world["donut"]), str(data), "--json"])
        assert done.exit_code == 0, done.output
        assert ("warning: 1 of 2 answers in" in done.stderr) == told
        assert "warnings" not in json.loads(done.stdout)


def test_what_can_be_accepted_at_error_rates_of_ones_choice(
    world: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "docstill.tasks.kie.read_pages", lambda *_: [Reading("", fields, sure(fields), 0.5) for fields in READ]
    )
    found = run("evaluate", world["donut"], world["receipts"], "--error-rate", "0.02", "--error-rate", "0.9")
    given = found["accepted"]
    assert list(given) == ["fields", "documents"]
    for kind, by_rate in given.items():
        assert list(by_rate) == ["0.02", "0.9"]
        assert by_rate["0.02"] == found["metrics"]["confidence"][kind]["accepted"]["0.02"]
    assert given["fields"] == {"0.02": {"share": 0, "above": None}, "0.9": {"share": 1, "above": 0.5}}
    pages = run("evaluate", world["classifier"], world["data"], "--error-rate", "0.05")
    assert pages["accepted"]["documents"]["0.05"]["share"] == pages["metrics"]["coverage_at_5_risk"]


def test_a_limit_holds_for_outputs_and_unknown_pages(world: dict[str, Path], tmp_path: Path) -> None:
    written = tmp_path / "outputs.jsonl"
    found = docstill.evaluate(world["classifier"], world["data"], limit=3, outputs=written, ood=world["unknown"])
    assert (found["n"], found["ood"]["n"]) == (3, 3)
    assert docstill.score("classification", written, written)["metrics"]["nll"] == found["metrics"]["nll"]


def test_beside_the_tables_of_a_shift_the_rest_is_told_too(world: dict[str, Path]) -> None:
    words = [world["classifier"], world["data"], "--shift", world["data"], "--intervals", "--ood", world["unknown"]]
    done = CliRunner().invoke(app, ["evaluate", *map(str, words)])
    assert done.exit_code == 0, done.output
    assert "\nintervals:\n" in done.stdout
    assert "\nood:\n  n: 4\n" in done.stdout


def test_outputs_are_written_whole_or_not_at_all(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = tmp_path / "outputs.jsonl"
    written.write_text("earlier")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("docstill.files.os.fsync", full)
    with pytest.raises(UserError, match="disk is full"):
        docstill.evaluate(world["classifier"], world["data"], outputs=written)
    assert list(tmp_path.iterdir()) == [written]
    assert written.read_text() == "earlier"


def test_requests_that_cannot_be_met_are_refused_before_the_model_is_asked(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in (Classification, Kie):
        monkeypatch.setattr(task, "evaluate", lambda *_: pytest.fail("the model was asked"))
    with pytest.raises(UserError, match=r"classifier's probabilities, .* is for kie; leave them out"):
        docstill.evaluate(world["donut"], world["receipts"], ood=world["unknown"])
    with pytest.raises(UserError, match=r"from 0 to less than 1, 2 was given; 2 % are 0\.02"):
        docstill.evaluate(world["donut"], world["receipts"], error_rates=[0.01, 2])
    with pytest.raises(UserError, match="is a folder; give a file for the outputs"):
        docstill.evaluate(world["classifier"], world["data"], outputs=tmp_path)
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="unknown pages in") as error:
        docstill.evaluate(world["classifier"], world["data"], ood=tmp_path)
    assert len(error.value.problems) == 2
    with pytest.raises(DataError, match="there is no such folder"):
        docstill.evaluate(world["classifier"], world["data"], ood=tmp_path / "none")
