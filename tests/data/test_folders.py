"""Class folders, Donut folders, splits and the validator: everything wrong is named at once, with file and line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tiny
from docstill.data.class_folders import read_class_folders
from docstill.data.donut_folder import read_donut_folder
from docstill.data.splits import resolve_split
from docstill.data.validator import check
from docstill.errors import DataError, UserError


def _problems(error: pytest.ExceptionInfo[DataError]) -> str:
    return "\n".join(error.value.problems)


def donut_folder(folder: Path, truths: list[Any]) -> Path:
    """A folder with a picture and a line for each truth."""
    folder.mkdir(parents=True)
    lines = []
    for index, truth in enumerate(truths):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / f"{index}.png")
        lines.append(json.dumps({"file_name": f"{index}.png", "ground_truth": json.dumps(truth)}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_class_folders_in_a_fixed_order(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    (data / "train" / "bars" / ".DS_Store").write_bytes(b"x")
    found = read_class_folders(data / "train")
    assert found.labels == sorted(tiny.KINDS)
    assert [document.target for document in found.documents] == sorted(document.target for document in found.documents)
    assert found.documents[0].where == "bars/0.png"


def test_class_folder_problems_come_at_once(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    (data / "validation" / "stripes").mkdir()
    (data / "validation" / "dots" / "notes.txt").write_text("x")
    shutil.rmtree(data / "validation" / "grid")
    (data / "validation" / "grid").mkdir()
    with pytest.raises(DataError) as error:
        read_class_folders(data / "validation", tiny.KINDS)
    text = _problems(error)
    assert "stripes/: a label that the training split does not have" in text
    assert "dots/notes.txt: not a picture" in text
    assert "grid/: holds no pictures" in text


def test_an_empty_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no label folders"):
        read_class_folders(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_class_folders(tmp_path / "nowhere")
    (tmp_path / "metadata.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="is empty"):
        read_donut_folder(tmp_path)


def test_donut_folder(tmp_path: Path) -> None:
    folder = donut_folder(tmp_path / "train", [{"gt_parse": {"total": "1"}}, {"gt_parses": [{"a": "1"}, {"a": "2"}]}])
    documents = read_donut_folder(folder)
    assert [document.target for document in documents] == [{"total": "1"}, {"a": "1"}]
    assert documents[1].variants == ({"a": "1"}, {"a": "2"})
    assert documents[1].where == "metadata.jsonl:2"


def test_donut_folder_problems_come_at_once_with_line_numbers(tmp_path: Path) -> None:
    folder = donut_folder(tmp_path / "train", [{"gt_parse": {"total": "1"}}])
    good = (folder / "metadata.jsonl").read_text()
    lines = [
        '{"file_name": "0.png", "ground_truth": ',
        json.dumps({"file_name": "gone.png", "ground_truth": "{}"}),
        json.dumps({"file_name": "../0.png", "ground_truth": "{}"}),
        json.dumps({"file_name": "0.png"}),
        json.dumps({"file_name": "0.png", "ground_truth": "{"}),
        json.dumps({"file_name": "0.png", "ground_truth": "{}"}),
        good.strip(),
    ]
    (folder / "metadata.jsonl").write_text("\ufeff" + good + "\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_donut_folder(folder)
    said = error.value.problems
    expected = [
        "broken JSON",
        "the picture gone.png is missing",
        "leads out of the folder",
        "expected an object with",
        "ground_truth is not JSON",
        "neither gt_parse",
        "already given in line 1",
    ]
    assert len(said) == len(expected)
    for number, (line, words) in enumerate(zip(said, expected, strict=True), 2):
        assert line.startswith(f"metadata.jsonl:{number}: ")
        assert words in line


def test_splits_by_any_usual_name(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    assert resolve_split(tmp_path) == tmp_path / "val"
    assert resolve_split(tmp_path, "train") == tmp_path / "train"
    assert resolve_split(tmp_path / "train") == tmp_path / "train"
    with pytest.raises(DataError, match="no split test"):
        resolve_split(tmp_path, "test")


def test_check_classification(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    report = check(data)
    assert (report["task"], report["problems"]) == ("classification", [])
    assert report["splits"]["train"] == {"n": 12, "labels": dict.fromkeys(sorted(tiny.KINDS), 4)}
    shutil.copy(data / "train" / "bars" / "0.png", data / "validation" / "bars" / "copy.png")
    (data / "validation" / "dots" / "cut.png").write_bytes((data / "train" / "dots" / "0.png").read_bytes()[:60])
    report = check(data)
    assert len(report["problems"]) == 1
    assert "cut.png" in report["problems"][0]
    assert any("the same picture as" in warning for warning in report["warnings"])


def test_check_kie_names_documents_that_do_not_survive(tmp_path: Path) -> None:
    donut_folder(tmp_path / "train", [{"gt_parse": {"total": "1"}}, {"gt_parse": {"note": "<s_total>"}}])
    report = check(tmp_path)
    assert report["task"] == "kie"
    assert report["splits"]["train"]["fields"] == {"total": 1, "note": 1}
    assert len(report["warnings"]) == 1
    assert "metadata.jsonl:2" in report["warnings"][0]


def test_check_names_every_split(tmp_path: Path) -> None:
    donut_folder(tmp_path / "train", [{"gt_parse": {"total": "1"}}])
    (tmp_path / "validation").mkdir()
    (tmp_path / "validation" / "metadata.jsonl").write_text("{\n")
    assert any("metadata.jsonl:1: broken JSON" in problem for problem in check(tmp_path)["problems"])
    with pytest.raises(UserError, match="there is no folder"):
        check(tmp_path / "nowhere")
