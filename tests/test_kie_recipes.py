"""Recipes for Donuts: who must spell as the teacher does, what the twin sees, and what is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import docstill
from docstill import compression
from docstill.decoding.confidence import CONFIDENCE
from docstill.decoding.reading import Reading
from docstill.decoding.schema import SCHEMA
from docstill.errors import RecipeError
from docstill.loaded import load
from docstill.models.donut import new_donut
from docstill.models.io import DocumentModel
from docstill.tasks import TASKS, kie
from docstill.tasks.base import BROUGHT_TO, Evaluation
from docstill.tasks.kie import Kie
from kie_tiny import ANSWERS, TAGS, tiny_donut, tiny_folder

TRAINING: dict[str, Any] = {"epochs": 1, "batch_size": 4, "precision": "fp32", "learning_rate": 0.001}
KD = [{"kind": "labels"}, {"kind": "kd"}]
KIE = TASKS["kie"]
TEXTS = [value for answer in ANSWERS for value in answer.values()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kie-recipes")
    for split in ("train", "validation"):
        tiny_folder(root / split)
    new_donut("donut-tiny", {}, TEXTS, TAGS).save(root / "teacher")
    new_donut("donut-tiny", {}, [*TEXTS, "äöü: what else stood on pages"], TAGS).save(root / "reader")
    return root


def _recipe(data: Path, **changes: Any) -> dict[str, Any]:
    places = {split: str(data / split) for split in ("train", "validation")}
    return {
        "task": "kie",
        "data": places,
        "teacher": str(data / "teacher"),
        "controls": [],
        "compare": False,
        **changes,
    }


def test_a_student_that_never_asks_the_teacher_may_have_a_vocabulary_of_its_own(data: Path, tmp_path: Path) -> None:
    content = _recipe(
        data, student=str(data / "reader"), stages=[{"train": TRAINING}], controls=["teacher"], compare=True
    )
    results = docstill.compress(content, tmp_path / "run")
    assert [row["name"] for row in results["rows"]] == ["teacher", "student"]
    assert "drafted" not in results, "it cannot write ahead of its teacher"
    content["stages"] = [{"distill": {**TRAINING, "objectives": KD}}]
    with pytest.raises(RecipeError, match="the student cannot do what it is asked to") as refused:
        docstill.compress(content, tmp_path / "other")
    assert "do not have the same vocabulary" in str(refused.value)


def test_the_twin_sees_pages_as_the_student_and_the_teacher_is_timed_with_their_schema(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_donut(image_size=(320, 320)).save(tmp_path / "teacher")
    timed: dict[str, Any] = {}
    measured = compression.measure

    def measure(models: dict[str, Any], *rest: Any, **more: Any) -> dict[str, Any]:
        timed.update(models)
        return measured(models, *rest, **more)

    monkeypatch.setattr(compression, "measure", measure)
    content = _recipe(
        data,
        teacher=str(tmp_path / "teacher"),
        student={"load": str(tmp_path / "teacher"), "image_size": [160, 160]},
        stages=[{"distill": {**TRAINING, "objectives": KD, "augment": 1.0}}],
        controls=["teacher", "no-kd"],
    )
    results = docstill.compress(content, tmp_path / "run")
    assert set(results["drafted"]) == {"latency_ms"}
    assert results["drafted"]["latency_ms"]["p50"] > 0
    sizes = [
        load(tmp_path / "run" / "seed-0" / row / "1-distill" / "model").model.card[BROUGHT_TO]
        for row in ("student", "no-kd")
    ]
    assert sizes == [[320, 320]] * 2
    assert not (tmp_path / "teacher" / "docstill.json").is_file() or SCHEMA not in load(tmp_path / "teacher").model.card
    schemas = {row: model.card[SCHEMA] for row, (_, model) in timed.items()}
    assert set(schemas) == {"teacher", "student", "no-kd"}
    assert schemas["teacher"] == schemas["student"]


@pytest.mark.parametrize(("keep", "looks"), [("last", 2), ("best", 3)])
def test_pages_are_not_read_once_more_for_confidence_where_the_last_look_was_of_the_weights_that_are_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, looks: int
) -> None:
    read, seen = kie.read_pages, []

    def counted(model: DocumentModel, *rest: Any) -> list[Reading]:
        seen.append(read(model, *rest))
        return seen[-1]

    figures = iter([0.5, 0.1])  # the first look is the best

    def evaluate(*_: Any) -> Evaluation:
        found = Kie.evaluate(KIE, *_)
        return replace(found, metrics={**found.metrics, "field_f1": next(figures)})

    monkeypatch.setattr(kie, "read_pages", counted)
    monkeypatch.setattr(KIE, "evaluate", evaluate)
    docstill.train("kie", str(data / "teacher"), data, tmp_path / "run", **TRAINING | {"epochs": 2, "keep": keep})
    assert len(seen) == looks
    model = load(tmp_path / "run" / "model").model
    found = read(model, KIE.read(data / "validation"))
    KIE.after_learning(model, KIE.read(data / "validation"))
    assert [one.fields for one in seen[-1]] == [one.fields for one in found]
    written, fitted = load(tmp_path / "run" / "model").model.card[CONFIDENCE], model.card[CONFIDENCE]
    assert written.keys() == fitted.keys() != set()
    assert all(written[kind] == pytest.approx(fitted[kind], abs=1e-6) for kind in written)
