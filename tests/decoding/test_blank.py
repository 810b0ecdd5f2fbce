"""Pages without writing: which they are, whatever the paper looks like."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from docstill.data.corruptions import CORRUPTIONS, corrupt
from docstill.decoding.blank import is_blank
from docstill.synthesis.generator import Generator, Kind
from docstill.synthesis.scenery import lying
from docstill.synthesis.wear import worn
from docstill.tasks.kie import Kie
from kie_tiny import ANSWERS, page, tiny_donut


def paper(kind: str) -> Image.Image:
    """An empty sheet as scanners give them."""
    rng = np.random.default_rng(0)
    values = np.full((1100, 850), 235.0)
    if kind == "grain":
        values += rng.normal(0, 6, values.shape)
    elif kind == "shadow":
        values -= np.linspace(0, 90, 850)[None]
    elif kind == "black":
        values[:] = 0
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def a_word(sheet: Image.Image, ink_level: int = 40) -> Image.Image:
    ImageDraw.Draw(sheet).text((300, 400), "Total", fill=(ink_level,) * 3, font_size=22)
    return sheet


@pytest.mark.parametrize("kind", ["plain", "grain", "shadow", "black"])
def test_empty_sheets_are_blank(kind: str) -> None:
    assert is_blank(paper(kind))


@pytest.mark.parametrize("kind", ["plain", "grain", "shadow"])
def test_a_sheet_with_one_word_is_not(kind: str) -> None:
    assert not is_blank(a_word(paper(kind)))


def test_faded_print_and_white_print_are_ink() -> None:
    assert not is_blank(a_word(paper("plain"), ink_level=215))
    assert not is_blank(a_word(paper("black"), ink_level=255))


@pytest.mark.parametrize("kind", sorted(CORRUPTIONS))
def test_a_page_at_its_worst_is_not_blank(kind: str) -> None:
    sheet = Image.new("RGB", (600, 800), "white")
    draw = ImageDraw.Draw(sheet)
    for line in range(12):
        draw.text((60, 60 + 55 * line), "Shop and total 12.50", fill="black", font_size=20)
    assert not is_blank(corrupt(sheet, kind, 5, random.Random(0)))


def test_worn_empty_sheets_are_blank() -> None:
    """116 of 120 and 34 of 40 are in `benchmarks/decoding`; taking ink of any form for writing, 54 of 120 and none were."""
    sheet, nowhere = Image.new("RGB", (640, 480), "white"), np.zeros((0, 2))
    blank = [is_blank(worn(sheet, nowhere, random.Random(f"worn:{seed}"), 1.0)[0]) for seed in range(30)]
    on_table = [
        is_blank(lying(sheet.resize((560, 420)), nowhere, sheet.size, None, random.Random(seed))[0])
        for seed in range(10)
    ]
    assert sum(blank) >= 27
    assert sum(on_table) >= 8


def test_punch_holes_edges_and_folds_are_no_writing() -> None:
    sheet = Image.new("RGB", (850, 1100), (245,) * 3)
    draw = ImageDraw.Draw(sheet)
    for y in (390, 690):
        draw.ellipse((36, y, 60, y + 24), fill=(30,) * 3)
    draw.polygon(((850, 0), (838, 0), (830, 1100), (850, 1100)), fill=(20,) * 3)
    draw.line((0, 540, 850, 552), fill=(120,) * 3, width=4)
    assert is_blank(sheet)
    assert not is_blank(a_word(sheet))


@pytest.mark.parametrize("kind", ["pages", "labels", "small-labels", "receipts", "layout"])
def test_generated_documents_are_never_blank(kind: Kind) -> None:
    generator = Generator(kind, seed=3)
    assert not any(is_blank(generator.document(index)[0]) for index in range(2 if kind == "layout" else 8))


@pytest.mark.parametrize(
    ("high", "ink", "paper"), [(8, 20, 255), (11, 20, 255), (11, 205, 240), (11, 255, 20), (90, 60, 250)]
)
def test_one_short_line_is_writing_small_pale_white_and_large(high: int, ink: int, paper: int) -> None:
    sheet = Image.new("RGB", (640, 480), (paper,) * 3)
    ImageDraw.Draw(sheet).text((400, 300), "12.50", fill=(ink,) * 3, font_size=1.35 * high)
    assert not is_blank(sheet)
    assert not is_blank(sheet.rotate(90, expand=True))


def test_a_line_on_a_till_roll_is_not_lost_by_shrinking() -> None:
    """Ten times as long as wide: shrunk by its long side, its print would be a few pixels high."""
    roll = Image.new("RGB", (500, 5000), "white")
    ImageDraw.Draw(roll).text((60, 2000), "Total 12.50", fill="black", font_size=24)
    assert not is_blank(roll)


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (7, 7), (9, 33), (150, 150)])
def test_pages_too_small_for_writing_are_blank(size: tuple[int, int]) -> None:
    assert is_blank(Image.new("L", size, 250))


def test_nothing_is_invented_on_a_blank_page(tmp_path: Path) -> None:
    """An untrained model writes something on any page; on a blank one it is not asked, wherever it stands in a batch."""
    kie, model = Kie(), tiny_donut()
    model.network.config.decoder.max_position_embeddings = 12
    first, empty, second = kie.predict(model, [page(ANSWERS[0]), Image.new("L", (150, 150), 250), page(ANSWERS[1])])
    assert empty == {"fields": {}, "confidence": {}, "document_confidence": 0.0, "text": "", "blank": True}
    assert first["text"]
    assert second["text"]
    assert not first["blank"]
    assert [first, second] == kie.predict(model, [page(ANSWERS[0]), page(ANSWERS[1])])
