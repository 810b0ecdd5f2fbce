"""What train, distill and compress say of two splits before they begin: shared pictures, classes that only one of them has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tokenizers import normalizers

import docstill
import tiny
from docstill import compression, single_stage
from docstill.data import validator
from docstill.data.document import Document
from docstill.data.validator import same_files
from docstill.doubts import extra_pages, respelt, unmeasured_classes
from docstill.errors import DataError
from docstill.models.classifier import new_classifier
from docstill.models.donut_tokens import character_tokenizer
from docstill.recipe import parse_recipe
from docstill.tasks import task_named
from docstill.tasks.base import Pages
from layout_tiny import coco_folder


class _Begun(BaseException):
    """The first network is about to be made: what is said of the data has been said."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pages all of which differ but two: a file that stands in both splits, and a picture packed otherwise."""
    shade = 0
    for split, labels in (("train", ("form", "letter", "memo")), ("validation", ("form", "letter"))):
        for label in labels:
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for index in range(2):
                shade += 10
                Image.new("RGB", (40, 48), (shade, 0, 0)).save(tmp_path / "data" / split / label / f"{index}.png")
    shutil.copy(tmp_path / "data" / "train" / "memo" / "1.png", tmp_path / "data" / "validation" / "form" / "copy.png")
    with Image.open(tmp_path / "data" / "train" / "letter" / "0.png") as image:
        image.save(tmp_path / "data" / "validation" / "letter" / "packed.tiff")
    return tmp_path / "data"


def unmeasured(data: Path) -> str:
    return (
        f"{data / 'validation'} has no pages of memo, which {data / 'train'} has, so that nothing says how well a model knows "
        f"them; add some, or remove them from {data / 'train'}"
    )


def shared(data: Path, count: str, named: str) -> str:
    return (
        f"{count} of 6 pictures in {data / 'validation'} are in {data / 'train'}, too, so that scores are better than they would "
        f"be on new pages; remove them from one of the two (`docstill check` names all, if one folder holds both): {named}"
    )


COPY, PACKED = "form/copy.png (memo/1.png there)", "letter/packed.tiff (letter/0.png there)"


def test_single_stages_say_both_before_they_begin(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    model = str(
        new_classifier("vit-tiny", tiny.TINY_VIT["config"], ["form", "letter", "memo"], (32, 32)).save(tmp_path / "m")
    )
    settings = {"epochs": 1, "batch_size": 8, "precision": "fp32"}
    said = [shared(data, "1", COPY), unmeasured(data)]
    order: list[str] = []
    whole = single_stage.run_stage
    monkeypatch.setattr(
        single_stage, "run_stage", lambda *given: order.append(capsys.readouterr().err) or whole(*given)
    )
    trained = docstill.train("classification", model, data, tmp_path / "trained", **settings)
    taught = docstill.distill(model, model, data, tmp_path / "taught", objectives=[{"kind": "kd"}], **settings)
    for done, err in zip((trained, taught), order, strict=True):
        assert done["warnings"][:2] == said
        assert all(f"warning: {line}" in err for line in said)
    assert docstill.train("classification", model, data, tmp_path / "trained", **settings) == trained


def test_a_run_says_both_at_its_start_and_the_same_when_it_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of pictures also those that are packed otherwise, for a run decodes all of them anyway; once."""
    recipe = parse_recipe(tiny.recipe(data))
    lines = [f"warning: {line}\n" for line in (shared(data, "2", f"{COPY}, {PACKED}"), unmeasured(data))]

    def begun(*_: Any) -> None:
        raise _Begun

    monkeypatch.setattr(compression, "_teacher", begun)
    for _ in range(2):
        with pytest.raises(_Begun):
            compression.compress(recipe, tmp_path / "run")
        assert "".join(lines) in capsys.readouterr().err
        (tmp_path / "run" / "teacher").mkdir(exist_ok=True)
        (tmp_path / "run" / "teacher" / "last.pt").touch()  # the teacher has begun to learn
        monkeypatch.setattr(compression, "check_splits", lambda *_: pytest.fail("the data were checked again"))
    done = tmp_path / "run" / "data" / "done.json"
    done.write_text(json.dumps({"seconds": 1.0}))  # as an older version left it
    with pytest.raises(_Begun):
        compression.compress(recipe, tmp_path / "run")
    assert lines[0] not in capsys.readouterr().err


def test_a_class_that_only_validation_has_is_refused_with_all_else_that_is_wrong(data: Path, tmp_path: Path) -> None:
    (data / "validation" / "fax").mkdir()
    Image.new("RGB", (4, 4)).save(data / "validation" / "fax" / "0.png")
    (data / "train" / "form" / "0.png").write_bytes(b"")
    line = "fax/: a label that the training split does not have (it has form, letter, memo); rename or remove it"
    with pytest.raises(DataError) as error:
        compression.compress(parse_recipe(tiny.recipe(data)), tmp_path / "run")
    assert error.value.problems[0] == f"{data / 'validation'}: {line}"
    assert len(error.value.problems) == 2
    with pytest.raises(DataError, match=r"the class folders in .*validation cannot be used") as error:
        docstill.train("classification", docstill.NewModel(**tiny.TINY_VIT), data, tmp_path / "out", epochs=1)
    assert error.value.problems == [line]


def test_one_folder_for_both_splits_is_all_shared_and_its_faults_are_told_once(data: Path, tmp_path: Path) -> None:
    content = tiny.recipe(data)
    content["data"]["validation"] = content["data"]["train"]
    found = compression._check_data(parse_recipe(content))
    assert found["warnings"][0].startswith(f"6 of 6 pictures in {data / 'train'} are in {data / 'train'}, too")
    (data / "train" / "form" / "0.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        compression._check_data(parse_recipe(content))
    assert len(error.value.problems) == 1


def test_only_files_of_a_size_that_both_splits_have_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {"a": b"12", "b": b"12", "c": b"345", "d": b"6789"}, {"e": b"12", "f": b"21", "g": b"1", "h": b"12345"}
    splits = []
    for split, files in zip("xy", contents, strict=True):
        (tmp_path / split).mkdir()
        for name, content in files.items():
            (tmp_path / split / name).write_bytes(content)
        splits.append([Document(tmp_path / split / name, 0, (0,), name) for name in files])
    read: list[str] = []
    whole = validator._bytes
    monkeypatch.setattr(validator, "_bytes", lambda file: read.append(file.name) or whole(file))
    assert same_files(*splits) == [(tmp_path / "y" / "e", tmp_path / "x" / "a")]
    assert sorted(read) == ["a", "b", "e", "f"]
    assert same_files(splits[0], []) == []


def test_regions_that_only_training_has_are_named_but_not_classes_without_any(tmp_path: Path) -> None:
    data, layout = coco_folder(tmp_path / "data"), task_named("layout")
    for split, kinds in (("train", (5, 15)), ("validation", (15,))):  # nowhere a title, which is listed
        content = json.loads((data / f"{split}.json").read_text())
        content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] in kinds]
        (data / f"{split}.json").write_text(json.dumps(content))
    training = layout.read(data / "train")
    (said,) = unmeasured_classes(layout, training, layout.read(data / "validation", training))
    assert said.startswith(f"{data / 'validation'} has no regions of text, which {data / 'train'} has")
    assert unmeasured_classes(layout, training, training) == []


def test_answers_that_a_tokenizer_spells_otherwise_are_named() -> None:
    tokenizer = character_tokenizer(["é１"], ["<s_a>", "</s_a>"])
    documents = [
        Document(Path(str(n)), {"a": text}, ({"a": text},), f"m:{n}") for n, text in enumerate(["x  y", "é", "１2"])
    ]
    assert list(respelt(tokenizer, documents)) == []
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    assert list(respelt(tokenizer, documents)) == ["m:0 ('x  y' becomes 'x y')", "m:2 ('１2' becomes '12')"]


def test_scans_of_several_pages_are_named(tmp_path: Path) -> None:
    first, second = (Image.new("L", (8, 8), shade) for shade in (0, 255))
    first.save(tmp_path / "two.tif", save_all=True, append_images=[second])
    second.save(tmp_path / "one.tif")
    (tmp_path / "cut.tif").write_bytes((tmp_path / "two.tif").read_bytes()[:20])
    documents = [Document(tmp_path / name, {}, ({},), name) for name in ("two.tif", "one.tif", "cut.tif")]
    (said,) = extra_pages(Pages(tmp_path, documents))
    assert said.startswith(f"1 of 3 pictures in {tmp_path} have several pages")
    assert said.endswith("split them: two.tif (2)")
