"""The teacher's regions on pages without labels: each page is asked about once, in batches, however often a run is stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from docstill import teacher_lines
from docstill.data.document import Document
from docstill.data.images import open_image
from docstill.models.detector import new_detector
from docstill.models.io import DocumentModel
from docstill.run import seconds_spent
from docstill.tasks.layout import Layout
from docstill.teacher_regions import with_regions
from layout_tiny import KINDS, TINY_DETR, drawn_page

TASK = Layout()
PAGES = 5
Asked = Callable[[], list[Document]]


@pytest.fixture
def teacher() -> DocumentModel:
    torch.manual_seed(0)
    return new_detector(TINY_DETR["new"], TINY_DETR["config"], KINDS, (96, 64))


@pytest.fixture
def documents(tmp_path: Path) -> list[Document]:
    (tmp_path / "more").mkdir()
    for page in range(PAGES):
        drawn_page(page)[0].save(tmp_path / "more" / f"{page}.png")
    return [Document(tmp_path / "more" / f"{page}.png", None, (), f"{page}.png") for page in range(PAGES)]


@pytest.fixture
def ask(teacher: DocumentModel, documents: list[Document], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Asks in chunks of two pages, with a confidence that all regions reach."""
    monkeypatch.setattr(teacher_lines, "CHUNK", 2)
    return lambda: with_regions(TASK, teacher, documents, list(KINDS), tmp_path / "run", 0.0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pages were asked about at a time."""
    found: list[int] = []
    whole = Layout.predict

    def predict(self: Layout, model: DocumentModel, images: Iterable[Image.Image]) -> list[dict[str, Any]]:
        answers = whole(self, model, images)
        found.append(len(answers))
        return answers

    monkeypatch.setattr(Layout, "predict", predict)
    return found


def kept(tmp_path: Path, name: str) -> Path:
    (path,) = (tmp_path / "run").glob(f"regions-*/{name}")
    return path


def test_the_regions_are_those_of_one_page_at_a_time(
    ask: Asked, teacher: DocumentModel, documents: list[Document]
) -> None:
    for document, found in zip(documents, ask(), strict=True):
        (alone,) = TASK.predict(teacher, [open_image(document.file)])
        assert found.target.size == (60, 90)
        assert len(found.target.boxes) == len(alone["regions"]) > 0
        rows = [
            np.array([[label, *box] for label, box in boxes])
            for boxes in (
                zip(found.target.labels, found.target.boxes, strict=True),
                ((KINDS.index(region["label"]), region["box"]) for region in alone["regions"]),
            )
        ]
        assert (np.abs(rows[0][:, None] - rows[1]).max(-1).min(1) < 0.02).all(), "up to noise"


def test_a_look_that_was_stopped_goes_on(ask: Asked, asked: list[int], tmp_path: Path, monkeypatch: Any) -> None:
    """Killed in the second of three chunks, and half a line was written of it: nothing is asked twice, nothing is lost."""
    counting = Layout.predict

    def killed(*given: Any) -> Any:
        if asked:
            raise KeyboardInterrupt
        return counting(*given)

    monkeypatch.setattr(Layout, "predict", killed)
    with pytest.raises(KeyboardInterrupt):
        ask()
    lines = kept(tmp_path, "pages.jsonl")
    first = lines.read_bytes()
    assert first.count(b"\n") == 2
    lines.write_bytes(first + b'{"file": "2.png", "si')
    monkeypatch.setattr(Layout, "predict", counting)
    found = ask()
    assert asked == [2, 2, 1]
    assert lines.read_bytes().startswith(first)
    assert [json.loads(line)["file"] for line in lines.read_text().splitlines()] == [
        f"{page}.png" for page in range(PAGES)
    ]
    assert ask() == found
    assert asked == [2, 2, 1], "a run that goes on does not look again"
    lines.unlink()
    assert ask() == found


def test_what_is_done_is_summed_up(ask: Asked, tmp_path: Path) -> None:
    found = ask()
    lines = [json.loads(line) for line in kept(tmp_path, "pages.jsonl").read_text().splitlines()]
    summary = json.loads(kept(tmp_path, "done.json").read_text())
    assert summary == {
        "seconds": pytest.approx(sum(line["seconds"] for line in lines), abs=0.01),
        "pages": PAGES,
        "regions": sum(len(document.target.boxes) for document in found),
    }
    assert seconds_spent(tmp_path / "run") == summary["seconds"] > 0


def test_what_an_older_version_kept_is_asked_for_again(ask: Asked, asked: list[int], tmp_path: Path) -> None:
    """It wrote all regions into `done.json`."""
    found = ask()
    done = kept(tmp_path, "done.json")
    kept(tmp_path, "pages.jsonl").unlink()
    pages = [{"file": "0.png", "size": [60, 90], "regions": []}]
    done.write_text(json.dumps({"seconds": 7.5, "pages": pages}))
    assert ask() == found
    assert sum(asked) == 2 * PAGES
    assert json.loads(done.read_text())["pages"] == PAGES
