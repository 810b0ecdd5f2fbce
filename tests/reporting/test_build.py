"""The report page: what it says, that it is whole, and that nothing from outside gets through unescaped."""

from __future__ import annotations

import base64
import copy
import io
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from docstill.reporting.build import write_report
from docstill.reporting.documents import field_rows
from docstill.reporting.verdict import verdict

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Balance(HTMLParser):
    """Keeps the open tags, what closed wrongly, the attributes that could fetch something, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "srcset", "xlink:href", "action", "data", "poster"}
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def metric(*values: float) -> dict[str, Any]:
    mean = sum(values) / len(values)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)) if len(values) > 1 else None
    return {"mean": mean, "std": std, "values": list(values)}


def row(
    name: str, role: str, values: tuple[float, ...], size: int = 4_000_000, p50: float | None = 10.0
) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "seeds": list(range(len(values))),
        "metrics": {"accuracy": metric(*values), "ece": metric(*(0.05 for _ in values))},
        "params": {"total": size // 4, "non_embedding": size // 4, "nonzero": size // 8},
        "flops": 1_000_000,
        "bytes": size,
        "latency_ms": None if p50 is None else {"p50": p50, "p95": p50 * 1.5},
        "peak_memory_mb": 100.0,
        "runtime": "torch",
        "precision": "fp32",
        "threads": 2,
    }


def results(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "docstill": "0.1.0",
        "name": "pages",
        "task": "classification",
        "command": "docstill compress pages.yaml --run runs/pages",
        "created": "2026-11-21T00:05:58+00:00",
        "hardware": {"cpu": "a CPU", "threads": 2, "flags": ["avx2"], "gpu": None},
        "recipe": "task: classification\n",
        "primary_metric": "accuracy",
        "data": {"train": {"path": "train", "n": 1200}, "validation": {"path": "validation", "n": 300}},
        "seconds": 400.0,
        "stages": [{"name": "distill", "text": "Trained for 3 epochs.", "seconds": 12.3}],
        "rows": list(rows),
        "latency_note": "One page at a time.",
        "curves": [],
        "worst": [],
        "warnings": [],
        **changes,
    }


TEACHER = row("teacher", "teacher", (0.95,), 32_000_000, 32.0)
STUDENT = row("student", "student", (0.937, 0.941, 0.945))
CONTROL = row("no-kd", "control", (0.924, 0.926, 0.928))


def full(tmp_path: Path) -> dict[str, Any]:
    picture = tmp_path / "page.png"
    Image.new("RGB", (1200, 1800), "white").save(picture)
    curves = [
        {
            "name": name,
            "seed": seed,
            "stage": "distill",
            "points": [
                {
                    "step": step,
                    "epoch": step / 10,
                    "loss": 2 / step,
                    **({"validation": {"accuracy": 0.9}} if step % 10 == 0 else {}),
                }
                for step in range(1, 400)
            ],
        }
        for name in ("student", "no-kd")
        for seed in range(3)
    ]
    worst = [
        {
            "file": "receipt/1.jpg",
            "image": str(picture),
            "expected": "receipt",
            "student": {"label": "letter", "probability": 0.97},
            "teacher": {"label": "receipt", "probability": 0.6},
            "score": 0.01,
        }
    ]
    return results(
        *copy.deepcopy([TEACHER, STUDENT, CONTROL]), curves=curves, worst=worst, warnings=["The machine was busy."]
    )


def read(given: dict[str, Any], run: Path) -> tuple[str, Balance]:
    page = write_report(given, run).read_text(encoding="utf-8")
    parser = Balance()
    parser.feed(page)
    parser.close()
    assert parser.wrong == []
    assert parser.open == []
    assert [link for link in parser.links if not link.startswith("data:image/jpeg;base64,")] == []
    assert "url(" not in page
    assert "@import" not in page
    assert "script" not in parser.tags
    return page, parser


def test_full_report_is_whole_and_says_the_figures(tmp_path: Path) -> None:
    run = tmp_path / "run"
    page, parser = read(full(tmp_path), run)
    for text in (
        "94.1",
        "± 0.4",
        "3 seeds",
        "1 seed, spread unknown",
        "−0.9",
        "3.2 × faster",
        "8.0 × smaller",
        "50 % of total",
    ):
        assert text in parser.text, text
    for text in (
        "The machine was busy.",
        "Sparsity is not speed",
        "97 % sure",
        "docstill compress pages.yaml",
        "avx2",
        "task: classification",
    ):
        assert text in parser.text, text
    assert "21 November 2026, 00:05 UTC" in parser.text
    assert page.count('class="curve student"') == 2 * 3 + 1  # loss and metric for each seed, and the legend
    assert [path.name for path in run.iterdir()] == ["report.html"]


def test_picture_is_embedded_and_small(tmp_path: Path) -> None:
    page, _ = read(full(tmp_path), tmp_path)
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(found) == 1
    with Image.open(io.BytesIO(base64.b64decode(found[0]))) as image:
        assert image.size == (600, 900)


@pytest.mark.parametrize("image", [None, "missing.png", "broken.png"])
def test_picture_that_cannot_be_shown(tmp_path: Path, image: str | None) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but no more")
    given = full(tmp_path)
    given["worst"][0]["image"] = None if image is None else str(tmp_path / image)
    page, parser = read(given, tmp_path)
    assert "data:image" not in page
    assert "The picture cannot be shown" in parser.text


HOSTILE = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>&{{ 7 * 7 }}"


def poison(value: Any) -> Any:
    """The same structure with every free text made hostile; words of the contract stay."""
    if isinstance(value, dict):
        return {
            key: item if key in {"role", "primary_metric", "image"} else poison(item) for key, item in value.items()
        }
    if isinstance(value, list):
        return [poison(item) for item in value]
    return value + HOSTILE if isinstance(value, str) else value


def test_hostile_text_everywhere_is_shown_not_run(tmp_path: Path) -> None:
    given = poison(full(tmp_path))
    given["rows"][1]["note"] = HOSTILE
    given["rows"][1]["metrics"][HOSTILE] = metric(0.5)
    given["rows"][1]["sparsity"] = [{"of": HOSTILE, "zero": 1, "total": 2}]
    given["hardware"][HOSTILE] = HOSTILE
    given["worst"][0] |= {
        "expected": {HOSTILE: HOSTILE},
        "student": {HOSTILE: HOSTILE + "x", "y": [HOSTILE]},
        "teacher": HOSTILE,
    }
    page, parser = read(given, tmp_path)
    assert "<script>" not in page
    assert "<img src=x" not in page
    assert parser.tags.count("img") == 1
    assert parser.text.count("<script>alert(1)</script>") > 15
    assert "{{ 7 * 7 }}" in parser.text


def test_lone_surrogate_does_not_cost_the_report(tmp_path: Path) -> None:
    given = full(tmp_path)
    given["worst"][0]["file"] = "caf\udce9.jpg"
    read(given, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rows": []}, "No model was measured."),
        ({"curves": []}, "Nothing was trained in this run."),
        (
            {"curves": [{"name": "student", "seed": 0, "stage": "distill", "points": []}]},
            "Nothing was trained in this run.",
        ),
        ({"worst": []}, "No documents were kept to show."),
        ({"stages": []}, "No stage was run."),
        ({"command": ""}, "The command was not recorded."),
        ({"recipe": ""}, "The recipe was not recorded."),
        ({"rows": [row("student", "student", (0.9,), p50=None)]}, "No model has both a figure and a latency"),
    ],
)
def test_empty_states(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    _, parser = read({**full(tmp_path), **change}, tmp_path)
    assert says in parser.text


def test_everything_empty(tmp_path: Path) -> None:
    given = results(
        stages=[], hardware={}, command="", recipe="", latency_note="", seconds=math.nan, created="yesterday"
    )
    _, parser = read(given, tmp_path)
    assert "yesterday" in parser.text
    assert "The run took" not in parser.text


def test_unknown_numbers_are_a_dash(tmp_path: Path) -> None:
    given = full(tmp_path)
    student = copy.deepcopy(STUDENT)
    student["metrics"] = {"accuracy": {"mean": math.nan, "std": math.nan, "values": [math.nan]}, "ece": None}
    student |= {"flops": None, "bytes": None, "peak_memory_mb": None, "latency_ms": {"p50": math.inf, "p95": None}}
    student["params"] = {"total": 10, "non_embedding": None, "nonzero": None}
    given["rows"][1] = student
    given["worst"][0]["score"] = math.nan
    given["curves"][0]["points"][5] |= {"loss": math.nan, "validation": {"accuracy": math.nan}}
    given["curves"][1]["points"][5] |= {"loss": None, "validation": None}
    page, parser = read(given, tmp_path)
    assert not re.search(r"\b(nan|inf|None|undefined)\b", parser.text, re.IGNORECASE)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"]*", "", page), re.IGNORECASE)
    assert "score –" in parser.text


def test_kie_shows_where_the_time_goes_and_what_differs(tmp_path: Path) -> None:
    given = full(tmp_path)
    given["task"] = "kie"
    for one in given["rows"]:
        one["latency_ms"] = {
            "encoder": {"p50": 61.5, "p95": 65.0},
            "per_token": {"p50": 2.1, "p95": 2.9},
            "document": {"p50": 180.0, "p95": 312.0},
        }
    given["worst"][0] |= {
        "expected": {"total": "24.30", "date": "2018", "shop": "A"},
        "student": {"total": "24.80", "tax": "1.40", "shop": "A"},
        "teacher": None,
    }
    page, parser = read(given, tmp_path)
    assert "writing ahead" not in parser.text
    _, parser = read({**given, "drafted": {"latency_ms": {"p50": 181.0, "p95": 311.0, "n": 20}}}, tmp_path)
    assert "writing ahead" not in parser.text, "nothing is gained"
    page, parser = read({**given, "drafted": {"latency_ms": {"p50": 90.0, "p95": 111.0, "n": 20}}}, tmp_path)
    assert "the teacher takes 90.0 ms a page (p50), 2.0 × faster than alone" in parser.text
    assert "Where the time goes" in parser.text
    assert "61.5" in parser.text
    assert "24.<mark>8</mark>0" in page
    assert "<mark>1.40</mark> <em>extra</em>" in page
    assert page.count("<em>missing</em>") == 1
    assert '<th scope="col">Teacher</th>' not in page


def test_rows_of_a_list_stay_in_step_when_one_is_left_out() -> None:
    wanted = {
        "menu": [{"nm": "TEA", "price": "4.40"}, {"nm": "RICE", "price": "12.90"}, {"nm": "BREAD", "price": "4.50"}]
    }
    got = {"menu": [{"nm": "RICE", "price": "12.90"}, {"nm": "BREAD", "price": "4.50"}]}
    assert field_rows([wanted, got, None]) == [
        ("menu 1 › nm", ["TEA", None, None]),
        ("menu 1 › price", ["4.40", None, None]),
        ("menu 2 › nm", ["RICE", "RICE", None]),
        ("menu 2 › price", ["12.90", "12.90", None]),
        ("menu 3 › nm", ["BREAD", "BREAD", None]),
        ("menu 3 › price", ["4.50", "4.50", None]),
    ]


def test_a_row_that_nobody_asked_for_is_extra_and_a_lone_row_needs_no_list() -> None:
    assert field_rows([["a"], ["a", "b"], "a"]) == [("1", ["a", "a", "a"]), ("extra 1", [None, "b", None])]
    assert field_rows([{"m": {"x": "1"}}, {"m": [{"x": "1"}]}]) == [("m 1 › x", ["1", "1"])]
    assert field_rows([{}, None, []]) == []
    assert field_rows([{"a": {"b": 1}}, {"a": "text"}]) == [("a", [None, "text"]), ("a › b", ["1", None])]


def test_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").write_text("old")

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(Exception, match="disk is full"):
        write_report(results(), tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("student", "control", "sentence"),
    [
        (
            STUDENT,
            CONTROL,
            "The student is 3.2 × faster and 8.0 × smaller on disk than its teacher and loses 0.9 points of accuracy; "
            "the same student without the teacher loses 2.4.",
        ),
        (
            row("student", "student", (0.955, 0.957, 0.959), 32_000_000, 40.0),
            CONTROL,
            "The student is 1.2 × slower and no smaller on disk than its teacher and gains 0.7 points of accuracy; "
            "the same student without the teacher loses 2.4.",
        ),
        (
            row("student", "student", (0.94, 0.946, 0.961), 8_000_000, 64.0),
            row("no-kd", "control", (0.94, 0.945, 0.95)),
            "The student is 2.0 × slower but 4.0 × smaller on disk than its teacher and loses 0.1 points of accuracy, "
            "which is within the spread over seeds; the same student without the teacher loses 0.5, "
            "a difference within the spread over seeds: it is not shown that distillation helped.",
        ),
        (
            STUDENT,
            row("no-kd", "control", (0.96, 0.961, 0.962)),
            "The student is 3.2 × faster and 8.0 × smaller on disk than its teacher and loses 0.9 points of accuracy; "
            "the same student without the teacher gains 1.1, so distillation did not help.",
        ),
        (
            row("student", "student", (0.95,), 4_000_000, 32.0),
            row("no-kd", "control", (0.93,)),
            "The student is no faster but 8.0 × smaller on disk than its teacher and keeps its teacher's accuracy; "
            "the same student without the teacher loses 2.0 (1 seed, spread unknown: the difference may be chance).",
        ),
        (
            row("student", "student", (0.94,), p50=None),
            None,
            "The student is 8.0 × smaller on disk than its teacher (its latency was not measured) and loses 1.0 points of accuracy; "
            "the same student was not trained without the teacher, so what distillation adds is not known.",
        ),
    ],
    ids=["helps", "slower and better", "within the spread", "does not help", "one seed", "no control, no latency"],
)
def test_verdict(student: dict[str, Any], control: dict[str, Any] | None, sentence: str) -> None:
    assert verdict(results(TEACHER, student, *([control] if control else []))) == sentence


def test_verdict_without_teacher_student_or_score() -> None:
    assert verdict(results(TEACHER)) == "This run has no student to judge yet."
    alone = verdict(results(STUDENT, stages=[]))
    assert alone == "The student reaches 94.1 % accuracy, with no teacher beside it to compare with."
    unscored = copy.deepcopy(STUDENT)
    unscored["metrics"] = {"accuracy": {"mean": math.nan, "std": None, "values": []}}
    assert "what it costs in accuracy is not known" in verdict(results(TEACHER, unscored, CONTROL))
    assert "not known" in verdict(results(TEACHER, unscored, CONTROL)).split(";")[1]


def test_no_torch() -> None:
    code = "import sys, docstill.reporting.build; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_can_be_accepted_unseen_stands_in_the_page(tmp_path: Path) -> None:
    run = results(row("teacher", "teacher", (0.9,)), row("student", "student", (0.8,)))
    shares = {"0.01": {"share": 0.25, "above": 0.99}, "0.05": {"share": 0.875, "above": 0.8}}
    good = {"n": 40, "right": 0.9, "ece": 0.012, "ece_floor": 0.01, "auroc_failure": 0.93, "accepted": shares}
    known = {
        "calibrated": True,
        "fields": {**good, "reliability": [[0.5, 0.4, 20], [0.9, 0.95, 20]]},
        "documents": good,
    }
    run["rows"][0]["confidence"] = [known]
    run["rows"][1]["confidence"] = [{"calibrated": False, "fields": {"n": 0}, "documents": {**good}}]
    text = write_report(run, tmp_path).read_text(encoding="utf-8")
    page = Balance()
    page.feed(text)
    assert not page.open
    assert not page.wrong
    assert "What can be accepted unseen" in page.text
    assert "87.5" in page.text
    assert "0.930" in page.text
    assert text.count("right, % over confidence") == 1
    del run["rows"][0]["confidence"], run["rows"][1]["confidence"]
    assert "accepted unseen" not in write_report(run, tmp_path).read_text(encoding="utf-8")
