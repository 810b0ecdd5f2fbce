"""How models stand on pages that get worse, as tables for the page and the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from docstill.reporting.rows import title_of

Table = tuple[list[str], list[list[str]]]
"""Headings and rows."""


def tables(models: Mapping[str, Any]) -> list[Table]:
    """Every metric against severity, then the primary one by corruption; or every metric on both kinds of pages.

    Args:
        models: what `docstill evaluate --shift` says of each; the metrics in the order of its figures, the primary one first.
    """
    first = next(iter(models.values()))
    metrics = list(first["clean"])
    if "rows" in first:
        return [_by_severity(models, metrics), _by_corruption(models, metrics[0])]
    figures = list(models.values())
    rows = [
        _row(f"{title_of(metric)}, {title}", (model[part][metric] for model in figures))
        for metric in metrics
        for part, title in (("clean", "clean"), ("shifted", "other pages"))
    ]
    rows.append(_row(f"{title_of(metrics[0])}, drop", (model["drop"] for model in figures)))
    return [(["metric", *models], rows)]


def _by_severity(models: Mapping[str, Any], metrics: Sequence[str]) -> Table:
    """Each metric on clean pages, and at each severity, mean over corruptions."""
    rows, figures = [], list(models.values())
    for metric in metrics:
        title = title_of(metric)
        rows.append(_row(f"{title}, clean", (model["clean"][metric] for model in figures)))
        for level in _values(figures[0], "severity"):
            means = (_mean_of(model["rows"], "severity", level, metric) for model in figures)
            rows.append(_row(f"{title}, severity {level}", means))
    return ["metric", *models], rows


def _by_corruption(models: Mapping[str, Any], metric: str) -> Table:
    """One metric on clean pages, and under each corruption, mean over severities."""
    figures = list(models.values())
    rows = [_row("clean", (model["clean"][metric] for model in figures))]
    for kind in _values(figures[0], "corruption"):
        rows.append(_row(kind, (_mean_of(model["rows"], "corruption", kind, metric) for model in figures)))
    rows.append(_row("mean", (model["mean"][metric] for model in figures)))
    rows.append(_row("drop", (model["drop"] for model in figures)))
    return [title_of(metric), *models], rows


def _values(model: Mapping[str, Any], key: str) -> list[Any]:
    """The severities, or the corruptions, in their order."""
    return list(dict.fromkeys(row[key] for row in model["rows"]))


def _row(title: str, values: Iterable[float]) -> list[str]:
    return [title, *(f"{value:.4f}" for value in values)]


def _mean_of(rows: Sequence[Mapping[str, Any]], key: str, value: Any, metric: str) -> float:
    """A metric's mean over the rows of one corruption, or of one severity."""
    return fmean(row[metric] for row in rows if row[key] == value)
