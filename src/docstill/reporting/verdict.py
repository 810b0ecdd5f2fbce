"""The report's first sentence, from the numbers: what was gained, what it cost, and whether the teacher helped."""

from __future__ import annotations

import math
from typing import Any

NAMES = {"accuracy": "accuracy", "field_f1": "field F1", "ted_accuracy": "TED accuracy"}
SPREADS = 1.0
"""A difference of means counts if it is larger than this many times the larger spread."""


def row_of(results: dict[str, Any], role: str) -> dict[str, Any] | None:
    """The first row with that role."""
    return next((row for row in results["rows"] if row["role"] == role), None)


def page_latency(row: dict[str, Any]) -> float | None:
    """Median milliseconds a page."""
    latency = row.get("latency_ms") or {}
    value = latency.get("document", latency).get("p50")
    return float(value) if value else None


def verdict(results: dict[str, Any]) -> str:
    """One or two sentences; says so when the student is slower, or when the teacher did not help."""
    metric = results["primary_metric"]
    student, teacher, control = (row_of(results, role) for role in ("student", "teacher", "control"))
    if student is None:
        return "This run has no student yet."
    if teacher is None:
        text = f"The student reaches {_figure(student, metric):.1%} {NAMES.get(metric, metric)}"
    else:
        text = f"The student {_speed(student, teacher)}{_size(student, teacher)}, and {_cost(student, teacher, metric)}"
    return f"{text}{_control(student, control, teacher, metric)}."


def _figure(row: dict[str, Any], metric: str) -> float:
    value = row["metrics"].get(metric, {}).get("mean")
    return float(value) if value is not None else math.nan


def _speed(student: dict[str, Any], teacher: dict[str, Any]) -> str:
    mine, theirs = page_latency(student), page_latency(teacher)
    if mine is None or theirs is None:
        return "was not timed"
    ratio = theirs / mine
    if ratio >= 1.05:
        return f"is {ratio:.1f} × faster"
    return "is as fast as its teacher" if ratio > 0.95 else f"is {1 / ratio:.1f} × slower than its teacher"


def _size(student: dict[str, Any], teacher: dict[str, Any]) -> str:
    ratio = teacher["params"]["total"] / student["params"]["total"]
    if ratio >= 1.05:
        return f", has {ratio:.1f} × fewer parameters than its teacher"
    zero = 1 - student["params"]["nonzero"] / student["params"]["total"]
    return f", has as many parameters ({zero:.0%} of them zero)" if zero > 0.01 else ", has as many parameters"


def _cost(student: dict[str, Any], teacher: dict[str, Any], metric: str) -> str:
    lost = (_figure(teacher, metric) - _figure(student, metric)) * 100
    name = NAMES.get(metric, metric)
    if math.isnan(lost):
        return f"its {name} is not known"
    if abs(lost) < 0.05:
        return f"keeps its teacher's {name}"
    return f"{'loses' if lost > 0 else 'gains'} {abs(lost):.1f} points of {name}"


def _control(student: dict[str, Any], control: dict[str, Any] | None, teacher: dict[str, Any] | None, metric: str) -> str:
    if control is None:
        return ""
    gain = (_figure(student, metric) - _figure(control, metric)) * 100
    if math.isnan(gain):
        return ""
    spread = max((row["metrics"][metric].get("std") or 0.0) * 100 for row in (student, control))
    single = all(len(row.get("seeds", [])) < 2 for row in (student, control))
    if abs(gain) < 0.05:
        return "; the same student without a teacher does as well: distillation did not help"
    if single:
        return f"; the same student without a teacher stands {abs(gain):.1f} points {'lower' if gain >= 0 else 'higher'} (one seed: this may be chance)"
    if abs(gain) <= SPREADS * spread:
        return f"; the same student without a teacher is within the spread ({gain:+.1f} points, ± {spread:.1f}): distillation did not clearly help"
    if gain < 0:
        return f"; the same student without a teacher is better by {-gain:.1f} points: distillation did not help"
    return f"; the same student without a teacher stands {gain:.1f} points lower (± {spread:.1f})"
