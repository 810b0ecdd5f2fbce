"""COCO files: read whole, or everything that is wrong comes at once with its entry; boxes are for the upright page."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from docstill.data.coco import coco_content, read_coco, read_results, results_content
from docstill.data.coco_folder import INSIDE, read_coco_folder, scan_coco_folder
from docstill.data.regions import Regions
from docstill.data.validator import check
from docstill.errors import DataError, UserError
from docstill.metrics.detection import Detection


def picture(path: Path, size: tuple[int, int] = (100, 80), turned: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if turned:
        exif[0x0112] = turned
    Image.new("L", size, 200).save(path, exif=exif)
    return path


def image(id_: Any, name: str, size: tuple[Any, Any] = (100, 80)) -> dict[str, Any]:
    return {"id": id_, "file_name": name, "width": size[0], "height": size[1]}


def region(page: Any, label: Any, box: Any = (10, 10, 30, 20), **more: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "image_id": page,
        "category_id": label,
        "bbox": list(box) if isinstance(box, tuple) else box,
        **more,
    }


CATEGORIES = [{"id": 7, "name": "table"}, {"id": 3, "name": "text"}]


def write(path: Path, images: list[Any], annotations: list[Any], categories: Any = CATEGORIES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def problems_of(path: Path) -> list[str]:
    with pytest.raises(DataError) as error:
        read_coco(path)
    return error.value.problems


def test_a_split_is_read_with_gaps_in_numbers_empty_pages_and_any_names(tmp_path: Path) -> None:
    names = ["ä b/Übersicht 1.png", "b.png", "c.png"]
    for name in names:
        picture(tmp_path / "train" / name)
    write(
        tmp_path / "train.json",
        [image(90, names[0]), image("page-b", names[1]), {"id": 5, "file_name": names[2]}],
        [region(90, 7, (1.5, 2, 10, 20), area=55, iscrowd=1), region(90, 3), region(5, 3, (0, 0, 100, 80))],
    )
    found = read_coco_folder(tmp_path / "train")
    assert found.labels == ["text", "table"]  # in the order of their numbers
    order = [names[2], names[0], names[1]]  # of their numbers, too
    assert [document.file for document in found.documents] == [tmp_path / "train" / name for name in order]
    last, first, empty = (document.target for document in found.documents)
    assert first == Regions((100, 80), ((1.5, 2, 10, 20), (10, 10, 30, 20)), (1, 0), (55, 600), (True, False))
    assert empty == Regions((100, 80), (), (), (), ())
    assert (last.size, last.labels) == ((100, 80), (0,))
    assert found.documents[1].where == f"train.json: {names[0]}"


def test_annotations_inside_the_folder_and_never_two_files(tmp_path: Path) -> None:
    picture(tmp_path / "pages" / "a.png")
    write(tmp_path / "pages" / INSIDE, [image(1, "a.png")], [region(1, 3)])
    assert len(read_coco_folder(tmp_path / "pages").documents) == 1
    write(tmp_path / "pages.json", [image(1, "a.png")], [])
    with pytest.raises(DataError, match="several files of annotations; keep one"):
        read_coco_folder(tmp_path / "pages")


def test_annotations_as_coco_keeps_them(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    found, [problem], _ = scan_coco_folder(tmp_path / "train")
    assert not found.documents
    assert problem.endswith("_annotations.coco.json, or in annotations/instances_train.json")
    write(tmp_path / "result.json", [image(1, "a.png")], [region(1, 3)])
    assert scan_coco_folder(tmp_path / "train")[1][0].endswith(f"{tmp_path / 'result.json'} may be that: put it there")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "result.json").rename(tmp_path / "annotations" / "instances_train.json")
    assert len(read_coco_folder(tmp_path / "train").documents) == 1


def test_a_folder_whose_subfolder_holds_the_splits(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "images" / "train" / "a.png")
    assert f"{tmp_path / 'set' / 'images'} holds splits: give that folder" in scan_coco_folder(tmp_path / "set")[1][0]


def test_a_folder_with_one_split_of_another_name(tmp_path: Path) -> None:
    """As PubLayNet's examples lie on a disk."""
    picture(tmp_path / "set" / "samples" / "a.png")
    write(tmp_path / "set" / "samples.json", [image(1, "a.png")], [region(1, 3)])
    inside = tmp_path / "set" / "samples"
    said = scan_coco_folder(tmp_path / "set")[1][0]
    assert said == f"there are no annotations of it, but {inside} has its own: give that folder"
    with pytest.raises(UserError, match=r"samples has a file of annotations beside it .*; give that folder"):
        check(tmp_path / "set")
    assert check(inside)["splits"]["samples"]["n"] == 1


def test_file_names_as_windows_writes_them(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "scans" / "a.png")
    write(tmp_path / "train.json", [image(1, "scans\\a.png")], [region(1, 3)])
    assert len(read_coco_folder(tmp_path / "train").documents) == 1
    write(tmp_path / "train.json", [image(1, "..\\a.png")], [])
    assert "leads out of the folder" in scan_coco_folder(tmp_path / "train")[1][0]


def test_a_split_may_be_a_link(tmp_path: Path) -> None:
    picture(tmp_path / "store" / "scans" / "a.png")
    write(tmp_path / "train.json", [image(1, "a.png")], [region(1, 3)])
    (tmp_path / "train").symlink_to(tmp_path / "store" / "scans")
    assert len(read_coco_folder(tmp_path / "train").documents) == 1


def test_another_split_has_the_training_splits_classes_in_its_order(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "a.png")
    write(
        tmp_path / "val.json",
        [image(1, "a.png")],
        [region(1, 1), region(1, 2)],
        [{"id": n, "name": name} for n, name in ((1, "table"), (2, "text"), (4, "unused"))],
    )
    found = read_coco_folder(tmp_path / "val", ["text", "figure", "table"])
    assert found.labels == ["text", "figure", "table"]
    assert found.documents[0].target.labels == (2, 0)
    with pytest.raises(DataError) as error:
        read_coco_folder(tmp_path / "val", ["text"])
    assert error.value.problems == [
        "val.json: 1 region(s) of table, a class that the training split does not have (it has text); rename or remove them"
    ]


def test_boxes_over_the_edge_are_cut_and_boxes_outside_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "a.png")
    inside, over, far = (90.0, 70.0, 10.0, 10.0), (-5.0, 60.0, 40.0, 25.0), (60.0, 10.0, 100.0, 20.0)
    path = write(tmp_path / "p.json", [image(1, "a.png")], [region(1, 3, box) for box in (inside, over)])
    found, problems, warnings = scan_coco_folder(tmp_path / "p")
    assert problems == []
    assert warnings == ["p.json: annotations 1 reach over the page's edge; detectors learn them cut off there"]
    target = found.documents[0].target
    assert target.inside == (inside, (0.0, 60.0, 35.0, 20.0))
    assert target.boxes == (inside, over)  # COCO's figures are counted by what is labelled
    assert target.areas == (100.0, 40.0 * 25.0)
    write(path, [image(1, "a.png")], [region(1, 3, box) for box in (inside, far, (200, 200, 5, 5))])
    _, problems, _ = scan_coco_folder(tmp_path / "p")
    assert [problem.partition(": the box")[0] for problem in problems] == [
        "p.json: annotations[1]",
        "p.json: annotations[2]",
    ]
    assert "[60, 10, 100, 20] lies outside the page a.png, which has 100 × 80 pixels" in problems[0]


def test_all_bad_entries_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bad.json",
        [
            image(1, "a.png"),
            image(1, "b.png"),
            image(2, "a.png"),
            image(True, "c.png"),
            {"id": 3},
            "x",
            image(4, "d.png", (0, 9)),
        ]
        + [image(5, "e.png", ("100", 80))],
        [
            region(1, 3, (0, 0, 0, 5)),
            region(1, 3, (0, 0, 5, -5)),
            region(1, 3, [0, 0, 5]),
            region(1, 3, [0, 0, 5, float("nan")]),
            region(1, 3, [0, float("inf"), 5, 5]),
            region(1, 3, [0, 0, "5", 5]),
            region(1, 3, None),
            {"image_id": 1},
            7,
            region(1, 3, area=-1),
            region(1, 3, iscrowd=2),
            region(1, 3),
        ],
        [{"id": 3, "name": "text"}, {"id": 4, "name": "text"}, {"id": 3, "name": "other"}, {"id": 5}],
    )
    problems = problems_of(path)
    assert problems[10].startswith(f"{path.name}: annotations[0] (id 1): ")
    assert [problem.split(": ")[1].split(" (id ")[0] for problem in problems] == [
        *(f"images[{place}]" for place in (1, 2, 3, 4, 5)),
        *(f"categories[{place}]" for place in (1, 2, 3)),
        *(f"images[{place}]" for place in (6, 7)),
        *(f"annotations[{place}]" for place in range(11)),
    ]
    assert "id 1 was already given in images[0]; keep one" in problems[0]
    assert "has no area" in problems[10]
    assert "NaN" in problems[13]


def test_entries_for_what_is_not_listed_are_told_together(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.json", [image(1, "a.png")], [region(n, 3) for n in range(2, 12)] + [region(1, 9), region(1, 3)]
    )
    assert problems_of(path) == [
        "a.json: annotations 0, 1, 2, 3, 4, … (10 in all) are for images that a.json does not list: "
        "image_id 2, 3, 4, 5, 6, … (10 in all); mend or remove them",
        "a.json: annotations 10 are for categories that a.json does not list: category_id 9; mend or remove them",
    ]


@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "as it is"])
def test_a_byte_order_mark_and_half_a_pair_of_surrogates_are_read(tmp_path: Path, ascii_only: bool) -> None:
    content = {"images": [image(1, "Übersicht.png")], "annotations": [region(1, 3)], "categories": CATEGORIES}
    text = json.dumps(content | ({"info": "\ud800"} if ascii_only else {}), ensure_ascii=ascii_only)
    (tmp_path / "a.json").write_text(text, encoding="utf-8-sig")
    assert read_coco(tmp_path / "a.json").names == ["Übersicht.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n"images": [\n{]\n}', "a.json:3: broken JSON"),
        (b'"\xff"', "is not UTF-8"),
        (b"[]", "expected an object with the lists"),
        (b'{"images": [], "categories": []}', "expected an object with the lists"),
        (b'{"images": [], "categories": [], "annotations": []}', "lists no images"),
        (b"[" * 100_000, "broken JSON"),
        (b'{"images": ' + b"1" * 5000 + b"}", "broken JSON"),
    ],
)
def test_broken_files_are_a_sentence(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert message in problems_of(path)[0]
    assert "cannot be read" in problems_of(tmp_path / "none.json")[0]


def test_pictures_that_are_not_there_or_lie_elsewhere(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "ok.png")
    picture(tmp_path / "out.png")
    names = ["none.png", "../out.png", str(tmp_path / "out.png"), "ok.png", "x" * 300]
    write(tmp_path / "p.json", [image(n, name) for n, name in enumerate(names)], [])
    found, problems, _ = scan_coco_folder(tmp_path / "p")
    assert len(found.documents) == 1
    assert [problem.rpartition(": ")[2] for problem in problems] == [
        "the picture is missing; put it there, or take its entry out",
        *["file_name leads out of the folder; give a path relative to it"] * 2,
        "the picture is missing; put it there, or take its entry out",
    ]


def test_missing_pictures_are_not_named_by_the_thousand(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "ok.png")
    names = [f"{number}.png" for number in range(300)]
    write(tmp_path / "p.json", [image(n, name) for n, name in enumerate(["ok.png", *names])], [])
    _, problems, _ = scan_coco_folder(tmp_path / "p")
    assert len(problems) == 21
    assert "280 more of its 301 pictures are missing" in problems[-1]


def test_file_names_that_begin_with_the_folder(tmp_path: Path) -> None:
    picture(tmp_path / "p" / "ok.png")
    write(tmp_path / "p.json", [image(1, "p/ok.png")], [])
    _, [problem], _ = scan_coco_folder(tmp_path / "p")
    assert problem.endswith(f"the picture is missing; file_name is relative to {tmp_path / 'p'}, where ok.png lies")


def test_null_is_as_good_as_nothing(tmp_path: Path) -> None:
    found = read_coco(write(tmp_path / "p.json", [image(1, "a.png")], [region(1, 3, area=None, iscrowd=None)]))
    assert [(truth.area, truth.crowd) for truth in found.truths] == [(600.0, False)]


def test_umlauts_may_be_written_in_either_way(tmp_path: Path) -> None:
    picture(tmp_path / "p" / unicodedata.normalize("NFD", "Bücher.png"))
    write(tmp_path / "p.json", [image(1, unicodedata.normalize("NFC", "Bücher.png"))], [region(1, 3)])
    assert read_coco_folder(tmp_path / "p").documents[0].file.is_file()


def test_a_page_that_its_exif_tag_turns(tmp_path: Path) -> None:
    """Boxes are for the page as it is shown; sizes as stored mean that they were made for something else."""
    picture(tmp_path / "p" / "a.jpg", turned=6)
    write(tmp_path / "p.json", [image(1, "a.jpg", (80, 100))], [region(1, 3, (0, 50, 80, 50))])
    assert read_coco_folder(tmp_path / "p").documents[0].target.size == (80, 100)
    write(tmp_path / "p.json", [image(1, "a.jpg", (100, 80))], [region(1, 3)])
    with pytest.raises(
        DataError, match="turned by its EXIF tag to 80 × 100 pixels, but the annotations are for 100 × 80"
    ):
        read_coco_folder(tmp_path / "p")
    write(tmp_path / "p.json", [image(1, "a.jpg", (200, 160))], [region(1, 3)])
    with pytest.raises(DataError, match="has 80 × 100 pixels, but the annotations are for 200 × 160"):
        read_coco_folder(tmp_path / "p")


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        read_coco_folder(tmp_path / "none")
    (tmp_path / "p").mkdir()
    with pytest.raises(DataError, match=r"expected COCO annotations in p.json beside p/"):
        read_coco_folder(tmp_path / "p")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    pages = [
        ("a.png", Regions((100, 80), ((1.5, 2.0, 3.25, 4.0),), (1,), (9.0,), (True,))),
        ("b/c.png", Regions((50, 60), (), (), (), ())),
    ]
    path = tmp_path / "p.json"
    path.write_text(json.dumps(coco_content(pages, ["text", "table"])))
    for name, regions in pages:
        picture(tmp_path / "p" / name, regions.size)
    assert [
        (d.file.relative_to(tmp_path / "p").as_posix(), d.target) for d in read_coco_folder(tmp_path / "p").documents
    ] == pages
    coco = read_coco(write(tmp_path / "n.json", [image("x", "a.png"), image(4, "b.png")], []))
    assert coco.names == ["b.png", "a.png"]
    seen = [Detection(1, 0, (1.0, 2.0, 3.0, 4.0), 0.5), Detection(0, 1, (0.0, 0.0, 0.0, 0.0), 1.0)]
    content = results_content(seen, coco)
    assert content[0] == {"image_id": "x", "category_id": 3, "bbox": [1.0, 2.0, 3.0, 4.0], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps(content))
    assert read_results(tmp_path / "r.json", coco) == seen


def test_check_names_problems_and_warnings_of_all_splits(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    picture(tmp_path / "train" / "spare.png", (9, 9))
    write(
        tmp_path / "train.json",
        [image(1, "a.png")],
        [region(1, 3), region(1, 3, (10, 10, 30, 21)), region(1, 7, (90, 70, 12, 9))],
    )
    picture(tmp_path / "val" / "b.png", (100, 81))
    (tmp_path / "val" / "c.png").write_bytes(b"")
    write(
        tmp_path / "val.json",
        [image(1, "b.png", (100, 81)), image(2, "c.png"), image(3, "d.png")],
        [region(1, 1)],
        [{"id": 1, "name": "figure"}],
    )
    for found in (check(tmp_path), check(tmp_path, "layout")):
        assert found["task"] == "layout"
        assert found["splits"]["train"] == {"n": 1, "regions": {"text": 2, "table": 1}, "empty": 0}
        assert found["splits"]["validation"] == {"n": 2, "regions": {"text": 0, "table": 0}, "empty": 2}
        val = tmp_path / "val"
        assert [problem.split(";")[0] for problem in found["problems"]] == [
            f"{val}: val.json: 1 region(s) of figure, a class that the training split does not have (it has text, table)",
            f"{val}: val.json: d.png: the picture is missing",
            f"{val / 'c.png'}: is an empty file (0 bytes)",
        ]
        assert found["warnings"] == [
            f"{tmp_path / 'train'}: train.json: annotations 2 reach over the page's edge; detectors learn them cut off there",
            f"{tmp_path / 'train'}: 1 picture(s) that train.json does not name, such as spare.png; they are not used",
        ]
        json.dumps(found)


def test_a_bar_counts_all_pages_those_that_cannot_be_used_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "p" / "a.png")
    path = write(tmp_path / "p.json", [image(1, "a.png"), image(2, "no.png"), image(3, "../b.png")], [region(1, 3)])
    steps: list[tuple[str, int, int]] = []

    @contextmanager
    def bar(title: str, total: int) -> Iterator[Any]:
        yield lambda done, of, _: steps.append((title, done, of))

    monkeypatch.setattr("docstill.progress.bar", bar)
    assert len(scan_coco_folder(path.with_suffix(""))[0].documents) == 1
    assert steps == [("reading the sizes of pages", done, 3) for done in (1, 2, 3)]


def test_numbers_that_a_table_wrote_as_decimal_ones(tmp_path: Path) -> None:
    images, annotations = [{"id": 1.0, "file_name": "a.png"}], [region(1.0, 2.0)]
    found = read_coco(write(tmp_path / "a.json", images, annotations, [{"id": 2.0, "name": "text"}]))
    assert found.image_ids == [1]
    assert found.category_ids == [2]
    assert len(found.truths) == 1
    problems = problems_of(write(tmp_path / "b.json", [{"id": 1.5, "file_name": "a.png"}], []))
    assert problems[0].startswith("b.json: images[0]: expected an object with id and file_name")


def test_entries_that_say_the_same_again_and_crowds_alone(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    entries = [region(1, 1), region(1, 1, (10, 10, 30, 21)), region(1, 1), region(1, 2), region(1, 3, iscrowd=1)]
    write(tmp_path / "train.json", [image(1, "a.png")], entries, [{"id": n, "name": f"c{n}"} for n in (1, 2, 3)])
    found = check(tmp_path)
    assert found["problems"] == []
    assert found["splits"]["train"]["regions"] == {"c1": 3, "c2": 1, "c3": 0}
    assert [line.partition(" say again")[0] for line in found["warnings"]] == [
        f"{tmp_path / 'train'}: train.json: annotations 2",
        f"{tmp_path / 'train'}: no regions of c3",
    ]


def test_files_as_coco_itself_lays_them_out_are_not_taken_for_classes(tmp_path: Path) -> None:
    picture(tmp_path / "train2017" / "a.png")
    (tmp_path / "annotations").mkdir()
    write(tmp_path / "annotations" / "instances_train2017.json", [image(1, "a.png")], [region(1, 1)])
    with pytest.raises(
        UserError, match=r"instances_train2017\.json looks like COCO annotations, .* lay them out as train/"
    ):
        check(tmp_path)
