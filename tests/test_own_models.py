"""Shipped recipes for a model of one's own: from the command line, with a teacher in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import docstill
import tiny
from docstill.cli import app
from docstill.errors import ModelError
from docstill.models.classifier import new_classifier
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


def test_a_vit_of_ones_own(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "pages")
    config = {**tiny.TINY_VIT["config"], "num_hidden_layers": 4}
    vit = new_classifier("vit-tiny", config, tiny.KINDS, (32, 32))
    run("vit", vit.save(tmp_path / "mine"), data, tmp_path / "run", 1)
    assert docstill.load(tmp_path / "run" / "model").model.network.config.num_hidden_layers == 2


@pytest.mark.parametrize("content", ["{", "{}"])
def test_a_folder_that_says_no_kind_of_model_is_one_sentence(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match="cannot load a model from"):
        docstill.load(tmp_path)
