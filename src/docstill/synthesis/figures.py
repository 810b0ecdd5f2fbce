"""Figures and tables of generated pages: charts, diagrams, photographs of nothing, drawings; rows of words and numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image

from docstill.synthesis.composing import Area, Page, wrapped
from docstill.synthesis.fonts import Face
from docstill.synthesis.sheet import BLACK, WHITE, Colour

_GRAY: Colour = (120, 120, 124)
_PALE: Colour = (226, 228, 232)


def figure(page: Page, area: Area) -> None:
    """Some figure that fills the area."""
    page.rng.choice(FIGURES)(page, area)
    page.mark("figure", area, 2)


def _palette(page: Page) -> list[Colour]:
    """Four colours, or four grays as most print has them."""
    if page.rng.random() < 0.4:
        return [(40, 40, 44), (110, 110, 114), (165, 165, 168), (205, 205, 208)]
    return [
        page.style.accent,
        *((page.rng.randint(30, 220), page.rng.randint(60, 200), page.rng.randint(40, 220)) for _ in range(3)),
    ]


def _axes(page: Page, area: Area) -> Area:
    """Axes with numbers, names below; returns the area within."""
    draw, size = page.sheet.draw, 8 if area.height < 220 else 9
    inner = Area(area.left + 26, area.top + 8, area.right - 4, area.bottom - 2 * size - 6)
    apart, ticks = page.rng.choice((0.2, 0.5, 1, 2, 5, 10, 50, 100)), page.rng.randint(3, 6)
    grid = page.rng.random() < 0.5
    for tick in range(ticks + 1):
        y = inner.bottom - inner.height * tick / ticks
        if grid:
            draw.line((inner.left, y, inner.right, y), _PALE)
        label = f"{apart * tick:g}"
        page.sheet.text((inner.left - 3, y - size * 0.7), label, page.style.face, size, room=23, anchor="r", ink=_GRAY)
    page.sheet.text(
        ((inner.left + inner.right) / 2, area.bottom - size - 4),
        page.phrase(1, 3),
        page.style.face,
        size,
        room=inner.width,
        anchor="m",
    )
    draw.line((inner.left, inner.top, inner.left, inner.bottom, inner.right, inner.bottom), BLACK)
    return inner


def _bars(page: Page, area: Area) -> None:
    inner, colours = _axes(page, area), _palette(page)
    groups, series = page.rng.randint(3, 8), page.rng.randint(1, 3)
    slot = inner.width / groups
    for group in range(groups):
        for one in range(series):
            height = inner.height * page.rng.uniform(0.1, 0.95)
            left = inner.left + slot * (group + 0.15 + 0.7 * one / series)
            box = (left, inner.bottom - height, left + 0.7 * slot / series - 1, inner.bottom - 1)
            page.sheet.draw.rectangle(box, colours[one], BLACK if slot > 30 else None)


def _lines(page: Page, area: Area) -> None:
    inner, colours = _axes(page, area), _palette(page)
    for colour in colours[: page.rng.randint(1, 4)]:
        value, points = page.rng.uniform(0.2, 0.8), []
        count = page.rng.randint(5, 24)
        for place in range(count):
            value = min(0.97, max(0.03, value + page.rng.gauss(0.01, 0.1)))
            points.append((inner.left + inner.width * place / (count - 1), inner.bottom - inner.height * value))
        page.sheet.draw.line(points, colour, page.rng.choice((1, 2)))
        if count < 12:
            for x, y in points:
                page.sheet.draw.ellipse((x - 2, y - 2, x + 2, y + 2), colour)


def _scatter(page: Page, area: Area) -> None:
    inner, colours = _axes(page, area), _palette(page)
    slope = page.rng.uniform(-0.7, 0.7)
    for _ in range(page.rng.randint(25, 140)):
        across = page.rng.random()
        up = min(0.97, max(0.02, 0.5 + slope * (across - 0.5) + page.rng.gauss(0, 0.12)))
        x, y = inner.left + inner.width * across * 0.98, inner.bottom - inner.height * up
        page.sheet.draw.ellipse((x - 2, y - 2, x + 1, y + 1), colours[0])


def _pie(page: Page, area: Area) -> None:
    radius = 0.46 * min(area.height, 0.6 * area.width)
    x, y = area.left + radius + 4, (area.top + area.bottom) / 2
    start, colours = page.rng.uniform(0, 360), _palette(page)
    shares = [page.rng.uniform(0.4, 2) for _ in colours]
    for place, (share, colour) in enumerate(zip(shares, colours, strict=True)):
        end = start + 360 * share / sum(shares)
        page.sheet.draw.pieslice((x - radius, y - radius, x + radius, y + radius), start, end, colour, WHITE)
        start = end
        left, top = x + radius + 14, y + 16 * (place - 2)
        page.sheet.draw.rectangle((left, top + 2, left + 8, top + 10), colour)
        page.sheet.text((left + 13, top), page.phrase(1, 2), page.style.face, 10, room=area.right - left - 14)


def _diagram(page: Page, area: Area) -> None:
    """Boxes and arrows."""
    across, down = max(2, min(4, int(area.width / 95))), max(1, min(4, int(area.height / 62)))
    width, height = area.width / across, area.height / down
    fill = page.rng.choice((WHITE, _PALE, (236, 242, 250)))
    draw = page.sheet.draw
    kept = [(x, y) for y in range(down) for x in range(across) if page.rng.random() < 0.8] or [(0, 0), (1, 0)]
    for x, y in kept:
        middle = (area.left + (x + 0.5) * width, area.top + (y + 0.5) * height)
        for other in ((x + 1, y), (x, y + 1)):
            if other in kept and page.rng.random() < 0.75:
                end = (area.left + (other[0] + 0.5) * width, area.top + (other[1] + 0.5) * height)
                draw.line((*middle, *end), BLACK)
                tip = ((middle[0] + end[0]) / 2, (middle[1] + end[1]) / 2)
                draw.ellipse((tip[0] - 2, tip[1] - 2, tip[0] + 2, tip[1] + 2), BLACK)
    for x, y in kept:
        box = Area(
            area.left + (x + 0.12) * width,
            area.top + (y + 0.2) * height,
            area.left + (x + 0.88) * width,
            area.top + (y + 0.8) * height,
        )
        draw.rounded_rectangle(box, page.rng.choice((0, 6)), fill, BLACK)
        rows = wrapped(page, page.words(1, 3), page.style.face, 9, box.width - 6)[:2]
        for place, row in enumerate(rows):
            at = ((box.left + box.right) / 2, (box.top + box.bottom) / 2 - 6 * len(rows) + 12 * place)
            page.sheet.text(at, " ".join(row), page.style.face, 9, room=box.width - 4, anchor="m")


def _photograph(page: Page, area: Area) -> None:
    """Soft shapes, a horizon, grain: what a photograph is from far away."""
    source = np.random.default_rng(page.rng.getrandbits(64))
    width, height = max(4, int(area.width)), max(4, int(area.height))
    coarse = source.normal(0, 1, (int(source.integers(4, 9)), int(source.integers(4, 10)), 3)).astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(coarse[..., band]).resize((width, height), Image.Resampling.BICUBIC))
        for band in range(3)
    ]
    colour = page.rng.random() < 0.5  # much light and dark, little colour
    values = np.stack([planes[0] + 0.3 * colour * plane for plane in planes], axis=-1) * 34 + page.rng.uniform(90, 150)
    horizon = int(height * page.rng.uniform(0.3, 0.7))
    values[:horizon] += page.rng.uniform(15, 70)
    for _ in range(page.rng.randint(1, 5)):
        x, y = source.uniform(0, width), source.uniform(0.2 * height, height)
        radius = source.uniform(0.05, 0.25) * min(width, height)
        rows, columns = np.ogrid[:height, :width]
        inside = ((columns - x) ** 2 + ((rows - y) * source.uniform(0.4, 1.2)) ** 2) < radius**2
        values[inside] += source.normal(0, 40, 3 if colour else 1)
    values += source.normal(0, 6, (height, width, 1))
    picture = Image.fromarray(values.clip(0, 250).astype(np.uint8))  # never as white as the paper
    page.sheet.image.paste(picture, (int(area.left), int(area.top)))


def _drawing(page: Page, area: Area) -> None:
    """A machine part: outlines, circles, centre lines, dimensions."""
    draw, rng = page.sheet.draw, page.rng
    x, y = (area.left + area.right) / 2, (area.top + area.bottom) / 2
    reach = 0.44 * min(area.width, area.height)
    draw.rectangle((x - reach * 1.1, y - reach * 0.8, x + reach * 1.1, y + reach * 0.8), outline=BLACK, width=2)
    for _ in range(rng.randint(1, 4)):
        radius = reach * rng.uniform(0.15, 0.7)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=BLACK)
    count = rng.choice((3, 4, 6, 8))
    for place in range(count):
        angle, small = 2 * math.pi * place / count, reach * 0.08
        cx, cy = x + 0.6 * reach * math.cos(angle), y + 0.6 * reach * math.sin(angle)
        draw.ellipse((cx - small, cy - small, cx + small, cy + small), outline=BLACK)
    for step in range(int(area.left), int(area.right), 12):
        draw.line((step, y, min(step + 8, area.right), y), _GRAY)
    for step in range(int(area.top), int(area.bottom), 12):
        draw.line((x, step, x, min(step + 8, area.bottom)), _GRAY)
    label = f"{rng.randint(10, 400)}"
    page.sheet.text((x + reach * 1.1, area.bottom - 12), label, page.style.face, 9, room=40, anchor="r")


def _matrix(page: Page, area: Area) -> None:
    """A heat map."""
    across, down = page.rng.randint(5, 14), page.rng.randint(4, 10)
    base = page.style.accent
    for x in range(across):
        for y in range(down):
            share = page.rng.random() ** (0.5 if x == y else 2)
            fill = tuple(round(240 - share * (240 - part)) for part in base)
            left, top = area.left + area.width * x / across, area.top + area.height * y / down
            box = (left, top, left + area.width / across - 1, top + area.height / down - 1)
            page.sheet.draw.rectangle(box, fill)


FIGURES: tuple[Callable[[Page, Area], None], ...] = (
    _bars,
    _lines,
    _scatter,
    _pie,
    _diagram,
    _photograph,
    _photograph,
    _drawing,
    _matrix,
)


def table(page: Page, area: Area, least: int = 3, most: int = 12, size: int = 0) -> float | None:
    """A table as wide as the area, or narrower; returns where it ends, or None if not even its least rows fit."""
    rng, style = page.rng, page.style
    size = size or max(8, style.size - rng.choice((0, 1, 1, 2)))
    step = round(size * rng.uniform(1.35, 1.9))
    rows = min(rng.randint(least, most), int(area.height / step) - 1)
    if rows < least or area.width < 12 * size:
        return None
    width = area.width * rng.choice((1.0, 1.0, 0.8))
    left = area.left + rng.choice((0.0, (area.width - width) / 2))
    count = max(2, min(rng.randint(3, 7), int(width / (size * 5.5))))
    first = width * rng.uniform(1.2, 2.2) / (count + 1)
    edges = [left, *(left + first + (width - first) * place / (count - 1) for place in range(count))]
    manner = rng.choice(("rules", "rules", "grid", "zebra", "lines", "bare"))
    bottom = area.top + (rows + 1) * step
    draw, head = page.sheet.draw, area.top + step
    filled = manner in {"grid", "zebra"} and rng.random() < 0.6
    dark = filled and rng.random() < 0.5
    if filled:
        draw.rectangle((left, area.top, left + width, head), style.accent if dark else _PALE)
    if manner == "zebra":
        for row in range(1, rows, 2):
            draw.rectangle((left, head + row * step, left + width, head + (row + 1) * step), (240, 241, 244))
    shapes = [rng.choice(("{:.2f}", "{:.1f}", "{:.0f}", "{:.1f}%", "word")) for _ in range(count)]
    for row in range(rows + 1):
        for column in range(count):
            face = style.bold if row == 0 or (column == 0 and manner == "lines") else style.face
            at, right = edges[column] + 4, edges[column + 1] - 4
            top = area.top + row * step + (step - size * 1.25) / 2
            word = row == 0 or column == 0 or shapes[column] == "word"
            text = _fitting(page, face, size, right - at) if word else _figure_text(rng, shapes[column])
            ink = WHITE if dark and row == 0 else BLACK
            anchor = "l" if column == 0 or shapes[column] == "word" else "r"
            page.sheet.text(
                (at if anchor == "l" else right, top), text, face, size, room=right - at, anchor=anchor, ink=ink
            )
    _table_rules(page, manner, edges, [area.top + place * step for place in range(rows + 2)])
    page.mark("table", Area(left, area.top, left + width, bottom), 2)
    return bottom


def _table_rules(page: Page, manner: str, across: list[float], down: list[float]) -> None:
    draw = page.sheet.draw
    thick = {down[0]: 2, down[1]: 1, down[-1]: 2}
    for top in down:
        if manner in {"grid", "lines"} or (manner in {"rules", "zebra"} and top in thick):
            width = thick[top] if manner == "rules" else 1
            draw.line((across[0], top, across[-1], top), BLACK if manner != "lines" else _GRAY, width)
    for left in across if manner == "grid" else ():
        draw.line((left, down[0], left, down[-1]), BLACK)


def _fitting(page: Page, face: Face, size: int, room: float) -> str:
    """A few words that fit."""
    rows = wrapped(page, [word.strip(".,") for word in page.words(1, 4, face)], face, size, room)
    return " ".join(rows[0]) if rows else "–" if face.covers("–") else "-"


def _figure_text(rng: random.Random, shape: str) -> str:
    if rng.random() < 0.05:
        return "-"
    return shape.format(rng.uniform(0, 10 ** rng.randint(1, 3)))
