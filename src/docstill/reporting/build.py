"""`report.html`: one self-contained page from a run's results. How it looks is in `template.html.j2`.

The page is for somebody who did not run the job: the verdict in a sentence first, then the evidence. All text from
outside is escaped by Jinja2, pictures are embedded, nothing is fetched, no script runs.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from rapidfuzz.distance import Levenshtein

from docstill.data.images import open_image
from docstill.errors import UserError
from docstill.reporting import plots
from docstill.run import write_text

NAME = "report.html"
LONG_SIDE = 900
LONGEST_VALUE = 600
SAME = 1.05
"""Two latencies or sizes within this factor count as the same."""
NAMES = {"field_f1": "field F1", "ted_accuracy": "TED accuracy", "macro_f1": "macro F1", "ece": "ECE"}
LOWER_IS_BETTER = frozenset({"nll", "brier", "ece", "ece_floor", "aurc", "e_aurc", "augrc"})

Row = Mapping[str, Any]


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
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": _count,
        "bytes": _bytes,
        "number": _number,
        "duration": _duration,
        "date": _date,
        "named": _title,
    }
    metric, rows = results["primary_metric"], results["rows"]
    looks = _looks(rows)
    lines = [_line(row, _first(rows, "teacher"), metric, looks) for row in rows]
    page = environment.get_template("template.html.j2").render(
        r=results,
        verdict=verdict(results),
        metric=metric,
        rows=lines,
        others=_others(rows, metric),
        split=[line for line in lines if "encoder" in _latency(line)],
        sparse=[line for line in lines if line.get("sparsity")],
        lower_is_better=LOWER_IS_BETTER,
        trade_off=[_trade_off(rows, metric, looks, *size) for size in ((760, 380), (360, 330))],
        legend=[(name, plots.key(look)) for name, look in looks.items()],
        panels=_panels(results["curves"], metric, looks),
        worst=[_document(document) for document in results["worst"]],
    )
    write_text(run / NAME, page.encode("utf-8", "replace").decode("utf-8"))  # a lone surrogate must not cost the report
    return run / NAME


def verdict(results: Mapping[str, Any]) -> str:
    """The report in one sentence: what was gained, what it cost, and whether the teacher helped."""
    rows, metric = results["rows"], results["primary_metric"]
    student, teacher = _first(rows, "student"), _first(rows, "teacher")
    control = next((row for row in rows if row["name"] == "no-kd"), None)
    if student is None:
        return "This run has no student to judge yet."
    figure = _mean(student, metric)
    if teacher is not None:
        text = f"The student {_gains(student, teacher)}{_cost(student, teacher, metric)}"
    elif figure is not None:
        text = f"The student reaches {100 * figure:.1f} % {_title(metric)}, with no teacher beside it to compare with"
    else:
        text = "The student was not scored, and no teacher is beside it to compare with"
    if control is None and any(stage["name"] == "distill" for stage in results["stages"]):
        return f"{text}; the same student was not trained without the teacher, so what distillation adds is not known."
    return text + (_control(student, control, teacher, metric) if control is not None else "") + "."


def _gains(student: Row, teacher: Row) -> str:
    speed, size = _ratio(_p50(teacher), _p50(student)), _ratio(_real(teacher["bytes"]), _real(student["bytes"]))
    found = [(speed, _than(speed, "faster", "slower")), (size, _than(size, "smaller on disk", "larger on disk"))]
    known = [(ratio > SAME, text) for ratio, text in found if ratio is not None]
    if not known:
        return "was neither timed nor weighed"
    joint = " and " if len({good for good, _ in known}) == 1 else " but "
    missing = (
        ""
        if len(known) == 2
        else " (its latency was not measured)"
        if speed is None
        else " (its size was not measured)"
    )
    return f"is {joint.join(text for _, text in known)} than its teacher{missing}"


def _than(ratio: float | None, better: str, worse: str) -> str:
    if ratio is None:
        return ""
    if 1 / SAME <= ratio <= SAME:
        return f"no {better}"
    return f"{_times(ratio)} {better}" if ratio > 1 else f"{_times(1 / ratio)} {worse}"


def _cost(student: Row, teacher: Row, metric: str) -> str:
    mine, theirs = _mean(student, metric), _mean(teacher, metric)
    if mine is None or theirs is None:
        return f", and what it costs in {_title(metric)} is not known"
    text = f" and {_change(mine - theirs, _title(metric))}"
    spread = _spread(student, teacher, metric)
    if spread is not None and _moved(mine - theirs) and abs(mine - theirs) <= spread:
        text += ", which is within the spread over seeds"
    return text


def _control(student: Row, control: Row, teacher: Row | None, metric: str) -> str:
    mine, bare = _mean(student, metric), _mean(control, metric)
    if mine is None or bare is None:
        return "; what distillation adds is not known"
    start = None if teacher is None else _mean(teacher, metric)
    stands = f"reaches {100 * bare:.1f} %" if start is None else _change(bare - start, "")
    text = f"; the same student without the teacher {stands}"
    spread = _spread(student, control, metric)
    within = spread is not None and abs(mine - bare) <= spread
    if mine <= bare:
        text += ", so distillation did not help"
        text += " (the difference is within the spread over seeds)" if within else ""
    elif within:
        text += ", a difference within the spread over seeds: it is not shown that distillation helped"
    return text + (" (1 seed, spread unknown: the difference may be chance)" if spread is None else "")


def _change(difference: float, of: str) -> str:
    if not _moved(difference):
        return f"keeps its teacher's {of}" if of else "loses nothing"
    points = f"{'gains' if difference > 0 else 'loses'} {abs(100 * difference):.1f}"
    return f"{points} points of {of}" if of else points


def _moved(difference: float) -> bool:
    return abs(difference) >= 0.0005


def _line(row: Row, teacher: Row | None, metric: str, looks: Mapping[str, str]) -> dict[str, Any]:
    """What the trade-off table says of one model; the ``*_ratio`` texts compare it with the teacher."""
    other = None if teacher is None or row is teacher else teacher
    mean, reference = _mean(row, metric), None if other is None else _mean(other, metric)
    std, seeds = _std(row, metric), len(row["seeds"]) or 1
    total, nonzero = _real(row["params"]["total"]), _real(row["params"]["nonzero"])

    def against(get: Any, better: str, worse: str) -> str:
        return "" if other is None else _than(_ratio(_real(get(other)), _real(get(row))), better, worse)

    return {
        **row,
        "look": looks[row["name"]],
        "figure": "–" if mean is None else f"{100 * mean:.1f}",
        "spread": "" if std is None else f"± {100 * std:.1f}",
        "seeds_text": f"{seeds} seed{'s' * (seeds > 1)}" + (", spread unknown" if std is None else ""),
        "points": "" if mean is None or reference is None else f"{100 * (mean - reference):+.1f}".replace("-", "−"),
        "latency": _latency(row).get("document", _latency(row)),
        "total_ratio": against(lambda r: r["params"]["total"], "fewer", "more"),
        "non_embedding_ratio": against(lambda r: r["params"]["non_embedding"], "fewer", "more"),
        "nonzero_share": f"{nonzero / total:.0%} of total".replace("%", " %") if total and nonzero is not None else "",
        "bytes_ratio": against(lambda r: r["bytes"], "smaller", "larger"),
        "flops_ratio": against(lambda r: r.get("flops"), "fewer", "more"),
        "p50_ratio": against(_p50, "faster", "slower"),
        "memory_ratio": against(lambda r: r.get("peak_memory_mb"), "less", "more"),
    }


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
    found = [(row, _p50(row), _mean(row, metric)) for row in rows]
    points = [
        plots.Point(x, y, _std(row, metric), row["name"], looks[row["name"]])
        for row, x, y in found
        if x and y is not None
    ]
    return plots.trade_off(points, "milliseconds a page, median (log scale)", f"{_title(metric)}, %", width, height)


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
        losses = [(point["epoch"], _or_nan(point.get("loss"))) for point in points]
        checked = [(point["epoch"], _or_nan((point.get("validation") or {}).get(metric))) for point in points]
        loss.setdefault(stage, []).append(plots.Line(name, look, plots.smooth(losses)))
        checks.setdefault(stage, []).append(plots.Line(name, look, [(x, y) for x, y in checked if math.isfinite(y)]))
    values = [y for lines in checks.values() for line in lines for _, y in line.points]
    span = (min(values), max(values)) if values else None
    title = f"{_title(metric)} on the validation split, %"
    panels = [
        {
            "title": stage,
            "loss": plots.curves(loss[stage], "epoch", "loss"),
            "check": plots.curves(checks[stage], "epoch", title, percent=True, ys=span),
        }
        for stage in loss
    ]
    return [panel for panel in panels if panel["loss"] or panel["check"]]


def _document(document: Row) -> dict[str, Any]:
    sides = [document["expected"], document["student"], document["teacher"]]
    rows = [
        {"field": field, "expected": wanted, "student": _cell(wanted, student), "teacher": _cell(wanted, teacher)}
        for field, (wanted, student, teacher) in field_rows([_answer(side) for side in sides])
    ]
    return {
        **document,
        "picture": _picture(document["image"]),
        "rows": rows,
        "fielded": any(row["field"] for row in rows),
        "taught": document["teacher"] is not None,
        "sure": [_sure(side) for side in sides],
    }


def _answer(value: Any) -> Any:
    return value["label"] if isinstance(value, dict) and set(value) == {"label", "probability"} else value


def _sure(value: Any) -> str:
    probability = _real(value["probability"]) if _answer(value) is not value else None
    return "" if probability is None else f"{100 * probability:.0f} % sure"


def field_rows(sides: Sequence[Any], path: str = "") -> list[tuple[str, list[str | None]]]:
    """The leaves of answers side by side, the wanted answer first: (field, texts); None where an answer lacks the field.

    Rows of a list are paired by likeness, so that one left-out row does not put all that follow out of step.
    """
    if any(isinstance(side, list) for side in sides):
        lists = [side if isinstance(side, list) else [] if side is None else [side] for side in sides]
        paired = [_pair(lists[0], other) for other in lists[1:]]
        groups = [
            (f"{path} {i + 1}", [item, *(pairs.get(i) for pairs, _ in paired)]) for i, item in enumerate(lists[0])
        ]
        for place, (_, extra) in enumerate(paired, 1):
            for i, item in enumerate(extra, 1):
                groups.append((f"{path} extra {i}", [item if at == place else None for at in range(len(sides))]))
        return [row for name, items in groups for row in field_rows(items, name.strip())]
    if any(isinstance(side, dict) for side in sides):
        tables = [side if isinstance(side, dict) else {} for side in sides]
        rows = field_rows([None if isinstance(side, dict) else side for side in sides], path)
        for key in dict.fromkeys(key for table in tables for key in table):
            rows += field_rows([table.get(key) for table in tables], f"{path} › {key}" if path else str(key))
        return rows
    if all(side is None for side in sides):
        return []
    return [
        (
            path,
            [side if side is None or isinstance(side, str) else json.dumps(side, ensure_ascii=False) for side in sides],
        )
    ]


def _pair(wanted: Sequence[Any], got: Sequence[Any]) -> tuple[dict[int, Any], list[Any]]:
    """The cheapest alignment in order: what stands against each wanted row, and the rows that nothing was wanted for."""
    left, right = ([json.dumps(item, sort_keys=True, ensure_ascii=False) for item in items] for items in (wanted, got))
    costs = [[0.5 * column for column in range(len(right) + 1)]]
    for i, one in enumerate(left, 1):
        costs.append([0.5 * i])
        for j, other in enumerate(right, 1):
            swap = costs[i - 1][j - 1] + Levenshtein.normalized_distance(one, other)
            costs[i].append(min(swap, costs[i - 1][j] + 0.5, costs[i][j - 1] + 0.5))
    pairs: dict[int, Any] = {}
    extra: list[Any] = []
    i, j = len(left), len(right)
    while j:
        if i and costs[i][j] == costs[i - 1][j - 1] + Levenshtein.normalized_distance(left[i - 1], right[j - 1]):
            i, j = i - 1, j - 1
            pairs[i] = got[j]
        elif i and costs[i][j] == costs[i - 1][j] + 0.5:
            i -= 1
        else:
            j -= 1
            extra.insert(0, got[j])
    return pairs, extra


def _cell(wanted: str | None, got: str | None) -> dict[str, Any]:
    """A value against the wanted one: its state, and its text in parts, those that differ marked."""
    if got is None:
        return {"state": "none" if wanted is None else "missing", "parts": []}
    text = (
        got if len(got) <= LONGEST_VALUE else f"{got[:LONGEST_VALUE]}… ({len(got) - LONGEST_VALUE:,} more characters)"
    )
    if wanted is None or got == wanted:
        return {"state": "extra" if wanted is None else "same", "parts": [(text, wanted is None)] if text else []}
    if not text:
        return {"state": "differs", "parts": []}
    matcher = SequenceMatcher(None, wanted[:LONGEST_VALUE], text, autojunk=False)
    if matcher.ratio() < 0.5:
        return {"state": "differs", "parts": [(text, True)]}
    return {"state": "differs", "parts": [(text[b:c], kind != "equal") for kind, _, _, b, c in matcher.get_opcodes()]}


def _picture(path: str | None) -> str | None:
    """The page as a data URI, or None where it cannot be shown."""
    if path is None:
        return None
    try:
        image = open_image(Path(path))
    except UserError:
        return None
    image.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _first(rows: Sequence[Row], role: str) -> Row | None:
    return next((row for row in rows if row["role"] == role), None)


def _real(value: Any) -> float | None:
    """A number that can be shown, or None: missing, NaN and infinite values are all "not known"."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _or_nan(value: Any) -> float:
    return math.nan if (number := _real(value)) is None else number


def _mean(row: Row, metric: str) -> float | None:
    return _real((row["metrics"].get(metric) or {}).get("mean"))


def _std(row: Row, metric: str) -> float | None:
    """The spread over seeds; one seed has none."""
    return _real((row["metrics"].get(metric) or {}).get("std")) if len(row["seeds"]) > 1 else None


def _spread(one: Row, other: Row, metric: str) -> float | None:
    """What a difference of means must exceed: the larger of the known spreads."""
    return max((std for row in (one, other) if (std := _std(row, metric)) is not None), default=None)


def _latency(row: Row) -> Mapping[str, Any]:
    return row.get("latency_ms") or {}


def _p50(row: Row) -> float | None:
    times = _latency(row)
    return _real(times.get("document", times).get("p50"))


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above and below else None


def _times(ratio: float) -> str:
    return f"{ratio:.1f} ×" if ratio < 99.95 else f"{ratio:,.0f} ×"


def _title(metric: str) -> str:
    return NAMES.get(metric, metric.replace("_", " "))


def _number(value: Any, digits: int = 3) -> str:
    return "–" if (number := _real(value)) is None else f"{number:,.{digits}f}".replace("-", "−")


def _count(value: Any) -> str:
    """Three digits and a unit: 745, 311 k, 2.80 M, 1.23 G."""
    number = _real(value)
    if number is None:
        return "–"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size * 0.9995:
            scaled = number / size
            return f"{scaled:.{max(0, 2 - math.floor(math.log10(scaled) + 1e-3))}f} {unit}"
    return f"{number:.0f}"


def _bytes(value: Any) -> str:
    text = _count(value)
    return text if text == "–" else f"{text}B" if text[-1].isalpha() else f"{text} B"


def _duration(seconds: Any) -> str:
    number = _real(seconds)
    if number is None:
        return "–"
    if number < 90:
        return f"{number:.1f} s" if number < 10 else f"{number:.0f} s"
    minutes = round(number / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _date(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return f"{moment.day} {moment:%B %Y, %H:%M %Z}".strip()
