"""Similarity in a run: `compare` in the recipe, `similarity` in the results, the maps in the report."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import docstill
import tiny
from docstill import compression
from docstill.errors import ModelError, UserError
from docstill.recipe import Recipe, parse_recipe
from docstill.similarity.comparison import layers_alike
from docstill.similarity.rows import alike_rows, share_of_same_answers


def recipe(data: Path, **changes: Any) -> Recipe:
    content = tiny.recipe(data, **changes)
    content["teacher"]["train"] = {**content["teacher"]["train"], "epochs": 1}
    content["stages"] = [{"distill": {"epochs": 1, "precision": "fp32", "objectives": [{"kind": "kd"}]}}]
    return parse_recipe(content)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, dict[str, Any]]:
    """The folder, the recipe and the results of a run that compares."""
    root = tmp_path_factory.mktemp("alike")
    asked = recipe(tiny.class_folders(root / "data"), compare=True, repeats=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "measure", partial(compression.measure, rounds=1))
        return root / "run", asked, compression.compress(asked, root / "run")


def test_a_run_compares_its_rows_with_the_teacher(
    finished: tuple[Path, Recipe, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, asked, results = finished
    assert [row["name"] for row in results["similarity"]] == ["student", "no-kd"]
    student = results["similarity"][0]
    assert student["n"] == 6
    assert student["seeds"] == [0, 1]
    assert len(student["global"]) == len(student["biased_global"]) == len(student["same_answers"]) == 2
    assert len(student["layers"]["matrix"]) == 2
    page = (run / "report.html").read_text()
    assert page.count('<svg class="map"') == 2
    assert "How alike the layers are" in page
    monkeypatch.setattr(compression, "layers_alike", lambda *_: pytest.fail("a finished comparison was done again"))
    assert compression.compress(asked, run)["similarity"] == results["similarity"]


def test_figures_of_a_run_are_those_of_compare(finished: tuple[Path, Recipe, dict[str, Any]]) -> None:
    run, asked, results = finished
    found = docstill.compare(run / "teacher" / "model", run / "model", asked.data.validation)
    student = results["similarity"][0]
    assert student["layers"] == found["similarity"]["layers"]
    assert student["biased_global"][0] == pytest.approx(found["similarity"]["biased"]["global"], abs=1e-6)
    assert student["same_answers"][0] == pytest.approx(found["agreement"]["top1"])


def test_what_cannot_be_compared_does_not_cost_the_run(
    finished: tuple[Path, Recipe, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    for done in (tmp_path / "run").glob("seed-*/*/similarity/done.json"):
        done.unlink()

    def refuse(*_: Any) -> None:
        raise ModelError("the network has no list of layers that could be compared")

    monkeypatch.setattr(compression, "layers_alike", refuse)
    results = compression.compress(finished[1], tmp_path / "run")
    assert results["similarity"] == []
    assert [warning for warning in results["warnings"] if "no list of layers" in warning] == [
        "Layers were not compared: the network has no list of layers that could be compared."
    ]
    assert "How alike the layers are" not in (tmp_path / "run" / "report.html").read_text()


def test_too_few_documents_are_refused(finished: tuple[Path, Recipe, dict[str, Any]]) -> None:
    model = docstill.load(finished[0] / "model")
    pages = model.task.read(finished[1].data.validation)
    with pytest.raises(UserError, match="holds 3 documents, CKA needs at least 4"):
        layers_alike(model.task, model.model, model.model, replace(pages, documents=pages.documents[:3]))


def test_classification_compares_only_if_asked(finished: tuple[Path, Recipe, dict[str, Any]]) -> None:
    asked = finished[1].model_copy(update={"compare": None})
    assert compression._compare(asked, None, None, []) == {}  # type: ignore[arg-type]


def test_same_answers_by_hand() -> None:
    def classes(*labels: str) -> list[dict[str, Any]]:
        return [
            {"file": str(index), "predicted": {"label": label, "probability": 0.1 * index}}
            for index, label in enumerate(labels)
        ]

    assert share_of_same_answers("classification", classes("a", "b", "c"), classes("a", "b", "a")[::-1]) == 2 / 3
    one = [{"file": "x", "predicted": {"total": "1", "shop": "A"}}, {"file": "y", "predicted": {"total": "1"}}]
    other = [{"file": "x", "predicted": {"shop": "A", "total": "1"}}, {"file": "y", "predicted": {"total": "2"}}]
    assert share_of_same_answers("kie", one, other) == 0.5


def test_a_seed_that_could_not_be_compared_is_left_out() -> None:
    similarity = {
        "global": 0.5, "chance": 0.1, "parts": {}, "tokens": "pooled", "layers": {},
        "biased": {"global": 0.6, "chance": 0.2},
    }  # fmt: skip
    seeds = [
        {"seed": 0, "same_answers": 1.0, "problem": "…"},
        {"seed": 1, "same_answers": 0.9, "n": 8, "similarity": similarity},
    ]
    [row] = alike_rows({"student": seeds, "no-kd": seeds[:1]})
    assert row["seeds"] == [1]
    assert row["global"] == [0.5]
    assert row["same_answers"] == [0.9]
