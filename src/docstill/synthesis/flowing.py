"""What the layouts of generated pages are put together from: margins, running lines, blocks, columns that blocks fill."""

from __future__ import annotations

from collections.abc import Callable

from docstill.synthesis.composing import Area, Page, caption, heading, lines_in, listing, paragraph
from docstill.synthesis.figures import figure, table

_TRIES = 4

Block = Callable[[Page, Area], float | None]
"""Draws a part at the top of an area and says where it ends; None, and nothing is drawn, if it does not fit."""


def inner(page: Page, across: float, above: float, below: float | None = None) -> Area:
    """The page within its margins, given as shares of its sides."""
    width, height = page.sheet.width, page.sheet.height
    across *= page.rng.uniform(0.85, 1.15)
    return Area(
        across * width, above * height, (1 - across) * width, (1 - (above if below is None else below)) * height
    )


def running(page: Page, area: Area, header: float = 0.8, footer: float = 0.3, number: float = 0.9) -> None:
    """Header, footer and page number outside an area, each with a chance; the number stands in one of the two."""
    rng, style, size = page.rng, page.style, max(8, page.style.size - 2)
    top, bottom = area.top - 2.6 * size, area.bottom + 1.6 * size
    above, below = rng.random() < header, rng.random() < footer
    numbered = rng.random() < number
    with_header = numbered and above and rng.random() < 0.5
    side = rng.choice("lr") if with_header or below else rng.choice("lmr")
    if above:
        room = area._replace(top=top, bottom=top + 2 * size)
        if with_header:
            room = room._replace(left=room.left + 60 * (side == "l"), right=room.right - 60 * (side == "r"))
        words = page.phrase(2, 7).split()
        anchor = rng.choice("lmr")
        lines_in(page, "header", room, words, style.face, size, anchor=anchor, ink=(70, 70, 74), most=1)
        if rng.random() < 0.5:
            page.rule(Area(area.left, top + 1.55 * size, area.right, top + 1.55 * size), (90, 90, 94))
    if below:
        room = area._replace(top=bottom, bottom=bottom + 2 * size)
        if numbered and not with_header:
            room = room._replace(left=room.left + 60 * (side == "l"), right=room.right - 60 * (side == "r"))
        lines_in(
            page,
            "footer",
            room,
            page.phrase(3, 8).split(),
            style.face,
            size,
            anchor=rng.choice("lmr"),
            ink=(70, 70, 74),
            most=1,
        )
    if numbered:
        here = area._replace(top=top if with_header else bottom, bottom=(top if with_header else bottom) + 2 * size)
        n, of = rng.randint(1, 99), rng.randint(100, 400)
        text = rng.choice((f"{n}", f"{n}", f"{n + 100}", f"- {n} -", f"{n} / {of}"))
        lines_in(page, "page-number", here, [text], style.face, size, anchor=side)


def title(page: Page, area: Area, scale: float = 2.0, anchor: str = "l", least: int = 3, most: int = 9) -> float:
    """The document's title; returns where it ends."""
    size = round(page.style.size * scale)
    words = page.phrase(least, most, page.style.bold).split()
    return lines_in(page, "title", area, words, page.style.bold, size, anchor=anchor, most=3) or area.top


def section(page: Page, area: Area) -> float | None:
    """A paragraph, or two, sometimes with a heading."""
    top = area.top
    if page.rng.random() < 0.4:
        top = heading(page, area) or area.top
        top += 0.4 * page.style.size * (top > area.top)
    end = paragraph(page, area.below(top))
    if end is None:
        return None if top == area.top else top
    if page.rng.random() < 0.4:
        gap = 0.0 if page.style.indented else 0.55 * page.style.size
        end = paragraph(page, area.below(end + gap)) or end
    return end


def plain(page: Page, area: Area) -> float | None:
    """A paragraph."""
    return paragraph(page, area)


def items(page: Page, area: Area) -> float | None:
    """A list."""
    return listing(page, area)


def picture(page: Page, area: Area, share: tuple[float, float] = (0.5, 0.95)) -> float | None:
    """A figure with its caption, its height a share of its width."""
    size = page.style.size
    height = area.width * page.rng.uniform(*share)
    room = area.height - 6 * size
    if room < 70:
        return None
    end = area.top + min(height, room, 420)
    figure(page, area._replace(bottom=end))
    return caption(page, "figure", area.below(end + 0.6 * size)) or end


def tabular(page: Page, area: Area) -> float | None:
    """A table with its caption above or below."""
    size = page.style.size
    if area.height < 16 * size or area.width < 12 * size:  # room for a caption of four lines and the smallest table
        return None
    if page.rng.random() < 0.6:
        top = caption(page, "table", area)
        return table(page, area.below(area.top if top is None else top + 0.5 * size))
    end = table(page, area._replace(bottom=area.bottom - 5 * size))
    return end and (caption(page, "table", area.below(end + 0.7 * size)) or end)


def flow(page: Page, columns: list[Area], blocks: dict[Block, float], full: float = 0.8) -> None:
    """Fills columns from the top with blocks by their weights; with the rest of the chance the last one stays part empty."""
    for place, column in enumerate(columns):
        if place == len(columns) - 1 and page.rng.random() > full:
            column = column._replace(bottom=column.top + column.height * page.rng.uniform(0.25, 0.9))
        top, tries = column.top, 0
        while tries < _TRIES and column.bottom - top > 2 * page.style.size:
            block = page.rng.choices(list(blocks), list(blocks.values()))[0]
            end = block(page, column.below(top))
            if end is None:
                tries += 1
                continue
            gap = 0.0 if block is plain and page.style.indented else page.rng.uniform(0.6, 1.3)
            top = end + page.style.size * (page.rng.uniform(1.3, 2.2) if block in (picture, tabular) else gap)
