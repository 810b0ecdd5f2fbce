"""`report.html`: one self-contained page from a run's results. What it shows, and how, is in `template.html.j2`."""

from __future__ import annotations

import base64
import io
import json
import math
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from docstill.data.images import open_image
from docstill.errors import UserError
from docstill.reporting import plots
from docstill.reporting.verdict import NAMES, page_latency, row_of, verdict

NAME = "report.html"
LONG_SIDE = 900
LOWER_IS_BETTER = frozenset({"nll", "brier", "ece", "ece_floor", "aurc", "e_aurc", "augrc"})


def write_report(results: dict[str, Any], run: Path) -> Path:
    """Writes ``run/report.html`` atomically.

    Args:
        results: the content of `results.json`; its schema is in `docs/results.md`.
        run: the run folder.

    Returns:
        The page's path.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"count": _count, "bytes": _bytes, "number": _number, "pretty": _pretty, "share": _share, "duration": _duration}
    page = environment.get_template("template.html.j2").render(
        r=results,
        verdict=verdict(results),
        metric=results["primary_metric"],
        names=NAMES,
        other_metrics=_other_metrics(results),
        latency=page_latency,
        teacher=row_of(results, "teacher"),
        trade_off=_trade_off(results),
        curve_plots=_curves(results),
        worst=[{**document, "picture": _picture(document["image"]), "rows": _compare(document)} for document in results["worst"]],
        lower_is_better=LOWER_IS_BETTER,
    )
    run.mkdir(parents=True, exist_ok=True)
    scratch = run / f".{NAME}.partial"
    scratch.write_text(page, encoding="utf-8")
    os.replace(scratch, run / NAME)
    return run / NAME


def _other_metrics(results: dict[str, Any]) -> list[str]:
    names = dict.fromkeys(name for row in results["rows"] for name in row["metrics"])
    return [name for name in names if name != results["primary_metric"]]


def _trade_off(results: dict[str, Any]) -> str:
    metric, points = results["primary_metric"], []
    for row in results["rows"]:
        figure, latency = row["metrics"].get(metric) or {}, page_latency(row)
        if latency is not None and figure.get("mean") is not None:
            points.append(plots.Point(latency, figure["mean"], figure.get("std"), row["name"], row["role"]))
    return plots.trade_off(points, "milliseconds a page (median, logarithmic)", NAMES.get(metric, metric))


def _curves(results: dict[str, Any]) -> list[dict[str, str]]:
    metric = results["primary_metric"]
    roles = {row["name"]: row["role"] for row in results["rows"]}
    loss, figure = [], []
    for curve in results["curves"]:
        name, role = f"{curve['name']}, seed {curve['seed']}, {curve['stage']}", roles.get(curve["name"], "control")
        loss.append(plots.Line(name, role, _smooth([(point["epoch"], point["loss"]) for point in curve["points"]])))
        checked = [(point["epoch"], point["validation"][metric]) for point in curve["points"] if metric in point.get("validation", {})]
        figure.append(plots.Line(name, role, checked))
    made = [
        {"title": "Loss", "svg": plots.curves(loss, "epoch", "loss", log=True)},
        {"title": f"{NAMES.get(metric, metric).capitalize()} on the validation split", "svg": plots.curves(figure, "epoch", NAMES.get(metric, metric))},
    ]
    return [plot for plot in made if plot["svg"]]


def _smooth(points: list[tuple[float, float]], most: int = 150) -> list[tuple[float, float]]:
    """Means of neighbouring points, so that a long curve stays legible and light."""
    size = math.ceil(len(points) / most) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _picture(path: str | None) -> str | None:
    """The page as a data URI, or None where it cannot be shown."""
    if path is None:
        return None
    try:
        image = open_image(Path(path))
    except UserError:
        return None
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _compare(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of (field, expected, student, teacher) and whether the student is right; one row for a plain answer."""
    sides = {side: _flat(document[side]) for side in ("expected", "student", "teacher")}
    if not isinstance(document["expected"], dict):
        answer = document["student"].get("label") if isinstance(document["student"], dict) else document["student"]
        values = {side: _pretty(document[side]) for side in sides}
        return [{"field": "", **values, "right": answer == document["expected"]}]
    fields = dict.fromkeys([*sides["expected"], *sides["student"]])
    return [
        {"field": field, **{side: sides[side].get(field) for side in sides}, "right": sides["expected"].get(field) == sides["student"].get(field)}
        for field in fields
    ]


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        return {key: leaf for name, child in value.items() for key, leaf in _flat(child, f"{path}.{name}" if path else str(name)).items()}
    if isinstance(value, list):
        return {key: leaf for index, child in enumerate(value, 1) for key, leaf in _flat(child, f"{path}[{index}]").items()}
    return {} if value is None else {path: str(value)}


def _pretty(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict) and set(value) == {"label", "probability"}:
        return f"{value['label']} ({value['probability']:.0%} sure)"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any, digits: int = 3) -> str:
    return "–" if _missing(value) else f"{value:.{digits}f}"


def _share(value: Any) -> str:
    return "–" if _missing(value) else f"{value * 100:.1f}"


def _count(value: Any) -> str:
    """1,234 or 12.3 M or 4.56 G."""
    if _missing(value):
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:,.0f}"


def _bytes(value: Any) -> str:
    return "–" if _missing(value) else f"{value / 1e6:.1f} MB"


def _duration(seconds: Any) -> str:
    if _missing(seconds):
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
