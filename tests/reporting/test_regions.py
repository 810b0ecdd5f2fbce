"""The report of a layout run: pages with boxes, figures by class, what goes wrong; hostile and empty cases."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image, ImageDraw

from docstill.metrics.regions import tally
from docstill.reporting import boxes
from docstill.reporting.build import write_report
from docstill.reporting.regions import class_rows, confusion_view, marks_of, page_view, regions_view, summary
from docstill.reporting.rows import title_of
from docstill.reporting.strips import dots
from docstill.reporting.verdict import localisation_warning, verdict
from docstill.results import _loose, fates
from docstill.tasks.base import Judged

LABELS = ["title", "text", "table", "figure", "Überschrift", "<b>bold</b>", "x" * 60, "seal"]
SIZE = (600, 800)


def there(label: str, *box: float) -> dict[str, Any]:
    return {"label": label, "box": list(box)}


def seen(label: str, *box: float, score: float = 0.9) -> dict[str, Any]:
    return {"label": label, "box": list(box), "score": score}


TRUTHS = [
    [
        there("title", 60, 40, 480, 50), there("text", 60, 110, 230, 300), there("text", 310, 110, 230, 200),
        there("figure", 310, 330, 230, 150), there("table", 60, 430, 230, 180), there("<b>bold</b>", 60, 640, 480, 60),
        there("x" * 60, 270, 760, 60, 20),
    ],
    [there("Überschrift", 60, 40, 480, 50), there("text", 60, 110, 480, 600)],
    [],
]  # fmt: skip
STUDENT_SAYS = [
    [
        seen("title", 58, 42, 485, 46, score=0.97), seen("text", 62, 112, 226, 296), seen("table", 312, 332, 226, 146),
        seen("text", 60, 440, 230, 60, score=0.55), seen("text", 320, 500, 200, 120, score=0.7),
        seen("<b>bold</b>", 60, 640, 470, 60), seen("text", 0, 0, 600, 800, score=0.1),
    ],
    [],
    [seen("text", 100, 100, 100, 100)],
]  # fmt: skip


def documents(tmp_path: Path, says: list[list[dict[str, Any]]]) -> list[Judged]:
    return [
        Judged(f"pages/{n}.png", {"size": list(SIZE), "regions": truths}, {"regions": answer}, n / 10)
        for n, (truths, answer) in enumerate(zip(TRUTHS, says, strict=True))
    ]


def draw(tmp_path: Path, number: int) -> str:
    image = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(image)
    for region in TRUTHS[number]:
        left, top, width, height = region["box"]
        for y in range(int(top) + 4, int(top + height) - 6, 12):
            pen.rectangle((left + 4, y, left + width - 4, y + 5), fill="#888")
    file = tmp_path / f"{number}.png"
    image.save(file)
    return str(file)


def metric(*values: float) -> dict[str, Any]:
    return {
        "mean": sum(values) / len(values), "std": 0.01 if len(values) > 1 else None, "values": list(values)
    }  # fmt: skip


def row(name: str, role: str, ap: tuple[float, ...], judged: list[Judged]) -> dict[str, Any]:
    counts = {label: sum(region["label"] == label for page in TRUTHS for region in page) for label in LABELS}
    per_class = [
        {
            label: {"ap": value * (1 - n / 20), "ap50": value, "count": count}
            if (count := counts[label])
            else {"ap": None, "ap50": None, "count": 0}
            for n, label in enumerate(LABELS)
        }
        for value in ap
    ]
    found = tally([vars(document) for document in judged], LABELS)
    return {
        "name": name, "role": role, "seeds": list(range(len(ap))),
        "metrics": {"ap": metric(*ap), "ap50": metric(*ap), "ap75": metric(*(0.9 * value for value in ap))},
        "per_class": per_class, "regions": [found] * len(ap),
        "params": {"total": 10_000_000, "non_embedding": 10_000_000, "nonzero": 10_000_000}, "flops": 1_000_000,
        "bytes": 40_000_000, "latency_ms": {"p50": 20.0, "p95": 25.0}, "peak_memory_mb": 100.0, "runtime": "torch",
        "precision": "fp32", "threads": 2,
    }  # fmt: skip


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    student = documents(tmp_path, STUDENT_SAYS)
    teacher = documents(tmp_path, [[{**region, "score": 0.8} for region in page] for page in TRUTHS])
    return {
        "docstill": "0.1.0", "name": "pages", "task": "layout", "command": "", "created": "2026-11-21T00:05:58+00:00",
        "hardware": {}, "recipe": "task: layout\n", "primary_metric": "ap", "seconds": 400.0, "latency_note": "",
        "data": {"train": {"path": "train", "n": 1200}, "validation": {"path": "validation", "n": 3}},
        "stages": [{"name": "distill", "text": "Trained.", "seconds": 12.3}], "curves": [], "warnings": [],
        "rows": [
            row("teacher", "teacher", (0.72,), teacher), row("student", "student", (0.6, 0.64), student),
            row("no-kd", "control", (0.5, 0.5), student),
        ],
        "worst": [
            {
                "file": one.file, "image": draw(tmp_path, number), "expected": one.expected, "student": one.predicted,
                "teacher": other.predicted, "score": one.score,
            }
            for number, (one, other) in enumerate(zip(student, teacher, strict=True))
        ],
    }  # fmt: skip


def page_of(given: dict[str, Any], run: Path) -> str:
    text = write_report(given, run).read_text(encoding="utf-8")
    assert "url(" not in text
    assert "<script" not in text
    links = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(link.startswith("data:image/jpeg;base64,") or re.fullmatch(r"#page-\d+", link) for link in links)
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(svg)
    return text


def test_the_report_shows_pages_classes_and_mistakes(given: dict[str, Any], tmp_path: Path) -> None:
    text = page_of(given, tmp_path)
    assert text.count("data:image/jpeg;base64,") == 3  # each page once, though it is drawn three times
    assert text.count('href="#page-1"') == 2
    assert "points of average precision (AP)" in text
    assert "average precision (AP), %" in text
    assert "The student’s 3 worst documents" in text
    assert "<figcaption><strong>Student</strong>: 3 right, 1 wrong class, 3 missed, 2 invented</figcaption>" in text
    assert "<figcaption><strong>Teacher</strong>: 7 right</figcaption>" in text
    assert "<figcaption><strong>Truth</strong>: no regions</figcaption>" in text
    assert "<b>bold" not in text
    assert "Überschrift" in text
    assert "0 to 100 %" in text
    assert "On no validation page: seal." in text
    assert "the student misses 5, takes 1 for another class and invents 3;" in text
    assert "does not localise" not in text


def test_other_tasks_have_none_of_it(given: dict[str, Any], tmp_path: Path) -> None:
    given |= {"task": "classification", "primary_metric": "accuracy", "worst": []}
    text = write_report(given, tmp_path).read_text(encoding="utf-8")
    assert "Class by class" not in text
    assert "What goes wrong" not in text


def test_nothing_was_found_scored_or_kept(given: dict[str, Any], tmp_path: Path) -> None:
    bare = copy.deepcopy(given) | {"worst": []}
    for one in bare["rows"]:
        one |= {"metrics": {}, "per_class": [{}] * len(one["seeds"])}
        del one["regions"]
    text = page_of(bare, tmp_path)
    for says in ("No class was scored.", "What became of the regions was not counted.", "No documents were kept"):
        assert says in text
    assert "No documents were kept" in page_of({**given, "rows": [], "worst": []}, tmp_path)


def test_no_picture_no_teacher_no_answer(given: dict[str, Any], tmp_path: Path) -> None:
    given["worst"][0] |= {"image": None, "teacher": None, "student": None}
    view = page_view(given["worst"][0], boxes.codes(LABELS), "page-1")
    assert [panel["title"] for panel in view["panels"]] == ["Truth", "Student"]
    assert view["panels"][1]["text"] == "7 missed"
    assert "<use" not in "".join(panel["drawing"] for panel in view["panels"])
    assert "The picture cannot be shown" in page_of(given, tmp_path)


def test_classes_with_the_most_regions_come_first_and_unknown_is_a_dash(given: dict[str, Any]) -> None:
    found = class_rows(given["rows"])
    assert [entry["label"] for entry in found] == ["text", *LABELS[:1], *LABELS[2:]]
    text, seal = found[0], found[-1]
    assert (text["count"], text["figures"]["teacher"], text["figures"]["student"]) == (3, "68.4", "58.9 ± 2.7")
    assert text["against"] == ["−9.5", "+11.4"]
    assert (seal["count"], seal["against"], seal["dots"]) == (0, ["–", "–"], "")
    assert set(seal["figures"].values()) == {"–"}


def test_means_over_seeds_are_said(given: dict[str, Any]) -> None:
    student = given["rows"][1]
    student["regions"] = [student["regions"][0], {**student["regions"][0], "missed": 6}]
    text = summary(given["rows"])
    assert text.startswith("There are 9 regions on the validation pages: the student misses 5.5, takes 1 for")
    assert text.endswith("the teacher misses 0, takes 0 for another class and invents 0. Of a model with several seeds, these are means.")  # fmt: skip
    assert summary([]) == ""


def test_confusions_keep_the_classes_with_most_mistakes() -> None:
    names = [f"class {n} " + "é" * 60 for n in range(40)]
    pages = [
        {
            "expected": {"size": [9, 9], "regions": [there(name, 0, 0, 9, 9)]},
            "predicted": {"regions": [seen(name if n >= 20 else names[(n + 1) % 20], 0, 0, 9, 9)]},
        }
        for n, name in enumerate(names)
    ]
    view = confusion_view(tally(pages, names))
    assert view is not None
    assert view["left_out"] == 20
    assert [title for _, title in view["columns"]] == names[:20]
    assert max(len(name) for name, _ in view["columns"]) == 24
    assert {len(line["cells"]) for line in view["rows"]} == {21}
    assert len(view["rows"]) == 21
    first = view["rows"][0]["cells"]
    assert (first[0]["text"], first[0]["same"], first[1]["share"], first[1]["look"]) == ("0", True, "1.000", "on")
    assert view["rows"][-1]["cells"][-1]["text"] == ""
    assert confusion_view(tally([], names)) is None


def test_forty_classes_on_one_page(given: dict[str, Any], tmp_path: Path) -> None:
    names = [f"class {n}" for n in range(40)]
    given["worst"][0]["expected"] = {
        "size": [400, 1600], "regions": [there(name, 10, 40 * n, 30, 30) for n, name in enumerate(names)]
    }  # fmt: skip
    text = page_of(given, tmp_path)
    assert text.count("<li>") >= 40
    assert len(set(boxes.codes(names).values())) == 40


def test_marks_say_what_became_of_each_region() -> None:
    marks = marks_of(TRUTHS[0], STUDENT_SAYS[0])
    assert sorted(mark.state for mark in marks) == ["invented"] * 2 + ["missed"] * 3 + ["right"] * 3 + ["wrong"]
    [wrong] = [mark for mark in marks if mark.state == "wrong"]
    assert (wrong.label, wrong.tip) == ("table", "table, 90 % sure, overlap 0.96; it is figure")


def test_drawings_stay_on_the_page_and_escape_names() -> None:
    short = boxes.codes(LABELS)
    marks = [
        boxes.Mark(box, label, state, label)
        for box in ([0, 0, 5, 5], [595, 790, 5, 10], [0, 0, 600, 800], [10, 10, float("nan"), 5])
        for label in LABELS
        for state in boxes.SIGNS
    ]
    drawing = boxes.draw_page(SIZE, marks, short, "page-1", "data:,", '"<i>"')
    root = ElementTree.fromstring(drawing)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert (width, height) == (360, 480)
    outlines = [group for group in root.iter("g") if "region" in (group.get("class") or "")]
    assert len(outlines) == 3 * len(LABELS) * len(boxes.SIGNS)
    tags = [group.find("rect") for group in root.iter("g") if group.get("class") == "tag"]
    for tag in tags:
        assert tag is not None
        assert float(tag.get("x", -1)) >= 0
        assert float(tag.get("y", -1)) >= 0
        assert float(tag.get("x", 0)) + float(tag.get("width", 0)) <= width + 0.1
        assert float(tag.get("y", 0)) + float(tag.get("height", 0)) <= height + 0.1
    assert "<b>bold" not in drawing
    boxes.draw_page((0, 0), [], short, "", None, "")


def test_names_for_narrow_boxes_are_short_and_differ() -> None:
    names = ["text", "texture", "textile", "te", "t", "", "ß", "t0", "textbook", "<b>"]
    found = boxes.codes(names)
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    assert max(map(len, found.values())) <= 4


def test_letters_on_every_colour_are_legible() -> None:
    for ink in boxes.COLOURS:
        parts = [int(ink[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
        assert 1.05 / (light + 0.05) >= 4.5, ink  # WCAG's contrast with white


@pytest.mark.parametrize(
    ("teacher", "student", "warned"),
    [
        ((0.9, 0.72), (0.8, 0.38), True),
        ((0.9, 0.72), (0.8, 0.39), False),
        ((0.9, 0.72), (0.8, 0.0), True),
        ((0.9, 0.72), (0.0, 0.0), False),
        ((0.0, 0.0), (0.8, 0.1), False),
        ((None, 0.5), (0.8, 0.1), False),
        ((0.9, 0.72), (None, None), False),
        ((0.9, float("nan")), (0.8, 0.1), False),
    ],
)
def test_boxes_that_lie_loosely_are_warned_of(teacher: tuple[Any, Any], student: tuple[Any, Any], warned: bool) -> None:
    named = [dict(zip(("ap50", "ap75"), values, strict=True)) for values in (teacher, student)]
    assert (localisation_warning(*named) is not None) == warned


def test_the_warning_has_its_figures_and_stands_in_the_report_once(given: dict[str, Any], tmp_path: Path) -> None:
    given["rows"][1]["metrics"]["ap75"] = metric(0.1, 0.1)
    given["warnings"] = _loose(given["rows"], {"ap50": 0.72, "ap75": 0.648})
    says = "does not localise them: its AP75 is 16 % of its AP50, its teacher’s 90 %."
    assert page_of(given, tmp_path).replace("&#39;", "’").count(says) == 1


def test_the_primary_metric_has_a_name(given: dict[str, Any]) -> None:
    assert title_of("ap") == "average precision (AP)"
    assert verdict(given) == (
        "The student is no faster and no smaller on disk than its teacher and loses 10.0 points of average precision (AP); "
        "the same student without the teacher loses 22.0."
    )
    assert regions_view(given)["roles"] == ["teacher", "student", "control"]


def test_a_line_of_dots() -> None:
    assert dots([]) == ""
    root = ElementTree.fromstring(dots([("teacher", 0.5), ("student", 7.0)], label="<x>"))
    assert [mark.get("cx") for mark in root.iter("circle")] == ["162.0"]


def test_fates_are_read_from_the_evaluations(tmp_path: Path) -> None:
    found = documents(tmp_path, STUDENT_SAYS)
    (tmp_path / "documents.json").write_text(json.dumps([vars(one) for one in found]))
    [one] = fates([tmp_path], [{label: {} for label in LABELS}])
    assert one["labels"] == LABELS
    assert (one["regions"], one["right"], one["missed"]) == (9, 3, 5)
