"""The report's part for layout: figures of each class, what became of the regions, and pages with their boxes drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from docstill.metrics.regions import SURE, compared, regions_of
from docstill.reporting import boxes
from docstill.reporting.alike import LEGIBLE, over_seeds
from docstill.reporting.documents import picture
from docstill.reporting.figures import number
from docstill.reporting.rows import Row, first_of, real
from docstill.reporting.strips import dots

MOST_CLASSES = 20
"""Classes in the table of confusions; of more, those with the most mistakes."""
LONGEST_NAME = 24
"""Characters of a class name where there is little room."""
ROLES = ("teacher", "student", "control")
CALLED = {"student": "the student", "control": "the same student without the teacher", "teacher": "the teacher"}
STATES = {
    "right": "a region, or one rightly found",
    "wrong": "wrong class; the name is what was said",
    "missed": "missed",
    "invented": "invented",
}


def regions_view(results: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of a layout run beside the figures that every task has."""
    rows, student = results["rows"], first_of(results["rows"], "student")
    labels = _labels(rows, results["worst"])
    short = boxes.codes(labels)
    pages = [page_view(document, short, f"page-{number}") for number, document in enumerate(results["worst"], 1)]
    classes = class_rows(rows)
    shown = {label for page in pages for label in page["labels"]}
    return {
        "classes": [entry for entry in classes if entry["count"]],
        "absent": [entry["label"] for entry in classes if not entry["count"]],
        "roles": [role for role in ROLES if first_of(rows, role) is not None],
        "summary": summary(rows),
        "confusion": None if student is None else confusion_view((student.get("regions") or [None])[0]),
        "confused": "" if student is None or not student["seeds"] else f"{student['name']}, seed {student['seeds'][0]}",
        "sure": f"{100 * SURE:.0f} %",
        "pages": pages,
        "states": [(boxes.sample(state, "ab"), text) for state, text in STATES.items()],
        "legend": [(boxes.swatch(place, short[label]), label) for place, label in enumerate(labels) if label in shown],
    }


def class_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """AP of each class by role, and how the student stands to the others; classes with the most regions first."""
    by_role = {role: _per_class(first_of(rows, role)) for role in ROLES}
    found = []
    for label in dict.fromkeys(label for seeds in by_role.values() for figures in seeds for label in figures):
        values = {role: [real((one.get(label) or {}).get("ap")) for one in seeds] for role, seeds in by_role.items()}
        counts = [one[label].get("count") for seeds in by_role.values() for one in seeds if label in one]
        means = {role: value for role in ROLES if (value := _mean(values[role])) is not None}
        marks = [(role, means[role]) for role in ("teacher", "control", "student") if role in means]
        words = ", ".join(f"{role} {100 * value:.1f}" for role, value in marks)
        found.append(
            {
                "label": label,
                "count": int(max((value for count in counts if (value := real(count)) is not None), default=0)),
                "figures": {role: over_seeds(values[role], 100, 1) for role in ROLES},
                "against": [_points(means, "student", role) for role in ("teacher", "control")],
                "dots": dots(marks, label=f"AP of {label}, %: {words}"),
            }
        )
    return sorted(found, key=lambda entry: -entry["count"])


def summary(rows: Sequence[Row]) -> str:
    """What became of the regions, for each model, as a sentence; empty text if that was not counted."""
    parts, regions, seeds = [], 0, 1
    for role in ("student", "control", "teacher"):
        found = (first_of(rows, role) or {}).get("regions") or []
        if not found:
            continue
        missed, wrong, invented = (_count([one[name] for one in found]) for name in ("missed", "wrong", "invented"))
        parts.append(f"{CALLED[role]} misses {missed}, takes {wrong} for another class and invents {invented}")
        regions, seeds = found[0]["regions"], max(seeds, len(found))
    if not parts:
        return ""
    over = " Of a model with several seeds, these are means." if seeds > 1 else ""
    there = "There is 1 region" if regions == 1 else f"There are {regions:,} regions"
    return f"{there} on the validation pages: {'; '.join(parts)}.{over}"


def confusion_view(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The counts of `docstill.metrics.regions.tally` as a table: ink is the share of the row. None if all are 0."""
    if found is None or not any(map(any, found["counts"])):
        return None
    labels, counts = found["labels"], found["counts"]
    every = range(len(labels))
    mistakes = [sum(counts[n]) + sum(row[n] for row in counts) - 2 * counts[n][n] for n in every]
    used = [n for n in every if any(counts[n]) or any(row[n] for row in counts)]
    kept = sorted(sorted(used, key=lambda n: -mistakes[n])[:MOST_CLASSES])
    places = [*kept, len(labels)]
    return {
        "columns": [(_cut(labels[n]), labels[n]) for n in kept],
        "rows": [
            {
                "name": _cut(labels[n]) if n < len(labels) else "invented",
                "title": labels[n] if n < len(labels) else "nothing is there",
                "cells": [
                    {
                        "text": "" if n == column == len(labels) else f"{counts[n][column]:,}",
                        "share": f"{(share := counts[n][column] / (sum(counts[n]) or 1)):.3f}",
                        "look": "none" if not counts[n][column] else "on" if share > LEGIBLE else "off",
                        "same": n == column < len(labels),
                    }
                    for column in places
                ],
            }
            for n in places
        ],
        "left_out": len(used) - len(kept),
    }


def page_view(document: Row, short: Mapping[str, str], name: str) -> dict[str, Any]:
    """A page as it is, as the student sees it, as the teacher sees it; the picture is embedded once.

    Args:
        document: one of ``results["worst"]``.
        short: the classes, each with a name for narrow boxes.
        name: an id for the picture.
    """
    expected = document["expected"] or {}
    truths = regions_of(expected)
    size = expected.get("size") or (1, 1)
    page = picture(document["image"])
    panels: list[dict[str, str]] = []
    seen = {region["label"] for region in truths}
    for title, answer in (("Truth", None), ("Student", document["student"]), ("Teacher", document["teacher"])):
        if title == "Truth":
            marks = [boxes.Mark(region["box"], region["label"], "right", region["label"]) for region in truths]
            text = _counted(len(truths), "region")
        elif title == "Teacher" and answer is None:
            continue
        else:
            marks = marks_of(truths, regions_of(answer))
            text = _fates(marks)
            seen |= {mark.label for mark in marks}
        first = not panels
        embedded = page if first or page is None else f"#{name}"
        words = f"{document['file']}, {title}: {text}"
        drawing = boxes.draw_page(size, marks, short, name if first else "", embedded, words)
        panels.append({"title": title, "text": text, "drawing": drawing})
    return {
        "file": document["file"], "score": document["score"], "panels": panels, "blank": page is None, "labels": seen
    }  # fmt: skip


def marks_of(truths: Sequence[Mapping[str, Any]], predictions: Sequence[Mapping[str, Any]]) -> list[boxes.Mark]:
    """What became of the regions of a page, to be drawn: surest first, then what was missed."""
    matches, missed, invented = compared(truths, predictions)
    marks = []
    for match in matches:
        there, seen = truths[match.truth], predictions[match.prediction]
        right = there["label"] == seen["label"]
        tip = f"{_said(seen)}, overlap {match.iou:.2f}" + ("" if right else f"; it is {there['label']}")
        marks.append(boxes.Mark(seen["box"], seen["label"], "right" if right else "wrong", tip))
    marks += [
        boxes.Mark(predictions[n]["box"], predictions[n]["label"], "invented", f"invented: {_said(predictions[n])}")
        for n in invented
    ]
    return marks + [
        boxes.Mark(truths[n]["box"], truths[n]["label"], "missed", f"missed: {truths[n]['label']}") for n in missed
    ]


def _labels(rows: Sequence[Row], worst: Sequence[Row]) -> list[str]:
    """All class names, in the order of their indices as far as that is known."""
    found = [label for row in rows for figures in _per_class(row) for label in figures]
    for document in worst:
        for side in ("expected", "student", "teacher"):
            found += [region["label"] for region in regions_of(document[side])]
    return list(dict.fromkeys(found))


def _per_class(row: Row | None) -> list[Mapping[str, Any]]:
    return list((row or {}).get("per_class") or [])


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None


def _points(means: Mapping[str, float], one: str, other: str) -> str:
    if one not in means or other not in means:
        return "–"
    return f"{100 * (means[one] - means[other]):+.1f}".replace("-", "−")


def _count(values: Sequence[int]) -> str:
    """A count, or the mean of several, without a digit behind the point that says nothing."""
    average = mean(values)
    return number(average, 0 if average == int(average) else 1)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _counted(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _said(region: Mapping[str, Any]) -> str:
    return f"{region['label']}, {100 * region['score']:.0f} % sure"


def _fates(marks: Sequence[boxes.Mark]) -> str:
    states = [mark.state for mark in marks]
    words = {"right": "right", "wrong": "wrong class", "missed": "missed", "invented": "invented"}
    return (
        ", ".join(f"{states.count(state)} {word}" for state, word in words.items() if state in states) or "no regions"
    )
