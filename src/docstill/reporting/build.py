"""`report.html`: one self-contained page from a run's results. How it looks is in `template.html.j2`.

The page is for somebody who did not run the job: the verdict in a sentence first, then the evidence. All text from
outside is escaped by Jinja2, pictures are embedded, nothing is fetched, no script runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docstill.errors import UserError
from docstill.files import read_json, write_text
from docstill.reporting import plots
from docstill.reporting.alike import alike_view, over_seeds
from docstill.reporting.confidence import confidence_view
from docstill.reporting.documents import document_view
from docstill.reporting.figures import count, date, duration, number, size
from docstill.reporting.regions import regions_view
from docstill.reporting.rows import (
    SAME,
    Row,
    first_of,
    latency_of,
    mean_of,
    or_nan,
    page_flops,
    page_p50,
    ratio,
    real,
    std_of,
    than,
    times,
    title_of,
    token_flops,
)
from docstill.reporting.templates import templates
from docstill.reporting.verdict import verdict

NAME = "report.html"
LOWER_IS_BETTER = frozenset({"nll", "brier", "ece", "ece_equal_mass", "aurc", "e_aurc", "augrc"})


def report(run: str | Path) -> Path:
    """Writes ``report.html`` again from the run's ``results.json``."""
    path = Path(run) / "results.json"
    if not path.is_file():
        raise UserError(f"{run} holds no results.json; give a run folder that `docstill compress` has finished")
    results = read_json(path)
    if "rows" not in results:
        raise UserError(
            f"{run} is the folder of a study, whose page `docstill study` writes; give one of those in {run}/cells"
        )
    return write_report(results, Path(run))


def write_report(results: dict[str, Any], run: Path) -> Path:
    """Writes ``run/report.html`` atomically.

    Args:
        results: the content of `results.json`.
        run: the run folder; made if it is not there.

    Returns:
        The page's path.

    Raises:
        UserError: the disk is full; an older report stays as it was.
    """
    environment = templates()
    environment.filters |= {
        "count": count,
        "bytes": size,
        "number": number,
        "duration": duration,
        "date": date,
        "named": title_of,
    }
    metric, rows = results["primary_metric"], results["rows"]
    looks = _looks(rows)
    lines = [_line(row, first_of(rows, "teacher"), metric, looks) for row in rows]
    layout = results["task"] == "layout"
    page = environment.get_template("template.html.j2").render(
        r=results,
        verdict=verdict(results),
        warnings=results["warnings"],
        metric=metric,
        rows=lines,
        others=_others(rows, metric),
        split=[line for line in lines if "encoder" in latency_of(line)],
        drafted=_drafted(results),
        sparse=[line for line in lines if line.get("sparsity")],
        lower_is_better=LOWER_IS_BETTER,
        trade_off=[_trade_off(rows, metric, looks, *size) for size in ((760, 380), (360, 330))],
        legend=[(name, plots.key(look)) for name, look in looks.items()],
        calibrated=_calibrated(rows),
        sure=confidence_view(rows, looks),
        alike=alike_view(results.get("similarity") or []),
        panels=_panels(results["curves"], metric, looks),
        regions=regions_view(results) if layout else None,
        worst=results["worst"] if layout else [document_view(document) for document in results["worst"]],
    )
    write_text(run / NAME, page.encode("utf-8", "replace").decode("utf-8"))  # a lone surrogate must not cost the report
    return run / NAME


def _drafted(results: Mapping[str, Any]) -> str:
    """What it gains when the student writes ahead of its teacher; empty if it gains nothing, or was not timed."""
    teacher = first_of(results["rows"], "teacher")
    sooner = real((results.get("drafted") or {}).get("latency_ms", {}).get("p50"))
    gain = ratio(None if teacher is None else page_p50(teacher), sooner)
    return f"{sooner:.1f} ms a page (p50), {times(gain)} faster than alone" if gain is not None and gain > SAME else ""


def _line(row: Row, teacher: Row | None, metric: str, looks: Mapping[str, str]) -> dict[str, Any]:
    """What the trade-off table says of one model; the ``*ratio`` texts compare it with the teacher."""
    other = None if teacher is None or row is teacher else teacher
    mean, reference = mean_of(row, metric), None if other is None else mean_of(other, metric)
    std, seeds = std_of(row, metric), len(row["seeds"]) or 1
    total, nonzero = real(row["params"]["total"]), real(row["params"]["nonzero"])

    def against(get: Any, better: str, worse: str) -> str:
        return "" if other is None else than(ratio(real(get(other)), real(get(row))), better, worse)

    return {
        **row,
        "look": looks[row["name"]],
        "figure": "–" if mean is None else f"{100 * mean:.1f}",
        "spread": "" if std is None else f"± {100 * std:.1f}",
        "seeds_text": f"{seeds} seed{'s' * (seeds > 1)}" + (", spread unknown" if std is None else ""),
        "points": "" if mean is None or reference is None else f"{100 * (mean - reference):+.1f}".replace("-", "−"),
        "latency": latency_of(row).get("document", latency_of(row)),
        "total_ratio": against(lambda r: r["params"]["total"], "fewer", "more"),
        "non_embedding_ratio": against(lambda r: r["params"]["non_embedding"], "fewer", "more"),
        "nonzero_share": f"{nonzero / total:.0%} of total".replace("%", " %") if total and nonzero is not None else "",
        "bytes_ratio": against(lambda r: r["bytes"], "smaller", "larger"),
        "page_flops": page_flops(row),
        "token_flops": token_flops(row),
        "flops_ratio": against(page_flops, "fewer", "more"),
        "p50_ratio": against(page_p50, "faster", "slower"),
        "memory_ratio": against(lambda r: r.get("peak_memory_mb"), "less", "more"),
    }


def _calibrated(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Temperature, and calibration before and after it, of the rows that were scaled."""
    found = []
    for row in rows:
        if "calibration" not in row:
            continue
        before, after = row["calibration"]["before"], row["calibration"]["after"]
        figures = [row["calibration"]["temperature"], before["ece"], after["ece"], after["ece_floor"], before["nll"]]
        found.append({"name": row["name"], "figures": [over_seeds(one["values"]) for one in (*figures, after["nll"])]})
    return found


def _others(rows: Sequence[Row], metric: str) -> list[str]:
    return [name for name in dict.fromkeys(name for row in rows for name in row["metrics"]) if name != metric]


def _looks(rows: Sequence[Row]) -> dict[str, str]:
    """CSS classes by model: its role, and ``second`` for a further model of the same role."""
    seen: list[str] = []
    looks = {}
    for row in rows:
        looks[row["name"]] = row["role"] + " second" * (row["role"] in seen)
        seen.append(row["role"])
    return looks


def _trade_off(rows: Sequence[Row], metric: str, looks: Mapping[str, str], width: int, height: int) -> str:
    found = [(row, page_p50(row), mean_of(row, metric)) for row in rows]
    points = [
        plots.Point(x, y, std_of(row, metric), row["name"], looks[row["name"]])
        for row, x, y in found
        if x and y is not None
    ]
    return plots.trade_off(points, "milliseconds a page, median (log scale)", f"{title_of(metric)}, %", width, height)


def _panels(curves: Sequence[Row], metric: str, looks: Mapping[str, str]) -> list[dict[str, str]]:
    """Two plots a stage: loss, and the metric on the validation split, on one scale for all stages."""
    loss: dict[str, list[plots.Line]] = {}
    checks: dict[str, list[plots.Line]] = {}
    seen: list[tuple[str, int, str]] = []
    for curve in curves:
        seen.append(which := (curve["name"], curve["seed"], curve["stage"]))
        stage = curve["stage"] + (f" ({seen.count(which)})" if seen.count(which) > 1 else "")
        name, look, points = (
            f"{curve['name']}, seed {curve['seed']}",
            looks.get(curve["name"], "control"),
            curve["points"],
        )
        losses = [(point["epoch"], or_nan(point.get("loss"))) for point in points]
        checked = [(point["epoch"], or_nan((point.get("validation") or {}).get(metric))) for point in points]
        loss.setdefault(stage, []).append(plots.Line(name, look, plots.smooth(losses)))
        checks.setdefault(stage, []).append(plots.Line(name, look, [(x, y) for x, y in checked if math.isfinite(y)]))
    values = [y for lines in checks.values() for line in lines for _, y in line.points]
    span = (min(values), max(values)) if values else None
    title = f"{title_of(metric)} on the validation split, %"
    panels = [
        {
            "title": stage,
            "loss": plots.curves(loss[stage], "epoch", "loss"),
            "check": plots.curves(checks[stage], "epoch", title, percent=True, ys=span),
        }
        for stage in loss
    ]
    return [panel for panel in panels if panel["loss"] or panel["check"]]
