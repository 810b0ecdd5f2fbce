"""Paper and background of generated documents: from photographs or drawn, nothing hidden, characters followed, errors in words."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import docstill
from docstill import cli
from docstill.errors import UserError
from docstill.synthesis.generator import Generator, Kind
from docstill.synthesis.reading import SIZES
from docstill.synthesis.scenery import Photographs, lying, on_texture

RED = (220, 30, 30)


@pytest.fixture
def reds(tmp_path: Path) -> Path:
    """A folder with one red picture, in a folder of its own."""
    folder = tmp_path / "reds"
    (folder / "more").mkdir(parents=True)
    Image.new("RGB", (90, 70), RED).save(folder / "more" / "red.png")
    return folder


@pytest.fixture
def grain(tmp_path: Path) -> Path:
    """A folder with one picture of dark noise, as crumpled paper is in its folds."""
    folder = tmp_path / "grain"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 120, (80, 60), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "paper.png")
    return folder


@pytest.mark.parametrize("folder", [None, "reds"])
def test_a_sheet_lies_on_its_background_whole(folder: str | None, reds: Path) -> None:
    sheet = Image.fromarray(np.random.default_rng(0).integers(200, 255, (50, 80, 3), dtype=np.uint8))
    corners = np.array([(0.0, 0.0), (80.0, 50.0)])
    photographs = None if folder is None else Photographs(reds)
    for seed in range(8):
        picture, (first, last) = lying(sheet, corners, (100, 64), photographs, random.Random(seed))
        assert picture.size == (100, 64)
        assert np.array_equal(picture.crop((*first.astype(int), *last.astype(int))), sheet)
        if folder:
            outside = np.asarray(picture).astype(int)
            outside[int(first[1]) : int(last[1]), int(first[0]) : int(last[0])] = RED
            assert (outside[..., 0] >= outside[..., 1]).all()  # red, or red in the shadow


def test_ink_can_be_read_on_any_paper(grain: Path) -> None:
    sheet = Image.new("RGB", (64, 48), "white")
    sheet.paste((20, 20, 22), (10, 10, 20, 20))
    printed = np.asarray(on_texture(sheet, Photographs(grain), random.Random(1))).astype(int)
    assert len(np.unique(printed[30:])) > 5
    assert printed[30:].min() > 0.65 * 255
    assert printed[10:20, 10:20].max() <= 20 + 2


def test_pages_fill_their_picture_or_lie_on_a_table() -> None:
    generator = Generator("pages", wear=0.5)
    drawn = [(generator.sheet(index)[0].image.size, generator.drawn(index)) for index in range(30)]
    assert {sheet in SIZES for sheet, _ in drawn} == {True, False}
    plain = Generator("pages", wear=0)
    for index in range(10):
        sheet, _ = plain.sheet(index)
        assert np.array_equal(plain.document(index)[0], sheet.image)


@pytest.mark.parametrize("kind", ["pages", "labels", "receipts"])
def test_characters_are_where_they_are_said_to_be_on_a_background(kind: Kind, reds: Path) -> None:
    """Beside the sheet the picture is red or, in the shadow, dark red; no character may be said to stand there."""
    generator = Generator(kind, seed=2, wear=0, backgrounds=reds)
    larger = 0
    for index in range(12):
        sheet, _ = generator.sheet(index)
        drawn = generator.drawn(index)
        pixels = np.asarray(drawn.image).astype(int)
        larger += drawn.image.size != sheet.image.size
        for _, x, y in drawn.glyphs:
            red, green, _ = pixels[int(y * drawn.image.height), int(x * drawn.image.width)]
            assert red - green < 20, index
    assert larger >= (1 if kind == "pages" else 12)


def test_a_background_changes_the_picture_and_not_the_answer(reds: Path) -> None:
    plain, laid = Generator("labels", seed=3), Generator("labels", seed=3, backgrounds=reds)
    assert plain.document(1)[1] == laid.document(1)[1]
    assert plain.document(1)[0].size != laid.document(1)[0].size


def test_the_verb_and_its_mistakes(tmp_path: Path, reds: Path, grain: Path) -> None:
    out = str(tmp_path / "out")
    options = ["--papers", str(grain), "--backgrounds", str(reds), "--workers", "2"]
    assert CliRunner().invoke(cli.app, ["synth", "labels", out, "-n", "9", *options]).exit_code == 0
    alone = Generator("labels", papers=grain, backgrounds=reds).document(8)[0]
    with Image.open(tmp_path / "out" / "000008.jpg") as written:
        assert written.size == alone.size
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.jpg").write_bytes(b"no picture")
    for kind, chosen, message in (
        ("labels", {"papers": tmp_path / "gone"}, "there is no folder of papers"),
        ("labels", {"backgrounds": tmp_path / "gone"}, "there is no folder of backgrounds"),
        ("labels", {"papers": tmp_path / "empty"}, "holds no pictures"),
        ("labels", {"backgrounds": tmp_path / "broken"}, r"x\.jpg"),
        ("layout", {"backgrounds": reds}, "leave backgrounds out"),
    ):
        with pytest.raises(UserError, match=message):
            docstill.synth(kind, tmp_path / "new", 2, **chosen)
    assert not (tmp_path / "new").exists()
