"""What a study says of a cell, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from docstill.metrics.seeds import summary
from docstill.reporting.study import _pair
from docstill.studies.figures import gap_closed, line, over_twin


def row(role: str, values: list[float], total: int = 100, p50: float = 10.0) -> dict[str, object]:
    figures = {"total": total, "non_embedding": total, "nonzero": total // 2}
    return {
        "name": role,
        "role": role,
        "metrics": {"accuracy": summary(values)},
        "params": figures,
        "nonzero_non_embedding": total // 2,
        "bytes": 4 * total,
        "latency_ms": {"p50": p50},
    }


def test_gap_closed_by_hand() -> None:
    assert gap_closed(0.86, 0.80, 0.90, 0.01) == pytest.approx(0.6)
    assert gap_closed(0.78, 0.80, 0.90, 0.01) == pytest.approx(-0.2)
    assert gap_closed(0.95, 0.80, 0.90, None) == pytest.approx(1.5)


@pytest.mark.parametrize(("teacher", "noise"), [(0.80, None), (0.79, 0.0), (0.81, 0.02), (math.nan, 0.01)])
def test_no_gap_is_closed_where_there_is_none(teacher: float, noise: float | None) -> None:
    assert gap_closed(0.86, 0.80, teacher, noise) is None


def test_differences_are_taken_seed_by_seed() -> None:
    found = over_twin(row("student", [0.9, 0.8]), row("control", [0.7, 0.7]), "accuracy")
    assert found["values"] == pytest.approx([0.2, 0.1])
    assert found["mean"] == pytest.approx(0.15)
    assert found["std"] == pytest.approx(0.1 / math.sqrt(2))


def test_a_cell_with_its_twin_in_another_cell() -> None:
    teacher, student = row("teacher", [0.9], 400, 40.0), row("student", [0.85, 0.87])
    other = {"rows": [teacher, row("student", [0.1, 0.1]), row("control", [0.80, 0.82])]}
    alike = [{"name": "student", "global": [0.8, 0.9]}]
    found = line({"rows": [teacher, student], "similarity": alike}, other, "accuracy")
    assert found["cost"]["cka"]["mean"] == pytest.approx(0.85)
    assert found["twin"]["cost"] == {"nonzero_non_embedding": 50, "bytes": 400, "ms": 10.0, "cka": None}
    assert found["of_teacher"]["cost"]["ms"] == 40.0
    assert found["over_twin"]["mean"] == pytest.approx(0.05)
    assert found["gap_closed"] == pytest.approx(0.05 / 0.09)
    assert found["params_share"] == 0.25
    assert found["speed_up"] == pytest.approx(4.0)
    assert found["calibration"] is None
    alone = line({"rows": [teacher, student]}, None, "accuracy")
    assert (alone["twin"], alone["over_twin"], alone["gap_closed"]) == (None, None, None)


def test_twins_that_score_alike_and_are_not_alike_have_a_row_each() -> None:
    def done(method: str, weights: int, milliseconds: float) -> dict[str, Any]:
        cost = {"nonzero_non_embedding": weights, "bytes": 4 * weights, "ms": milliseconds, "cka": None}
        metrics = {"accuracy": {"mean": 0.0, "std": None, "values": [0.0]}}
        shared = {"metrics": metrics, "calibration": None}
        return {
            **{"teacher": "t", "student": "s", "method": method, "run": method, "state": "done", "seconds": 3.0},
            **{"cost": {**cost, "ms": 5.0}, "speed_up": 2.0, "over_twin": None, "gap_closed": None, **shared},
            "twin": {"cost": cost, "speed_up": 20 / milliseconds, **shared},
            "of_teacher": {"cost": {**cost, "ms": 10.0}, **shared},
            "teacher_metric": 0.0,
        }

    found = _pair(("t", "s"), [done("kd", 10, 5.0), done("pruned", 5, 2.0)], "accuracy", [])
    rows = {row[0]: row for row in found["rows"]}
    assert list(rows) == ["teacher", "no-KD", "no-KD of pruned", "kd", "pruned"]
    assert (rows["no-KD"][7], rows["no-KD of pruned"][7]) == ("4.0 ×", "10.0 ×")
