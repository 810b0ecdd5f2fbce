"""How models stand on pages that get worse: curves against severity, on one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from docstill.files import write_text
from docstill.reporting.plots import Line, curves, key
from docstill.reporting.rows import title_of
from docstill.reporting.shift_tables import tables
from docstill.reporting.templates import templates

ROLES = ("student", "teacher", "control")
"""How the first models are drawn, in the order they were given: the one that is looked at, and those it is set against."""
SPAN = (0.0, 1.0)


def write_shift(result: Mapping[str, Any], path: Path) -> Path:
    """Writes the page atomically.

    Args:
        result: what `docstill evaluate --shift` gives.
        path: an HTML file.
    """
    environment = templates()
    models = result["shift"]["models"]
    metric = next(iter(next(iter(models.values()))["clean"]))
    page = environment.get_template("shift.html.j2").render(
        r=result,
        metric=title_of(metric),
        drops=[(name, f"{100 * model['drop']:.1f}") for name, model in models.items()],
        legend=[(key(role), name) for role, name in zip(ROLES, models, strict=False)],
        left_out=list(models)[len(ROLES) :],
        overall=[
            curves(lines, "severity", f"{title_of(name)}, %", percent=True) for name, lines in overall(models).items()
        ],
        panels=[
            (kind, curves(lines, "severity", f"{title_of(metric)}, %", percent=True, ys=SPAN, width=300, height=220))
            for kind, lines in by_corruption(models, metric).items()
        ],
        tables=tables(models),
    )
    write_text(path, page)
    return path


def overall(models: Mapping[str, Any]) -> dict[str, list[Line]]:
    """Of each metric a line a model: the mean over corruptions at each severity, clean pages at 0; none if not so shifted."""
    found: dict[str, list[Line]] = {}
    for role, (name, model) in zip(ROLES, models.items(), strict=False):
        for metric, clean in model["clean"].items():
            severities: dict[int, list[float]] = {}
            for row in model.get("rows", ()):
                severities.setdefault(row["severity"], []).append(row[metric])
            points = [(0.0, clean), *((float(level), mean(values)) for level, values in sorted(severities.items()))]
            if severities:
                found.setdefault(metric, []).append(Line(name, role, points))
    return found


def by_corruption(models: Mapping[str, Any], metric: str) -> dict[str, list[Line]]:
    """Of each corruption a line a model: the metric at each severity, clean pages at 0."""
    found: dict[str, list[Line]] = {}
    for role, (name, model) in zip(ROLES, models.items(), strict=False):
        points: dict[str, list[tuple[float, float]]] = {}
        for row in model.get("rows", ()):
            points.setdefault(row["corruption"], []).append((float(row["severity"]), row[metric]))
        for kind, line in points.items():
            found.setdefault(kind, []).append(Line(name, role, [(0.0, model["clean"][metric]), *sorted(line)]))
    return found
