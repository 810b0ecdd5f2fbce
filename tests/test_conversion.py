"""PAGE-XML and YOLO become COCO: every version and dialect, every mistake named; YOLO and back is the same."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from PIL import Image
from typer.testing import CliRunner

import docstill
from docstill import cli
from docstill.data.coco_folder import read_coco_folder
from docstill.data.yolo import labels_beside, read_classes
from docstill.errors import DataError, MissingExtra, UserError

NAMESPACES = [
    'xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2013-07-15"',
    'xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"',
    'xmlns:pc="urn:other"',
    "",
]


def picture(path: Path, size: tuple[int, int] = (100, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 200).save(path)
    return path


def page_xml(
    path: Path, regions: str, name: str = "a.png", size: tuple[Any, Any] = (100, 80), space: str = NAMESPACES[0]
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n<PcGts {space}><Metadata/>'
        f'<Page imageFilename="{name}" imageWidth="{size[0]}" imageHeight="{size[1]}">\n{regions}\n</Page></PcGts>',
        encoding="utf-8",
    )
    return path


def text(points: str = "10,10 40,10 40,30 10,30", kind: str = "", more: str = "", inside: str = "") -> str:
    kind = f' type="{kind}"' if kind else ""
    return f'<TextRegion id="r1"{kind} {more}><Coords points="{points}"/>{inside}</TextRegion>'


def boxes(path: Path) -> dict[str, list[tuple[str, list[float]]]]:
    """Class and box of each region, by picture."""
    content = json.loads(path.read_text(encoding="utf-8"))
    labels = {entry["id"]: entry["name"] for entry in content["categories"]}
    return {
        page["file_name"]: [
            (labels[one["category_id"]], one["bbox"]) for one in content["annotations"] if one["image_id"] == page["id"]
        ]
        for page in content["images"]
    }


@pytest.mark.parametrize("space", NAMESPACES)
def test_page_xml_of_every_version(tmp_path: Path, space: str) -> None:
    picture(tmp_path / "p" / "a.png")
    old = '<ImageRegion id="i"><Coords><Point x="50" y="0"/><Point x="99" y="20"/></Coords></ImageRegion>'
    cell = '<TableRegion id="t"><Coords points="0,40 99,40 99,79"/>' + text("2,42 30,50") + "</TableRegion>"
    drawing = '<LineDrawingRegion id="l"><Coords points="1,1 9.5,9"/></LineDrawingRegion>'
    rule = '<SeparatorRegion id="s"><Coords points="0,35 99,35"/></SeparatorRegion>'
    transkribus = text(more='custom="readingOrder {index:0;} structure {type:heading;}"')
    page_xml(tmp_path / "p" / "a.xml", text(kind="caption") + old + cell + drawing + rule + transkribus, space=space)
    found = docstill.convert("page-xml", tmp_path / "p", tmp_path / "p.json")
    assert boxes(tmp_path / "p.json") == {
        "a.png": [
            ("caption", [10, 10, 30, 20]),
            ("image", [50, 0, 49, 20]),
            ("table", [0, 40, 99, 39]),
            ("text", [2, 42, 28, 8]),
            ("line-drawing", [1, 1, 8.5, 8]),
            ("separator", [0, 35, 99, 1]),
            ("heading", [10, 10, 30, 20]),
        ]
    }
    kinds = ("caption", "heading", "image", "line-drawing", "separator", "table", "text")
    assert found == {
        "format": "page-xml",
        "out": str(tmp_path / "p.json"),
        "n": 1,
        "regions": dict.fromkeys(kinds, 1),
        "unmarked": 0,
        "skipped": 0,
    }
    assert len(read_coco_folder(tmp_path / "p").documents[0].target.boxes) == 7


def test_pictures_are_found_as_transkribus_exports_them_and_other_xml_is_passed_over(tmp_path: Path) -> None:
    """XML in a folder page/ below the pictures; mets.xml beside them."""
    picture(tmp_path / "p" / "b ä" / "a.png")
    picture(tmp_path / "p" / "c.png")
    page_xml(tmp_path / "p" / "b ä" / "page" / "a.xml", text())
    page_xml(tmp_path / "p" / "deep" / "er" / "c.xml", text("-5,-5 20,20"), "C:/scans/../c.png")
    (tmp_path / "p" / "mets.xml").write_text("<mets:mets xmlns:mets='http://www.loc.gov/METS/'/>")
    found = docstill.convert("page-xml", tmp_path / "p", tmp_path / "out.json")
    assert found["skipped"] == 1
    assert boxes(tmp_path / "out.json") == {
        "b ä/a.png": [("text", [10, 10, 30, 20])],
        "c.png": [("text", [0, 0, 20, 20])],
    }


@pytest.mark.parametrize("name", ["C:\\scans\\ä b.png", "C:/scans/ä b.png", "\\\\host\\scans\\ä b.png", "..\\ä b.png"])
def test_paths_as_windows_writes_them(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "p" / "ä b.png")
    picture(tmp_path / "p" / "deep" / "c.png")
    page_xml(tmp_path / "p" / "a.xml", text(), name)
    page_xml(tmp_path / "p" / "c.xml", text(), "deep\\c.png")
    docstill.convert("page-xml", tmp_path / "p", tmp_path / "out.json")
    assert list(boxes(tmp_path / "out.json")) == ["deep/c.png", "ä b.png"]


@pytest.mark.parametrize(("stored", "named"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_umlauts_may_be_written_in_either_way(tmp_path: Path, stored: Any, named: Any) -> None:
    picture(tmp_path / "p" / unicodedata.normalize(stored, "Bücher 1.png"))
    page_xml(tmp_path / "p" / "a.xml", text(), unicodedata.normalize(named, "Bücher 1.png"))
    found = docstill.convert("page-xml", tmp_path / "p", tmp_path / "p.json")
    assert (found["n"], found["unmarked"]) == (1, 0)
    assert len(read_coco_folder(tmp_path / "p").documents) == 1


def test_pictures_that_no_xml_is_for_are_counted(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "deep/c.jpg", ".hidden.png"):
        picture(tmp_path / "p" / name)
    page_xml(tmp_path / "xml" / "a.xml", text())
    found = docstill.convert("page-xml", tmp_path / "p", tmp_path / "out.json", tmp_path / "xml")
    assert (found["n"], found["unmarked"], found["skipped"]) == (1, 2, 0)


@pytest.mark.parametrize(
    ("points", "box"),
    [
        ("100,0 100,80", [99, 0, 1, 80]),
        ("0,80 100,80", [0, 79, 100, 1]),
        ("0,0 0,80", [0, 0, 1, 80]),
        ("99.75,0 100,80", [99, 0, 1, 80]),
        ("100,80 100,80", [99, 79, 1, 1]),
    ],
)
def test_lines_on_the_pages_edge_are_widened_inwards(tmp_path: Path, points: str, box: list[float]) -> None:
    picture(tmp_path / "p" / "a.png")
    page_xml(tmp_path / "p" / "a.xml", f'<SeparatorRegion id="s"><Coords points="{points}"/></SeparatorRegion>')
    docstill.convert("page-xml", tmp_path / "p", tmp_path / "out.json")
    assert boxes(tmp_path / "out.json") == {"a.png": [("separator", box)]}


def test_every_region_outside_is_named(tmp_path: Path) -> None:
    """But of a page of another size, the size alone."""
    outside = "".join(
        f'<TextRegion id="{name}"><Coords points="{points}"/></TextRegion>'
        for name, points in {"r1": "300,300 400,400", "r2": "a,b", "r3": "101,0 101,80", "r4": "10,10 500,30"}.items()
    )
    for name in ("a", "b"):
        picture(tmp_path / "p" / f"{name}.png")
    page_xml(tmp_path / "p" / "a.xml", outside)
    page_xml(tmp_path / "p" / "b.xml", outside, "b.png", (500, 400))
    with pytest.raises(DataError) as error:
        docstill.convert("page-xml", tmp_path / "p", tmp_path / "out.json")
    assert [problem.split(": ")[1] for problem in error.value.problems] == [
        *(f"region r{number}" for number in (1, 2, 3, 4)),
        "is for 500 × 400 pixels, but its picture b.png has 100 × 80",
        "region r2",
    ]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><PcGts>&b;</PcGts>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><PcGts>&a;</PcGts>'


def test_all_bad_page_xml_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    for name in "abcdefg":
        picture(folder / f"{name}.png")
    for name, content in {
        "00": "<PcGts><Page",
        "01": BOMB,
        "02": OUTSIDE,
        "03": "<?xml version='1.0' encoding='moon'?><a/>",
    }.items():
        (folder / f"{name}.xml").write_text(content)
    page_xml(folder / "04.xml", text(), "none.png")
    page_xml(folder / "05.xml", text(), "a.png", (10, 8))
    page_xml(folder / "06.xml", text(), "a.png")
    page_xml(folder / "07.xml", text("10,10 x,3"), "b.png")
    page_xml(folder / "08.xml", text(""), "c.png")
    page_xml(folder / "09.xml", '<TextRegion id="q"/>', "d.png")
    page_xml(folder / "10.xml", text("300,300 400,400"), "e.png")
    (folder / "f.png").write_bytes(b"")
    page_xml(folder / "11.xml", text(), "f.png")
    page_xml(folder / "12.xml", text(), "")
    with pytest.raises(DataError) as error:
        docstill.convert("page-xml", folder, tmp_path / "out.json")
    problems = error.value.problems
    assert [problem.split(": ")[0] for problem in problems] == [str(folder / f"{n:02d}.xml") for n in range(13)]
    for place, what in enumerate(
        ["broken XML", "document type or entities", "document type or entities", "", "none.png is neither beside it"]
        + [
            "is for 10 × 8 pixels, but its picture a.png has 100 × 80",
            "is that of",
            "region r1: its points",
            "region r1",
        ]
        + ["region q: has no Coords", "lies outside the page", "f.png cannot be read", "no imageFilename"]
    ):
        assert what in problems[place]
    assert not (tmp_path / "out.json").exists()


def test_a_folder_without_page_xml(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    with pytest.raises(DataError, match="there is no PAGE-XML in this folder or below it"):
        docstill.convert("page-xml", tmp_path / "p", tmp_path / "out.json")


def test_without_the_extra_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page_xml(tmp_path / "a.xml", text())
    monkeypatch.setitem(sys.modules, "defusedxml", None)
    with pytest.raises(MissingExtra, match=r'pip install "docstill\[layout\]"'):
        docstill.convert("page-xml", tmp_path, tmp_path / "out.json")


def yolo(root: Path, **texts: str) -> Path:
    """Pictures and text files as Ultralytics lays them out, with class names."""
    for name, content in texts.items():
        picture(root / "images" / "train" / f"{name}.png")
        (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
        (root / "labels" / "train" / f"{name}.txt").write_text(content, encoding="utf-8")
    (root / "data.yaml").write_text("path: .\nnames:\n  0: text\n  2: täble\n", encoding="utf-8")
    return root / "images" / "train"


def test_yolo_boxes_polygons_and_empty_pages(tmp_path: Path) -> None:
    images = yolo(tmp_path, a="\ufeff0 0.5 0.5 0.2 0.25\r\n\n2 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.2\n", b="")
    picture(images / "deeper" / "c.jpg")
    found = docstill.convert("yolo", images, tmp_path / "out.json", classes=tmp_path / "data.yaml")
    assert boxes(tmp_path / "out.json") == {
        "a.png": [("text", [40, 30, 20, 20]), ("täble", [10, 8, 20, 24])],
        "b.png": [],
        "deeper/c.jpg": [],
    }
    assert (found["n"], found["unmarked"], found["regions"]) == (3, 1, {"text": 1, "täble": 1})


def test_what_macos_leaves_beside_files_is_none_of_them(tmp_path: Path) -> None:
    picture(tmp_path / "y" / "a.png")
    (tmp_path / "y" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "y" / "._a.txt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "n.txt").write_text("text\n")
    docstill.convert("yolo", tmp_path / "y", tmp_path / "y.json", classes=tmp_path / "n.txt")
    assert len(boxes(tmp_path / "y.json")["a.png"]) == 1
    picture(tmp_path / "x" / "a.png")
    page_xml(tmp_path / "x" / "a.xml", text())
    (tmp_path / "x" / "._a.xml").write_bytes(b"\0\5\x16\7")
    docstill.convert("page-xml", tmp_path / "x", tmp_path / "x.json")
    assert len(boxes(tmp_path / "x.json")["a.png"]) == 1


def test_yolo_text_beside_the_pictures_or_elsewhere(tmp_path: Path) -> None:
    images = yolo(tmp_path, a="0 0.5 0.5 1 1")
    assert labels_beside(images) == tmp_path / "labels" / "train"
    picture(tmp_path / "flat" / "x.png")
    (tmp_path / "flat" / "x.txt").write_text("1 0.5 0.5 1.000001 1")
    (tmp_path / "flat" / "classes.txt").write_text("text\nfigure\n")
    for number, labels in enumerate((None, tmp_path / "flat")):
        out = tmp_path / f"{number}.json"
        docstill.convert("yolo", tmp_path / "flat", out, labels, tmp_path / "flat" / "classes.txt")
        assert boxes(out) == {"x.png": [("figure", [0, 0, 100, 80])]}


def test_yolo_class_names_may_lie_among_the_text_files(tmp_path: Path) -> None:
    images = yolo(tmp_path, a="1 0.5 0.5 1 1")
    names = tmp_path / "labels" / "train" / "names.txt"
    names.write_text("text\nfigure\n")
    docstill.convert("yolo", images, tmp_path / "out.json", classes=names)
    assert boxes(tmp_path / "out.json") == {"a.png": [("figure", [0, 0, 100, 80])]}
    with pytest.raises(DataError, match=r"text files without a picture in .*names.txt"):
        docstill.convert("yolo", images, tmp_path / "two.json", classes=tmp_path / "data.yaml")


def test_pictures_may_be_links(tmp_path: Path) -> None:
    images = yolo(tmp_path, a="0 0.5 0.5 1 1")
    (images / "a.png").rename(tmp_path / "elsewhere.png")
    (images / "a.png").symlink_to(tmp_path / "elsewhere.png")
    docstill.convert("yolo", images, tmp_path / "out.json", classes=tmp_path / "data.yaml")
    page_xml(images / "a.xml", text())
    docstill.convert("page-xml", images, tmp_path / "xml.json")
    assert list(boxes(tmp_path / "out.json")) == list(boxes(tmp_path / "xml.json")) == ["a.png"]


def test_all_bad_yolo_at_once(tmp_path: Path) -> None:
    lines = ["0 0.5 0.5 0.2", "0 a b c d", "1 0.5 0.5 0.2 0.2", "0 50 50 20 20", "0 nan 0.5 0.2 0.2", "0 0.5 0.5 0 0.2"]
    lines += ["0 0.5 0.5 0.1 0.1", "0 0.1 0.1 0.2 0.2 0.3", "0.5 0.5 0.5 0.1 0.1", "-1 0.5 0.5 0.1 0.1"]
    images = yolo(tmp_path, a="\n".join(lines), b="")
    labels = tmp_path / "labels" / "train"
    (labels / "gone.txt").write_text("")
    (labels / "b.txt").write_bytes(b"\xff")
    (images / "z.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        docstill.convert("yolo", images, tmp_path / "out.json", classes=tmp_path / "data.yaml")
    problems = error.value.problems
    assert problems[0] == f"{labels}: text files without a picture in {images}: gone.txt"
    assert [problem.split(": ")[0] for problem in problems[1:10]] == [
        f"{labels / 'a.txt'}:{n}" for n in (1, 2, 3, 4, 5, 6, 8, 9, 10)
    ]
    assert "there is no class 1; the class names go from 0 to 2" in problems[3]
    assert problems[10].startswith(f"{labels / 'b.txt'}: cannot be read")
    assert problems[11] == f"{images / 'z.png'}: cannot be read"
    assert len(problems) == 12


@pytest.mark.parametrize(
    "content", ["", "names: 3", "names: []", "names:\n  a: b\n", "[1", "names: [text, text]", "names: {-1: a}"]
)
def test_class_names_that_cannot_be_used(tmp_path: Path, content: str) -> None:
    (tmp_path / "data.yaml").write_text(content)
    with pytest.raises(DataError, match=r"data.yaml: "):
        read_classes(tmp_path / "data.yaml")
    with pytest.raises(DataError, match="cannot be read"):
        read_classes(tmp_path / "none.txt")


def test_wrong_requests(tmp_path: Path) -> None:
    images = yolo(tmp_path, a="")
    out, names = tmp_path / "out.json", tmp_path / "data.yaml"
    (tmp_path / "old.json").touch()
    for arguments, message in (
        (("voc", images, out), "no format 'voc' to convert; choose one of page-xml, yolo"),
        (("yolo", images, out), "class names .* are needed for yolo"),
        (("page-xml", images, out, None, names), "are needed for yolo, and for yolo alone"),
        (("yolo", tmp_path / "none", out, None, names), "there is no folder"),
        (("yolo", images, out, tmp_path / "none", names), "there is no folder"),
        (("yolo", images, tmp_path / "old.json", None, names), "must be a new file"),
        (("yolo", images, tmp_path / "out", None, names), "must be a new file that ends with .json"),
    ):
        with pytest.raises(UserError, match=message):
            docstill.convert(*arguments)
    with pytest.raises(DataError, match="holds no text files"):
        docstill.convert("yolo", images, out, images, names)
    with pytest.raises(DataError, match="holds no pictures"):
        docstill.convert("yolo", tmp_path / "labels", out, None, names)


def test_the_verb(tmp_path: Path) -> None:
    images = yolo(tmp_path, a="0 0.5 0.5 0.2 0.25")
    words = [
        "convert",
        "yolo",
        str(images),
        str(tmp_path / "o.json"),
        "--classes",
        str(tmp_path / "data.yaml"),
        "--json",
    ]
    result = CliRunner().invoke(cli.app, words)
    assert json.loads(result.stdout)["regions"] == {"text": 1, "täble": 0}
    again = CliRunner().invoke(cli.app, words)
    assert again.exit_code == 2
    assert "must be a new file" in again.stderr


SIZES = some.tuples(some.integers(8, 3000), some.integers(8, 3000))
SHARES = some.tuples(*[some.floats(0, 1)] * 4)
REGIONS = some.lists(some.tuples(some.sampled_from((0, 2)), SHARES), max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(pages=some.lists(some.tuples(SIZES, REGIONS), min_size=1, max_size=3))
def test_coco_to_yolo_and_back(tmp_path_factory: pytest.TempPathFactory, pages: list[Any]) -> None:
    root = tmp_path_factory.mktemp("trip")
    images = yolo(root)
    wanted: dict[str, list[tuple[str, list[float]]]] = {}
    (root / "labels" / "train").mkdir(parents=True)
    for number, ((width, height), regions) in enumerate(pages):
        picture(images / f"{number}.png", (width, height))
        lines, wanted[f"{number}.png"] = [], []
        for label, (left, top, right, bottom) in regions:
            w, h = max(1.0, abs(right - left) * width), max(1.0, abs(bottom - top) * height)
            x, y = min(left, right) * (width - w), min(top, bottom) * (height - h)
            wanted[f"{number}.png"].append(({0: "text", 2: "täble"}[label], [x, y, w, h]))
            lines.append(
                f"{label} {(x + w / 2) / width:.8f} {(y + h / 2) / height:.8f} {w / width:.8f} {h / height:.8f}"
            )
        (root / "labels" / "train" / f"{number}.txt").write_text("\n".join(lines))
    docstill.convert("yolo", images, root / "out.json", classes=root / "data.yaml")
    found = boxes(root / "out.json")
    assert {name: [label for label, _ in page] for name, page in found.items()} == {
        name: [label for label, _ in page] for name, page in wanted.items()
    }
    for name, page in wanted.items():
        for (_, box), (_, back) in zip(page, found[name], strict=True):
            assert back == pytest.approx(box, abs=2e-3)


def test_text_files_in_capitals_and_what_notebooks_leave(tmp_path: Path) -> None:
    for folder in (".ipynb_checkpoints", "@eaDir/a.jpg"):
        (tmp_path / "images" / folder).mkdir(parents=True)
    picture(tmp_path / "images" / "a.jpg")
    picture(tmp_path / "images" / ".ipynb_checkpoints" / "a-checkpoint.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.TXT").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "classes.txt").write_text("text\n")
    found = docstill.convert("yolo", tmp_path / "images", tmp_path / "out.json", classes=tmp_path / "classes.txt")
    assert (found["n"], found["regions"], found["unmarked"]) == (1, {"text": 1}, 0)
    page_xml(tmp_path / "pages" / "a.XML", text())
    picture(tmp_path / "pages" / "a.png")
    assert docstill.convert("page-xml", tmp_path / "pages", tmp_path / "pages.json")["n"] == 1


@pytest.mark.parametrize(
    ("name", "content", "classes"),
    [
        ("data.yaml", "names: [no, yes, 12, on]", ["no", "yes", "12", "on"]),
        ("data.yaml", "names: {0: no, 1: ~x}", ["no", "~x"]),
        ("classes.txt", "no\n\nyes\n", None),
        ("classes.txt", "no\nyes\n\n", ["no", "yes"]),
        ("data.yaml", "names: [text, ]\nnc: 1", ["text"]),
        ("data.yaml", "names:\n- text\n-\n", None),
    ],
)
def test_class_names_are_taken_as_they_are_written(
    name: str, content: str, classes: list[str] | None, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    if classes is None:  # numbers behind an empty name would be others
        with pytest.raises(DataError, match=name):
            read_classes(tmp_path / name)
    else:
        assert list(read_classes(tmp_path / name).values()) == classes


@pytest.mark.parametrize(
    "custom", ["structure {type:my title;}", "readingOrder {index:0;} structure {score:1; type: my title}"]
)
def test_types_of_several_words_are_whole(custom: str, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    page_xml(tmp_path / "a.xml", text(more=f'custom="{custom}"'))
    docstill.convert("page-xml", tmp_path, tmp_path / "out.json")
    assert boxes(tmp_path / "out.json") == {"a.png": [("my title", [10, 10, 30, 20])]}
