"""Plots as inline SVG: the trade-off of accuracy against latency, and training curves. Colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 20, 16, 44


@dataclass(frozen=True)
class Point:
    """One model: a place in the plot, its spread, its name, and its role (a CSS class)."""

    x: float
    y: float
    spread: float | None
    name: str
    role: str


@dataclass(frozen=True)
class Line:
    """One curve: its name, its role (a CSS class), and its points."""

    name: str
    role: str
    points: Sequence[tuple[float, float]]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers from ``low`` to ``high``."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    power = 10 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda value: abs(value - raw))
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 10) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten between ``low`` and ``high``."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**power for power in powers for m in (1, 2, 5) if low <= m * 10.0**power <= high]


def trade_off(points: Sequence[Point], x_title: str, y_title: str) -> str:
    """Accuracy (up) against latency (right, logarithmic), with spreads as bars. Empty text without points."""
    points = [point for point in points if point.x > 0 and math.isfinite(point.y)]
    if not points:
        return ""
    xs = [point.x for point in points]
    edges = [point.y + sign * (point.spread or 0) for point in points for sign in (-1, 1)]
    pad = max((max(edges) - min(edges)) * 0.25, 0.01)
    low_y, high_y = min(edges) - pad, max(edges) + pad
    low_x, high_x = min(xs) / 1.5, max(xs) * 1.7

    def at_x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(value / low_x) / math.log(high_x / low_x)

    def at_y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high_y - value) / (high_y - low_y)

    marks = _axes([(at_x(v), f"{v:g}") for v in log_ticks(low_x, high_x)], [(at_y(v), f"{v:g}") for v in ticks(low_y, high_y)], x_title, y_title)
    taken: list[tuple[float, float]] = []
    for point in points:
        x, y = at_x(point.x), at_y(point.y)
        if point.spread:
            top, bottom = at_y(point.y + point.spread), at_y(point.y - point.spread)
            marks.append(f'<path class="bar {point.role}" d="M{x:.1f} {top:.1f}V{bottom:.1f}M{x - 5:.1f} {top:.1f}h10M{x - 5:.1f} {bottom:.1f}h10"/>')
        marks.append(f'<circle class="dot {point.role}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        # A label stands right of all dots that overlap this one, and below the labels that are already there.
        label_x = max(at_x(other.x) for other in points if abs(at_x(other.x) - x) < 40 and abs(at_y(other.y) - y) < 12)
        label_y = y + 4
        while any(abs(label_y - other_y) < 15 and abs(x - other_x) < 120 for other_x, other_y in taken):
            label_y += 15
        taken.append((x, label_y))
        right = label_x > WIDTH - 140
        marks.append(f'<text class="name" x="{x - 12 if right else label_x + 12:.1f}" y="{label_y:.1f}"{_END if right else ""}>{escape(point.name)}</text>')
    return _svg(marks, f"{y_title} against {x_title}")


def curves(lines: Sequence[Line], x_title: str, y_title: str, log: bool = False) -> str:
    """Curves over epochs. Empty text without points."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points if math.isfinite(y)]
    if not ys:
        return ""
    low_x, high_x = 0.0, max(xs) or 1.0
    low_y, high_y = min(ys), max(ys)
    log = log and low_y > 0
    if high_y - low_y < 1e-9:
        low_y, high_y = low_y * 0.9 - 0.01, high_y * 1.1 + 0.01

    def at_x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - low_x) / (high_x - low_x)

    def at_y(value: float) -> float:
        share = math.log(high_y / value) / math.log(high_y / low_y) if log else (high_y - value) / (high_y - low_y)
        return TOP + (HEIGHT - TOP - BOTTOM) * share

    values = log_ticks(low_y, high_y) if log else ticks(low_y, high_y)
    marks = _axes([(at_x(v), f"{v:g}") for v in ticks(low_x, high_x)], [(at_y(v), f"{v:g}") for v in values], x_title, y_title)
    for line in lines:
        path = "L".join(f"{at_x(x):.1f} {at_y(y):.1f}" for x, y in line.points if math.isfinite(y))
        marks.append(f'<path class="curve {line.role}" d="M{path}"><title>{escape(line.name)}</title></path>')
    return _svg(marks, f"{y_title} over {x_title}")


_END = ' text-anchor="end"'


def _axes(xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]], x_title: str, y_title: str) -> list[str]:
    floor = HEIGHT - BOTTOM
    marks = [f'<path class="axis" d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}"/>']
    for x, text in xs:
        marks.append(f'<path class="grid" d="M{x:.1f} {TOP}V{floor}"/><text class="tick" x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{text}</text>')
    for y, text in ys:
        marks.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/><text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}"{_END}>{text}</text>')
    marks.append(f'<text class="title" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
    middle = (TOP + floor) / 2
    marks.append(f'<text class="title" x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(y_title)}</text>')
    return marks


def _svg(marks: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'
