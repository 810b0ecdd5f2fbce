"""The teacher's own answers as targets: which are used, how sure it was, and that it reads each page once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from docstill import teacher_lines
from docstill.chains import Chain, Taught, without_teacher
from docstill.compression import _unlabelled
from docstill.data.images import open_image
from docstill.data.json_tokens import json_to_tokens
from docstill.data.unlabelled import read_unlabelled
from docstill.errors import RecipeError, UserError
from docstill.recipe import parse_recipe
from docstill.settings import DistillStage, Stage
from docstill.stages import Bench, _teacher_answers, learn
from docstill.tasks.base import Pages
from docstill.tasks.classification import Classification
from docstill.tasks.kie import Kie
from docstill.tasks.kie_answers import answer_ids
from docstill.teacher_answers import read_by_teacher, sure_enough, well_formed, with_teacher_answers
from kie_tiny import ANSWERS, page, tiny_donut, tiny_folder

KIE = Kie()
OTHER = {"shop": "Elm", "total": "1.00"}
WRITTEN = [
    json_to_tokens(OTHER),
    "<s_total>9.00</s_total><s_shop>Bir",
    json_to_tokens({"shop": "Ünal"}),
    json_to_tokens({"total": "2.00"}),
]
"""A good one; one cut short; one with a character that the student lacks; one with fewer fields."""


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lets every teacher write `WRITTEN` for the four pages; the list holds how many pages were read at a time."""
    found: list[int] = []
    texts = {page(answer).tobytes(): text for answer, text in zip(ANSWERS, WRITTEN, strict=True)}

    def predict(_self: Kie, _model: Any, images: Sequence[Any]) -> list[dict[str, Any]]:
        found.append(len(images))
        return [{"text": texts[image.tobytes()]} for image in images]

    monkeypatch.setattr(Kie, "predict", predict)
    return found


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (json_to_tokens(ANSWERS[0]), True),
        ("<s_a>1</s_a><s_b>2</s_b>", True),  # keys as another teacher orders them
        ("<s_b>2</s_b><s_a>1</s_a>", True),
        ("<s_a><s_c>1</s_c><s_d>2</s_d></s_a><s_b>2</s_b>", True),
        ("<s_a>1</s_a><s_a>2</s_a>", False),
        ("<s_total> 9.00</s_total>", True),  # as tokenizers with ▁ write it
        ("<s_menu><s_nm>tea</s_nm><sep/><s_nm>milk</s_nm></s_menu>", True),
        ("<s_nm>tea</s_nm><sep/><s_nm>milk</s_nm>", True),
        ("", False),
        ("no tags at all", False),
        ("<s_total>9.00</s_total> and more", False),
        ("<s_total>9.00</s_total><s_shop>Bir", False),
        ("</s_total>9.00<s_total>", False),
        ("<s_a>" * 3000, False),
    ],
)
def test_only_whole_answers_are_well_formed(text: str, good: bool) -> None:
    assert (well_formed(text) is not None) == good


def test_bad_answers_keep_the_label_and_are_counted(tmp_path: Path, readings: list[int]) -> None:
    pages = KIE.read(tiny_folder(tmp_path / "pages"))
    found, kept = with_teacher_answers(KIE, tiny_donut(1), tiny_donut(0), pages, tmp_path)
    assert kept == 2
    assert [document.target for document in found.documents] == [OTHER, ANSWERS[1], ANSWERS[2], {"total": "2.00"}]
    assert found.documents[0].variants == (OTHER,)
    (path,) = tmp_path.glob("answers-*.jsonl")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["text"] for line in lines] == WRITTEN
    assert [line["file"] for line in lines] == [f"metadata.jsonl:{number}" for number in (1, 2, 3, 4)]
    assert [line["probability"] is None for line in lines] == [False, True, False, False]


def test_a_page_is_read_once_and_an_interrupted_look_goes_on(
    tmp_path: Path, readings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_lines, "CHUNK", 2)
    pages, teacher = KIE.read(tiny_folder(tmp_path / "pages")), tiny_donut(1)
    whole = read_by_teacher(KIE, teacher, pages, tmp_path)
    assert read_by_teacher(KIE, teacher, pages, tmp_path) == whole
    assert readings == [2, 2]
    (path,) = tmp_path.glob("answers-*.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:2]) + lines[2][:10], encoding="utf-8")
    assert read_by_teacher(KIE, teacher, pages, tmp_path) == whole
    assert readings == [2, 2, 2], "the third line was cut short: it is read again, with the fourth"
    read_by_teacher(KIE, tiny_donut(2), pages, tmp_path)
    assert readings == [2, 2, 2, 2, 2], "another teacher has its own answers"


def test_the_probability_is_the_mean_over_its_tokens(tmp_path: Path, readings: list[int]) -> None:
    pages, teacher = KIE.read(tiny_folder(tmp_path / "pages", ANSWERS[:1])), tiny_donut(1)
    (line,) = read_by_teacher(KIE, teacher, pages, tmp_path)
    document = replace(pages.documents[0], target=OTHER, variants=(OTHER,))
    with torch.no_grad():
        example = KIE.example(teacher, document, open_image(document.file), [], None)
        outputs = KIE.forward(teacher, KIE.collate(teacher, [example]))
    chosen = [row.softmax(-1)[target].item() for row, target in zip(outputs.logits, outputs.targets, strict=True)]
    assert len(chosen) == 4 + len("Elm1.00") + 1
    assert line["probability"] == pytest.approx(sum(chosen) / len(chosen), abs=1e-6)


def test_pages_without_labels_count_if_the_teacher_is_sure_enough(tmp_path: Path, readings: list[int]) -> None:
    folder = tiny_folder(tmp_path / "pages")
    (folder / "metadata.jsonl").unlink()
    teacher = tiny_donut(1)
    content = {**tiny.recipe(tmp_path), "task": "kie", "student": {"new": "donut-tiny"}}
    content["data"] |= {"unlabelled": str(folder), "confidence": 0.0}
    recipe = parse_recipe(content)
    everyone = _unlabelled(recipe, KIE, Taught(teacher, "", tmp_path), Pages(folder, []))
    assert [document.target for document in everyone] == [OTHER, {"shop": "Ünal"}, {"total": "2.00"}]
    (path,) = tmp_path.glob("answers-*.jsonl")
    sure = sorted(json.loads(line)["probability"] or 0 for line in path.read_text(encoding="utf-8").splitlines())
    assert len(sure_enough(KIE, teacher, read_unlabelled(folder), tmp_path, sure[-1])) == 1
    assert sure_enough(KIE, teacher, read_unlabelled(folder), tmp_path, 1.0) == []
    assert readings == [4]


def test_a_stage_learns_the_teachers_answers_and_says_how_many(tmp_path: Path, readings: list[int]) -> None:
    pages, teacher = KIE.read(tiny_folder(tmp_path / "pages")), tiny_donut(1)
    more = [replace(pages.documents[0], target=target) for target in (OTHER, {"shop": "Ünal"})]
    more = [replace(document, variants=(document.target,)) for document in more]
    bench = Bench(KIE, pages, replace(pages, documents=pages.documents[:1]), teacher, more, tmp_path)
    entries = [{"kind": "labels"}, {"kind": "kd"}]
    settings = DistillStage(objectives=entries, answers="teacher", epochs=1, precision="fp32", cache_logits=4)
    report = learn(bench, tiny_donut(0), settings, entries, tmp_path / "stage", 0, "")
    assert "on 5 documents" in report["text"], "four, and one of two without labels that the student can write"
    assert "the teacher's answer on 2 of 4 documents; on 2 it was not well-formed" in report["text"]
    control = without_teacher(Chain("student", 0, tmp_path, [(1, Stage(distill=settings))]), tmp_path, 1.0)
    assert control.stages[0][1].settings.answers == "labels"  # type: ignore[union-attr]
    classes = Bench(Classification(), pages, pages, teacher)
    with pytest.raises(UserError, match="answers: teacher is for kie, the task is classification"):
        _teacher_answers(classes, teacher, tmp_path)


def test_classification_writes_no_answers(tmp_path: Path) -> None:
    content = tiny.recipe(tmp_path)
    content["stages"][1]["distill"]["answers"] = "teacher"
    with pytest.raises(RecipeError) as error:
        parse_recipe(content)
    assert error.value.problems == ["stages.1.distill.answers: is for kie, the task is classification; leave it out"]


def test_answers_held_to_another_schema_are_not_taken(tmp_path: Path, readings: list[int]) -> None:
    teacher, pages = tiny_donut(), KIE.read(tiny_folder(tmp_path / "pages"))
    for schema in (None, {"keys": {"total": {"longest": 4}}}):
        if schema is not None:
            teacher.card["schema"] = schema
        read_by_teacher(KIE, teacher, pages, tmp_path)
    assert len(list(tmp_path.glob("answers-*.jsonl"))) == 2


def test_a_teacher_with_another_order_of_keys_is_as_sure_as_of_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, teacher = KIE.read(tiny_folder(tmp_path / "pages", ANSWERS[:1])), tiny_donut(1)
    text = json_to_tokens(OTHER, sort_keys=False)
    assert text != json_to_tokens(OTHER)
    monkeypatch.setattr(Kie, "predict", lambda *_: [{"text": text}])
    (line,) = read_by_teacher(KIE, teacher, pages, tmp_path)
    example = KIE.example(teacher, pages.documents[0], open_image(pages.documents[0].file), [], None)
    with torch.no_grad():
        batch = KIE.collate(teacher, [{**example, "ids": torch.tensor(answer_ids(teacher, text))}])
        outputs = KIE.forward(teacher, batch)
    chosen = outputs.logits.softmax(-1).gather(1, outputs.targets[:, None]).mean().item()
    assert line["probability"] == pytest.approx(chosen, abs=1e-6)
    (found,) = sure_enough(KIE, teacher, pages.documents, tmp_path, line["probability"])
    assert found.target == OTHER
