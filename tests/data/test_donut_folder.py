"""Donut folders: the published layout is read; every bad line is named with its number."""

from __future__ import annotations

import json
import unicodedata
from array import array
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from docstill.data.document import Glyphs
from docstill.data.donut_folder import METADATA, read_donut_folder, repeated_keys, scan_donut_folder
from docstill.data.json_tokens import json_to_tokens
from docstill.errors import DataError


def line(name: str, **truth: Any) -> str:
    return json.dumps({"file_name": name, "ground_truth": json.dumps(truth)})


def folder(root: Path, *lines: str, pictures: tuple[str, ...] = ("a.jpg", "b.jpg", "sub/c.jpg")) -> Path:
    for name in pictures:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(root / name)
    (root / METADATA).write_text("\n".join(lines), encoding="utf-8")
    return root


def problems(root: Path) -> list[str]:
    with pytest.raises(DataError) as error:
        read_donut_folder(root)
    return error.value.problems


def test_the_published_layout(tmp_path: Path) -> None:
    root = folder(
        tmp_path,
        line("a.jpg", gt_parse={"total": "1"}, meta={"id": 3}),
        line("b.jpg", gt_parses=[{"answer": "x"}, {"answer": "y"}]),
        json.dumps({"file_name": "sub/c.jpg", "ground_truth": {"gt_parse": [{"a": 1}]}, "extra": None}),
    )
    documents = read_donut_folder(root)
    assert [document.file for document in documents] == [root / "a.jpg", root / "b.jpg", root / "sub" / "c.jpg"]
    assert [document.target for document in documents] == [{"total": "1"}, {"answer": "x"}, [{"a": 1}]]
    assert [len(document.variants) for document in documents] == [1, 2, 1]
    assert documents[1].variants == ({"answer": "x"}, {"answer": "y"})
    assert [document.where for document in documents] == [f"{METADATA}:{number}" for number in (1, 2, 3)]


def test_byte_order_mark_blank_lines_windows_ends_and_odd_separators_are_borne(tmp_path: Path) -> None:
    root = folder(tmp_path)
    text = "\r\n".join(
        [line("a.jpg", gt_parse={"a": "é"}), "", line("b.jpg", gt_parse={"a": "x\u2028y"}), "", "  ", ""]
    )
    (root / METADATA).write_bytes(b"\xef\xbb\xbf" + text.encode())
    documents = read_donut_folder(root)
    assert [document.where for document in documents] == [f"{METADATA}:1", f"{METADATA}:3"]
    assert documents[1].target == {"a": "x\u2028y"}
    raw = '{"file_name": "a.jpg", "ground_truth": {"gt_parse": {"a": "x\u2028y\x85z"}}}'
    (root / METADATA).write_text(raw, encoding="utf-8")  # separators that str.splitlines would cut at
    assert read_donut_folder(root)[0].target == {"a": "x\u2028y\x85z"}


@pytest.mark.parametrize(
    ("bad", "wanted"),
    [
        ('{"file_name": "a.jpg", ', "broken JSON (Expecting property name enclosed in double quotes at column"),
        ("[" * 100_000, "broken JSON (nested too deeply)"),
        ("[1]", "expected an object with file_name and ground_truth"),
        (json.dumps({"ground_truth": {"gt_parse": {}}}), "file_name is missing"),
        (json.dumps({"file_name": 3, "ground_truth": {"gt_parse": {}}}), "file_name is missing"),
        (json.dumps({"file_name": "a.jpg"}), "ground_truth is missing"),
        (json.dumps({"file_name": "a.jpg", "ground_truth": "{oops"}), "ground_truth is not JSON"),
        (json.dumps({"file_name": "a.jpg", "ground_truth": None}), "ground_truth must be an object"),
        (json.dumps({"file_name": "a.jpg", "ground_truth": "[1]"}), "ground_truth must be an object"),
        (line("a.jpg", parse={}), "neither gt_parse nor a list gt_parses"),
        (line("a.jpg", gt_parses=[]), "neither gt_parse nor a list gt_parses"),
        (line("a.jpg", gt_parse="words"), "gt_parse must be an object or a list"),
        (line("a.jpg", gt_parses=[{}, 3]), "gt_parse must be an object or a list"),
        (line("a.jpg", gt_parse={"": "x", "b": "1"}), 'a key without a name (""); give every field a name'),
        (line("a.jpg", gt_parses=[{"a": "1"}, {"a": [{"b": {"": 1}}]}]), "a key without a name"),
        (line("gone.jpg", gt_parse={}), "the picture gone.jpg is missing"),
        (line("sub", gt_parse={}), "the picture sub is missing"),
        (line("x" * 5000, gt_parse={}), "is missing"),
        (line("a\0.jpg", gt_parse={}), "is missing"),
        (line("/etc/passwd", gt_parse={}), "file_name '/etc/passwd' leads out of the folder"),
        (line("../a.jpg", gt_parse={}), "file_name '../a.jpg' leads out of the folder"),
        (line("sub/../../a.jpg", gt_parse={}), "leads out of the folder"),
        (line("./b.jpg", gt_parse={}), "b.jpg was already given in line 1"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, bad: str, wanted: str) -> None:
    root = folder(tmp_path, line("b.jpg", gt_parse={"a": "1"}), "", bad)
    found = problems(root)
    assert len(found) == 1
    assert found[0].startswith(f"{METADATA}:3: ")
    assert wanted in found[0]


def test_all_problems_come_at_once_and_the_rest_is_kept(tmp_path: Path) -> None:
    root = folder(
        tmp_path,
        "{",
        line("a.jpg", gt_parse={"a": "1"}),
        line("gone.jpg", parse={}),
        line("a.jpg", gt_parse={"a": "2"}),
        line("b.jpg", gt_parse={"a": "3"}),
    )
    found = problems(root)
    assert [problem.split(": ")[0] for problem in found] == [f"{METADATA}:{number}" for number in (1, 3, 4)]
    assert "gone.jpg is missing; also, ground_truth holds neither" in found[1]
    documents, same = scan_donut_folder(root)
    assert same == found
    assert [document.target["a"] for document in documents] == ["1", "3"]


def test_a_duplicate_is_seen_though_its_first_line_is_bad(tmp_path: Path) -> None:
    root = folder(tmp_path, json.dumps({"file_name": "a.jpg"}), line("a.jpg", gt_parse={}))
    assert [problem.split(": ")[0] for problem in problems(root)] == [f"{METADATA}:1", f"{METADATA}:2"]


def test_an_empty_split_no_metadata_and_no_utf_8(tmp_path: Path) -> None:
    assert problems(folder(tmp_path, "", " ")) == [f"{METADATA}: is empty; expected one line a picture"]
    (tmp_path / METADATA).write_bytes('{"file_name": "é"}'.encode("latin-1"))
    assert "is not UTF-8 (byte 15)" in problems(tmp_path)[0]
    (tmp_path / METADATA).unlink()
    assert f"there is no {tmp_path / METADATA}" in problems(tmp_path)[0]
    assert "there is no" in problems(tmp_path / "nowhere")[0]


@pytest.mark.parametrize(
    ("truth", "wanted"),
    [
        ('{"gt_parse": {"a": "x\\ud83d"}}', "half a character"),
        ('{"gt_parse": {"a\\ud83d": "x"}}', "half a character"),
        ('{"gt_parse": {"a": %s}}' % ("9" * 5000), "a number of thousands of digits"),
        ('{{"gt_parse": {{"a": {}"x"{}}}}}'.format('{"a": ' * 480, "}" * 480), "nested more than 50 deep"),
    ],
    ids=["half a character", "half in a key", "digits", "deep"],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_json_that_no_text_can_be_made_of(tmp_path: Path, truth: str, wanted: str, quoted: bool) -> None:
    truth = json.dumps(truth) if quoted else truth
    [problem] = problems(folder(tmp_path, f'{{"file_name": "a.jpg", "ground_truth": {truth}}}'))
    assert problem.startswith(f"{METADATA}:1: ")
    assert wanted in problem


def test_names_are_found_as_macos_and_windows_write_them(tmp_path: Path) -> None:
    names = [unicodedata.normalize("NFD", "Bücher.png"), "sub/c.jpg"]
    root = folder(
        tmp_path, line(unicodedata.normalize("NFC", "Bücher.png"), gt_parse={"a": "1"}), pictures=tuple(names)
    )
    assert read_donut_folder(root)[0].file.name == names[0]
    (root / METADATA).write_text(line("sub\\c.jpg", gt_parse={"a": "1"}))
    assert "is missing; write folders with /" in problems(root)[0]


def test_decimal_numbers_keep_their_zeros(tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "a.jpg")
    for truth in ('"{\\"gt_parse\\": {\\"total\\": 9.00}}"', '{"gt_parse": {"total": 9.00}}'):
        line = f'{{"file_name": "a.jpg", "ground_truth": {truth}, "glyphs": [["9", 0.5, 0.25]]}}\n'
        (tmp_path / "metadata.jsonl").write_text(line)
        (document,) = read_donut_folder(tmp_path)
        assert json_to_tokens(document.target) == "<s_total>9.00</s_total>"
        assert document.glyphs is not None
        assert list(document.glyphs.shares) == [0.5, 0.25]


def with_lines(root: Path, lines: object, **more: object) -> None:
    entry = {"file_name": "a.jpg", "ground_truth": {"gt_parse": {"a": "1"}}, "lines": lines}
    (root / METADATA).write_text(json.dumps(entry | more))


def test_characters_are_spread_over_the_box_of_their_line(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side; 200 wide and 100 high where it is shown
    Image.new("L", (100, 200)).save(tmp_path / "a.jpg", exif=exif)
    with_lines(tmp_path, [{"text": "AB C", "box": [20, 10, 60, 30]}, {"text": "", "box": [0, 0, 0, 0.5]}])
    (document,) = read_donut_folder(tmp_path)
    assert document.glyphs is not None
    assert [(sign, round(x * 200, 4), round(y * 100, 4)) for sign, x, y in document.glyphs.each()] == [
        ("A", 25, 20),
        ("B", 35, 20),
        ("C", 55, 20),
    ]
    with_lines(tmp_path, [{"text": "AB", "box": [180, 10, 220, 30]}, {"text": "C", "box": [200, 10, 210, 30]}])
    assert read_donut_folder(tmp_path)[0].glyphs == Glyphs("A", array("f", [0.95, 0.2]))  # the rest is off the edge
    with_lines(tmp_path, None, glyphs=None)
    assert read_donut_folder(tmp_path)[0].glyphs is None


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("TOTAL", "lines must be a list of"),
        ([{"text": "A"}], "lines must be a list of"),
        ([{"text": "A", "box": [1, 2, 3]}], "lines must be a list of"),
        ([{"text": "A", "box": [1, 2, 3, 10**400]}], "lines must be a list of"),
        ([{"text": "A", "box": [1, 2, True, 9]}], "lines must be a list of"),
        ([{"text": "A", "box": [10, 2, 8, 9]}], "the box [10, 2, 8, 9] of 'A' ends before it begins"),
        ([{"text": "A", "box": [30, 2, 38, 9]}], "lies off the picture, which has 20 × 10 pixels"),
    ],
)
def test_lines_that_cannot_be(tmp_path: Path, lines: object, wrong: str) -> None:
    Image.new("L", (20, 10)).save(tmp_path / "a.jpg")
    with_lines(tmp_path, lines)
    (problem,) = problems(tmp_path)
    assert problem.startswith(f"{METADATA}:1: ")
    assert wrong in problem


def test_characters_are_given_once(tmp_path: Path) -> None:
    Image.new("L", (20, 10)).save(tmp_path / "a.jpg")
    with_lines(tmp_path, [], glyphs=[])
    assert problems(tmp_path) == [f"{METADATA}:1: glyphs and lines both say where characters stand; keep one of them"]
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    with_lines(tmp_path, [{"text": "A", "box": [1, 2, 3, 4]}])
    assert "the size of the picture cannot be read" in problems(tmp_path)[0]
    (tmp_path / "a.jpg").unlink()
    assert "is missing" in problems(tmp_path)[0]


def test_keys_that_an_object_has_twice(tmp_path: Path) -> None:
    twice = '{"gt_parse": {"total": "1", "items": [{"nm": "x", "nm": "y"}, {"nm": "z"}], "total": "2"}}'
    root = folder(
        tmp_path,
        line("a.jpg", gt_parse={"a": {"n": "1"}, "b": {"n": "2"}}),
        json.dumps({"file_name": "b.jpg", "ground_truth": twice}),
        "{",
        "",
        f'{{"file_name": "a.jpg", "file_name": "sub/c.jpg", "ground_truth": {twice}}}',
        json.dumps({"file_name": "a.jpg", "ground_truth": "{"}),
        "[1]",
    )
    assert repeated_keys(root) == [
        (f"{METADATA}:2", ["nm", "total"]),
        (f"{METADATA}:5", ["nm", "total", "file_name"]),
    ]
    assert repeated_keys(root / "sub") == []
