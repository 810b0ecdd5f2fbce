"""Files of several pages: TIFFs and PDFs, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw
from typer.testing import CliRunner

import docstill
import tiny
from docstill import cli
from docstill.data.images import as_read, open_pages, page_count
from docstill.errors import UserError
from docstill.models.classifier import new_classifier
from docstill.optimiser import seed_everything


def sheets(count: int = 3) -> list[Image.Image]:
    """Pages of one size, each with a black bar at another height."""
    found = []
    for number in range(count):
        image = Image.new("RGB", (120, 160), "white")
        ImageDraw.Draw(image).rectangle((10, 10 + 40 * number, 110, 25 + 40 * number), fill="black")
        found.append(image)
    return found


def bar(image: Image.Image) -> float:
    """Where the bar is, as a share of the height."""
    rows = np.asarray(image.convert("L")).mean(axis=1)
    return float(rows.argmin() / image.height)


@pytest.mark.parametrize("name", ["scan.tif", "scan.pdf"])
def test_every_page_comes_in_order(name: str, tmp_path: Path) -> None:
    first, *others = sheets()
    path = tmp_path / name
    first.save(path, save_all=True, append_images=others, **({"resolution": 72} if name.endswith("pdf") else {}))
    assert page_count(path) == 3
    pages = list(open_pages(path))
    assert [page.mode for page in pages] == ["RGB"] * 3
    # within the bar, which is 15 of 160 rows high
    assert [bar(page) for page in pages] == pytest.approx([17 / 160, 57 / 160, 97 / 160], abs=8 / 160)
    if name.endswith("pdf"):
        assert pages[0].width == pytest.approx(120 * 200 / 72, abs=2), "200 dots an inch"


def test_a_picture_is_one_page(tmp_path: Path) -> None:
    sheets()[0].save(tmp_path / "page.png")
    assert page_count(tmp_path / "page.png") == 1
    assert len(list(open_pages(tmp_path / "page.png"))) == 1
    sheets()[0].save(tmp_path / "page.jpg", comment=b"made from %PDF-1.7")
    assert [page.size for page in open_pages(tmp_path / "page.jpg")] == [(120, 160)]


PDF = b"""%%PDF-1.7
1 0 obj<</Type/Catalog/Pages 2 0 R/AcroForm<</Fields[4 0 R]/DR<</Font<</Helv 5 0 R>>>>/DA(/Helv 24 Tf 0 g)>>>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R%s]/Count %d>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Annots[4 0 R]>>endobj
4 0 obj<</Type/Annot/Subtype/Widget/FT/Tx/T(n)/V(FILLED IN)/Rect[20 100 280 130]/DA(/Helv 20 Tf 0 g)/F 4/P 3 0 R>>endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
trailer<</Root 1 0 R/Size 6>>
%%%%EOF
"""
"""A form with a filled field; with room for another page."""


def test_what_was_filled_into_a_form_is_seen(tmp_path: Path) -> None:
    (tmp_path / "form.pdf").write_bytes(PDF % (b"", 1))
    (page,) = open_pages(tmp_path / "form.pdf")
    dark = np.asarray(page.convert("L")) < 100
    assert dark[: page.height // 2].sum() > 100


def test_a_damaged_page_of_a_whole_pdf_is_named(tmp_path: Path) -> None:
    (tmp_path / "form.pdf").write_bytes(PDF % (b" 9 0 R", 2))
    pages = open_pages(tmp_path / "form.pdf")
    assert next(pages).width > 0
    with pytest.raises(UserError, match=r"form\.pdf: page 2 is damaged"):
        next(pages)


def test_a_plan_is_drawn_smaller(tmp_path: Path) -> None:
    Image.new("L", (400, 5000), 255).save(tmp_path / "plan.pdf", resolution=36)
    (page,) = open_pages(tmp_path / "plan.pdf")
    assert page.height == pytest.approx(10_000, abs=2)


def test_broken_files_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cut.pdf").write_bytes(b"%PDF-1.7 and so on")
    with pytest.raises(UserError, match=r"cut\.pdf: the PDF is damaged"):
        list(open_pages(tmp_path / "cut.pdf"))
    with pytest.raises(UserError, match=r"none\.pdf: cannot be read"):
        list(open_pages(tmp_path / "none.pdf"))
    first, *others = sheets()
    first.save(tmp_path / "whole.tif", save_all=True, append_images=others)
    data = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(UserError, match=r"cut\.tif: is damaged after its first page"):
        list(open_pages(tmp_path / "cut.tif"))
    (tmp_path / "shorter.tif").write_bytes(data[:-500])
    with pytest.raises(UserError, match=r"shorter\.tif: is damaged"):
        list(open_pages(tmp_path / "shorter.tif"))


def test_predict_answers_for_every_page_and_check_warns(tmp_path: Path) -> None:
    seed_everything(0)
    model = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32)).save(tmp_path / "model")
    first, *others = sheets()
    first.save(tmp_path / "letters.pdf", save_all=True, append_images=others)
    first.save(tmp_path / "one.png")
    words = ["predict", str(model), str(tmp_path / "one.png"), str(tmp_path / "letters.pdf"), "--json"]
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    answers = json.loads(done.stdout)
    assert [(Path(answer["file"]).name, answer.get("page")) for answer in answers] == [
        ("one.png", None),
        ("letters.pdf", 1),
        ("letters.pdf", 2),
        ("letters.pdf", 3),
    ]
    data = tiny.class_folders(tmp_path / "data")
    first, *others = sheets()  # new ones: saving as PNG leaves settings behind that Pillow's TIFFs trip over
    first.save(data / "train" / "bars" / "several.tif", save_all=True, append_images=others)
    warnings = docstill.check(data)["warnings"]
    assert any("several.tif: has 3 pages, only the first is used" in line for line in warnings)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_a_picture_from_a_program_is_read_as_its_file_is(mode: str, tmp_path: Path) -> None:
    seed_everything(0)
    model = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32)).save(tmp_path / "model")
    values = np.linspace(0, 65535, 40 * 60).reshape(60, 40)
    grey = Image.fromarray((values / 257).astype(np.uint8))
    deep = Image.fromarray(values.astype(np.uint16))
    image = deep if mode == "I;16" else grey.convert("F") if mode == "F" else grey.convert("RGB").convert(mode)
    assert image.mode == mode
    if mode in {"LA", "RGBA"}:
        image.putalpha(100)
    path = tmp_path / ("page.png" if mode in {"LA", "RGBA"} else "page.tif")
    image.save(path)
    given, read = docstill.load(model).predict([image, path])
    assert given == read


def test_a_picture_from_a_program_is_turned_upright_and_whole(tmp_path: Path) -> None:
    image = sheets()[0]
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "page.png", exif=tags)
    with Image.open(tmp_path / "page.png") as lazy:
        assert as_read(lazy).size == (160, 120)
    data = (tmp_path / "page.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(UserError, match="picture that was given is damaged"):
        as_read(cut)
