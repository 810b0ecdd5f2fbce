"""How alike the layers of teacher and student are: the report's table, and a heatmap a row as inline SVG.

The more ink in a cell, the more alike; ink is that of the page, so that the map follows light and dark themes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from docstill.reporting import plots
from docstill.reporting.figures import number
from docstill.reporting.markup import escape
from docstill.reporting.rows import real

CELL, FONT = 32, 11
"""Of a cell, and of the text, in pixels."""
LEGIBLE = 0.55
"""Share of ink in a cell above which its figure is written in the colour of the page."""


def alike_view(similarity: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the template shows of each row of ``results["similarity"]``: figures as text, the map as SVG."""
    views = []
    for row in similarity:
        layers = row["layers"]
        framed = {(pair["teacher"], pair["student"]) for pair in layers["matched"]}
        views.append(
            {
                "name": row["name"],
                "n": row["n"],
                "seed": row["seeds"][0],
                "tokens": row["tokens"],
                "figures": [
                    over_seeds(values)
                    for values in (row["global"], row["chance"], row["biased_global"], row["biased_chance"])
                ],
                "parts": {part: over_seeds(values) for part, values in row["parts"].items()},
                "same": over_seeds(row["same_answers"], 100, 1),
                "map": heatmap(layers["matrix"], layers["teacher_names"], layers["student_names"], row["name"], framed),
            }
        )
    return views


def over_seeds(values: Sequence[Any], scale: float = 1, digits: int = 3) -> str:
    """Mean and spread as text; a dash if a value is not known."""
    found = [real(value) for value in values]
    known = [scale * value for value in found if value is not None]
    if not known or len(known) < len(found):
        return "–"
    return number(mean(known), digits) + (f" ± {number(stdev(known), digits)}" if len(known) > 1 else "")


def heatmap(
    matrix: Sequence[Sequence[Any]],
    teacher: Sequence[str],
    student: Sequence[str],
    title: str,
    framed: Collection[tuple[int, int]] = (),
) -> str:
    """A grid of cells as inline SVG, from 0 (the page) to 1 (ink); what is not defined is a dash.

    Args:
        matrix: values in [0, 1], one list a row; None is not defined.
        teacher: a name for each row.
        student: a name for each column.
        title: what the columns belong to.
        framed: cells (row, column) that get a frame.
    """
    character = plots.CHARACTER * FONT / plots.FONT
    left, foot = (max(map(len, names)) * character + 10 for names in (teacher, student))
    right, bottom = left + CELL * len(student), CELL * len(teacher)
    width, height = round(right + 2), round(bottom + foot)
    marks = []
    for row, (name, values) in enumerate(zip(teacher, matrix, strict=True)):
        top = row * CELL
        marks.append(f'<text class="end" x="{left - 8:.0f}" y="{top + CELL / 2 + 4:.0f}">{escape(name)}</text>')
        for column, raw in enumerate(values):
            tip = f"teacher {name}, {title} {student[column]}"
            marks.append(_cell(left + column * CELL, top, real(raw), (row, column) in framed, tip))
    for column, name in enumerate(student):
        x, y = left + (column + 0.5) * CELL + 3, bottom + 6
        marks.append(f'<text class="end" transform="translate({x:.0f} {y:.0f}) rotate(-90)">{escape(name)}</text>')
    label = escape(f"CKA of the teacher's layers (down) and those of {title} (across)")
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg class="map" {size} role="img" aria-label="{label}">{"".join(marks)}</svg>'


def _cell(x: float, y: float, value: float | None, framed: bool, tip: str) -> str:
    share = min(1.0, max(0.0, value or 0.0))
    text = "–" if value is None else "1" if value > 1 - 1e-6 else f"{min(max(0.0, value), 0.99):.2f}".replace("0.", ".")
    edge, look = CELL - 2, "on" if share > LEGIBLE else "off"
    frame = f'<rect class="frame {look}" x="{x + 2:.0f}" y="{y + 2:.0f}" width="{edge - 4}" height="{edge - 4}"/>'
    return (
        f'<g><title>{escape(tip)}: {number(value)}</title><rect class="cell" x="{x:.0f}" y="{y:.0f}" width="{edge}" '
        f'height="{edge}" fill-opacity="{share:.3f}"/>{frame if framed else ""}'
        f'<text class="middle {look}" x="{x + edge / 2:.0f}" y="{y + edge / 2 + 4:.0f}">{text}</text></g>'
    )
