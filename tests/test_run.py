"""The run folder: lines come back as they were written, folders are copied whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from docstill.run import copy_whole, read_lines, write_lines


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
