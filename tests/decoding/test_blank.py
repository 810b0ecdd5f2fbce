"""Pages with hardly any ink: which they are, whatever the paper looks like."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from docstill.data.corruptions import CORRUPTIONS, corrupt
from docstill.decoding.blank import HARDLY_ANY, ink, is_blank
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
    assert ink(corrupt(sheet, kind, 5, random.Random(0))) > 5 * HARDLY_ANY


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
