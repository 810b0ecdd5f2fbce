"""No empty box in any picture: what Pillow is asked to draw is looked up in the font files, whatever the faces say of themselves."""

from __future__ import annotations

import io
import random
import string
import struct
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageFont

import docstill
from docstill.errors import UserError
from docstill.synthesis import fonts as typefaces
from docstill.synthesis.composing import SIGNS
from docstill.synthesis.fonts import GIVE_FONTS, Face, Fonts
from docstill.synthesis.generator import KINDS, Generator, Kind
from docstill.synthesis.labels import LAYOUTS as LABELS
from docstill.synthesis.labels import shipment
from docstill.synthesis.layouts import LAYOUTS, compose
from docstill.synthesis.page_kinds import KINDS as PAGE_KINDS
from docstill.synthesis.page_kinds import draw_page
from docstill.synthesis.reading import Corpus
from docstill.synthesis.sheet import Sheet

ASCII = string.ascii_letters + string.digits + string.punctuation + " "
SOURCE = {face.path.stem: face.path for face in Fonts().faces}
"""The packaged fonts."""
Drawn = list[tuple[Path | io.BytesIO, str]]
"""Font and text."""


def tables(font: bytes) -> dict[bytes, bytes]:
    """The tables of a TrueType or OpenType file."""
    (count,) = struct.unpack_from(">H", font, 4)
    entries = [struct.unpack_from(">4sIII", font, 12 + 16 * place) for place in range(count)]
    return {tag: font[start : start + length] for tag, _, start, length in entries}


def characters(font: bytes) -> dict[str, int]:
    """The characters that a font has, each with the number of its glyph: its table `cmap`, in format 4 or 12."""
    cmap, found = tables(font)[b"cmap"], dict[str, int]()
    (count,) = struct.unpack_from(">H", cmap, 2)
    for place in range(count):
        platform, _, start = struct.unpack_from(">HHI", cmap, 4 + 8 * place)
        (form,) = struct.unpack_from(">H", cmap, start)
        if platform in (0, 3) and form == 12:
            (groups,) = struct.unpack_from(">I", cmap, start + 12)
            for group in range(groups):
                first, last, glyph = struct.unpack_from(">III", cmap, start + 16 + 12 * group)
                found |= {chr(first + step): glyph + step for step in range(last - first + 1)}
        elif platform in (0, 3) and form == 4:
            segments = struct.unpack_from(">H", cmap, start + 6)[0] // 2
            ends, starts, deltas, offsets = (start + 14 + 2 * segments * part + 2 * (part > 0) for part in range(4))
            for segment in range(0, 2 * segments, 2):
                first, last, delta, offset = (
                    struct.unpack_from(">H", cmap, where + segment)[0] for where in (starts, ends, deltas, offsets)
                )
                for code in range(first, last + 1):
                    at = offsets + segment + offset + 2 * (code - first)
                    glyph = struct.unpack_from(">H", cmap, at)[0] if offset else code
                    found[chr(code)] = (glyph + delta) % 65536 if glyph else 0
    return {character: glyph for character, glyph in found.items() if glyph}


def with_characters(font: bytes, kept: dict[str, int]) -> bytes:
    """The font with another table `cmap`, that has only these characters."""
    groups = b"".join(struct.pack(">III", ord(one), ord(one), kept[one]) for one in sorted(kept))
    cmap = struct.pack(">HHHHIHHIII", 0, 1, 3, 10, 12, 12, 0, 16 + len(groups), 0, len(kept)) + groups
    parts = tables(font) | {b"cmap": cmap}
    head, body, start = font[:12], b"", 12 + 16 * len(parts)
    for tag, part in sorted(parts.items()):
        head += struct.pack(">4sIII", tag, 0, start + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    return head + body


def cut(folder: Path, kept: str, source: str = "SourceSansPro-Regular", name: str = "Cut") -> Path:
    """A folder with a packaged font that has lost all characters but these."""
    font = SOURCE[source].read_bytes()
    has = characters(font)
    assert set(kept) <= set(has)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.ttf").write_bytes(with_characters(font, {one: has[one] for one in kept}))
    return folder


@cache
def inside(font: Path | io.BytesIO) -> set[str]:
    """The characters of a font's file; Pillow's own is in memory."""
    return set(characters(font.getvalue() if isinstance(font, io.BytesIO) else font.read_bytes()))


def lacking(drawn: Drawn) -> set[tuple[str, str]]:
    """Each line that was drawn with a font that lacks one of its characters, and which."""
    return {(line, character) for font, line in set(drawn) for character in set(line) - inside(font)}


def leaves(value: Any) -> list[str]:
    """All values of a ground truth."""
    if isinstance(value, dict | list):
        return [leaf for child in (value.values() if isinstance(value, dict) else value) for leaf in leaves(child)]
    return [value]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Every text that Pillow made a picture of, with its font's file; not what `Face` looks at to know its glyphs."""
    texts: Drawn = []
    mask, look = ImageFont.FreeTypeFont.getmask2, typefaces._look

    def noted(self: ImageFont.FreeTypeFont, text: str, *more: Any, **options: Any) -> Any:
        texts.append((self.path, text))
        return mask(self, text, *more, **options)

    def looked(font: ImageFont.FreeTypeFont, character: str) -> Any:
        before = len(texts)
        found = look(font, character)
        del texts[before:]
        return found

    monkeypatch.setattr(ImageFont.FreeTypeFont, "getmask2", noted)
    monkeypatch.setattr(typefaces, "_look", looked)
    return texts


def test_this_reader_of_fonts_is_right_and_a_box_is_noticed(tmp_path: Path, drawn: Drawn) -> None:
    for path in SOURCE.values():
        assert set(ASCII + "äßçñøłž€–") <= set(characters(path.read_bytes()))
        assert "日" not in characters(path.read_bytes())
    path = cut(tmp_path / "fonts", ASCII) / "Cut.ttf"
    assert set(characters(path.read_bytes())) == set(ASCII)
    font = ImageFont.truetype(path, 24)
    looks = {one: bytes(font.getmask(one)) for one in "aäö"}
    assert looks["ä"] == looks["ö"] != looks["a"]
    assert lacking(drawn) == {("ä", "ä"), ("ö", "ö")}


@pytest.mark.parametrize("kind", KINDS)
def test_a_font_of_ascii_draws_no_box(kind: Kind, tmp_path: Path, drawn: Drawn) -> None:
    """It lacks what layouts write of their own accord; all of the truth is written nevertheless."""
    generator = Generator(kind, fonts=cut(tmp_path / "fonts", ASCII))
    texts = list[str]()
    for index in range({"layout": 4, "pages": 15, "labels": 80}.get(kind, 25)):
        sheet, truth = generator.sheet(index)
        texts += [text for text, _ in sheet.written]
        if kind != "layout":
            whole = " ".join(text for text, _ in sheet.written).replace(",", "")  # an address is one line or three
            assert [leaf for leaf in leaves(truth) if leaf.replace(",", "") not in whole] == []
    assert len(set(drawn)) > 100
    assert lacking(drawn) == set()
    assert all(text.isascii() for text in texts)
    if kind == "labels":
        assert {"Empfanger / To", "Expediteur / From", "Retour a"} <= set(texts)
    again = Generator(kind, fonts=generator.fonts).sheet(3)
    assert again[0].image.tobytes() == generator.sheet(3)[0].image.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_the_packaged_fonts_draw_no_box(kind: Kind, drawn: Drawn) -> None:
    generator = Generator(kind, seed=5)
    for index in range(3 if kind == "layout" else 15):
        generator.sheet(index)
    assert lacking(drawn) == set()


def test_page_kinds_draw_no_box(drawn: Drawn) -> None:
    for kind in PAGE_KINDS:
        for index in range(5):
            draw_page(kind, 0, index)
    assert len(set(drawn)) > 100
    assert lacking(drawn) == set()


GREEK = "".join(map(chr, (0x0386, *range(0x0388, 0x038B), *range(0x0391, 0x03A2), *range(0x03A3, 0x03CF))))


@pytest.mark.parametrize(
    ("kept", "text"),
    [
        (ASCII + "éàüÿ", "été à über ÿ plain words on a page "),  # their capitals are lacking
        (SIGNS + " " + GREEK, "Ελλάδα ωμέγα θάλασσα ήλιος νερό γη "),
    ],
    ids=["capitals", "latin"],
)
def test_layouts_with_a_font_that_lacks_capitals_or_latin_draw_no_box(
    kept: str, text: str, tmp_path: Path, drawn: Drawn
) -> None:
    (tmp_path / "corpus.txt").write_text(text * 20, encoding="utf-8")
    corpus, fonts = Corpus(tmp_path / "corpus.txt"), Fonts(cut(tmp_path / "fonts", kept))
    for number, layout in enumerate(LAYOUTS):
        assert compose(layout, corpus, fonts, random.Random(number)).regions
    assert lacking(drawn) == set()
    assert any("é" in line or "ά" in line for _, line in drawn)


def test_a_capital_that_the_face_lacks_stays_small(tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("été à ÿ", encoding="utf-8")
    fonts = Fonts(cut(tmp_path / "fonts", ASCII + "éàÿÀ"))
    page = compose(LAYOUTS[0], Corpus(tmp_path / "corpus.txt"), fonts, random.Random(0))
    assert {page.words(2, 2)[0] for _ in range(40)} == {"été", "À", "ÿ"}


def test_a_line_that_is_spread_over_its_room_is_written_by_a_face_that_has_it(tmp_path: Path, drawn: Drawn) -> None:
    face = Fonts(cut(tmp_path / "fonts", ASCII)).faces[0]
    for words, text in ((["one", "two"], "one two"), (["à", "deux"], "a deux")):
        sheet = Sheet(200, 40)
        sheet.spread((10, 5), words, face, 16, 180)
        assert [line for line, _ in sheet.written] == [text]
    assert {"one", "two", "a deux"} <= {line for _, line in drawn}
    assert lacking(drawn) == set()


def test_signs_that_no_face_has_are_left_out_and_the_service_is_not(tmp_path: Path, drawn: Drawn) -> None:
    face = Fonts(cut(tmp_path / "fonts", ASCII.translate({ord(one): None for one in "*_"}))).faces[0]
    for seed in range(200):
        it = shipment(random.Random(seed))
        if face.covers(it.characters()):
            break
    texts = [text for layout in LABELS for text, _ in layout(it, face, face, random.Random(0)).written]
    assert {it.service, "Signature"} <= set(texts)
    assert lacking(drawn) == set()
    assert {it.service, "Signature"} <= {line for _, line in drawn}


def test_which_face_writes_a_line_and_what_of_it(tmp_path: Path) -> None:
    folder = cut(tmp_path / "fonts", ASCII, name="A-Bold")
    cut(folder, ASCII, name="B-Regular")
    assert [face.able("Größe, ça")[1] for face in Fonts(folder).faces] == ["", ""]  # ß is no letter with a mark
    assert [face.able("*** à É ***")[1] for face in Fonts(folder).faces] == ["*** a E ***"] * 2
    cut(folder, ASCII + "ößçàÉ", name="C-Regular")
    cut(folder, ASCII + "ößçàÉ", name="D-Bold")
    bold, plain, *_ = Fonts(folder).faces
    assert [face.able("plain")[0].path.stem for face in (bold, plain)] == ["A-Bold", "B-Regular"]
    for face, other in ((bold, "D-Bold"), (plain, "C-Regular")):
        able, text = face.able("Größe, ça")
        assert (able.path.stem, text) == (other, "Größe, ça")
    alone = Face(folder / "A-Bold.ttf")
    assert alone.able("à") == (alone, "a")


def test_marks_and_spaces_that_a_face_lacks_are_noticed(tmp_path: Path, drawn: Drawn) -> None:
    """Drawn alone, a mark stands on a dotted circle: not the look of a glyph that is lacking, though it is."""
    manrope = Face(SOURCE["Manrope-Regular"])
    assert not {"\u0301"} & inside(manrope.path)
    assert not manrope.covers("x\u0301")
    assert not Face(cut(tmp_path / "fonts", ASCII) / "Cut.ttf").covers("a\u00a0b")
    assert manrope.covers("a\u00a0b")
    fonts = tmp_path / "manrope"
    fonts.mkdir()
    (fonts / "Manrope.ttf").write_bytes(manrope.path.read_bytes())
    (tmp_path / "corpus.txt").write_text("e\u0301te\u0301 x\u0301 plain words " * 20, encoding="utf-8")
    generator = Generator("pages", fonts=fonts, corpus=tmp_path / "corpus.txt")
    words = {word for index in range(6) for word in generator.sheet(index)[1]["text_sequence"].split()}
    assert words == {"été", "plain", "words"}
    assert lacking(drawn) == set()
    cut(tmp_path / "icons", ASCII.replace(" ", ""))
    with pytest.raises(UserError, match="there is no font in"):
        Fonts(tmp_path / "icons")


@pytest.mark.parametrize("kind", ["pages", "layout"])
@pytest.mark.parametrize(
    "text",
    [
        "吾輩は猫である。名前はまだ無い。",
        "모든 인간은 태어날 때부터 자유로우며",
        "人人生而自由，在尊严和权利上一律平等。",
    ],
    ids=["ja", "ko", "zh"],
)
def test_a_script_that_the_fonts_lack_is_refused_and_said_where_there_are_some(
    text: str, kind: Kind, tmp_path: Path, drawn: Drawn
) -> None:
    (tmp_path / "corpus.txt").write_text(text * 20, encoding="utf-8")
    folder = cut(tmp_path / "fonts", ASCII)
    for fonts in (None, folder):
        with pytest.raises(UserError) as error:
            docstill.synth(kind, tmp_path / "out", 2, corpus=tmp_path / "corpus.txt", fonts=fonts)
        assert str(error.value) == (
            "the fonts can draw 0% of the words of the corpus, and the rest would be left out; give --fonts with a folder that "
            "holds a face for its script (for Japanese, Korean and Chinese Noto Sans CJK, for others Noto Sans; both are free, "
            "from https://fonts.google.com/noto)"
        )
        assert not (tmp_path / "out").exists()
    latin = characters(SOURCE["SourceSansPro-Regular"].read_bytes())
    script = {one: latin[string.ascii_letters[place % 52]] for place, one in enumerate(sorted({*text} - {" "}))}
    has = script | {one: latin[one] for one in SIGNS + " "}
    (folder / "Script.ttf").write_bytes(with_characters(SOURCE["SourceSansPro-Regular"].read_bytes(), has))
    generator = Generator(kind, fonts=folder, corpus=tmp_path / "corpus.txt")
    written = {text for index in range(1 if kind == "layout" else 3) for text, _ in generator.sheet(index)[0].written}
    assert any(set(line) & set(script) for line in written)
    assert lacking(drawn) == set()


def test_a_corpus_that_is_refused_later_says_the_same(tmp_path: Path) -> None:
    """Where fonts have half of the words, but none has the digits too."""
    (tmp_path / "corpus.txt").write_text("plain words", encoding="utf-8")
    fonts = Fonts(cut(tmp_path / "fonts", string.ascii_letters + " "))
    with pytest.raises(UserError) as error:
        compose(LAYOUTS[0], Corpus(tmp_path / "corpus.txt"), fonts, random.Random(0))
    assert str(error.value).startswith("no font has glyphs for the words of the corpus and for 0123456789.,:%()- too; ")
    assert str(error.value).endswith(GIVE_FONTS)
