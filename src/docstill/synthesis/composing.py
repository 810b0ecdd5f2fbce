"""A page while it is composed: text, headings, lists, captions in areas, and where each of them came to stand.

A region's box is measured on the sheet: it holds the ink that was drawn, and no more.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import NamedTuple

from PIL import Image, ImageChops

from docstill.errors import UserError
from docstill.metrics.detection import Box
from docstill.synthesis.fonts import GIVE_FONTS, Face, Fonts
from docstill.synthesis.reading import Corpus
from docstill.synthesis.sheet import BLACK, WHITE, Colour, Sheet

LABELS = (
    "title",
    "heading",
    "text",
    "list",
    "table",
    "figure",
    "caption",
    "header",
    "footer",
    "page-number",
)
"""The classes of regions. A list is one region with all of its items, as in PubLayNet."""
SIGNS = "0123456789.,:%()-"
_TAIL = 1.38
"""So far below its top, in sizes, a line's letters reach at most; those of the next line begin no higher."""
_TRIES = 50
_ACCENTS: tuple[Colour, ...] = ((24, 60, 120), (150, 30, 40), (20, 100, 80), (90, 40, 110), (180, 90, 10), BLACK, BLACK)
_WORDS = (("Figure", "Table"), ("Fig.", "Tab."), ("Abbildung", "Tabelle"), ("Abb.", "Tab."), ("Exhibit", "Table"))


class Area(NamedTuple):
    """A part of the page in pixels: left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels."""
        return self.bottom - self.top

    def below(self, top: float) -> Area:
        """What is left of it from ``top`` on."""
        return self._replace(top=top)

    def columns(self, count: int, gutter: float) -> list[Area]:
        """So many columns of equal width."""
        width = (self.width - gutter * (count - 1)) / count
        lefts = [self.left + place * (width + gutter) for place in range(count)]
        return [self._replace(left=left, right=left + width) for left in lefts]


@dataclass(frozen=True)
class Style:
    """How the text of a page is set.

    Attributes:
        face: of the text; ``bold`` of headings and of what stands out.
        size: of the text in pixels; ``spacing`` is from line to line, as a share of it.
        justified: whether lines are as wide as their column.
        indented: whether paragraphs are told apart by an indent, or by a gap.
        numbered: whether headings have numbers.
        accent: colour of headings, rules, charts.
        words: what figures and tables are called.
    """

    face: Face
    bold: Face
    size: int
    spacing: float
    justified: bool
    indented: bool
    numbered: bool
    accent: Colour
    words: tuple[str, str]


def new_style(corpus: Corpus, fonts: Fonts, rng: random.Random, size: int, justified: bool | None = None) -> Style:
    """A face, its bold and a manner, by chance.

    Raises:
        UserError: no face can write the corpus.
    """
    faces = [face for face in fonts.faces if face.covers(SIGNS)]
    plain = [face for face in faces if not any(word in face.path.stem.lower() for word in ("bold", "medium", "black"))]
    for _ in range(_TRIES):
        word = rng.choice(corpus.words)
        fitting = [face for face in plain or faces if face.covers(word)]
        if fitting:
            break
    else:
        raise UserError(f"no font has glyphs for the words of the corpus and for {SIGNS} too; {GIVE_FONTS}")
    face = rng.choice(fitting)
    heavy = [other for other in faces if other.bold and other.covers(word)]
    family = [other for other in heavy if other.path.stem.split("-")[0] == face.path.stem.split("-")[0]]
    bold = rng.choice(family if family and rng.random() < 0.7 else heavy or [face])
    words = [pair for pair in _WORDS if all(one.covers("".join(pair)) for one in (face, bold))]
    return Style(
        face,
        bold,
        size,
        spacing=rng.uniform(1.18, 1.42),
        justified=rng.random() < 0.6 if justified is None else justified,
        indented=rng.random() < 0.4,
        numbered=rng.random() < 0.45,
        accent=rng.choice(_ACCENTS),
        words=rng.choice(words) if words else ("", ""),
    )


@dataclass
class Page:
    """A sheet, and the regions on it.

    Attributes:
        regions: class and box (left, top, width, height) of each, in the order in which they were drawn.
        decoration: areas of rules and tints, which are no regions.
        paper: colour of what is drawn upon.
        counts: figures, tables and headings so far, for their numbers.
    """

    sheet: Sheet
    corpus: Corpus
    style: Style
    rng: random.Random
    regions: list[tuple[str, Box]] = field(default_factory=list)
    decoration: list[Area] = field(default_factory=list)
    paper: Colour = WHITE
    counts: dict[str, int] = field(default_factory=dict)

    def mark(self, label: str, area: Area, around: int = 0) -> None:
        """Notes a region: the ink in an area, and in so many pixels above and below it where lines are thick."""
        left, top = max(0, int(area.left) - 2), max(0, int(area.top) - around)
        right, bottom = (
            min(self.sheet.width, int(area.right) + 3),
            min(self.sheet.height, int(area.bottom) + 1 + around),
        )
        crop = self.sheet.image.crop((left, top, right, bottom))
        inked = ImageChops.difference(crop, Image.new("RGB", crop.size, self.paper)).getbbox()
        if inked is not None:
            box = (left + inked[0], top + inked[1], inked[2] - inked[0], inked[3] - inked[1])
            self.regions.append((label, tuple(map(float, box))))  # type: ignore[arg-type]

    def number(self, kind: str) -> int:
        """The next number of a figure, table or heading."""
        self.counts[kind] = self.counts.get(kind, self.rng.randint(0, 6)) + 1
        return self.counts[kind]

    def words(self, least: int, most: int, face: Face | None = None) -> list[str]:
        """Words of the corpus, the first with a capital if the face has it, the last with a full stop."""
        face = face or self.style.face
        found = self.corpus.passage(self.rng, face, self.rng.randint(least, most))
        if not found:
            return []
        capital = found[0][:1].upper()
        if face.covers(capital):
            found[0] = capital + found[0][1:]
        return [*found[:-1], found[-1].rstrip(".,;:") + "."]

    def phrase(self, least: int, most: int, face: Face | None = None) -> str:
        """Words without any stops."""
        return " ".join(word.strip(".,;:") for word in self.words(least, most, face))

    def rule(self, area: Area, colour: Colour | None = None) -> None:
        """A filled area that is no region: a rule, a tint."""
        self.sheet.draw.rectangle(area, fill=colour or self.style.accent)
        self.decoration.append(area)


def wrapped(page: Page, words: list[str], face: Face, size: int, room: float, first: float = 0.0) -> list[list[str]]:
    """Words in lines that fit; the first line is shorter by ``first``. Words wider than the room are left out."""
    font = face.at(size)
    blank = font.getlength(" ")
    lines: list[list[str]] = [[]]
    used = first
    for word in words:
        width = font.getlength(word)
        if width > room - first:
            continue
        if lines[-1] and used + blank + width > room:
            lines.append([])
            used = 0.0
        used += width + (blank if lines[-1] else 0.0)
        lines[-1].append(word)
    return [line for line in lines if line]


def set_line(
    page: Page,
    at: tuple[float, float],
    words: list[str],
    face: Face,
    size: int,
    room: float,
    *,
    justified: bool = False,
    anchor: str = "l",
    ink: Colour = BLACK,
) -> None:
    """One line; justified, the words are spread over the room."""
    if justified and len(words) > 1:
        page.sheet.spread(at, words, face, size, room, ink)
        return
    left = {"l": at[0], "m": at[0] + room / 2, "r": at[0] + room}[anchor]
    page.sheet.text((left, at[1]), " ".join(words), face, size, room=room, anchor=anchor, ink=ink)


def lines_in(
    page: Page,
    label: str,
    area: Area,
    words: list[str],
    face: Face,
    size: int,
    *,
    spacing: float = 1.2,
    anchor: str = "l",
    ink: Colour = BLACK,
    most: int = 99,
) -> float | None:
    """A region of few lines, such as a title; returns where it ends, or None if it does not fit and nothing was drawn."""
    rows = wrapped(page, words, face, size, area.width)[:most]
    if not rows or area.top + len(rows) * size * spacing > area.bottom:
        return None
    top, before = area.top, len(page.sheet.written)
    for row in rows:
        set_line(page, (area.left, top), row, face, size, area.width, anchor=anchor, ink=ink)
        top += size * spacing
    boxes = [box for _, box in page.sheet.written[before:]]  # others may stand to the left or right
    foot = top + (_TAIL - spacing) * size
    page.mark(label, Area(min(box[0] for box in boxes), area.top, max(box[2] for box in boxes), foot))
    return top


def paragraph(page: Page, area: Area, least: int = 25, most: int = 110, size: int = 0) -> float | None:
    """A paragraph, cut off where the area ends; None if there is no room for two lines."""
    style, size = page.style, size or page.style.size
    step = size * style.spacing
    fit = int((area.height - size * 0.1) / step)
    if fit < 2:
        return None
    indent = 1.6 * size if style.indented else 0.0
    rows = wrapped(page, page.words(least, most), style.face, size, area.width, indent)
    if not rows:
        return None
    top = area.top
    for place, row in enumerate(rows[:fit]):
        shift = indent if place == 0 else 0.0
        whole = style.justified and place < len(rows) - 1
        set_line(page, (area.left + shift, top), row, style.face, size, area.width - shift, justified=whole)
        top += step
    page.mark("text", area._replace(bottom=max(top, top - step + _TAIL * size)))
    return top


def heading(page: Page, area: Area, anchor: str = "l", scale: float = 1.25) -> float | None:
    """A heading, if there is room for it and some lines of text below it."""
    style = page.style
    size = max(style.size + 1, round(style.size * scale))
    if area.height < 5 * size:
        return None
    words = page.words(2, 6, style.bold)
    words = [word.strip(".,") for word in words]
    if style.numbered:
        words = [f"{page.number('heading')}.", *words]
    return lines_in(page, "heading", area, words, style.bold, size, anchor=anchor, ink=style.accent, most=3)


def listing(page: Page, area: Area, least: int = 3, most: int = 7, longest: int = 22, size: int = 0) -> float | None:
    """A list with bullets or numbers; as many items as fit, but two at least."""
    style, rng, size = page.style, page.rng, size or page.style.size
    step = size * style.spacing
    signs = [sign for sign in "•–*" if style.face.covers(sign)]
    sign = rng.choice([*signs, "1.", "a)", "(1)"])
    hang = style.face.at(size).getlength("(10) ") if sign[0] not in signs else 1.3 * size
    inset = rng.choice((0.0, 1.2 * size))
    room = area.width - inset - hang
    items, used = [], 0.0
    loose = rng.choice((0.0, 0.0, 0.35)) * size
    for _ in range(rng.randint(least, most)):
        rows = wrapped(page, page.words(4, longest), style.face, size, room)
        if not rows or used + len(rows) * step > area.height - size * 0.1:
            break
        items.append(rows)
        used += len(rows) * step + loose
    if len(items) < 2:
        return None
    top = area.top
    for place, rows in enumerate(items):
        mark = {"1.": f"{place + 1}.", "a)": f"{'abcdefghijklmnopqrstuvwxyz'[place % 26]})", "(1)": f"({place + 1})"}
        page.sheet.text((area.left + inset, top), mark.get(sign, sign), style.face, size)
        for row in rows:
            set_line(page, (area.left + inset + hang, top), row, style.face, size, room)
            top += step
        top += loose
    page.mark("list", area._replace(bottom=max(top, top - step - loose + _TAIL * size)))
    return top


def caption(page: Page, kind: str, area: Area, size: int = 0) -> float | None:
    """What stands above or below a figure or a table; None if it does not fit."""
    style = page.style
    size = size or max(8, round(style.size * 0.88))
    name = style.words[0 if kind == "figure" else 1]
    words = [name, f"{page.number(kind)}{page.rng.choice('.:')}"] if name else []
    anchor = page.rng.choice("llm")
    return lines_in(
        page, "caption", area, [*words, *page.words(4, 22)], style.face, size, anchor=anchor, ink=(50, 50, 54), most=4
    )
