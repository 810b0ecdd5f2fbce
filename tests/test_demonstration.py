"""`docstill demo` from end to end, with a handful of labels in the place of thousands."""

from __future__ import annotations

from pathlib import Path

import pytest

import docstill
from docstill import demonstration
from docstill.files import read_json


def test_the_demo_makes_a_faster_student_of_the_teacher_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    monkeypatch.setattr(demonstration, "TRAIN", 4)
    monkeypatch.setattr(demonstration, "VALIDATION", 3)
    results = docstill.demo(tmp_path / "demo")
    run = tmp_path / "demo" / "run"
    assert [row["name"] for row in results["rows"]] == ["teacher", "student", "no-kd"]
    teacher, student, control = results["rows"]
    assert control["params"] == student["params"] != teacher["params"]
    assert teacher["metrics"]["field_f1"]["mean"] > 0.5  # it reads
    assert (run / "report.html").is_file()
    assert all(Path(document["image"]).is_file() for document in results["worst"])
    said = capsys.readouterr().err
    assert said.count(".jpg: {") == demonstration.SHOWN
    (label, *_) = sorted((tmp_path / "demo" / "labels" / "validation").glob("*.jpg"))
    (answer,) = docstill.load(run / "model").predict([label])
    assert answer["fields"]

    again = docstill.demo(tmp_path / "demo")
    assert again == read_json(run / "results.json")
    assert (again["rows"], again["similarity"]) == (results["rows"], results["similarity"])  # nothing was done anew
