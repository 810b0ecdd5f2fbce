"""The report's first sentence, from the numbers: what was gained, what it cost, and whether the teacher helped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docstill.reporting.rows import SAME, Row, first_of, mean_of, page_p50, ratio, real, spread_of, than, title_of

LOOSE = 0.6
"""A student's AP75/AP50 below this share of its teacher's: what is lost is where regions are, not which there are."""


def verdict(results: Mapping[str, Any]) -> str:
    """The report in one sentence: what was gained, what it cost, and whether the teacher helped."""
    rows, metric = results["rows"], results["primary_metric"]
    student, teacher = first_of(rows, "student"), first_of(rows, "teacher")
    control = next((row for row in rows if row["name"] == "no-kd"), None)
    if student is None:
        return "This run has no student to judge yet."
    figure = mean_of(student, metric)
    if teacher is not None:
        text = f"The student {_gains(student, teacher)}{_cost(student, teacher, metric)}"
    elif figure is not None:
        text = f"The student reaches {100 * figure:.1f} % {title_of(metric)}, with no teacher beside it to compare with"
    else:
        text = "The student was not scored, and no teacher is beside it to compare with"
    if control is None and any(stage["name"] == "distill" for stage in results["stages"]):
        return f"{text}; the same student was not trained without the teacher, so what distillation adds is not known."
    return text + (_control(student, control, teacher, metric) if control is not None else "") + "."


def localisation_warning(teacher_metrics: Mapping[str, Any], student_metrics: Mapping[str, Any]) -> str | None:
    """A sentence if the student finds the regions that its teacher finds, but places its boxes far more loosely.

    Args:
        teacher_metrics: with ``ap50`` and ``ap75``.
        student_metrics: the same of the student.

    Returns:
        None if there is nothing to warn of, or if it cannot be known.
    """
    theirs, mine = _tightness(teacher_metrics), _tightness(student_metrics)
    if theirs is None or mine is None or mine >= LOOSE * theirs:
        return None
    return (
        f"The student finds the regions but does not localise them: its AP75 is {100 * mine:.0f} % of its AP50, "
        f"its teacher's {100 * theirs:.0f} %."
    )


def _tightness(metrics: Mapping[str, Any]) -> float | None:
    """AP75 over AP50: near 1 if regions that are found are found in their place."""
    found, placed = real(metrics.get("ap50")), real(metrics.get("ap75"))
    return placed / found if found and placed is not None else None


def _gains(student: Row, teacher: Row) -> str:
    speed, size = ratio(page_p50(teacher), page_p50(student)), ratio(real(teacher["bytes"]), real(student["bytes"]))
    found = [(speed, than(speed, "faster", "slower")), (size, than(size, "smaller on disk", "larger on disk"))]
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


def _cost(student: Row, teacher: Row, metric: str) -> str:
    mine, theirs = mean_of(student, metric), mean_of(teacher, metric)
    if mine is None or theirs is None:
        return f", and what it costs in {title_of(metric)} is not known"
    text = f" and {_change(mine - theirs, title_of(metric))}"
    spread = spread_of(student, teacher, metric)
    if spread is not None and _moved(mine - theirs) and abs(mine - theirs) <= spread:
        text += ", which is within the spread over seeds"
    return text


def _control(student: Row, control: Row, teacher: Row | None, metric: str) -> str:
    mine, bare = mean_of(student, metric), mean_of(control, metric)
    if mine is None or bare is None:
        return "; what distillation adds is not known"
    start = None if teacher is None else mean_of(teacher, metric)
    stands = f"reaches {100 * bare:.1f} %" if start is None else _change(bare - start, "")
    text = f"; the same student without the teacher {stands}"
    spread = spread_of(student, control, metric)
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
