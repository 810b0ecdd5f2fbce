"""Plots as inline SVG: accuracy against latency, and training curves. Colours and dashes come from the page's CSS.

Written by hand so that the report needs no plotting library and follows the reader's light or dark theme. A mark's
look says its role, not only its colour: the student is a filled disc, the teacher a square, a control a ring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from docstill.reporting.markup import escape

FONT = 12.5
CHARACTER = 0.62 * FONT
"""Width of a character in a wide system font: labels are kept apart by it, so it had better be too much."""
MOST_POINTS = 150
FLAT = 0.01
"""Height of the y axis when all points lie on one line."""


@dataclass(frozen=True)
class Point:
    """One model: latency, figure, spread over seeds (None if unknown), name, role (a CSS class)."""

    x: float
    y: float
    spread: float | None
    name: str
    role: str


@dataclass(frozen=True)
class Line:
    """One curve: its name, its role (a CSS class), its points. A point that is not finite breaks the line."""

    name: str
    role: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Box:
    """A rectangle on the drawing: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """The shared area."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(across, 0.0) * max(down, 0.0)


@dataclass(frozen=True)
class _Frame:
    """The drawing's size and what its axes span; places values on it."""

    width: float
    height: float
    xs: tuple[float, float]
    ys: tuple[float, float]
    log_x: bool = False
    log_y: bool = False
    left: float = 56
    right: float = 18
    top: float = 14
    bottom: float = 44

    def x(self, value: float) -> float:
        return self.left + (self.width - self.left - self.right) * _share(value, self.xs, self.log_x)

    def y(self, value: float) -> float:
        return self.height - self.bottom - (self.height - self.top - self.bottom) * _share(value, self.ys, self.log_y)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda value: abs(value - raw))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten over many decades; 1, 2, 5 or finer steps between them over few; plain round numbers at worst."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        found = [float(f"{m * 10.0**power:.10g}") for power in powers for m in steps if low <= m * 10.0**power <= high]
        if len(found) >= 4:
            return found
    return found if len(found) == 3 else [value for value in ticks(low, high, 4) if value > 0]


def trade_off(points: Sequence[Point], x_title: str, y_title: str, width: int = 760, height: int = 380) -> str:
    """Accuracy (up) against latency (right, logarithmic), spreads as bars. Empty text if there is no point to draw."""
    points = [point for point in points if point.x > 0 and math.isfinite(point.x) and math.isfinite(point.y)]
    if not points:
        return ""
    ends = [point.y + sign * (point.spread or 0.0) for point in points for sign in (-1, 1)]
    pad = max((max(ends) - min(ends)) * 0.2, FLAT / 2)
    low_x, high_x = min(point.x for point in points), max(point.x for point in points)
    frame = _Frame(width, height, (low_x / 1.6, high_x * 1.6), (min(ends) - pad, max(ends) + pad), log_x=True)
    marks = _axes(frame, x_title, y_title, percent=True)
    taken, wanted = [], []
    for point in points:
        x, y = frame.x(point.x), frame.y(point.y)
        taken.append(Box(x - 8, y - 8, x + 8, y + 8))
        if point.spread:
            top, bottom = frame.y(point.y + point.spread), frame.y(point.y - point.spread)
            taken.append(Box(x - 5, top, x + 5, bottom))
            marks.append(
                f'<path class="bar {escape(point.role)}" d="M{x:.1f} {top:.1f}V{bottom:.1f}'
                f'M{x - 5:.1f} {top:.1f}h10M{x - 5:.1f} {bottom:.1f}h10"/>'
            )
        wanted.append((x, y, _short(f"{point.name}, {100 * point.y:.1f} %", int(width * 0.45 / CHARACTER))))
    inside = Box(frame.left, frame.top, width - 2, height - frame.bottom)
    for point, (x, y, text), box in zip(points, wanted, place_labels(wanted, taken, inside), strict=True):
        near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
        if math.hypot(near_x - x, near_y - y) > 20:
            marks.append(f'<path class="leader" d="M{x:.1f} {y:.1f}L{near_x:.1f} {near_y:.1f}"/>')
        marks.append(mark(point.role, x, y))
        marks.append(f'<text class="name" x="{box.left:.1f}" y="{box.bottom - 4:.1f}">{escape(text)}</text>')
    return _svg(width, height, marks, f"{y_title} against {x_title}")


def place_labels(wanted: Sequence[tuple[float, float, str]], taken: Sequence[Box], inside: Box) -> list[Box]:
    """Where labels go so that they cover neither each other nor what is ``taken``, and stay ``inside``.

    Each label tries places around its point, nearest first, and keeps the first free one, or the least bad.

    Args:
        wanted: x, y of the point and the text, for each label.
        taken: what must stay visible.
        inside: the area that labels may use.
    """
    placed: list[Box] = []
    height = FONT + 4
    for x, y, text in wanted:
        width = len(text) * CHARACTER
        best, least = Box(x, y, x + width, y + height), math.inf
        for ring in range(12):
            far, out = 12 + 9 * ring, ring * (height - 2)
            for left, middle in (
                (x + far, y), (x - far - width, y), (x - width / 2, y - 19 - out), (x - width / 2, y + 19 + out),
                (x + 10, y - 16 - out), (x + 10, y + 16 + out), (x - 10 - width, y - 16 - out), (x - 10 - width, y + 16 + out),
            ):  # fmt: skip
                box = Box(left, middle - height / 2, left + width, middle + height / 2)
                hidden = sum(box.overlap(other) for other in (*taken, *placed))
                outside = (box.right - box.left) * (box.bottom - box.top) - box.overlap(inside)
                if hidden + outside < least - 1e-6:
                    best, least = box, hidden + outside
            if least < 1e-6:
                break
        placed.append(best)
    return placed


def curves(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    percent: bool = False,
    ys: tuple[float, float] | None = None,
    width: int = 410,
    height: int = 245,
) -> str:
    """Curves over epochs; a logarithmic y axis where the values span more than a factor 30. Empty text without points.

    Args:
        lines: the curves.
        x_title: below the x axis.
        y_title: above the y axis.
        percent: shares are shown as per cent.
        ys: what the y axis spans, for panels that share one; default: the values.
        width: of the drawing, in CSS pixels.
        height: of the drawing, in CSS pixels.
    """
    shown = [(x, y) for line in lines for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
    if not shown:
        return ""
    low, high = ys or (min(y for _, y in shown), max(y for _, y in shown))
    log = not percent and low > 0 and high / low > 30
    if high - low < 1e-9:
        low, high = low - FLAT / 2, high + FLAT / 2
    frame = _Frame(
        width,
        height,
        (0.0, max(x for x, _ in shown) or 1.0),
        (low, high),
        log_y=log,
        left=46,
        right=10,
        top=26,
        bottom=40,
    )
    marks = _axes(frame, x_title, y_title, percent=percent, upright=True)
    for line in lines:
        path, gap = "", True
        for x, y in line.points:
            if not (math.isfinite(x) and math.isfinite(y)):
                gap = True
                continue
            path += f"{'M' if gap else 'L'}{frame.x(x):.1f} {frame.y(y):.1f}"
            gap = False
        role, title = escape(line.role), f"<title>{escape(line.name)}</title>"
        marks.append(f'<path class="curve {role}" d="{path}">{title}</path>' if path else "")
        found = [(x, y) for x, y in line.points if math.isfinite(x) and math.isfinite(y)]
        if len(found) == 1:  # a line of one point would not be seen
            marks.append(mark(line.role, frame.x(found[0][0]), frame.y(found[0][1]), 4))
    return _svg(width, height, marks, f"{y_title} over {x_title}")


def smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbouring points, so that a long curve stays legible and light."""
    count = min(len(points), MOST_POINTS)
    edges = [index * len(points) // count for index in range(count + 1)] if count else []
    groups = [points[start:end] for start, end in pairwise(edges)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def key(role: str) -> str:
    """The sample of a role for a legend: its line with its mark."""
    marks = [f'<path class="curve {escape(role)}" d="M1 8H33"/>', mark(role, 17, 8, 5)]
    return f'<svg class="sample" viewBox="0 0 34 16" width="34" height="16" aria-hidden="true">{"".join(marks)}</svg>'


def mark(role: str, x: float, y: float, size: float = 6.5) -> str:
    """A role's mark at a place: a square for the teacher, a disc (a ring by CSS for a control) for the rest."""
    if role == "teacher":
        return f'<rect class="mark teacher" x="{x - size:.1f}" y="{y - size:.1f}" width="{2 * size:.1f}" height="{2 * size:.1f}"/>'
    return f'<circle class="mark {escape(role)}" cx="{x:.1f}" cy="{y:.1f}" r="{size:.1f}"/>'


def _share(value: float, span: tuple[float, float], log: bool) -> float:
    low, high = span
    return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)


def _short(text: str, longest: int) -> str:
    """Cut in the middle, so that the figure at the end stays."""
    return text if len(text) <= longest else f"{text[: longest - 9]}…{text[-8:]}"


def _axes(frame: _Frame, x_title: str, y_title: str, percent: bool, upright: bool = False) -> list[str]:
    """Grid, tick labels and titles; ``upright`` puts the y title above the axis, where a narrow plot has room."""
    floor, edge = frame.height - frame.bottom, frame.width - frame.right
    marks = [f'<path class="axis" d="M{frame.left} {floor}H{edge}"/>']
    for value in (log_ticks if frame.log_x else ticks)(*frame.xs):
        x = frame.x(value)
        marks.append(
            f'<path class="axis" d="M{x:.1f} {floor}v5"/><text class="middle" x="{x:.1f}" y="{floor + 19}">{value:g}</text>'
        )
    low, high = frame.ys
    scale = 100 if percent else 1
    for value in (log_ticks if frame.log_y else ticks)(low * scale, high * scale):
        y = frame.y(value / scale)
        marks.append(f'<path class="grid" d="M{frame.left} {y:.1f}H{edge}"/>')
        marks.append(f'<text class="end" x="{frame.left - 8}" y="{y + 4:.1f}">{value:g}</text>')
    marks.append(
        f'<text class="middle" x="{(frame.left + edge) / 2:.1f}" y="{frame.height - 6}">{escape(x_title)}</text>'
    )
    middle = (frame.top + floor) / 2
    place = f'class="middle" x="13" y="{middle:.1f}" transform="rotate(-90 13 {middle:.1f})"'
    if upright:
        place = 'x="2" y="12"'
    marks.append(f"<text {place}>{escape(y_title)}</text>")
    return marks


def _svg(width: int, height: int, marks: Sequence[str], label: str) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg {size} role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'
