"""Pages with labelled regions, in nineteen layouts: what papers, books, newspapers, manuals, slides, … look like.

A layout is a function that fills an empty `Page`; a new one is a function and a line in `LAYOUTS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from docstill.synthesis.composing import (
    Area,
    Page,
    caption,
    heading,
    lines_in,
    listing,
    new_style,
    paragraph,
)
from docstill.synthesis.figures import figure, table
from docstill.synthesis.flowing import flow, inner, items, picture, plain, running, section, tabular, title
from docstill.synthesis.fonts import Fonts
from docstill.synthesis.reading import Corpus
from docstill.synthesis.sheet import Colour, Sheet

A4, LETTER, BOOK, PAPERBACK = (724, 1024), (791, 1024), (680, 1024), (620, 1024)
WIDE, SLIDE, SCREEN = (1024, 724), (1024, 768), (1024, 576)
_TINTS: tuple[Colour, ...] = ((238, 241, 246), (246, 241, 230), (234, 244, 238), (242, 242, 242))


def draw_layout(corpus: Corpus, fonts: Fonts, rng: random.Random) -> tuple[Sheet, dict[str, Any]]:
    """A page in some layout.

    Returns:
        The sheet, and ``{"width", "height", "regions": [{"label", "box": [left, top, width, height]}]}``.
    """
    page = compose(rng.choice(LAYOUTS), corpus, fonts, rng)
    regions = [{"label": label, "box": list(box)} for label, box in page.regions]
    return page.sheet, {"width": page.sheet.width, "height": page.sheet.height, "regions": regions}


def compose(layout: Layout, corpus: Corpus, fonts: Fonts, rng: random.Random) -> Page:
    """A page in this layout."""
    size = rng.choice(layout.sizes)
    page = Page(Sheet(*rng.choice(layout.papers)), corpus, new_style(corpus, fonts, rng, size, layout.justified), rng)
    layout.fill(page)
    return page


@dataclass(frozen=True)
class Layout:
    """A kind of page.

    Attributes:
        fill: composes it on an empty page.
        papers: widths and heights in pixels, one of which is taken.
        sizes: of the text in pixels, one of which is taken.
        justified: whether lines are as wide as their column; None: by chance.
    """

    fill: Callable[[Page], None]
    papers: tuple[tuple[int, int], ...] = (A4, LETTER)
    sizes: tuple[int, ...] = (11, 12, 13)
    justified: bool | None = None


def _article(page: Page) -> None:
    """The first page of a paper: title, authors, abstract, two columns."""
    area = inner(page, 0.09, 0.09)
    running(page, area, header=0.5)
    anchor = page.rng.choice("ml")
    top = title(page, area, page.rng.uniform(1.6, 2.1), anchor, 5, 12) + 0.8 * page.style.size
    names = page.phrase(4, 9).title().split()
    top = lines_in(page, "text", area.below(top), names, page.style.face, page.style.size, anchor=anchor) or top
    inset = area.width * page.rng.choice((0.0, 0.08))
    narrow = area._replace(left=area.left + inset, right=area.right - inset, top=top + 1.4 * page.style.size)
    top = lines_in(page, "heading", narrow, ["Abstract"], page.style.bold, page.style.size + 1, anchor=anchor) or top
    top = paragraph(page, narrow.below(top + 3), 70, 130, page.style.size - 1) or top
    columns = area.below(top + 1.8 * page.style.size).columns(2, 0.035 * page.sheet.width)
    flow(page, columns, {section: 6, items: 0.6, picture: 0.7, tabular: 0.4}, full=1.0)


def _paper(page: Page) -> None:
    """A later page of a paper: two columns, often with a figure or table across the top."""
    area = inner(page, 0.085, 0.085)
    running(page, area)
    top = area.top
    if page.rng.random() < 0.6:
        wide = page.rng.choice((picture, tabular))
        top = (wide(page, area._replace(bottom=area.top + 0.42 * area.height)) or area.top - 20) + 20
    columns = area.below(top).columns(2, 0.035 * page.sheet.width)
    flow(page, columns, {section: 6, items: 0.8, picture: 1, tabular: 0.9})


def _report(page: Page) -> None:
    """One column with everything."""
    area = inner(page, 0.13, 0.1)
    running(page, area, footer=0.6)
    flow(page, [area], {section: 5, items: 1.5, picture: 0.9, tabular: 1.1})


def _newspaper(page: Page) -> None:
    """A masthead, then articles across four or five columns, with rules between them."""
    rng, style = page.rng, page.style
    area = inner(page, 0.05, 0.05)
    top = title(page, area, 4.2, "m", 2, 3) + 4
    page.rule(Area(area.left, top, area.right, top + 1), (40, 40, 44))
    size = style.size
    end = lines_in(page, "header", area.below(top + 5), page.words(4, 8), style.face, size, anchor="m", most=1) or top
    page.rule(Area(area.left, end + 2, area.right, end + 2), (40, 40, 44))
    top = end + 12
    gutter, count = 14, rng.choice((4, 5))
    while area.bottom - top > 90:
        bottom = min(area.bottom, top + area.height * rng.uniform(0.26, 0.5))
        if area.bottom - bottom < 0.2 * area.height:
            bottom = area.bottom
        story = area._replace(top=top, bottom=bottom)
        words = page.phrase(3, 8, style.bold).split()
        headline = round(size * rng.uniform(1.9, 3.0))
        end = lines_in(page, "heading", story, words, style.bold, headline, most=2) or top
        columns = story.below(end + 6).columns(count, gutter)
        if rng.random() < 0.7 and columns[0].height > 130:
            first = rng.randint(0, count - 2)
            wide = columns[first]._replace(right=columns[first + 1].right)
            below = (picture(page, wide._replace(bottom=wide.top + 0.65 * wide.height), (0.5, 0.8)) or wide.top - 8) + 8
            columns[first : first + 2] = [column.below(below) for column in columns[first : first + 2]]
        for column in columns[1:]:
            page.rule(
                Area(column.left - gutter / 2, column.top, column.left - gutter / 2, story.bottom), (170, 170, 172)
            )
        flow(page, columns, {plain: 1}, full=1.0)
        top = story.bottom + 16


def _magazine(page: Page) -> None:
    """A photograph across the page, a large title, three columns."""
    area = inner(page, 0.07, 0.07)
    running(page, area, header=0.4, footer=0.5)
    end = area.top + area.height * page.rng.uniform(0.2, 0.36)
    figure(page, area._replace(bottom=end))
    top = title(page, area.below(end + 14), page.rng.uniform(2.4, 3.2), "l", 2, 7)
    if page.rng.random() < 0.7:  # what the article is about, in larger letters
        top = paragraph(page, area.below(top + 6), 18, 34, page.style.size + 4) or top
    columns = area.below(top + 14).columns(3, 18)
    flow(page, columns, {section: 5, picture: 0.5, items: 0.3})


def _book(page: Page) -> None:
    """A page of prose."""
    area = inner(page, 0.14, 0.11)
    running(page, area, header=0.7, footer=0.05, number=1.0)
    flow(page, [area], {plain: 9, section: 0.6}, full=0.9)


def _chapter(page: Page) -> None:
    """A chapter's first page: its title low on the page, prose below."""
    area = inner(page, 0.14, 0.11)
    running(page, area, header=0.0, footer=0.0, number=0.9)
    anchor = page.rng.choice("lmm")
    top = title(page, area.below(area.top + area.height * page.rng.uniform(0.1, 0.28)), 2.0, anchor, 1, 6)
    flow(page, [area.below(top + 3.5 * page.style.size)], {plain: 1}, full=1.0)


def _encyclopaedia(page: Page) -> None:
    """Three or four columns of small text with short articles, a rule between columns."""
    area = inner(page, 0.065, 0.07)
    running(page, area, number=1.0)
    columns = area.columns(page.rng.choice((3, 3, 4)), 16)
    for column in columns[1:] if page.rng.random() < 0.6 else ():
        page.rule(Area(column.left - 8, column.top, column.left - 8, column.bottom), (150, 150, 152))
    flow(page, columns, {section: 6, plain: 2, picture: 0.6, items: 0.3})


def _manual(page: Page) -> None:
    """Headings in the margin, steps and drawings beside them."""
    area = inner(page, 0.08, 0.09)
    running(page, area, footer=0.6)
    split = area.left + 0.27 * area.width
    top = area.top
    while area.bottom - top > 90:
        before = len(page.regions)
        words = [word.strip(".,") for word in page.words(2, 5, page.style.bold)]
        margin = Area(area.left, top, split - 14, area.bottom)
        lower = lines_in(
            page, "heading", margin, words, page.style.bold, page.style.size + 2, ink=page.style.accent, most=4
        )
        body = Area(split, top, area.right, min(area.bottom, top + area.height * page.rng.uniform(0.25, 0.5)))
        flow(page, [body], {items: 3, plain: 2, picture: 1.2, tabular: 0.5}, full=1.0)
        lowest = max((y + h for _, (_, y, _, h) in page.regions[before:]), default=top)
        top = max(lower or top, lowest, top + 30) + 22
        page.rule(Area(area.left, top - 12, area.right, top - 12), (190, 190, 192))


def _slide(page: Page) -> None:
    """A slide: title, points, perhaps a figure beside them."""
    area = inner(page, 0.06, 0.09)
    running(page, area.below(area.top + 6), header=0.0, footer=0.7)
    style = page.style
    top = title(page, area, 1.7, page.rng.choice("lm"), 2, 7)
    if page.rng.random() < 0.5:
        page.rule(Area(area.left, top + 8, area.right, top + 10))
    left, right = area.below(top + 28).columns(2, 36)
    kind = page.rng.choice(("points", "both", "both", "figure", "table"))
    if kind == "points":
        both = left._replace(right=right.right)
        flow(page, [both], {items: 4, plain: 1}, full=0.7)
    elif kind == "figure":
        picture(page, left._replace(right=right.right, bottom=left.bottom - 10), (0.4, 0.6))
    elif kind == "table":
        table(page, left._replace(right=right.right), size=style.size - 4)
    else:
        sides = [left, right][:: page.rng.choice((1, -1))]
        listing(page, sides[0], 3, 6, 12)
        picture(page, sides[1]._replace(bottom=sides[1].bottom - 20), (0.6, 0.9))


def _datasheet(page: Page) -> None:
    """A product's data: a coloured band with its name, features, a drawing, tables."""
    rng, style = page.rng, page.style
    area = inner(page, 0.07, 0.1, 0.07)
    running(page, area, header=0.0, footer=0.9)
    band = Area(0, 0, page.sheet.width, area.top - 24)
    page.rule(band, style.accent)
    page.paper = style.accent
    words = page.phrase(2, 5, style.bold).split()
    lines_in(
        page,
        "title",
        Area(area.left, band.bottom * 0.3, area.right, band.bottom),
        words,
        style.bold,
        24,
        ink=(255, 255, 255),
        most=1,
    )
    page.paper = (255, 255, 255)
    left, right = area._replace(bottom=area.top + 0.38 * area.height).columns(2, 24)
    sides = [left, right][:: rng.choice((1, -1))]
    picture(page, sides[0], (0.6, 0.9))
    flow(page, [sides[1]], {section: 1, items: 2}, full=1.0)
    lowest = max(y + h for _, (_, y, _, h) in page.regions if y < area.bottom - 10)
    flow(page, [area.below(lowest + 20)], {tabular: 4, section: 1}, full=1.0)


def _annual(page: Page) -> None:
    """A company's year: text in two columns, then charts or a table across the page."""
    area = inner(page, 0.08, 0.09)
    running(page, area, footer=0.5)
    top = title(page, area, 1.9, "l", 2, 6) + 16
    middle = top + area.height * page.rng.uniform(0.25, 0.45)
    flow(page, area._replace(top=top, bottom=middle).columns(2, 24), {section: 4, items: 1}, full=1.0)
    rest = area.below(middle + 20)
    if page.rng.random() < 0.5:
        for column in rest.columns(page.rng.choice((2, 3)), 22):
            picture(page, column, (0.7, 1.1))
    else:
        tabular(page, rest)


def _catalogue(page: Page) -> None:
    """Rows of pictures, each with what it is."""
    area = inner(page, 0.07, 0.09)
    running(page, area)
    top = area.top
    if page.rng.random() < 0.7:
        top = title(page, area, 1.7, "l", 1, 5) + 18
    count, rows = page.rng.choice((2, 3, 3, 4)), page.rng.randint(2, 4)
    gap = 22.0
    height = (area.bottom - top - gap * (rows - 1)) / rows
    for row in range(rows):
        line = area._replace(top=top + row * (height + gap), bottom=top + row * (height + gap) + height)
        for column in line.columns(count, 20):
            if row == rows - 1 and page.rng.random() < 0.15:
                break
            end = column.top + 0.62 * column.height
            figure(page, column._replace(bottom=end))
            caption(page, "figure", column._replace(top=end + 7))


def _contract(page: Page) -> None:
    """Numbered clauses below one another, lists within them, nothing else."""
    area = inner(page, 0.12, 0.1)
    running(page, area, header=0.4, footer=0.7)
    top = area.top
    if page.rng.random() < 0.5:
        top = title(page, area, 1.5, "m", 2, 6) + 18
    flow(page, [area.below(top)], {section: 3, plain: 2, items: 3})


def _newsletter(page: Page) -> None:
    """A tinted column at the side with short things, articles in two columns beside it."""
    rng = page.rng
    area = inner(page, 0.06, 0.08)
    running(page, area, header=0.6, number=0.6)
    top = title(page, area, 2.6, rng.choice("lm"), 2, 5) + 18
    area = area.below(top)
    on_left = rng.random() < 0.5
    width = 0.28 * area.width
    side = area._replace(right=area.left + width) if on_left else area._replace(left=area.right - width)
    body = area._replace(left=side.right + 20) if on_left else area._replace(right=side.left - 20)
    page.rule(side, tint := rng.choice(_TINTS))
    page.paper = tint
    narrow = Area(side.left + 12, side.top + 12, side.right - 12, side.bottom - 12)
    flow(page, [narrow], {section: 2, items: 2}, full=0.5)
    page.paper = (255, 255, 255)
    flow(page, body.columns(2, 20), {section: 5, picture: 1, items: 0.5})


def _folder(page: Page) -> None:
    """A folded leaflet: three panels on a wide sheet."""
    area = inner(page, 0.045, 0.07)
    for place, panel in enumerate(area.columns(3, 44)):
        top = panel.top
        if place == 2 or page.rng.random() < 0.3:
            top = title(page, panel, 2.0, page.rng.choice("lm"), 2, 5) + 14
        flow(page, [panel.below(top)], {section: 4, items: 2, picture: 1.4, tabular: 0.4}, full=0.6)


def _statistics(page: Page) -> None:
    """Table upon table."""
    area = inner(page, 0.08, 0.09)
    running(page, area)
    flow(page, [area], {tabular: 5, heading: 0.8, plain: 0.8}, full=0.9)


def _plates(page: Page) -> None:
    """One or two large figures with long captions."""
    area = inner(page, 0.1, 0.1)
    running(page, area, header=0.5, number=1.0)
    count = page.rng.choice((1, 2, 2))
    height = (area.height - 24 * (count - 1)) / count
    for place in range(count):
        plate = area._replace(top=area.top + place * (height + 24))
        plate = plate._replace(bottom=plate.top + height)
        end = plate.bottom - 7 * page.style.size
        inset = area.width * page.rng.choice((0.0, 0.06, 0.12))
        figure(page, Area(plate.left + inset, plate.top, plate.right - inset, end))
        caption(page, "figure", plate._replace(top=end + 8))


def _letter(page: Page) -> None:
    """A letter: who writes, to whom, what about."""
    rng, style = page.rng, page.style
    area = inner(page, 0.13, 0.08)
    lines_in(
        page,
        "header",
        area._replace(bottom=area.top + 60),
        page.phrase(2, 5, style.bold).split(),
        style.bold,
        20,
        anchor=rng.choice("lmr"),
        ink=style.accent,
        most=1,
    )
    top = area.top + rng.uniform(90, 130)
    address = area._replace(top=top, right=area.left + 0.4 * area.width)
    for _ in range(4):
        words = page.phrase(1, 3).title().split()
        page.sheet.text((address.left, top), " ".join(words), style.face, style.size, room=address.width)
        top += 1.3 * style.size
    page.mark("text", address._replace(bottom=top))
    top = heading(page, area.below(top + 40), scale=1.1) or top
    end = area._replace(top=top + 14, bottom=area.bottom - 70)
    flow(page, [end], {plain: 6, items: 0.7, tabular: 0.4}, full=0.3)
    foot = area._replace(top=area.bottom - 8, bottom=area.bottom + 40)
    lines_in(
        page,
        "footer",
        foot,
        page.words(10, 26),
        style.face,
        max(8, style.size - 4),
        anchor="m",
        ink=(90, 90, 94),
        most=2,
    )


LAYOUTS: tuple[Layout, ...] = (
    Layout(_article, sizes=(10, 11, 12), justified=True),
    Layout(_paper, sizes=(10, 11, 12), justified=True),
    Layout(_report, sizes=(12, 13, 14)),
    Layout(_newspaper, ((740, 1024), (700, 1024)), (9, 10), True),
    Layout(_magazine, sizes=(11, 12)),
    Layout(_book, (BOOK, PAPERBACK), (14, 15, 16, 17), True),
    Layout(_chapter, (BOOK, PAPERBACK), (14, 15, 16, 17), True),
    Layout(_encyclopaedia, (A4, BOOK), (9, 10, 11), True),
    Layout(_manual, sizes=(11, 12, 13), justified=False),
    Layout(_slide, (SLIDE, SCREEN), (20, 22, 25), False),
    Layout(_datasheet, sizes=(10, 11, 12), justified=False),
    Layout(_annual),
    Layout(_catalogue, (A4, LETTER, WIDE), (10, 11, 12)),
    Layout(_contract, sizes=(12, 13)),
    Layout(_newsletter, sizes=(10, 11, 12)),
    Layout(_folder, (WIDE,), (11, 12, 13)),
    Layout(_statistics, (A4, LETTER, WIDE), (10, 11, 12)),
    Layout(_plates, (A4, BOOK)),
    Layout(_letter, sizes=(12, 13, 14), justified=False),
)
