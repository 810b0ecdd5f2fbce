"""Boxes drawn over a page, as inline SVG. What became of a box is said by its line and its tag, never by colour alone.

Colours are the same in light and dark themes, for they lie on paper; every line has a light edge, for photographs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from docstill.reporting.markup import escape
from docstill.reporting.plots import Box

COLOURS = ("#1f5fb4", "#b3361e", "#1c7a3e", "#7a3fa8", "#0b7285", "#8a6100", "#b0226b", "#4d5a66")
"""Dark enough for white letters and for lines on white paper; further classes begin anew."""
WIDE, TALL = 360, 540
"""A page is drawn into that many units, which are about CSS pixels: tags have the same size whatever the scan's."""
LETTER, LINE = 6, 12
"""Width of a tag's letters, and its height."""
SIGNS = {"right": "", "wrong": "≠ ", "missed": "− ", "invented": "+ "}


@dataclass(frozen=True)
class Mark:
    """A box on a page.

    Attributes:
        box: left, top, width, height in pixels of the page.
        label: its class; for a wrong one, the class that was said.
        state: ``right``, ``wrong`` (class), ``missed`` or ``invented``; a true region by itself is ``right``.
        tip: what is shown when a pointer rests on it.
    """

    box: Sequence[float]
    label: str
    state: str
    tip: str


def codes(labels: Sequence[str]) -> dict[str, str]:
    """A short name for each class, for boxes too narrow for the whole: its first letters, or its first and a number."""
    found: dict[str, str] = {}
    for label in labels:
        tries = [label[:length] for length in (2, 3, 4)] + [f"{label[:1]}{number}" for number in range(len(labels))]
        found[label] = next(text for text in tries if text not in found.values())
    return found


def colour(place: int) -> str:
    """The colour of a class by its index."""
    return COLOURS[place % len(COLOURS)]


def draw_page(
    size: Sequence[float], marks: Sequence[Mark], short: Mapping[str, str], name: str, picture: str | None, label: str
) -> str:
    """The page with its boxes.

    Args:
        size: width and height of the page in the boxes' pixels.
        marks: what is drawn; those that are right lie below the others.
        short: of each class, in the order of colours, what fits a narrow box (from `codes`).
        name: the picture's id within the report; empty: another drawing has it, and ``picture`` says under which name.
        picture: its data URI, or ``#`` and the id of one that is embedded already; None leaves the page blank.
        label: the drawing in words, for those who cannot see it.
    """
    scale = min(WIDE / max(size[0], 1), TALL / max(size[1], 1))
    width, height = (max(round(side * scale), 1) for side in size)
    places = {known: place for place, known in enumerate(short)}
    parts = [f'<rect width="{width}" height="{height}" fill="#fff"/>', _paper(name, picture, width, height)]
    drawn = [mark for mark in marks if all(map(math.isfinite, mark.box))]
    drawn.sort(key=lambda mark: mark.state != "right")
    boxes = [[side * scale for side in mark.box] for mark in drawn]
    parts += [_outline(mark, box, colour(places[mark.label])) for mark, box in zip(drawn, boxes, strict=True)]
    taken: list[Box] = []
    for mark, box in zip(drawn, boxes, strict=True):
        text = _fitting(mark, box[2], short)
        place = _tag_place(box, len(text) * LETTER + 5, (width, height), taken)
        taken.append(place)
        parts.append(_tag(place, text, colour(places[mark.label]), mark.tip))
    view = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg class="page" {view} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def sample(state: str, text: str, ink: str = COLOURS[0]) -> str:
    """The sample of a state for a legend: a box with its tag."""
    width = round(LETTER * (len(text) + 2)) + 34
    mark, shown = Mark((1, 1, width - 2, 20), text, state, ""), SIGNS[state] + text
    tag = _tag(Box(1, 1, 6 + len(shown) * LETTER, 1 + LINE), shown, ink, "")
    marks = f'<rect width="{width}" height="22" fill="#fff"/>{_outline(mark, mark.box, ink)}{tag}'
    size = f'viewBox="0 0 {width} 22" width="{width}" height="22"'
    return f'<svg class="sample page" {size} aria-hidden="true">{marks}</svg>'


def swatch(place: int, text: str) -> str:
    """A class's colour with its short name, for a legend."""
    width = round(len(text) * LETTER + 7)
    tag = _tag(Box(0, 0, width, 15), text, colour(place), "")
    return (
        f'<svg class="sample page" viewBox="0 0 {width} 15" width="{width}" height="15" aria-hidden="true">{tag}</svg>'
    )


def _paper(name: str, picture: str | None, width: int, height: int) -> str:
    if picture is None:
        return ""
    if not name:
        return f'<use href="{escape(picture)}"/>'
    size = f'width="{width}" height="{height}" preserveAspectRatio="none"'
    return f'<image id="{escape(name)}" {size} href="{escape(picture)}"/>'


def _outline(mark: Mark, box: Sequence[float], ink: str) -> str:
    left, top, width, height = box
    where = f'x="{left:.1f}" y="{top:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    cross = f'<path d="M{left:.1f} {top:.1f}l{width:.1f} {height:.1f}m0 {-height:.1f}l{-width:.1f} {height:.1f}"/>'
    tip = f"<title>{escape(mark.tip)}</title>" if mark.tip else ""
    return (
        f'<g class="region {mark.state}" stroke="{ink}">{tip}<rect class="edge" {where}/><rect {where}/>'
        f"{cross if mark.state == 'invented' else ''}</g>"
    )


def _tag(place: Box, text: str, ink: str, tip: str) -> str:
    width, height = place.right - place.left, place.bottom - place.top
    return (
        f'<g class="tag">{f"<title>{escape(tip)}</title>" if tip else ""}<rect x="{place.left:.1f}" y="{place.top:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" rx="1.5" fill="{ink}"/>'
        f'<text x="{place.left + 2.5:.1f}" y="{place.bottom - (height - 6) / 2:.1f}">{escape(text)}</text></g>'
    )


def _fitting(mark: Mark, width: float, short: Mapping[str, str]) -> str:
    whole = SIGNS[mark.state] + mark.label
    return whole if len(whole) * LETTER + 5 <= width else SIGNS[mark.state] + short[mark.label]


def _tag_place(box: Sequence[float], wide: float, page: tuple[float, float], taken: Sequence[Box]) -> Box:
    """Above the box, in a corner or below it: on the page, and where it hides the least of other tags."""
    left, top, width, height = box
    best, least = Box(0, 0, wide, LINE), math.inf
    for x, y in (
        (left, top - LINE), (left, top), (left + width - wide, top - LINE), (left + width - wide, top),
        (left, top + height), (left + width - wide, top + height - LINE), (left + width, top), (left - wide, top),
    ):  # fmt: skip
        x, y = max(0.0, min(x, page[0] - wide)), max(0.0, min(y, page[1] - LINE))
        place = Box(x, y, x + wide, y + LINE)
        hidden = sum(place.overlap(other) for other in taken)
        if hidden < least - 1e-6:
            best, least = place, hidden
    return best
