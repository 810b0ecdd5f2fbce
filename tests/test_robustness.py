"""`docstill evaluate --shift`: the same figures as evaluate on clean pages, and what damage does to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import docstill
import tiny
from docstill import cli, robustness
from docstill.data.corruptions import CORRUPTIONS
from docstill.errors import DataError
from docstill.models.classifier import new_classifier
from docstill.optimiser import seed_everything
from docstill.reporting.shift import overall
from docstill.reporting.shift_tables import tables


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages, and two models."""
    root = tmp_path_factory.mktemp("shift")
    paths = {"data": tiny.class_folders(root / "data", validation=2)}
    for seed in (0, 1):
        seed_everything(seed)
        model = new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (32, 32))
        paths[f"model-{seed}"] = model.save(root / f"model-{seed}")
    return paths


@pytest.fixture(autouse=True)
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two corruptions are enough here; all of them are tested by themselves."""
    monkeypatch.setattr(robustness, "CORRUPTIONS", {name: CORRUPTIONS[name] for name in ("fading", "skew")})


def run(*words: str | Path, code: int = 0) -> Any:
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout) if code == 0 and "--json" in words else result.stdout + result.stderr


def test_corruptions_for_several_models(world: dict[str, Path]) -> None:
    one, other = world["model-0"], world["model-1"]
    found = run("evaluate", one, world["data"], "--shift", "corruptions", "--against", other, "--json")
    plain = docstill.evaluate(one, world["data"])
    assert found["metrics"] == plain["metrics"]
    shift = found["shift"]
    assert shift["kind"] == "corruptions"
    assert list(shift["models"]) == [str(one), str(other)]
    figures = shift["models"][str(one)]
    assert figures["clean"] == {name: plain["metrics"][name] for name in ("accuracy", "ece", "augrc")}
    assert [(row["corruption"], row["severity"]) for row in figures["rows"]] == [
        (kind, severity) for kind in ("fading", "skew") for severity in range(1, 6)
    ]
    mean = sum(row["accuracy"] for row in figures["rows"]) / 10
    assert figures["mean"]["accuracy"] == pytest.approx(mean)
    assert figures["drop"] == pytest.approx(figures["clean"]["accuracy"] - mean)
    assert (
        run("evaluate", one, world["data"], "--shift", "corruptions", "--json")["shift"]["models"][str(one)] == figures
    )
    text = run("evaluate", one, world["data"], "--shift", "corruptions")
    assert "fading" in text
    assert "drop" in text
    assert "AUGRC, severity 5" in text


def test_the_tables_give_every_metric_by_severity(world: dict[str, Path]) -> None:
    one, other = str(world["model-0"]), str(world["model-1"])
    models = docstill.evaluate(one, world["data"], shift="corruptions", against=[other])["shift"]["models"]
    (headings, rows), (by_kind, kinds) = tables(models)
    assert headings == ["metric", one, other]
    parts = ["clean", *(f"severity {level}" for level in range(1, 6))]
    assert [row[0] for row in rows] == [f"{name}, {part}" for name in ("accuracy", "ECE", "AUGRC") for part in parts]
    eces = [row["ece"] for row in models[other]["rows"] if row["severity"] == 3]
    assert rows[9][2] == f"{sum(eces) / len(eces):.4f}"
    assert by_kind[0] == "accuracy"
    assert [row[0] for row in kinds] == ["clean", "fading", "skew", "mean", "drop"]


def test_the_page_shows_every_metric_and_every_corruption(world: dict[str, Path], tmp_path: Path) -> None:
    one, other, page = world["model-0"], world["model-1"], tmp_path / "shift.html"
    found = run("evaluate", one, world["data"], "--shift", "corruptions", "--against", other, "--page", page, "--json")
    text = page.read_text(encoding="utf-8")
    drawings = [part.split("</svg>")[0] for part in text.split("<svg ")[1:] if 'role="img"' in part]
    assert len(drawings) == 3 + 2, "three metrics over all corruptions, two corruptions one by one"
    assert all(drawing.count('class="curve ') == 2 for drawing in drawings)
    assert f"loses {100 * found['shift']['models'][str(other)]['drop']:.1f} points" in text
    assert text.count("<table") == 2
    assert "ECE, severity 3" in text
    lines = overall(found["shift"]["models"])["accuracy"]
    assert [x for x, _ in lines[0].points] == [0, 1, 2, 3, 4, 5]
    rows = found["shift"]["models"][str(one)]["rows"]
    assert lines[0].points[5][1] == pytest.approx(sum(row["accuracy"] for row in rows if row["severity"] == 5) / 2)
    assert "leave it out" in run("evaluate", one, world["data"], "--page", page, code=2)


def test_damage_shows_in_the_figures(world: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """With every page painted over, all pages of a model get one answer: accuracy is one class's share."""
    monkeypatch.setattr(robustness, "corrupt", lambda image, *_: image.point(lambda _value: 0))
    found = docstill.evaluate(world["model-0"], world["data"], shift="corruptions")["shift"]["models"]
    assert {row["accuracy"] for row in found[str(world["model-0"])]["rows"]} == {1 / 3}


def test_pages_from_elsewhere(world: dict[str, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for kind in ("grid", "bars"):
        (elsewhere / kind).mkdir(parents=True)
        tiny.page(kind, 3).save(elsewhere / kind / "0.png")
    model = world["model-0"]
    shift = run("evaluate", model, world["data"], "--shift", elsewhere, "--json")["shift"]
    assert shift["missing_labels"] == ["dots"]
    assert shift["n"] == 2
    figures = shift["models"][str(model)]
    assert figures["drop"] == pytest.approx(figures["clean"]["accuracy"] - figures["shifted"]["accuracy"])
    text = run("evaluate", model, world["data"], "--shift", elsewhere)
    assert "accuracy, other pages" in text
    assert "ECE, other pages" in text
    (elsewhere / "stripes").mkdir()
    tiny.page("bars", 0).save(elsewhere / "stripes" / "0.png")
    assert "stripes/: a label that the training split does not have" in run(
        "evaluate", model, world["data"], "--shift", elsewhere, code=2
    )
    page = tmp_path / "other.html"
    run("evaluate", model, world["data"], "--shift", tmp_path / "elsewhere", "--page", page, code=2)
    assert not page.exists()
    assert "need a shift" in run("evaluate", model, world["data"], "--against", model, code=2)
    (elsewhere / "stripes" / "0.png").unlink()
    (elsewhere / "stripes").rmdir()
    run("evaluate", model, world["data"], "--shift", elsewhere, "--page", page)
    assert page.read_text(encoding="utf-8").count("<table") == 1


def test_other_pages_are_matched_with_the_classes_of_the_model(world: dict[str, Path], tmp_path: Path) -> None:
    """Not with those that the first pages happen to have; a folder with splits is resolved as the first is."""
    model, whole = world["model-0"], world["data"]
    part = tmp_path / "part"
    (part / "grid").mkdir(parents=True)
    tiny.page("grid", 3).save(part / "grid" / "0.png")
    shift = docstill.evaluate(model, part, shift=whole)["shift"]
    assert shift["data"] == str(whole / "validation")
    assert shift["missing_labels"] == []
    assert shift["models"][str(model)]["shifted"]["accuracy"] == docstill.evaluate(model, whole)["metrics"]["accuracy"]
    assert docstill.evaluate(model, whole, split="train", shift=part)["shift"]["data"] == str(part)
    two = new_classifier("resnet-18", tiny.TINY_RESNET["config"], ["bars", "grid"], (32, 32)).save(tmp_path / "two")
    with pytest.raises(DataError, match=r"dots/: a label"):
        docstill.evaluate(model, part, shift=whole, against=[two])


def test_what_cannot_be_shown_or_read_is_said_before_anything_is_scored(
    world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docstill.tasks.classification.Classification.evaluate", None)
    words = ["evaluate", world["model-0"], world["data"], "--shift"]
    assert "is a folder" in run(*words, "corruptions", "--page", tmp_path, code=2)
    assert "there is no such folder" in run(*words, tmp_path / "nowhere", code=2)
