"""Reading files of several pages with a Donut: each page answered as if alone, and what becomes of files that are not whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import docstill
from docstill import cli
from docstill.data.images import open_pages
from docstill.errors import UserError
from docstill.loaded import Model
from kie_tiny import ANSWERS, page, tiny_donut

pytestmark = pytest.mark.usefixtures("one_thread")

PDF = b"""%%PDF-1.7
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[%s]/Count %d>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 200]/Resources<</Font<</F 5 0 R>>>>/Contents 4 0 R>>endobj
4 0 obj<</Length 46>>stream
BT /F 30 Tf 30 100 Td (total: 12.50 EUR) Tj ET
endstream endobj
5 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj
6 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 300]/Resources<</Font<</F 5 0 R>>>>/Contents 4 0 R>>endobj
%strailer<</Root 1 0 R/Size 8%s>>
%%%%EOF
"""
"""Two pages that are whole, 3 and 6; which of them it has is left open, and whether it is locked."""
LOCK = b"7 0 obj<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>endobj\n" % (b"4f" * 32, b"55" * 32)
"""Of a password that nobody knows."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """A Donut's folder, and the Donut. It writes nonsense, but how sure it is of that depends on the page."""
    folder = tiny_donut(positions=16).save(tmp_path_factory.mktemp("reader") / "model")
    return folder, docstill.load(folder)


def sheets() -> list[Image.Image]:
    """Two receipts with an empty page between them."""
    return [page(ANSWERS[0]), Image.new("RGB", (150, 150), "white"), page(ANSWERS[3])]


def several(path: Path) -> Path:
    first, *others = sheets()
    first.save(path, save_all=True, append_images=others, **({"resolution": 200} if path.suffix == ".pdf" else {}))
    return path


def pdf(path: Path, *numbers: int, locked: bool = False) -> Path:
    """A PDF with these objects as its pages; there are 3 and 6."""
    kids = b" ".join(b"%d 0 R" % number for number in numbers)
    lock, key = (LOCK, b"/Encrypt 7 0 R/ID[<01><01>]") if locked else (b"", b"")
    path.write_bytes(PDF % (kids, len(numbers), lock, key))
    return path


def command(*words: object, code: int = 0) -> tuple[list[dict[str, Any]], str]:
    """What ``docstill predict`` prints, and what it says beside that."""
    done = CliRunner().invoke(cli.app, ["predict", *map(str, words), "--json"])
    assert done.exit_code == code, done.output
    assert "Traceback" not in done.stderr
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers, " ".join(done.stderr.split())


def like(answer: dict[str, Any]) -> dict[str, Any]:
    """To be compared with: the same but for rounding."""
    return {**answer, **{name: _near(answer[name]) for name in ("confidence", "document_confidence")}}


def _near(sure: Any) -> Any:
    if isinstance(sure, dict):
        return {name: _near(value) for name, value in sure.items()}
    return [_near(value) for value in sure] if isinstance(sure, list) else pytest.approx(sure, rel=1e-3)


def test_each_page_is_read_as_if_it_were_alone(reader: tuple[Path, Model], tmp_path: Path) -> None:
    folder, model = reader
    tiff, printed, one = several(tmp_path / "scan.tif"), several(tmp_path / "print.pdf"), tmp_path / "one.png"
    page(ANSWERS[1]).save(one)
    alone = {path: [model.predict(image)[0] for image in open_pages(path)] for path in (tiff, one, printed)}
    expected = [
        {"file": str(path), **({"page": number} if len(answers) > 1 else {}), **answer}
        for path, answers in alone.items()
        for number, answer in enumerate(answers, 1)
    ]
    answers, _ = command(folder, tiff, one, printed)
    assert answers == [like(answer) for answer in expected]
    assert [list(answer)[:2] for answer in answers].count(["file", "page"]) == 6
    assert [answer.get("page") for answer in answers] == [1, 2, 3, None, 1, 2, 3]
    assert [answer["blank"] for answer in answers] == [False, True, False, False, False, True, False]
    assert [answer["fields"] for answer in answers if answer["blank"]] == [{}, {}]
    sure = [answer["document_confidence"] for answer in answers if not answer["blank"]]
    assert len(set(sure)) == len(sure), "the pages are told apart"

    without_names = [{key: value for key, value in answer.items() if key != "file"} for answer in expected]
    assert model.predict([tiff, one, printed]) == [like(answer) for answer in without_names]
    assert model.predict(str(tiff)) == [like(answer) for answer in without_names[:3]]


def test_a_damaged_page_is_named_behind_those_before_it(reader: tuple[Path, Model], tmp_path: Path) -> None:
    folder, model = reader
    whole, damaged = pdf(tmp_path / "whole.pdf", 3, 6), pdf(tmp_path / "damaged.pdf", 3, 9, 6)
    scan = several(tmp_path / "scan.tif")
    scan.write_bytes(scan.read_bytes()[:-500])  # of the third page's pixels
    answers, said = command(folder, damaged, scan, whole, code=2)
    assert [(Path(answer["file"]).name, answer.get("page"), "fields" in answer) for answer in answers] == [
        *(("damaged.pdf", 1, True), ("damaged.pdf", None, False)),
        *(("scan.tif", 1, True), ("scan.tif", 2, True), ("scan.tif", None, False)),
        *(("whole.pdf", 1, True), ("whole.pdf", 2, True)),
    ]
    errors = [answer["error"] for answer in answers if "error" in answer]
    assert errors[0].startswith(f"{damaged}: page 2 is damaged")
    assert errors[1].startswith(f"{scan}: is damaged")
    assert "2 of 3 files could not be read" in said
    assert all(" ".join(error.split()) in said for error in errors)
    assert [answer.get("page") for answer in model.predict_files([damaged, whole])] == [1, None, 1, 2]
    with pytest.raises(UserError, match=r"damaged\.pdf: page 2 is damaged .*; restore the PDF or take the page out$"):
        model.predict([whole, damaged])


def test_a_locked_pdf_keeps_no_other_from_being_read(reader: tuple[Path, Model], tmp_path: Path) -> None:
    folder, model = reader
    locked, whole = pdf(tmp_path / "locked.pdf", 3, 6, locked=True), pdf(tmp_path / "whole.pdf", 6)
    answers, said = command(folder, locked, whole, code=2)
    error = f"{locked}: the PDF needs a password; give one that opens without"
    assert answers[0] == {"file": str(locked), "error": error}
    assert [(answer["file"], answer.get("page"), answer["blank"]) for answer in answers[1:]] == [
        (str(whole), None, False)
    ]
    assert "1 of 2 files could not be read" in said
    assert "needs a password" in said
    with pytest.raises(UserError, match=r"locked\.pdf: the PDF needs a password; give one that opens without$"):
        model.predict(locked)


def test_the_pages_before_a_tiff_breaks_off_are_read(reader: tuple[Path, Model], tmp_path: Path) -> None:
    _, model = reader
    scan = several(tmp_path / "scan.tif")
    data = scan.read_bytes()
    scan.write_bytes(data[: len(data) * 2 // 3])  # the second page, too, is there
    first, *others, last = model.predict_files(scan)
    assert (first["page"], first["blank"]) == (1, False)
    assert [answer.get("page") for answer in others] in ([], [2])
    assert "is damaged" in last["error"]
