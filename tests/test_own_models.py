"""Shipped recipes for a model of one's own: from the command line, with a teacher in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import docstill
import tiny
from docstill.cli import app
from docstill.errors import DataError, ModelError, RecipeError, UserError
from docstill.models.classifier import new_classifier
from docstill.models.donut_page import canvas_size
from docstill.pruning.resolution import at_size
from kie_tiny import like_published, tiny_folder

QUICK = ["stages.{}.distill.epochs=1", "stages.{}.distill.batch_size=4", "stages.{}.distill.precision=fp32"]


def run(recipe: str, teacher: Path, data: Path, folder: Path, last: int) -> dict[str, object]:
    changes = [change.format(last) for change in QUICK]
    splits = [f"data.{split}={data / split}" for split in ("train", "validation")]
    words = ["compress", recipe, f"teacher={teacher}", *splits, *changes, "--run", str(folder), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_donut_of_ones_own(tmp_path: Path) -> None:
    donut = like_published(changes={"encoder": {"window_size": 2}, "decoder": {"decoder_layers": 4}})
    for split in ("train", "validation"):
        tiny_folder(tmp_path / "receipts" / split)
    run("donut", donut.save(tmp_path / "mine"), tmp_path / "receipts", tmp_path / "run", 3)
    student = docstill.load(tmp_path / "run" / "model").model
    assert student.network.config.decoder.decoder_layers == 2
    assert list(student.network.config.encoder.image_size) == [128, 128]
    assert student.network.config.decoder.vocab_size < donut.network.config.decoder.vocab_size
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_donut_on_larger_pages(tmp_path: Path) -> None:
    donut = like_published(changes={"encoder": {"window_size": 2}}).save(tmp_path / "mine")
    for split in ("train", "validation"):
        tiny_folder(tmp_path / "receipts" / split)
    words = [
        "train",
        "--task",
        "kie",
        "--model",
        str(donut),
        "--image-size",
        "224x192",
        "--data",
        str(tmp_path / "receipts"),
    ]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out"), "--epochs", "1", "learning_rate=1e-9"])
    assert done.exit_code == 0, done.stderr
    before, after = (docstill.load(folder).model for folder in (donut, tmp_path / "out" / "model"))
    assert list(after.network.config.encoder.image_size) == [224, 192]
    assert canvas_size(after.processor.image_processor) == (224, 192)
    old, new = before.network.state_dict(), after.network.state_dict()
    assert all(torch.allclose(weights, new[name][: len(weights)], atol=1e-6) for name, weights in old.items())
    assert "fields" in docstill.load(tmp_path / "out" / "model").predict([tmp_path / "receipts" / "train" / "0.png"])[0]


def test_a_student_on_smaller_pages_than_its_teachers(tmp_path: Path) -> None:
    donut = like_published(changes={"encoder": {"window_size": 2}}).save(tmp_path / "mine")
    for split in ("train", "validation"):
        tiny_folder(tmp_path / "receipts" / split)
    places = {split: str(tmp_path / "receipts" / split) for split in ("train", "validation")}
    quick = {"epochs": 1, "batch_size": 4, "precision": "fp32"}
    recipe = {
        "task": "kie",
        "data": places,
        "teacher": {"model": {"load": str(donut), "image_size": [192, 160]}, "train": quick},
        "student": {"load": str(donut), "image_size": [128, 96]},
        "stages": [{"distill": {"objectives": [{"kind": "labels"}, {"kind": "kd"}], **quick}}],
    }
    docstill.compress(recipe, tmp_path / "run")
    for folder, size in (("teacher/model", (192, 160)), ("model", (128, 96))):
        assert canvas_size(docstill.load(tmp_path / "run" / folder).model.processor.image_processor) == size
    recipe["student"] = {"load": str(tmp_path / "none"), "image_size": [128, 96]}
    with pytest.raises(ModelError, match="there is no model folder"):
        docstill.compress(recipe, tmp_path / "other")
    recipe["student"] = {"load": "shipped:large-labels"}
    with pytest.raises(RecipeError) as error:
        docstill.compress(recipe, tmp_path / "other")
    assert "student.image_size: required, not given" in str(error.value)
    assert "student.load: no teacher large-labels is shipped" in str(error.value)


def test_a_student_on_larger_pages_sees_all_of_them(tmp_path: Path) -> None:
    """What its teacher's pages were brought to is forgotten, even if it never learns."""
    donut = like_published(changes={"encoder": {"window_size": 2}, "decoder": {"decoder_layers": 2}})
    donut.card["pages_brought_to"] = [64, 48]
    folder = donut.save(tmp_path / "mine")
    for split in ("train", "validation"):
        tiny_folder(tmp_path / "receipts" / split)
    recipe = {
        "task": "kie",
        "data": {split: str(tmp_path / "receipts" / split) for split in ("train", "validation")},
        "teacher": str(folder),
        "student": {"load": str(folder), "image_size": [256, 192]},
        "stages": [{"prune": {"method": "depth", "of": "decoder", "keep": 1}}],
    }
    docstill.compress(recipe, tmp_path / "run")
    assert "pages_brought_to" not in docstill.load(tmp_path / "run" / "model").model.card
    donut.network.config.encoder.use_absolute_embeddings = True
    with pytest.raises(ModelError, match=r"embeddings of absolute places .* for pages of 160 × 160 pixels alone"):
        at_size(donut, (256, 192))


def test_only_a_donut_takes_pages_of_another_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32)).save(tmp_path / "mine")
    data = tiny.class_folders(tmp_path / "pages")
    wrong = tiny.recipe(data, student={"load": str(vit), "image_size": [64, 64]})
    with pytest.raises(
        RecipeError, match=r"student\.image_size: for a model that is there it is for kie, the task is classification"
    ):
        docstill.compress(wrong, tmp_path / "run")
    with pytest.raises(UserError, match="which is for kie, the task is classification; leave it out"):
        docstill.train("classification", docstill.Resized(load=str(vit), image_size=(64, 64)), data, tmp_path / "out")
    donut = like_published(changes={"encoder": {"window_size": 2}}).save(tmp_path / "donut")
    tiny_folder(tmp_path / "receipts" / "train")
    tiny_folder(tmp_path / "receipts" / "validation")
    small = docstill.Resized(load=str(donut), image_size=(64, 32))
    with pytest.raises(ModelError, match=r"64 × 32 pixels is too small for window_size 2"):
        docstill.train("kie", small, tmp_path / "receipts", tmp_path / "other")


def test_a_vit_of_ones_own(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "pages")
    config = {**tiny.TINY_VIT["config"], "num_hidden_layers": 4}
    vit = new_classifier("vit-tiny", config, tiny.KINDS, (32, 32))
    run("vit", vit.save(tmp_path / "mine"), data, tmp_path / "run", 1)
    assert docstill.load(tmp_path / "run" / "model").model.network.config.num_hidden_layers == 2


def test_a_recipe_may_be_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"the recipe has 5 mistakes(\n.*)* taks: unknown key"):
        docstill.compress({"taks": "classification"}, tmp_path / "run")
    content = tiny.recipe(tmp_path / "none")
    with pytest.raises(RecipeError, match="there is no entry 9 under stages"):
        docstill.compress(content, tmp_path / "run", ["stages.9.train.epochs=1"])
    with pytest.raises(DataError):  # so it is read whole
        docstill.compress(content, tmp_path / "run", ["seed=3"])
    assert "seed: 3" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert content == tiny.recipe(tmp_path / "none")


def test_one_page_alone_is_a_page_in_whatever_form(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32)).save(tmp_path / "mine")
    model, image, file = docstill.load(folder), Image.effect_noise((40, 48), 50), tmp_path / "page.png"
    image.save(file)
    gray = np.asarray(image)
    [expected] = model.predict([file])
    for page in (str(file), file, image, gray, np.stack([gray] * 3, axis=2), [gray], iter([file])):
        assert model.predict(page) == [expected]
    assert model.predict_files(str(file)) == [{"file": str(file), **expected}]
    for wrong in (5, None, b"page.png", [gray.tolist()], gray.astype(float), np.stack([gray] * 4), gray[:0]):
        with pytest.raises(UserError, match="given as a page; give"):
            model.predict(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_folder_that_says_no_kind_of_model_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match="cannot load a model from"):
        docstill.load(tmp_path)


def test_a_teacher_that_is_trained_further_is_also_where_its_student_begins(tmp_path: Path) -> None:
    """It gets the tags, or the classes, that it lacks, and with it the student that nobody has named."""
    for split in ("train", "validation"):
        tiny_folder(tmp_path / "receipts" / split, [{"vendor": name, "sum": "9.00"} for name in ("Cedar", "Ash")])
    like_published(bare_one=False).save(tmp_path / "donut")
    data = tiny.class_folders(tmp_path / "pages", train=2)
    new_classifier("vit-tiny", tiny.TINY_VIT["config"], "abcde", (32, 32)).save(tmp_path / "vit")
    training = {"epochs": 1, "batch_size": 4, "precision": "fp32"}
    for task, model, pages in (("kie", "donut", tmp_path / "receipts"), ("classification", "vit", data)):
        recipe = {
            "task": task,
            "data": {split: str(pages / split) for split in ("train", "validation")},
            "teacher": {"model": str(tmp_path / model), "train": training},
            "stages": [
                {"prune": {"method": "magnitude", "sparsity": 0.5}},
                {"distill": {**training, "objectives": [{"kind": "labels"}, {"kind": "kd"}]}},
            ],
            "controls": ["teacher"],
        }
        docstill.compress(recipe, tmp_path / task)
        assert (tmp_path / task / "model").is_dir()
