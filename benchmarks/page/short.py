"""What students keep of their teachers, and how much faster they are: a table for those who read no further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from page.detectors import DETECTORS, alone_of
from page.words import read, spread

from docstill.metrics.seeds import summary

BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->\n"
"""Between these the README holds the table."""


def in_short(folder: Path) -> str:
    """A line for each task and network: the teacher, the student, the same student alone, speed and weights.

    Args:
        folder: that of the benchmarks.
    """
    lines = [
        "| | teacher | student | no-KD twin | faster | million weights |",
        "|---|---|---|---|---|---|",
        of_run("kinds of pages, accuracy: ResNet-50 → a small ResNet-10", read(folder / "speed" / "results.json")),
        of_run("kinds of pages, accuracy: ResNet-18 → a quarter of it", read(folder / "doctype" / "results.json")),
        of_donut(read(folder / "kie" / "structural.json")),
        of_detectors("Faster R-CNN on ResNet-50 → half a ResNet-18", folder, "r50-r18", "narrow"),
        of_detectors("RT-DETRv2 → itself with half its channels", folder, "rt-detrv2-slim", "cut-heads"),
        of_detectors("RT-DETRv2 → a new one with half the channels", folder, "rt-detrv2-slim", "taught-first"),
    ]
    return "\n".join(lines) + "\n"


def of_run(name: str, results: dict[str, Any]) -> str:
    rows = {row["name"]: row for row in results["rows"]}
    scored = [spread(rows[who]["metrics"][results["primary_metric"]]) for who in ("teacher", "student", "no-kd")]
    both = [rows[who] for who in ("teacher", "student")]
    return line(name, scored, [row["latency_ms"]["p50"] for row in both], [row["params"]["total"] for row in both])


def of_donut(found: dict[str, Any]) -> str:
    alone = found.get("twins", [])
    scored = [
        f"{100 * found['teacher']['field_f1']:.1f}",
        *(
            spread(summary([seed["metrics"]["field_f1"] for seed in seeds])) if seeds else "–"
            for seeds in (found["seeds"], alone)
        ),
    ]
    timed = [found["speed"][who] for who in ("teacher", "student")]
    spent, weights = [one["latency_ms"]["document"]["p50"] for one in timed], [one["params"]["total"] for one in timed]
    return line("parcel labels to JSON, field F1: a small Donut → fewer layers and tokens", scored, spent, weights)


def of_detectors(name: str, folder: Path, pair: str, method: str) -> str:
    found = read(folder / "layout" / "small" / f"{pair}.json")
    ways, both = found["methods"], [found["speed"][who] for who in ("teacher", DETECTORS[pair][method])]
    scored = [
        spread(summary([seed["metrics"]["ap"] for seed in seeds])) for seeds in (ways[method], alone_of(ways, method))
    ]
    spent, weights = [one["latency_ms"]["p50"] for one in both], [one["params"]["total"] for one in both]
    teacher = f"{100 * found['teacher']['metrics']['ap']:.1f}"
    return line(f"regions of book pages, AP: {name}", [teacher, *scored], spent, weights)


def line(name: str, scored: list[str], spent: list[float], weights: list[float]) -> str:
    """``spent`` and ``weights``: the teacher's, the student's."""
    large, small = (f"{count / 1e6:.1f}" for count in weights)
    return f"| {name} | {' | '.join(scored)} | {spent[0] / spent[1]:.1f} × | {large} → {small} |"
