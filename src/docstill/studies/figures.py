"""What a study says of a cell: against its twin without a teacher, and how much of the way to the teacher it goes.

    over the twin        mean over seeds of student − twin, each pair from the same start
    knowledge gap closed (student − twin) / (teacher − twin), means over seeds

The second is not defined where the teacher is no better than the twin by more than the twin's own spread: a ratio to noise
says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from docstill.metrics.seeds import summary
from docstill.reporting.rows import ratio

Row = Mapping[str, Any]


def over_twin(student: Row, twin: Row, metric: str) -> dict[str, Any]:
    """Differences seed by seed, summed up."""
    pairs = zip(student["metrics"][metric]["values"], twin["metrics"][metric]["values"], strict=True)
    return summary([one - other for one, other in pairs])


def gap_closed(student: float, twin: float, teacher: float, noise: float | None) -> float | None:
    """The share of the way from twin to teacher that the student goes; None where there is no way to speak of.

    Args:
        student: its figure, higher is better.
        twin: the same network's without a teacher.
        teacher: the teacher's.
        noise: the twin's spread over seeds; None if unknown (one seed), then any gap counts.
    """
    gap = teacher - twin
    if not math.isfinite(gap) or gap <= max(noise or 0.0, 1e-12):
        return None
    return (student - twin) / gap


def line(results: Mapping[str, Any], twin_results: Mapping[str, Any] | None, metric: str) -> dict[str, Any]:
    """The figures of one finished cell.

    Args:
        results: the cell's ``results.json``.
        twin_results: that of the cell which holds its no-KD twin; None if it has none.
        metric: the primary metric.
    """
    rows = {row["role"]: row for row in results["rows"]}
    student, teacher = rows["student"], rows["teacher"]
    twin = None
    if twin_results is not None:
        twin = next((row for row in twin_results["rows"] if row["role"] == "control"), None)
    mean, best = student["metrics"][metric]["mean"], teacher["metrics"][metric]["mean"]
    found: dict[str, Any] = {
        "metrics": student["metrics"],
        "calibration": student.get("calibration"),
        "cost": _cost(student, results),
        "teacher_metric": best,
        "of_teacher": _of(teacher, results),
        "twin": None,
        "over_twin": None,
        "gap_closed": None,
        "params_share": student["params"]["total"] / teacher["params"]["total"],
        "nonzero_share": student["params"]["nonzero"] / teacher["params"]["nonzero"],
        "speed_up": ratio(_milliseconds(teacher), _milliseconds(student)),
    }
    if twin is not None:
        figures = twin["metrics"][metric]
        assert twin_results is not None
        beside = next(
            (row for row in twin_results["rows"] if row["role"] == "teacher"), teacher
        )  # timed in turns with it
        found["twin"] = {**_of(twin, twin_results), "speed_up": ratio(_milliseconds(beside), _milliseconds(twin))}
        found["over_twin"] = over_twin(student, twin, metric)
        found["gap_closed"] = gap_closed(mean, figures["mean"], best, figures["std"])
    return found


def _of(row: Row, results: Mapping[str, Any]) -> dict[str, Any]:
    """A row beside the student: what it scores, what a temperature does to it (None if none was asked for), what it takes."""
    return {"metrics": row["metrics"], "calibration": row.get("calibration"), "cost": _cost(row, results)}


def _cost(row: Row, results: Mapping[str, Any]) -> dict[str, Any]:
    """What a row takes, and how alike it is to its teacher; None for what was not measured."""
    alike = next((entry for entry in results.get("similarity", []) if entry["name"] == row["name"]), None)
    return {
        "nonzero_non_embedding": row["nonzero_non_embedding"],
        "bytes": row["bytes"],
        "ms": _milliseconds(row),
        "cka": None if alike is None else summary(alike["global"]),
    }


def _milliseconds(row: Row) -> float | None:
    times = row["latency_ms"]
    return float(times.get("document", times)["p50"])
