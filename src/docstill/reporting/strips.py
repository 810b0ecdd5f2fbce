"""A strip for each method: every seed a dot, their mean a bar, the teacher and the no-KD twin as lines down the plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from docstill.reporting.markup import escape
from docstill.reporting.plots import CHARACTER, mark, ticks

ROW = 30
HEAD, FOOT, EDGE = 44, 46, 16


@dataclass(frozen=True)
class Strip:
    """A method's figures over seeds."""

    name: str
    values: Sequence[float]
    role: str = "student"


def strips(
    rows: Sequence[Strip], lines: Sequence[tuple[str, str, float]], x_title: str, width: int = 760, label: str = ""
) -> str:
    """The plot as inline SVG.

    Args:
        rows: from top to bottom; at least one, each with at least one value.
        lines: (name, role, value) of what all are compared with, e.g. the teacher.
        x_title: what the figures are.
        width: in pixels.
        label: the plot in words, for those who cannot see it.
    """
    values = [value for row in rows for value in row.values] + [value for _, _, value in lines]
    low, high = min(values), max(values)
    room = max((high - low) * 0.08, 0.004)
    low, high = low - room, high + room
    longest = max(len(row.name) for row in rows)
    left = min(CHARACTER * longest + 14, 0.4 * width)
    height = HEAD + ROW * len(rows) + FOOT
    floor = height - FOOT

    def at(value: float) -> float:
        return left + (width - left - EDGE) * (value - low) / (high - low)

    marks = [f'<path class="axis" d="M{left:.1f} {floor}H{width - EDGE}"/>']
    count = 6 if width > 500 else 4
    for tick in ticks(low, high, count):
        x = at(tick)
        marks.append(f'<path class="grid" d="M{x:.1f} {HEAD}V{floor}"/>')
        marks.append(f'<text class="middle" x="{x:.1f}" y="{floor + 19}">{tick:g}</text>')
    marks.append(f'<text class="middle" x="{(left + width - EDGE) / 2:.1f}" y="{height - 6}">{escape(x_title)}</text>')
    for place, (name, role, value) in enumerate(sorted(lines, key=lambda entry: entry[2])):
        x = at(value)
        marks.append(f'<path class="curve {escape(role)}" d="M{x:.1f} {HEAD - 4}V{floor}"/>')
        half = CHARACTER * len(name) / 2
        text = min(max(x, left + half), width - EDGE - half)
        marks.append(f'<text class="middle" x="{text:.1f}" y="{HEAD - 12 - 17 * (place % 2)}">{escape(name)}</text>')
    for index, row in enumerate(rows):
        y = HEAD + ROW * (index + 0.5)
        mean = at(sum(row.values) / len(row.values))
        marks.append(f'<text class="end name" x="{left - 10:.1f}" y="{y + 4:.1f}">{escape(row.name)}</text>')
        marks.append(f'<path class="bar {escape(row.role)}" d="M{mean:.1f} {y - 9:.1f}v18"/>')
        marks += [mark(row.role, at(value), y, 4) for value in row.values]
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{escape(label or x_title)}">{"".join(marks)}</svg>'


def dots(values: Sequence[tuple[str, float]], width: int = 170, label: str = "") -> str:
    """One line from 0 to 1 with a mark for each role's figure, for a cell of a table; empty text without figures."""
    if not values:
        return ""
    left, right, middle = 8, width - 8, 10
    marks = [f'<path class="grid" d="M{left} {middle}H{right}M{left} {middle - 4}v8M{right} {middle - 4}v8"/>']
    marks += [mark(role, left + (right - left) * min(max(value, 0.0), 1.0), middle, 4.5) for role, value in values]
    size = f'viewBox="0 0 {width} 20" width="{width}" height="20"'
    return f'<svg class="dots" {size} role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'
