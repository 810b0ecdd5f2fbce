"""Pages without labels: read, checked, and learnt from through the teacher only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from docstill.batches import epoch_batches, page_set
from docstill.compression import _measured_with, compress
from docstill.data import validator
from docstill.data.unlabelled import problems_of, read_unlabelled
from docstill.errors import DataError, RecipeError
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import new_classifier
from docstill.objectives import OBJECTIVES
from docstill.objectives.base import UNLABELLED, Outputs
from docstill.objectives.labels import Labels
from docstill.optimiser import seed_everything
from docstill.recipe import parse_recipe
from docstill.run import read_metrics
from docstill.settings import Training
from docstill.tasks.base import Pages
from docstill.tasks.classification import Classification


def unlabelled(folder: Path, count: int = 6) -> Path:
    (folder / "deeper").mkdir(parents=True)
    for index in range(count):
        where = folder / "deeper" if index % 2 else folder
        tiny.page(tiny.KINDS[index % 3], 200 + index).save(where / f"{index}.png")
    return folder


def test_all_pictures_below_a_folder_are_read(tmp_path: Path) -> None:
    folder = unlabelled(tmp_path / "pages")
    (folder / ".hidden").mkdir()
    tiny.page("bars", 0).save(folder / ".hidden" / "x.png")
    (folder / "@eaDir").mkdir()
    tiny.page("bars", 0).save(folder / "@eaDir" / "thumbnail.png")
    (folder / "notes.txt").write_text("not a picture")
    documents = read_unlabelled(folder)
    assert [document.where for document in documents] == [
        "0.png", "2.png", "4.png", "deeper/1.png", "deeper/3.png", "deeper/5.png",
    ]  # fmt: skip
    assert {document.target for document in documents} == {None}
    assert problems_of(folder) == []
    (folder / "broken.png").write_bytes(b"")
    assert len(problems_of(folder)) == 1


@pytest.mark.parametrize("folder", ["../pages", "../.cache/pages", "../here/../.cache/pages"])
def test_where_the_folder_lies_does_not_hide_its_pages(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlabelled(tmp_path / "pages")
    unlabelled(tmp_path / ".cache" / "pages")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert len(read_unlabelled(Path(folder))) == 6
    assert len(read_unlabelled(Path(folder).absolute())) == 6


def test_problems_come_in_the_order_of_the_pages_however_many_look_under_a_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unlabelled(tmp_path / "pages", 40)
    broken = [folder / name for name in ("12.png", "2.png", "deeper/11.png", "deeper/3.png")]
    for file in broken:
        file.write_bytes(b"")
    steps: list[tuple[str, int, int]] = []

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Any]:
        yield lambda done, of, _: steps.append((title, done, of))

    monkeypatch.setattr("docstill.progress.bar", bar)
    for threads in (1, 8):
        monkeypatch.setattr(validator, "THREADS", threads)
        assert problems_of(folder) == [
            f"{file}: is an empty file (0 bytes); restore it or remove it" for file in broken
        ]
    assert steps == [("looking at pages without labels", done, 40) for done in range(1, 41)] * 2


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        read_unlabelled(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no pictures"):
        read_unlabelled(tmp_path)


def test_labels_are_a_mean_over_the_labelled() -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([0, UNLABELLED, 2, UNLABELLED])
    known = targets != UNLABELLED
    expected = Labels()(Outputs(logits[known], targets[known], 2), None)
    assert torch.equal(Labels()(Outputs(logits, targets, 4), None), expected)
    none = Outputs(logits.requires_grad_(), torch.full((4,), UNLABELLED), 4)
    loss = Labels()(none, None)
    loss.backward()
    assert loss.item() == 0


@pytest.mark.parametrize("kind", ["nkd", "dkd"])
def test_the_teachers_answer_stands_in_for_an_unknown_one(kind: str) -> None:
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    found = teacher.argmax(-1)
    values = [
        OBJECTIVES[kind]()(Outputs(student, targets, 3), Outputs(teacher, targets, 3)).item()
        for targets in (found, torch.full((3,), UNLABELLED))
    ]
    assert values[0] == values[1]


def test_accumulated_batches_count_the_labelled_alone(tmp_path: Path) -> None:
    """One batch of 4 with 2 labelled pages gives the losses of 4 batches of 1, two of which have no label at all."""
    data = tiny.class_folders(tmp_path / "data")
    task = Classification()
    pages = task.read(data / "train")
    extra = read_unlabelled(unlabelled(tmp_path / "more", 2))
    mixed = Pages(pages.folder, [*pages.documents[:2], *extra], pages.labels)
    seed_everything(0)
    student, teacher = (new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32)) for _ in range(2))
    lesson = Lesson(task, student, teacher, make_objectives([{"kind": "labels"}, {"kind": "kd"}]))
    examples = page_set(task, mixed, student, teacher, Training(), seed=0)
    (whole,) = epoch_batches(examples, 0, 0, 4, 0)
    single = list(epoch_batches(examples, 0, 0, 1, 0))
    assert lesson.counts(whole) == {"labels": 2, "kd": 4}
    totals = lesson.counts(whole)
    summed = {"labels": 0.0, "kd": 0.0}
    for batch in single:
        for loss in lesson(batch):
            summed[loss.name] += loss.value.item() * loss.count / totals[loss.name]
    assert summed == pytest.approx({loss.name: loss.value.item() for loss in lesson(whole)}, rel=1e-4)


def test_a_whole_recipe_with_unlabelled_pages(tmp_path: Path) -> None:
    data, more = tiny.class_folders(tmp_path / "data"), unlabelled(tmp_path / "more")
    content = tiny.recipe(data)
    content["data"]["unlabelled"] = str(more)
    content["teacher"]["train"]["epochs"] = 1
    results = compress(parse_recipe(content), tmp_path / "run")
    assert results["data"]["unlabelled"] == {"path": str(more), "n": 6}
    assert results["data"]["train"]["n"] == 12
    folder = tmp_path / "run" / "seed-0"
    student = read_metrics(folder / "student" / "2-distill" / "metrics.jsonl")
    control = read_metrics(folder / "no-kd" / "2-distill" / "metrics.jsonl")
    assert len(student) == 2 * 5  # two epochs of 18 pages in batches of 4
    assert (
        len(control) == 3 * 3
    )  # three times the 12 labelled ones: as many pages, and no fewer steps than epochs allow
    assert "6 more without labels" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_unlabelled_pages_without_a_use_are_refused(tmp_path: Path) -> None:
    def problems(**changes: Any) -> str:
        content = tiny.recipe(tmp_path, **changes)
        content["data"]["unlabelled"] = "more"
        with pytest.raises(RecipeError) as caught:
            parse_recipe(content)
        return str(caught.value)

    assert "needs a distil stage" in problems(stages=[{"distill": {"objectives": [{"kind": "labels"}]}}])


def test_links_that_are_not_followed_are_said(tmp_path: Path) -> None:
    folder = unlabelled(tmp_path / "pages", 2)
    (tmp_path / "more").mkdir()
    (folder / "more").symlink_to(tmp_path / "more")
    (folder / "README").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match="more: is a link to a folder, which is not followed") as error:
        read_unlabelled(folder)
    assert problems_of(folder) == error.value.problems
    assert len(error.value.problems) == 1


def test_pages_that_are_measured_with_are_told_of(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    validation = Classification().read(data / "validation")
    (line,) = _measured_with(data, validation)
    assert line.startswith(f"6 of 6 pictures in {data / 'validation'} are in {data}, too")
    (tmp_path / "others").mkdir()
    tiny.page("bars", 0).resize((20, 20)).save(tmp_path / "others" / "a.png")
    assert _measured_with(tmp_path / "others", validation) == []
    assert _measured_with(None, validation) == []
