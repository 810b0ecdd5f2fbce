"""Answers that do not fit a model, or the format: `check --model` names them, training and runs warn of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import docstill
import tiny
from docstill import compression
from docstill.checking import check
from docstill.errors import ModelError, UserError
from docstill.models.donut import resize_positions
from docstill.recipe import parse_recipe
from kie_tiny import ANSWERS, tiny_donut, tiny_folder

LONG = {"shop": "Elm", "total": "9" * 300}
LOSSY = {"shop": "a</s>b", "total": "1"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A training split with an answer that is lost, a validation split with one that is long."""
    for name, answers in (("train", [*ANSWERS, LOSSY]), ("validation", [{"shop": "Oak", "total": "1.00"}, LONG])):
        tiny_folder(tmp_path / "data" / name, answers)
    return tmp_path / "data"


def model_folder(folder: Path, positions: int = 32) -> Path:
    model = tiny_donut()
    resize_positions(model, positions)
    return model.save(folder)


def test_every_answer_that_does_not_fit_is_named_with_its_line(data: Path, tmp_path: Path) -> None:
    tiny_folder(data / "test", [{"shop": "Oak", "total": "2" * 26}, {"shop": "Oak", "total": "2" * 25}])
    plain, beside = check(data), check(data, model=model_folder(tmp_path / "model"))
    assert {**beside, "warnings": plain["warnings"]} == plain
    assert beside["warnings"] == plain["warnings"] + [
        f"{data / 'validation'}: metadata.jsonl:2: the answer takes 308 tokens, the decoder has room for 32",
        f"{data / 'test'}: metadata.jsonl:1: the answer takes 34 tokens, the decoder has room for 32",
        f"{data / 'test'}: metadata.jsonl:2: the answer takes 33 tokens, the decoder has room for 32",
    ]


def test_tags_that_training_would_add_count_as_one_token(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "train", [{"a_very_long_name_of_a_field_indeed": "1" * 29}, {"date": "1" * 30}])
    assert check(folder, model=model_folder(tmp_path / "model"))["warnings"] == [
        f"the vocabulary of {tmp_path / 'model'} has no tag </s_a_very_long_name_of_a_field_indeed>, </s_date>, "
        "<s_a_very_long_name_of_a_field_indeed>, <s_date>; `docstill train` adds them",
        f"{folder}: metadata.jsonl:2: the answer takes 33 tokens, the decoder has room for 32",
    ]


def test_a_model_only_for_answers_that_are_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a model is for answers that are written \(kie\), .* is for classification"):
        check(data, "classification", tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        check(tmp_path / "nowhere", model=tmp_path)
    with pytest.raises(ModelError):
        check(data, model=tmp_path)


def test_training_warns_of_answers_that_are_lost_or_do_not_fit(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = docstill.train(
        "kie",
        str(model_folder(tmp_path / "model", 48)),
        data=data,
        out=tmp_path / "out",
        epochs=0.5,
        precision="fp32",
    )
    lost, unfit = done["warnings"]
    assert lost.startswith(f"1 of 5 answers in {data / 'train'} do not survive JSON to tokens and back")
    assert lost.endswith("metadata.jsonl:5: the value of shop holds a tag, which a tokenizer takes for its own")
    assert unfit.startswith(f"1 of 2 answers in {data / 'validation'} cannot be written by the model")
    assert unfit.endswith("metadata.jsonl:2: the answer takes 308 tokens, the decoder has room for 48")
    said = capsys.readouterr().err
    assert all(f"warning: {line}" in said for line in done["warnings"])


def test_a_run_keeps_the_warnings_in_its_results_and_report(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docstill.measure.measure_peak_memory", lambda *_: 1.0)
    content: dict[str, Any] = {
        **tiny.recipe(data, teacher=str(model_folder(tmp_path / "model", 48)), repeats=2, controls=["teacher"]),
        "task": "kie",
        "student": {"new": "donut-tiny", "config": {"decoder": {"max_position_embeddings": 40}}},
        "stages": [{"distill": {"objectives": [{"kind": "labels"}], "epochs": 0.5, "precision": "fp32"}}],
        "compare": False,
    }
    results = compression.compress(parse_recipe(content), tmp_path / "run")
    lost, of_teacher, of_student = (line for line in results["warnings"] if "come out right" in line)
    assert lost.startswith(f"1 of 5 answers in {data / 'train'} do not survive")
    assert of_teacher.startswith("teacher: 1 of 2 answers")
    assert of_teacher.endswith("room for 48")
    assert of_student.startswith("student: 1 of 2 answers")
    assert of_student.endswith("room for 40")
    said = capsys.readouterr().err
    assert all(f"warning: {line}" in said for line in (lost, of_teacher, of_student.removeprefix("student: ")))
    assert "metadata.jsonl:5: the value of shop holds a tag" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["warnings"] == results["warnings"]
