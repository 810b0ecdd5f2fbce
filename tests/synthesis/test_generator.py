"""Generated documents: the same whenever asked, all of the truth on the page, no missing glyph, errors in words."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops
from typer.testing import CliRunner

import docstill
from docstill import cli
from docstill.data.donut_folder import read_donut_folder
from docstill.data.json_tokens import json_to_tokens, tokens_to_json
from docstill.data.validator import check
from docstill.errors import DataError, MissingExtra, UserError
from docstill.synthesis import fonts as typefaces
from docstill.synthesis.fonts import Face, Fonts
from docstill.synthesis.generator import KINDS, Generator, Kind, synth
from docstill.synthesis.labels import LAYOUTS, draw_label, shipment
from docstill.synthesis.page_kinds import KINDS as PAGE_KINDS
from docstill.synthesis.parties import COUNTRIES, party
from docstill.synthesis.reading import Corpus
from docstill.synthesis.receipts import LAYOUTS as TILLS
from docstill.synthesis.receipts import draw_receipt, receipt
from docstill.synthesis.sheet import Sheet
from docstill.synthesis.small_labels import LAYOUTS as SMALL
from docstill.synthesis.small_labels import packet
from docstill.synthesis.wear import FAULTS, worn

NOWHERE = np.zeros((0, 2))
READ: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "layout")
"""Kinds whose truth is what there is to be read."""


def leaves(value: Any) -> list[str]:
    """All values of a ground truth."""
    if isinstance(value, dict):
        return [leaf for child in value.values() for leaf in leaves(child)]
    if isinstance(value, list):
        return [leaf for child in value for leaf in leaves(child)]
    return [value]


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and ImageChops.difference(first, second).getbbox() is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_is_a_document_whenever_it_is_asked_for(kind: Kind) -> None:
    alone, truth = Generator(kind, seed=3).document(5)
    fresh = Generator(kind, seed=3)
    in_turn = [fresh.document(index) for index in range(6)]
    assert same(alone, in_turn[5][0])
    assert truth == in_turn[5][1]
    streamed = list(itertools.islice(Generator(kind, seed=3).stream(start=1, step=2), 3))
    assert [answer for _, answer in streamed] == [in_turn[index][1] for index in (1, 3, 5)]
    assert Generator(kind, seed=4).document(5)[1] != truth


PRINT = """
import hashlib, json, random
from docstill.synthesis.generator import KINDS, Generator
from docstill.synthesis.parties import COUNTRIES, party
for locale in COUNTRIES:
    print([party(random.Random(seed), locale).truth() for seed in range(5)])
for kind in KINDS:
    for index in range(4):
        image, truth = Generator(kind).document(index)
        print(hashlib.sha256(image.tobytes()).hexdigest(), json.dumps(truth))
"""


def test_the_order_of_sets_changes_nothing() -> None:
    """Python hashes texts anew in every process; Faker's lists must not depend on it."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", PRINT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].count(b"\n") == len(COUNTRIES) + 4 * len(KINDS)


def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    """Every process that draws imports the script anew, and with it asks for processes itself."""
    script = tmp_path / "script.py"
    script.write_text(f"import docstill\ndocstill.synth('labels', {str(tmp_path / 'out')!r}, 4, workers=2)\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'under `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["script.py"]


def test_workers_change_nothing_and_docstill_reads_what_they_wrote(tmp_path: Path) -> None:
    for workers in (1, 2):
        docstill.synth("labels", tmp_path / str(workers), 10, seed=1, workers=workers)
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("1", "2"))
    assert first == second
    assert len(first) == 11
    assert check(tmp_path / "1", "kie")["problems"] == []
    assert read_donut_folder(tmp_path / "1")[0].target == Generator("labels", seed=1).document(0)[1]


@pytest.mark.parametrize("kind", READ)
def test_all_of_the_truth_stands_on_the_page_and_inside_it(kind: Kind) -> None:
    """Drawn texts are joined, as an address may be one line or three; each must lie within the sheet."""
    generator = Generator(kind, seed=0)
    for index in range(60):
        sheet, truth = generator.sheet(index)
        for text, (left, top, right, bottom) in sheet.written:
            assert left >= -1, (index, text)
            assert top >= 0, (index, text)
            assert right <= sheet.width + 1, (index, text)
            assert bottom <= sheet.height + 4, (index, text)
        drawn = " ".join(text for text, _ in sheet.written).replace(",", "")
        for value in leaves(truth):
            assert value.replace(",", "") in drawn, (index, value)


@pytest.mark.parametrize("kind", READ)
def test_answers_survive_the_way_through_tokens(kind: Kind) -> None:
    generator = Generator(kind)
    for index in range(40):
        _, truth = generator.sheet(index)
        assert tokens_to_json(json_to_tokens(truth)) == truth


@pytest.mark.parametrize("kind", ["labels", "small-labels"])
def test_texts_of_a_label_do_not_lie_on_one_another(kind: Kind) -> None:
    """No box of text overlaps another by more than the slant of their line spacing."""
    generator = Generator(kind, seed=2)
    for index in range(60):
        sheet, _ = generator.sheet(index)
        for (one, a), (other, b) in itertools.combinations(sheet.written, 2):
            across = min(a[2], b[2]) - max(a[0], b[0])
            down = min(a[3], b[3]) - max(a[1], b[1])
            assert across <= 1 or down <= 0.35 * min(a[3] - a[1], b[3] - b[1]), (index, one, other)


def test_every_layout_is_drawn() -> None:
    face = Fonts().faces[0]
    for layout in LAYOUTS:
        it = shipment(random.Random(1))
        assert layout(it, face, face, random.Random(1)).written
    for small in SMALL:
        assert small(packet(random.Random(1)), face, face, random.Random(1)).written
    assert len(LAYOUTS) >= 8
    assert len(SMALL) >= 8
    assert len(TILLS) >= 8
    assert len({draw_label(shipment(random.Random(n)), face, face, random.Random(n)).image.size for n in range(60)}) > 4
    widths = {draw_receipt(receipt(random.Random(n)), face, face, random.Random(n)).width for n in range(80)}
    assert widths == {till.width for till in TILLS}


def test_the_sums_of_a_receipt_are_right() -> None:
    def cents(text: str) -> int:
        return int("".join(character for character in text if character.isdigit()))

    for seed in range(200):
        it = receipt(random.Random(seed))
        assert sum(cents(price) for _, _, price in it.menu) == cents(it.subtotal)
        assert cents(it.subtotal) + cents(it.tax) == cents(it.total)
        assert cents(it.cash) - cents(it.total) == cents(it.change)


def test_what_else_stands_on_a_receipt_is_printed() -> None:
    face, seen = Fonts().faces[0], set()
    for seed in range(60):
        it = receipt(random.Random(seed))
        written = [text for text, _ in draw_receipt(it, face, face, random.Random(seed)).written]
        lines = [*it.above, *it.address, *it.below, *filter(None, [it.title])]
        assert set(lines) <= set(written)
        places = [written.index(line) for line in lines]
        assert places == sorted(places)
        assert not it.clerk or f"{it.words()['clerk']}: {it.clerk}" in written
        if it.capitals:
            assert {letter for text in written for letter in text if letter != letter.upper()} <= {"x"}  # 2 x
        parts = {"above": it.above, "below": it.below, "title": it.title, "clerk": it.clerk, "capitals": it.capitals}
        seen |= {(name, bool(part)) for name, part in parts.items()}
    assert len(seen) == 10  # each is there, and is not


def test_flat_receipts_have_the_four_fields() -> None:
    _, truth = Generator("receipts", form="flat").document(0)
    assert list(truth) == ["company", "date", "address", "total"]


@pytest.mark.parametrize("locale", COUNTRIES)
def test_addresses_of_every_country(locale: str) -> None:
    who = party(random.Random(0), locale, company=1.0)
    assert all(who.truth().get(key) for key in ("name", "company", "street", "postcode", "city", "country"))
    assert all("\n" not in value for value in who.truth().values())
    assert who.lines()[-1] in COUNTRIES[locale]


def test_a_glyph_that_is_lacking_is_noticed() -> None:
    """A face that lacks a letter draws the same box for it as for a character that nobody has."""
    faces = Fonts().faces
    assert not any(face.covers("日本") for face in faces)
    assert not any(face.covers("\ue123") for face in faces)
    assert all(face.covers("Größe, naïve façade") for face in faces)


@pytest.mark.parametrize("kind", KINDS)
def test_every_line_is_drawn_with_a_face_that_has_its_glyphs(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, text = list[tuple[str, Face]](), Sheet.text

    def noted(self: Sheet, at: tuple[float, float], line: str, face: Face, size: int, **options: Any) -> float:
        drawn.append((line, face))
        return text(self, at, line, face, size, **options)

    monkeypatch.setattr(Sheet, "text", noted)
    generator = Generator(kind, seed=9)
    for index in range(6 if kind == "layout" else 60):
        generator.sheet(index)
    assert len(drawn) > 100
    assert [line for line, face in drawn if not face.covers(line)] == []


def test_a_sheet_without_wear_is_as_drawn_and_every_fault_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = Generator("receipts", seed=1).sheet(0)[0].image
    assert same(worn(sheet, NOWHERE, random.Random(0), 0)[0], sheet)
    for fault in FAULTS:
        monkeypatch.setattr("docstill.synthesis.wear.FAULTS", (fault,))
        changed = [worn(sheet, NOWHERE, random.Random(seed), 0.5)[0] for seed in range(12)]
        assert fault == "skew" or all(image.size == sheet.size for image in changed)
        assert any(not same(image, sheet) for image in changed), fault


def test_pages_of_any_corpus(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(
        "Straße\x07 \u200bcafé naïve\nשלום мир 日本 plain <sep/> a</s>b 1<2 words 😀 here", encoding="utf-8"
    )
    words = {
        word
        for index in range(6)
        for word in Generator("pages", corpus=corpus).sheet(index)[1]["text_sequence"].split()
    }
    assert {"Straße", "café", "plain", "words"} <= words
    assert "1<2" in words
    assert not words & {"שלום", "日本", "😀", "<sep/>", "a</s>b"}
    assert all(character.isprintable() for word in words for character in word)


def test_scripts_without_spaces_are_broken_into_lines(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("x" * 4000, encoding="utf-8")
    sheet, _ = Generator("pages", corpus=corpus).sheet(0)
    assert all(right <= sheet.width for _, (_, _, right, _) in sheet.written)
    text, corpus = "A" * 30 + "。" + "B" * 100 + "\nshort", tmp_path / "other.txt"
    corpus.write_text(text, encoding="utf-8")
    words = Corpus(corpus).words
    assert "".join(words) == text.replace("\n", "")
    assert words[0] == "A" * 30 + "。"
    assert max(map(len, words)) == 39


def test_lines_that_nobody_asks_for_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a paragraph without spaces the rest was, again for each line."""
    corpus, measured = tmp_path / "corpus.txt", list[int]()
    corpus.write_text("abcde" * 4000, encoding="utf-8")
    length = Sheet.length

    def counted(self: Sheet, text: str, *more: Any) -> float:
        measured.append(len(text))
        return length(self, text, *more)

    monkeypatch.setattr(Sheet, "length", counted)
    sheet, _ = Generator("pages", corpus=corpus).sheet(0)
    assert sum(measured) < 100 * sum(len(text) for text, _ in sheet.written)


def test_text_from_right_to_left_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("abcde fghij שלום עולם", encoding="utf-8")
    docstill.synth("pages", tmp_path / "out", 1, corpus=corpus)
    assert "warning: 44.4% of the corpus is written from right to left" in capsys.readouterr().err
    corpus = tmp_path / "other.txt"
    corpus.write_text("שלום עולם", encoding="utf-8")
    with pytest.raises(UserError, match="no words that can be drawn, for what is written from right to left is not"):
        Corpus(corpus)


@pytest.mark.parametrize(
    "content", [b"", b" \n\t", b"\x00\x01\x07\x7f", b"\xef\xbb\xbf"], ids=["empty", "blank", "control", "bom"]
)
def test_a_corpus_without_words_is_not_said_to_be_from_right_to_left(content: bytes, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(content)
    for kind in ("pages", "layout"):
        with pytest.raises(UserError) as error:
            docstill.synth(kind, tmp_path / "out", 1, corpus=corpus)
        assert str(error.value) == f"{corpus} holds no words that can be drawn; give another UTF-8 text file"


def test_what_does_not_hold_is_said_in_a_sentence(tmp_path: Path) -> None:
    empty, latin, fontless = tmp_path / "empty.txt", tmp_path / "latin.txt", tmp_path / "fonts"
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("日本 東京 大阪 plain", encoding="utf-8")
    empty.write_text(" \n\x00\n", encoding="utf-8")
    latin.write_bytes("fine\nStra\xdfe".encode("latin-1"))
    fontless.mkdir()
    (fontless / "broken.ttf").write_bytes(b"no font")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    out = tmp_path / "out"
    for arguments, message in (
        ({"kind": "letters"}, "choose one of pages, labels, small-labels, receipts"),
        ({"form": "deep"}, "form can be nested or flat"),
        ({"form": "flat"}, "form is for receipts, labels were asked for"),
        ({"corpus": latin}, "a corpus is for pages and layout, labels were asked for"),
        ({"n": 0}, "n must be at least 1"),
        ({"wear": 2}, "wear must be between 0 and 1"),
        ({"kind": "page-kinds", "glyphs": True, "fonts": fontless}, "leave fonts and glyphs out"),
        ({"kind": "page-kinds", "wear": 0.5}, "leave wear out"),
        ({"kind": "page-kinds", "out": tmp_path / "full"}, "is not empty; give a new folder"),
        ({"fonts": fontless}, "give a folder with .ttf or .otf files"),
        ({"fonts": tmp_path / "nowhere"}, "there is no font folder"),
        ({"kind": "pages", "corpus": empty}, "holds no words that can be drawn"),
        ({"kind": "pages", "corpus": tmp_path / "gone.txt"}, "cannot read the corpus"),
        ({"kind": "pages", "corpus": foreign}, "the fonts can draw 25% of the words of the corpus"),
        ({"out": tmp_path / "full"}, "is not empty; give a new folder"),
    ):
        with pytest.raises(UserError, match=message):
            docstill.synth(**{"kind": "labels", "out": out, "n": 2, **arguments})
    with pytest.raises(DataError) as error:
        docstill.synth("pages", out, 2, corpus=latin)
    assert error.value.problems[0].startswith(f"{latin}:2: ")
    assert not out.exists()
    assert not list(tmp_path.glob(".*partial"))


def test_without_the_extra_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "docstill\[synth\]"'):
        docstill.synth("labels", tmp_path / "out", 1)


def test_without_any_font_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typefaces, "_packaged", list)
    with pytest.raises(UserError, match=r'there is no font in the installed packages; pip install "docstill\[synth\]"'):
        Fonts()


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(UserError, match="nothing was kept, make room"):
        docstill.synth("receipts", tmp_path / "out", 3)
    assert list(tmp_path.iterdir()) == []


def test_page_kinds_are_class_folders(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        docstill.synth("page-kinds", tmp_path / name, 8, seed=seed)
    files = {name: {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.png")} for name in "abc"}
    assert files["a"] == files["b"]
    assert not set(files["a"].values()) & set(files["c"].values())
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(PAGE_KINDS)
    assert len(files["a"]) == 8
    assert check(tmp_path / "a", "classification")["problems"] == []


def test_the_verb(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli.app, ["synth", "receipts", str(tmp_path / "out"), "-n", "3", "--form", "flat", "--json"]
    )
    assert json.loads(result.stdout) == {"kind": "receipts", "out": str(tmp_path / "out"), "n": 3, "seed": 0}
    picture = Image.open(io.BytesIO((tmp_path / "out" / "000002.jpg").read_bytes()))
    assert picture.mode == "RGB"


def test_the_folder_that_one_is_in_and_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for place, message in ((Path("."), "the folder that you are in"), (Path("file"), "is a file")):
        with pytest.raises(UserError, match=message):
            synth("labels", place, 1)
