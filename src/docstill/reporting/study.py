"""`study.html` and `table.md`: a study's cells pair by pair, as plots for people who look and tables for those who read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docstill.files import write_text
from docstill.reporting.figures import count, date, duration, size
from docstill.reporting.rows import real, times, title_of
from docstill.reporting.strips import Strip, strips
from docstill.reporting.templates import templates

PAGE, TABLE = "study.html", "table.md"
BESIDE = {"classification": ("ece", "aurc", "augrc"), "kie": ("ted_accuracy", "reading"), "layout": ("ap50", "ap75")}
"""Metrics that stand beside a task's primary one."""
SCALED = "ECE scaled"
"""Of a study that calibrates: the calibration error after temperature scaling."""

Row = Mapping[str, Any]


def write_study(results: Mapping[str, Any], run: Path) -> Path:
    """Writes the page and the table into ``run``; returns the page's path.

    Args:
        results: the content of a study's `results.json`.
        run: the study's folder.
    """
    environment = templates()
    environment.filters |= {"date": date, "duration": duration, "named": title_of}
    metric, beside = results["primary_metric"], BESIDE[results["task"]]
    if any(cell.get("calibration") for cell in results["cells"]):
        beside = (*beside, SCALED)
    headings = ["method", title_of(metric), "over no-KD", "gap closed", *map(title_of, beside)]
    headings += ["weights", "on disk", "ms a page", "speed", "CKA", "training"]
    pairs = [_pair(name, rows, metric, beside) for name, rows in pairs_of(results["cells"]).items()]
    page = environment.get_template("study.html.j2").render(r=results, metric=metric, headings=headings, pairs=pairs)
    write_text(run / PAGE, page)
    write_text(run / TABLE, _markdown(pairs, headings))
    return run / PAGE


def pairs_of(cells: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The cells of each teacher and student, in order."""
    found: dict[tuple[str, str], list[Row]] = {}
    for cell in cells:
        found.setdefault((cell["teacher"], cell["student"]), []).append(cell)
    return found


def _pair(name: tuple[str, str], rows: Sequence[Row], metric: str, beside: Sequence[str]) -> dict[str, Any]:
    done = [row for row in rows if row["state"] == "done"]
    found: dict[str, Any] = {"teacher": name[0], "student": name[1], "plots": [], "rows": []}
    twins = _twins(done, metric)
    lines = [("teacher", "teacher", done[0]["teacher_metric"])] if done else []
    strip_rows = [Strip(name, twin["metrics"][metric]["values"], "control") for name, twin in twins.items()]
    strip_rows += [Strip(row["method"], row["metrics"][metric]["values"]) for row in done]
    if done:
        label = f"{title_of(metric)} of each method, {name[0]} teaching {name[1]}"
        found["plots"] = [strips(strip_rows, lines, title_of(metric), width, label) for width in (760, 360)]
        found["teacher_line"] = f"{done[0]['teacher_metric']:.4f}"
    if done:
        best = done[0]["of_teacher"]
        found["rows"].append(["teacher", *_cells(_shown(best), metric, beside), *_cost(best["cost"]), ""])
    for called, twin in twins.items():
        figures = _cells(_shown(twin), metric, beside)
        found["rows"].append([called, *figures, *_cost(twin["cost"], twin["speed_up"]), ""])
    for row in rows:
        if row["state"] != "done":
            found["rows"].append([row["method"], row.get("error", "not run yet")])
            continue
        figures = _cells(_shown(row), metric, beside, row["over_twin"], row["gap_closed"])
        cost = _cost(row["cost"], row["speed_up"])
        found["rows"].append([row["method"], *figures, *cost, duration(row["seconds"])])
    return found


def _shown(row: Row) -> dict[str, Any]:
    """The metrics of a cell, a teacher or a twin, with the calibration error after scaling if it was scaled."""
    scaled = row["calibration"]
    return {**row["metrics"], **({} if scaled is None else {SCALED: scaled["after"]["ece"]})}


def _cost(cost: Mapping[str, Any], speed_up: float | None = None) -> list[str]:
    alike = "–" if cost["cka"] is None else _spread(cost["cka"], digits=3)
    milliseconds = real(cost["ms"])
    return [
        count(cost["nonzero_non_embedding"]),
        size(cost["bytes"]),
        "–" if milliseconds is None else f"{milliseconds:.1f}",
        "–" if real(speed_up) is None else times(float(speed_up or 0)),
        alike,
    ]


def _twins(done: Sequence[Row], metric: str) -> dict[str, Row]:
    """The different no-KD twins of a pair: methods that prune first have another one than those that do not."""
    found: dict[str, Row] = {}
    known = []
    for row in done:
        if row["twin"] is None:
            continue
        like = row["twin"]["metrics"][metric]["values"], row["twin"]["cost"]
        if like not in known:
            known.append(like)
            found["no-KD" if not found else f"no-KD of {row['method']}"] = row["twin"]
    return found


def _cells(
    metrics: Mapping[str, Any],
    metric: str,
    beside: Sequence[str],
    over: Mapping[str, Any] | None = None,
    gap: float | None = None,
) -> list[str]:
    plain = [_spread(metrics[metric])]
    plain.append("–" if over is None else _spread(over, signed=True))
    plain.append("–" if gap is None else f"{gap:.0%}".replace("-", "−"))
    return plain + [_spread(metrics[name], digits=3) if name in metrics else "–" for name in beside]


def _spread(figure: Mapping[str, Any], signed: bool = False, digits: int = 4) -> str:
    mean = f"{figure['mean']:{'+' if signed else ''}.{digits}f}".replace("-", "−")
    return mean if figure["std"] is None else f"{mean} ± {figure['std']:.{digits}f}"


def _markdown(pairs: Sequence[Mapping[str, Any]], headings: Sequence[str]) -> str:
    parts = []
    for pair in pairs:
        teacher = f"; the teacher scores {pair['teacher_line']}" if "teacher_line" in pair else ""
        parts.append(f"## {pair['teacher']} → {pair['student']}{teacher}\n")
        parts.append("| " + " | ".join(headings) + " |")
        parts.append("|" + "---|" * len(headings))
        for row in pair["rows"]:
            cells = [*row, *[""] * (len(headings) - len(row))]
            parts.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
        parts.append("")
    return "\n".join(parts) + "\n"
