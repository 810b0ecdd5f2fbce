"""Generated pages of six kinds, to classify: no data set, no fonts, no network needed.

A page depends on (seed, index) alone. The text is drawn with the font that Pillow carries; what the classes differ in
is layout, as with real page kinds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from docstill.data.augment import augment_page
from docstill.progress import counter
from docstill.synthesis.writing import new_folder

WIDTH, HEIGHT = 300, 390
INK = 30
WEAR = 1.2
"""Strength of the scanning faults; without them the kinds are too easy to tell apart."""

Draw = ImageDraw.ImageDraw

_WORDS = (
    "account agreement amount annual archive balance bank batch board branch budget bureau carrier charge city claim client clause code "
    "company contract copy cost court credit customs date deed delivery deposit district document draft duty entry estate exchange export "
    "fee file firm freight fund goods grant harbour hearing import index invoice issue item journal law lease ledger letter line list loan "
    "market matter minute name note notice office order parcel party payment permit port post price quarter rate receipt record region "
    "register rent report request review road route sale seal series service share ship sheet state station statement stock street sum "
    "supply table tax term title total town trade transfer treasury trust unit value vessel voucher weight yard"
).split()


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(count))


def _money(rng: random.Random) -> str:
    return f"{rng.randint(1, 999)}.{rng.randint(0, 99):02d}"


def _paragraph(draw: Draw, rng: random.Random, box: tuple[int, int, int, int], size: int) -> int:
    """Fills ``box`` with ragged lines of words; returns where it ends."""
    left, top, right, bottom = box
    step = size + rng.randint(2, 4)
    while top + step < bottom:
        share = rng.uniform(0.85, 1.0) if rng.random() > 0.15 else rng.uniform(0.3, 0.7)
        text = _words(rng, 12)
        room = (right - left) * share
        while draw.textlength(text, font=_font(size)) > room and " " in text:
            text = text.rpartition(" ")[0]
        draw.text((left, top), text, fill=INK, font=_font(size))
        top += step
    return top


def _letter(draw: Draw, rng: random.Random) -> None:
    margin, size = rng.randint(24, 40), rng.randint(8, 9)
    top = rng.randint(20, 40)
    for _ in range(rng.randint(3, 4)):
        draw.text((margin, top), _words(rng, 2).title(), fill=INK, font=_font(size))
        top += size + 3
    draw.text(
        (WIDTH - margin - 70, top + 6), f"{rng.randint(1, 28)} May 19{rng.randint(50, 99)}", fill=INK, font=_font(size)
    )
    top += 40
    draw.text((margin, top), f"Dear {rng.choice(_WORDS).title()},", fill=INK, font=_font(size))
    top += 20
    for _ in range(rng.randint(2, 4)):
        top = (
            _paragraph(draw, rng, (margin, top, WIDTH - margin, min(top + rng.randint(35, 80), HEIGHT - 70)), size) + 8
        )
    draw.text((margin, top + 8), "Yours faithfully", fill=INK, font=_font(size))


def _invoice(draw: Draw, rng: random.Random) -> None:
    left, size = rng.randint(18, 30), rng.randint(8, 9)
    draw.text((left, 20), "INVOICE", fill=INK, font=_font(rng.randint(18, 26)))
    draw.text((WIDTH - 110, 24), f"No. {rng.randint(1000, 9999)}", fill=INK, font=_font(size))
    top = rng.randint(60, 90)
    for _ in range(3):
        draw.text((left, top), _words(rng, 2).title(), fill=INK, font=_font(size))
        top += size + 3
    top += rng.randint(10, 25)
    draw.line((left, top, WIDTH - left, top), fill=INK, width=2)
    for _ in range(rng.randint(4, 12)):
        top += size + 6
        draw.text((left, top - size), _words(rng, 2), fill=INK, font=_font(size))
        draw.text((WIDTH - left - 45, top - size), _money(rng), fill=INK, font=_font(size))
    top += 12
    draw.line((left, top, WIDTH - left, top), fill=INK)
    draw.text((WIDTH - left - 110, top + 6), f"TOTAL  {_money(rng)}", fill=INK, font=_font(size + 3))


def _form(draw: Draw, rng: random.Random) -> None:
    left, size = rng.randint(14, 26), 8
    draw.text((WIDTH // 2 - 50, 16), _words(rng, 2).upper(), fill=INK, font=_font(12))
    top = 44
    while top < HEIGHT - 50:
        cells = rng.randint(1, 3)
        height, width = rng.randint(24, 40), (WIDTH - 2 * left) // cells
        for cell in range(cells):
            x = left + cell * width
            draw.rectangle((x, top, x + width, top + height), outline=INK)
            draw.text((x + 3, top + 2), _words(rng, 1), fill=INK, font=_font(size - 1))
            if rng.random() < 0.6:
                draw.text((x + 8, top + 13), _words(rng, 1).title(), fill=INK, font=_font(size + 1))
        top += height


def _table(draw: Draw, rng: random.Random) -> None:
    left, size = rng.randint(12, 24), 7
    columns, row = rng.randint(4, 7), rng.randint(11, 15)
    width = (WIDTH - 2 * left) / columns
    draw.text((left, 14), _words(rng, 4).title(), fill=INK, font=_font(11))
    top = 38
    draw.line((left, top, WIDTH - left, top), fill=INK)
    for line in range(rng.randint(16, (HEIGHT - 60) // row)):
        for column in range(columns):
            text = _words(rng, 1) if column == 0 or line == 0 else _money(rng)
            draw.text((left + column * width + 2, top + 2), text[:9], fill=INK, font=_font(size))
        top += row
    draw.line((left, top + 2, WIDTH - left, top + 2), fill=INK)


def _article(draw: Draw, rng: random.Random) -> None:
    margin, gap, size = rng.randint(16, 26), 12, rng.randint(6, 7)
    draw.text((margin + 10, 18), _words(rng, 4).title(), fill=INK, font=_font(rng.randint(12, 15)))
    top = rng.randint(48, 80)
    middle = WIDTH // 2
    for left, right in ((margin, middle - gap // 2), (middle + gap // 2, WIDTH - margin)):
        y = top
        while y < HEIGHT - 40:
            if rng.random() < 0.25:
                draw.text((left, y), _words(rng, 2).title(), fill=INK, font=_font(size + 2))
                y += size + 6
            y = _paragraph(draw, rng, (left, y, right, min(y + rng.randint(50, 120), HEIGHT - 20)), size) + 5


def _receipt(draw: Draw, rng: random.Random) -> None:
    width, size = rng.randint(120, 170), rng.randint(8, 9)
    left = (WIDTH - width) // 2 + rng.randint(-20, 20)
    draw.text((left + width // 5, 12), _words(rng, 2).upper(), fill=INK, font=_font(size + 1))
    draw.text((left + width // 6, 26), f"Tel {rng.randint(100000, 999999)}", fill=INK, font=_font(size))
    top = 44
    for _ in range(rng.randint(6, 18)):
        draw.text((left, top), _words(rng, 1)[:9], fill=INK, font=_font(size))
        draw.text((left + width - 38, top), _money(rng), fill=INK, font=_font(size))
        top += size + 4
    draw.text((left, top + 4), "-" * 24, fill=INK, font=_font(size))
    draw.text((left, top + 16), f"TOTAL {_money(rng)}", fill=INK, font=_font(size + 4))
    draw.text((left + 20, top + 36), "THANK YOU", fill=INK, font=_font(size))


KINDS: dict[str, Callable[[Draw, random.Random], None]] = {
    "article": _article,
    "form": _form,
    "invoice": _invoice,
    "letter": _letter,
    "receipt": _receipt,
    "table": _table,
}


def draw_page(kind: str, seed: int, index: int) -> Image.Image:
    """One gray page, 300 × 390 pixels, of the given kind."""
    rng = random.Random(f"{kind}:{seed}:{index}")
    page = Image.new("L", (WIDTH, HEIGHT), rng.randint(228, 255))
    KINDS[kind](ImageDraw.Draw(page), rng)
    return augment_page(page, rng, WEAR)


def write_page_kinds(folder: Path, count: int, seed: int = 0) -> None:
    """Writes ``count`` pages into class folders ``folder/KIND/*.png``, kind by kind in turn; whole or not at all.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    names = list(KINDS)
    with new_folder(folder) as scratch, counter("drawing page-kinds", count) as advance:
        for kind in names[:count]:
            (scratch / kind).mkdir()
        for index in range(count):
            kind = names[index % len(names)]
            draw_page(kind, seed, index).save(scratch / kind / f"{index:06d}.png")
            advance(1)
