"""`docstill check`: splits and task are found; every problem of every split comes at once."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from docstill.data import images, validator
from docstill.data.json_tokens import json_to_tokens
from docstill.data.validator import check, look_at
from docstill.errors import UserError


def picture(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), shade).save(path)
    return path


def classes(root: Path) -> Path:
    shade = 0
    for split, count in (("train", 3), ("val", 2)):
        for label in ("form", "letter"):
            for index in range(count):
                picture(root / split / label / f"{index}.png", shade := shade + 1)
    return root


def receipts(root: Path, **splits: list[Any]) -> Path:
    shade = 0
    for split, answers in splits.items():
        lines = []
        for index, answer in enumerate(answers):
            picture(root / split / f"{index}.png", shade := shade + 1)
            lines.append(json.dumps({"file_name": f"{index}.png", "ground_truth": json.dumps({"gt_parse": answer})}))
        (root / split / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return root


def test_sound_class_folders(tmp_path: Path) -> None:
    assert check(classes(tmp_path)) == {
        "data": str(tmp_path),
        "task": "classification",
        "splits": {
            "train": {"n": 6, "labels": {"form": 3, "letter": 3}},
            "validation": {"n": 4, "labels": {"form": 2, "letter": 2}},
        },
        "problems": [],
        "warnings": [],
    }


def test_sound_receipts(tmp_path: Path) -> None:
    data = receipts(tmp_path, train=[{"total": "1.00"}, {"total": "2", "date": "x"}], validation=[{"date": "y"}])
    found = check(str(data))
    assert (found["task"], found["problems"], found["warnings"]) == ("kie", [], [])
    assert found["splits"] == {
        "train": {
            "n": 2,
            "fields": {"total": 2, "date": 1},
            "longest_target": len("<s_total>2</s_total><s_date>x</s_date>"),
        },
        "validation": {"n": 1, "fields": {"date": 1}, "longest_target": len("<s_date>y</s_date>")},
    }
    json.dumps(found)


def test_one_split_alone_goes_by_its_folders_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classes(tmp_path)
    assert list(check(tmp_path / "train")["splits"]) == ["train"]
    monkeypatch.chdir(tmp_path / "val")
    assert list(check(".")["splits"]) == ["val"]


def test_a_label_that_training_lacks_is_a_problem_in_every_other_split(tmp_path: Path) -> None:
    data = classes(tmp_path)
    picture(data / "val" / "memo" / "m.png", 100)
    picture(data / "test" / "fax" / "f.png", 101)
    found = check(data)
    assert [problem.split(": a label")[0] for problem in found["problems"]] == [
        f"{data / 'val'}: memo/",
        f"{data / 'test'}: fax/",
    ]
    assert found["splits"]["validation"]["n"] == 4


def test_without_a_training_split_any_label_is_taken(tmp_path: Path) -> None:
    picture(tmp_path / "val" / "form" / "a.png", 1)
    picture(tmp_path / "test" / "memo" / "b.png", 2)
    assert check(tmp_path)["problems"] == []


def test_all_problems_of_all_splits_at_once_for_classes(tmp_path: Path) -> None:
    data = classes(tmp_path)
    (data / "train" / "form" / "notes.txt").write_text("x")
    (data / "train" / "form" / "0.png").write_bytes(b"")
    whole = (data / "val" / "letter" / "0.png").read_bytes()
    (data / "val" / "letter" / "0.png").write_bytes(whole[:50])
    (data / "val" / "letter" / "1.png").write_bytes(b"%PDF-1.4")
    (data / "val" / "memo").mkdir()
    joined = check(data)["problems"]
    for place, what in [
        ("notes.txt", "not a picture by its name"),
        ("form/0.png", "0 bytes"),
        ("letter/0.png", "is damaged"),
        ("letter/1.png", "is a PDF"),
        ("memo/", "a label that the training split does not have"),
    ]:
        assert sum(place in problem and what in problem for problem in joined) == 1, (place, what, joined)
    assert len(joined) == 5


def test_all_problems_of_all_splits_at_once_for_receipts(tmp_path: Path) -> None:
    data = receipts(tmp_path, train=[{"a": "1"}, {"a": "2"}], validation=[{"a": "3"}, {"a": "4"}])
    with open(data / "train" / "metadata.jsonl", "a") as file:
        file.write('\n{"broken\n' + json.dumps({"file_name": "no.png", "ground_truth": {"gt_parse": {}}}))
    (data / "train" / "1.png").write_bytes(b"")  # found though other lines of the split are bad
    (data / "validation" / "metadata.jsonl").write_text("")
    found = check(data)
    places = [
        f"{data / 'train'}: metadata.jsonl:3: broken JSON",
        f"{data / 'train'}: metadata.jsonl:4: the picture no.png",
    ]
    places += [f"{data / 'validation'}: metadata.jsonl: is empty", f"{data / 'train' / '1.png'}: is an empty file"]
    assert len(found["problems"]) == 4
    assert all(problem.startswith(place) for problem, place in zip(found["problems"], places, strict=True))
    assert found["splits"]["train"]["n"] == 2
    assert found["splits"]["validation"] == {"n": 0, "fields": {}, "longest_target": 0}


def test_an_answer_that_does_not_survive_is_a_warning_with_its_line(tmp_path: Path) -> None:
    data = receipts(tmp_path, train=[{"a": "1"}, {"a": [["1", "2"], ["3"]]}, {"a": ["only one"]}])
    found = check(data)
    assert found["problems"] == []
    assert found["warnings"] == [
        f"{data / 'train' / 'metadata.jsonl'}:2: the answer does not survive JSON to tokens and back: a is a list of lists"
    ]


def test_the_same_picture_in_two_splits_is_a_warning(tmp_path: Path) -> None:
    data = classes(tmp_path)
    copy, source = data / "val" / "form" / "copy.png", data / "train" / "letter" / "1.png"
    copy.write_bytes(source.read_bytes())
    (data / "train" / "form" / "twice.png").write_bytes((data / "train" / "form" / "0.png").read_bytes())
    found = check(data)
    assert found["problems"] == []
    assert found["warnings"] == [f"{copy}: the same picture as {source} in train; remove it from one of them"]


def test_thin_and_missing_classes_are_warnings(tmp_path: Path) -> None:
    data = classes(tmp_path)
    picture(data / "train" / "memo" / "m.png", 100)
    found = check(data)
    assert found["problems"] == []
    assert found["warnings"] == [
        f"{data / 'train' / 'memo'}: one picture only, too few to learn from or to measure with",
        f"{data / 'val'}: no pictures of memo, which the training split has",
    ]


def test_pictures_that_no_line_names_are_a_warning(tmp_path: Path) -> None:
    data = receipts(tmp_path, train=[{"a": "1"}])
    picture(data / "train" / "spare.png", 100)
    picture(data / "train" / "more" / "spare.png", 101)
    assert check(data)["warnings"] == [
        f"{data / 'train'}: 2 picture(s) that metadata.jsonl does not name, such as more/spare.png; they are not used"
    ]


def test_an_empty_folder_is_a_problem(tmp_path: Path) -> None:
    assert "holds no label folders" in check(tmp_path)["problems"][0]
    assert "there is no" in check(tmp_path, task="kie")["problems"][0]


def test_wrong_requests(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(UserError, match="choose one of kie, layout, classification"):
        check(tmp_path, task="forms")


def test_the_same_pixels_packed_otherwise_are_the_same_picture(tmp_path: Path) -> None:
    data = classes(tmp_path)
    source, copy = data / "train" / "letter" / "1.png", data / "val" / "form" / "copy.tiff"
    with Image.open(source) as image:
        image.convert("RGB").save(copy)
        image.resize((4, 16)).save(data / "val" / "form" / "other.png")  # as many pixels of the same shade
    assert check(data)["warnings"] == [f"{copy}: the same picture as {source} in train; remove it from one of them"]


def test_special_tokens_in_values_are_a_warning(tmp_path: Path) -> None:
    data = receipts(tmp_path, train=[{"a": "1"}, {"note": "a</s>b", "total": "1"}, {"note": ["x<pad>y", "z"]}])
    assert check(data)["warnings"] == [
        f"{data / 'train' / 'metadata.jsonl'}:{number}: the answer does not survive JSON to tokens and back: the value of note "
        "holds a tag, which a tokenizer takes for its own"
        for number in (2, 3)
    ]


def test_an_answer_is_named_once_however_many_of_its_variants_are_lost(tmp_path: Path) -> None:
    folder = receipts(tmp_path, train=[{"a": "1"}]) / "train"
    truth = {"gt_parses": [{"a": "x"}, {"a": [["1", "2"]]}, {"a": "<s_b>"}]}
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "0.png", "ground_truth": truth}))
    (warning,) = check(folder)["warnings"]
    assert warning.endswith("a is a list of lists")


def test_many_threads_find_what_one_finds_in_the_order_of_the_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shade = 0
    for split, count in (("train", 60), ("val", 20)):
        for index in range(count):
            picture(tmp_path / split / "form" / f"{index:02}.png", shade := shade + 1)
    train, val = tmp_path / "train" / "form", tmp_path / "val" / "form"
    broken = [train / "07.png", train / "08.png", train / "55.png", val / "03.png"]
    for file in broken:
        file.write_bytes(file.read_bytes()[:50])
    twins = [(val / f"{index:02}.png", train / f"{index}.png") for index in (19, 18, 11)]
    for file, twin in twins:
        file.write_bytes(twin.read_bytes())
    for index in (30, 12):
        pages = [Image.new("L", (8, 8), shade := shade + 1) for _ in range(3)]
        pages[0].save(train / f"{index}.png", "TIFF", save_all=True, append_images=pages[1:])
    busy = set()

    def opened(path: Path) -> Image.Image:
        busy.add(threading.get_ident())
        time.sleep(0.002 * (int(path.stem) % 3))  # the order in which pages are done is not theirs
        return images.open_image(path)

    monkeypatch.setattr(validator, "open_image", opened)
    found, threads = [], []
    for count in (1, 8):
        busy.clear()
        monkeypatch.setattr(validator, "THREADS", count)
        found.append(check(tmp_path))
        threads.append(len(busy))
    assert threads[0] == 1 < threads[1]
    assert found[0] == found[1]
    assert [problem.split(": ")[0] for problem in found[1]["problems"]] == list(map(str, broken))
    several = [f"{train / name}: has 3 pages" for name in ("12.png", "30.png")]
    same = [f"{file}: the same picture as {twin} in train" for file, twin in sorted(twins)]
    one_label, *rest = found[1]["warnings"]
    assert "one label only" in one_label
    assert [warning.split(",")[0].split(";")[0] for warning in rest] == several + same


def test_threads_leave_pythons_warnings_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [picture(tmp_path / f"{index}.png", index) for index in range(100)]
    page_of = images._page_of

    def slow(image: Any) -> Image.Image:
        time.sleep(
            0.001 * (int(Path(image.filename).stem) % 3)
        )  # so that pages overlap, each while its filters are set
        return page_of(image)

    monkeypatch.setattr(images, "_page_of", slow)
    monkeypatch.setattr(validator, "THREADS", 8)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # pages of 64 are of those that Pillow warns of
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = warnings.filters[:]
        assert look_at(files, images.probe_image, "") == [None] * 100
        assert warnings.filters == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_ends_one_page_ends_all(error: type[BaseException], tmp_path: Path) -> None:
    looked = []

    def look(file: Path) -> None:
        looked.append(file)
        if file.name == "3":
            raise error

    with pytest.raises(error):
        look_at([tmp_path / str(index) for index in range(1000)], look, "")
    assert len(looked) < 100


def test_a_bar_shows_how_far_it_is_and_stays_off_what_is_printed(tmp_path: Path) -> None:
    data, (ours, theirs) = classes(tmp_path), pty.openpty()
    code = (
        f"from docstill.cli import main; import sys; sys.argv = ['docstill', 'check', {str(data)!r}, '--json']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        check=True,
    )
    os.close(theirs)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "looking at pages" in said
    assert "0/10" in said
    assert json.loads(done.stdout) == check(data)


def test_the_same_picture_twice_in_a_split_is_a_problem(tmp_path: Path) -> None:
    data = receipts(tmp_path, train=[{"a": "1"}])
    lines = [json.dumps({"file_name": "0.png", "ground_truth": {"gt_parse": {"a": value}}}) for value in "12"]
    (data / "train" / "metadata.jsonl").write_text("\n".join(lines))
    assert check(data)["problems"] == [
        f"{data / 'train'}: metadata.jsonl:2: 0.png was already given in line 1; keep one of the lines"
    ]


def test_a_key_twice_in_one_object_is_a_warning_with_its_line(tmp_path: Path) -> None:
    data = receipts(tmp_path, train=[{"a": "1"}])
    truth = '{"gt_parse": {"a": "1", "a": "2", "b": "3", "b": "4"}}'
    (data / "train" / "metadata.jsonl").write_text(json.dumps({"file_name": "0.png", "ground_truth": truth}))
    assert check(data)["warnings"] == [
        f"{data / 'train' / 'metadata.jsonl'}:1: the same key twice in one object ('a', 'b'), of which the last counts; keep "
        "one, or give the key a list of both values"
    ]


def test_answers_that_are_very_long_or_to_several_questions_are_told_of(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    parses: list[dict[str, Any]] = [{"gt_parse": {"nr": "7"}}, {"gt_parse": {"nr": "x" * 9000}}]
    parses.append({"gt_parses": [{"question": "Who?", "answer": "Ann"}, {"question": "When?", "answer": "May"}]})
    parses.append({"gt_parses": [{"question": "Who?", "answer": "Ann"}, {"question": "Who?", "answer": "A."}]})
    lines = []
    for number, parse in enumerate(parses):
        Image.new("RGB", (8, 8 + number)).save(data / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "ground_truth": json.dumps(parse)}))
    (data / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    long, asked = check(data)["warnings"]
    assert long.startswith(f"{data / 'metadata.jsonl:2'}: the answer has 9,")
    assert asked.startswith(f"{data}: 1 page(s) with answers to several questions, such as metadata.jsonl:3; ")


@pytest.mark.parametrize("name", ["a/metadata.jsonl", "metadata.csv"])
def test_answers_that_lie_elsewhere_are_not_taken_for_page_classes(name: str, tmp_path: Path) -> None:
    file = tmp_path / "set" / name
    file.parent.mkdir(parents=True)
    file.touch()
    with pytest.raises(UserError, match=r"looks like the answers of documents.*one metadata\.jsonl at the top"):
        check(tmp_path / "set")


def test_booleans_are_one_warning_a_split(tmp_path: Path) -> None:
    data = receipts(tmp_path, train=[{"a": "true"}, {"a": [{"paid": True}]}, {"paid": False}], validation=[{"a": 1}])
    (warning,) = check(data)["warnings"]
    assert warning.startswith(f"{data / 'train'}: 2 answer(s) with true or false, such as metadata.jsonl:2; ")
    assert f'the texts "{json_to_tokens(True)}" and "{json_to_tokens(False)}"' in warning
