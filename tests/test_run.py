"""The run folder: lines come back as they were written, folders are copied whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from docstill.errors import InUse, RecipeError, UserError
from docstill.files import copy_whole, read_lines, write_json, write_lines
from docstill.run import MetricsLog, has_begun, locked, open_run


@pytest.mark.parametrize("values", [[], [{"file": "a\u2028b\x85.png", "logits": [0.1, -1e300]}, {"file": "ü\n.png"}]])
def test_lines_come_back_as_they_were(values: list[Any], tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", values)
    assert read_lines(tmp_path / "a.jsonl") == values


def test_a_copy_takes_the_place_of_what_was_there_or_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    for folder, text in ((source, "new"), (target, "old")):
        folder.mkdir()
        (folder / text).write_text(text)

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", fails)
        with pytest.raises(OSError, match="the disk is full"):
            copy_whole(source, target)
    assert [path.name for path in target.iterdir()] == ["old"]
    copy_whole(source, target)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}


def test_a_full_disk_is_said_of_a_line_too(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.path = Path("/dev/full")
    with pytest.raises(UserError, match="the disk is full"):
        log.add(step=1)


def test_a_folder_is_one_processes_or_waited_for(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with locked(tmp_path, wait=True):
            order.append("second")

    with locked(tmp_path):
        with pytest.raises(InUse, match="another process"), locked(tmp_path):
            pass
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize("at", ["replace", "fsync"])
def test_a_disk_that_only_reads_is_one_sentence(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, at, refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match="may not be written"):
        write_json(tmp_path / "new" / "a.json", {})


def test_a_folder_that_one_may_not_make_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="may not be written"):
        write_json(tmp_path / "new" / "a.json", {})


def test_a_folder_in_part_of_which_somebody_works_has_begun(tmp_path: Path) -> None:
    cell = tmp_path / "cells" / "a"
    cell.mkdir(parents=True)
    assert not has_begun(tmp_path)
    with locked(cell):
        assert has_begun(tmp_path)
    assert not has_begun(tmp_path)


def test_a_folder_in_which_nothing_was_done_takes_another_recipe(tmp_path: Path) -> None:
    open_run(tmp_path / "run", "task: a\n")
    open_run(tmp_path / "run", "task: b\n")
    assert (tmp_path / "run" / "recipe.yaml").read_text() == "task: b\n"
    write_json(tmp_path / "run" / "teacher" / "evaluation" / "done.json", {})
    open_run(tmp_path / "run", "task: c\n")
    assert not (tmp_path / "run" / "teacher" / "evaluation" / "done.json").exists(), "the teacher may be another now"
    mine = tmp_path / "run" / "data" / "train" / "a.png"
    mine.parent.mkdir(parents=True)
    mine.touch()
    open_run(tmp_path / "run", "task: d\n")
    assert mine.exists()
    write_json(tmp_path / "run" / "teacher" / "done.json", {})
    with pytest.raises(RecipeError, match=r"begun with another recipe.*taken along: teacher=.*teacher/model"):
        open_run(tmp_path / "run", "task: a\n")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        open_run(tmp_path / "file", "task: a\n")
