"""Generated pages with regions: boxes hold the ink and nothing else, every layout and class is there, COCO comes out."""

from __future__ import annotations

import json
import random
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageDraw
from typer.testing import CliRunner

import docstill
from docstill import cli
from docstill.data.coco_folder import INSIDE, read_coco_folder
from docstill.errors import UserError
from docstill.synthesis.composing import LABELS, Page
from docstill.synthesis.figures import FIGURES
from docstill.synthesis.fonts import Fonts
from docstill.synthesis.generator import Generator
from docstill.synthesis.layouts import LAYOUTS, Layout, compose
from docstill.synthesis.reading import Corpus

CORPUS, FONTS = Corpus(None), Fonts()


@cache
def page_of(layout: Layout, seed: int) -> Page:
    return compose(layout, CORPUS, FONTS, random.Random(f"{seed}:{LAYOUTS.index(layout)}"))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.fill.__name__)
def test_boxes_hold_all_of_the_ink_and_no_more(layout: Layout) -> None:
    for seed in range(2):
        page = page_of(layout, seed)
        sheet = page.sheet
        assert max(sheet.image.size) == 1024
        assert len(page.regions) >= 2
        rest = sheet.image.copy()
        wipe = ImageDraw.Draw(rest)
        for area in page.decoration:
            wipe.rectangle(area, "white")
        for label, (x, y, w, h) in page.regions:
            assert label in LABELS
            assert w >= 2, (label, w)
            assert h >= 2, (label, h)
            assert 0 <= x < x + w <= sheet.width, label
            assert 0 <= y < y + h <= sheet.height, label
            wipe.rectangle((x, y, x + w - 1, y + h - 1), "white")
        left_over = ImageChops.invert(rest).convert("L").point(lambda level: 255 * (level > 60))
        assert sum(value > 0 for value in left_over.tobytes()) <= 12, (seed, left_over.getbbox())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.fill.__name__)
def test_regions_do_not_lie_on_one_another(layout: Layout) -> None:
    """But for what the slants and tails of letters of touching lines share."""
    for seed in range(2):
        for (one, a), (other, b) in combinations(page_of(layout, seed).regions, 2):
            across = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
            down = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
            assert across <= 0 or down <= 4, (seed, one, a, other, b)


def test_there_are_many_layouts_and_every_class_is_common() -> None:
    assert len(LAYOUTS) >= 15
    assert len(FIGURES) >= 8
    counts = Counter(label for layout in LAYOUTS for seed in range(2) for label, _ in page_of(layout, seed).regions)
    assert set(counts) == set(LABELS)
    assert min(counts.values()) >= 4, counts


def test_wear_leaves_regions_where_they_are() -> None:
    """What is worn has the size of the sheet, and its ink is where the sheet's is."""
    generator = Generator("layout", seed=1, wear=1.0)
    changed = []
    for index in range(3):
        sheet, truth = generator.sheet(index)
        image, same = generator.document(index)
        assert image.size == sheet.image.size == (truth["width"], truth["height"])
        assert same == truth
        changed.append(ImageChops.difference(image, sheet.image).getbbox())
    assert any(changed)


def test_it_is_written_as_coco_and_read_back(tmp_path: Path) -> None:
    docstill.synth("layout", tmp_path / "pages", 9, seed=2, workers=2)
    read = read_coco_folder(tmp_path / "pages")
    assert read.labels == list(LABELS)
    assert [document.file.name for document in read.documents] == [f"{index:06d}.jpg" for index in range(9)]
    checked = docstill.check(tmp_path / "pages")
    assert (checked["task"], checked["problems"]) == ("layout", [])
    truth = Generator("layout", seed=2).document(4)[1]
    target = read.documents[4].target
    assert target.size == (truth["width"], truth["height"])
    assert [(LABELS[n], list(box)) for n, box in zip(target.labels, target.boxes, strict=True)] == [
        (region["label"], region["box"]) for region in truth["regions"]
    ]
    answers = tmp_path / "pages" / INSIDE
    content = json.loads(answers.read_text(encoding="utf-8"))
    results = [
        {key: one[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1} for one in content["annotations"]
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    assert docstill.score("layout", tmp_path / "results.json", answers)["metrics"]["ap"] == pytest.approx(1)


def test_the_verb(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli.app, ["synth", "layout", str(tmp_path / "out"), "-n", "1", "--json"])
    assert json.loads(result.stdout) == {"kind": "layout", "out": str(tmp_path / "out"), "n": 1, "seed": 0}
    assert Image.open(tmp_path / "out" / "000000.jpg").mode == "RGB"


def test_a_corpus_of_ones_own(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("Größe Übermaß naïve façade Straße", encoding="utf-8")
    sheet, _ = Generator("layout", corpus=corpus).sheet(0)
    assert any("Größe" in text for text, _ in sheet.written)
    corpus = tmp_path / "other.txt"
    corpus.write_text("日本 語", encoding="utf-8")
    with pytest.raises(UserError, match="the fonts can draw 0% of the words of the corpus"):
        Generator("layout", corpus=corpus).sheet(0)
