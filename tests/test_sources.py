"""Generated documents as a source to train on: the same ones for the same numbers, new in every epoch, written nowhere."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

import docstill
import tiny
from docstill import cli, compression, engine
from docstill.batches import PageSet, epoch_batches, page_set
from docstill.data.document import Document
from docstill.data.donut_folder import read_donut_folder
from docstill.data.images import IMAGE_SUFFIXES
from docstill.errors import MissingExtra, RecipeError, UserError
from docstill.models.io import DocumentModel
from docstill.prune_settings import FfnPrune, VocabularyPrune
from docstill.prune_stage import prune
from docstill.recipe import Data, Generated, dump_recipe, load_recipe, parse_recipe
from docstill.settings import TrainStage
from docstill.sources import read_splits, stream_of
from docstill.synthesis.generator import Generator, Kind
from docstill.synthesis.stream import Stream
from docstill.tasks.base import ModelSpec, Pages
from docstill.tasks.kie import Kie

KIE = Kie()
DRAWN = {"synth": "small-labels", "n": 3, "seed": 3}
TRAINING = {"epochs": 2, "batch_size": 2, "learning_rate": 0.003, "precision": "fp32", "evaluate_every": 2}


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds two packets as its validation split."""
    folder = tmp_path_factory.mktemp("packets")
    docstill.synth("small-labels", folder / "validation", 2, seed=8)
    return folder


@pytest.fixture(scope="module")
def training() -> Pages:
    asked = Generated.model_validate(DRAWN)
    stream = stream_of(asked)
    return Pages(Path(str(asked)), stream.first(), stream=stream)


def _student(training: Pages) -> DocumentModel:
    """One that can also write what comes in later epochs."""
    assert training.stream is not None
    return KIE.new_model(ModelSpec("donut-tiny"), replace(training, documents=replace(training.stream, n=30).first()))


def _examples(training: Pages) -> PageSet:
    return page_set(KIE, training, _student(training), None, TrainStage(precision="fp32"), seed=0)


def _recipe(packets: Path, **changes: Any) -> dict[str, Any]:
    return {
        "task": "kie",
        "data": {"train": DRAWN, "validation": str(packets / "validation")},
        "teacher": "teacher",
        "stages": [{"distill": {**TRAINING, "epochs": 1, "objectives": [{"kind": "labels"}, {"kind": "kd"}]}}],
        "controls": ["teacher"],
        "compare": False,
        **changes,
    }


def _pictures(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES]


@pytest.mark.parametrize("kind", ["pages", "labels", "small-labels", "receipts"])
def test_documents_are_those_that_synth_would_write(tmp_path: Path, kind: Kind) -> None:
    docstill.synth(kind, tmp_path / "folder", 3, seed=4, glyphs=True)
    written, stream = read_donut_folder(tmp_path / "folder"), Stream(Generator(kind, 4), 2)
    assert [document.target for document in stream.first()] == [document.target for document in written[:2]]
    for number, document in enumerate(written):  # the third is the first of the second epoch
        image, drawn = stream.page(*divmod(number, 2))
        assert drawn.target == document.target
        assert image.tobytes() == Generator(kind, 4).document(number)[0].tobytes()
        assert drawn.glyphs is not None
        assert document.glyphs is not None
        assert drawn.glyphs.characters == document.glyphs.characters
        assert list(drawn.glyphs.shares) == pytest.approx(list(document.glyphs.shares), abs=1e-4)
    first = stream.first()[1]
    assert first.draw is not None
    assert first.draw().tobytes() == stream.page(0, 1)[0].tobytes()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_has_new_documents_whoever_draws_them(training: Pages, workers: int) -> None:
    examples = _examples(training)
    assert training.stream is not None
    for epoch in range(2):
        seen = {}
        for batch in epoch_batches(examples, epoch, 0, 2, workers):
            pixels = batch["student"]["pixel_values"]
            seen |= {index: (file, pixels[row]) for row, (index, file) in enumerate(_named(batch))}
        assert sorted(seen) == [0, 1, 2]
        for place, (file, pixels) in seen.items():
            _, document = training.stream.page(epoch, place)
            assert file == document.where == f"small-labels {epoch * 3 + place} of seed 3"
            assert torch.equal(pixels, _alone(examples, epoch, place))


def _named(batch: dict[str, Any]) -> list[tuple[int, str]]:
    return list(zip(batch["indices"], batch["files"], strict=True))


def _alone(examples: PageSet, epoch: int, place: int) -> torch.Tensor:
    pixels: torch.Tensor = replace(examples, epoch=epoch)[place]["student"]["pixel_values"]
    return pixels


def test_an_answer_that_cannot_be_written_gives_way_to_one_of_the_first_epoch(
    training: Pages, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    examples, whole = _examples(training), Stream.page

    def page(stream: Stream, epoch: int, place: int) -> tuple[Any, Document]:
        image, document = whole(stream, epoch, place)
        return image, replace(document, variants=({"tracking_code": "ǂ"},)) if epoch and not place else document

    monkeypatch.setattr(Stream, "page", page)
    seen = dict(pair for batch in epoch_batches(examples, 1, 0, 2, 0) for pair in _named(batch))
    assert seen == {place: f"small-labels {number} of seed 3" for place, number in ((0, 0), (1, 4), (2, 5))}
    assert "1 document of epoch 2 had been seen in the first" in capsys.readouterr().err


def test_methods_that_look_at_training_pages_draw_them(training: Pages) -> None:
    student = _student(training)
    assert "by activation" in prune(KIE, student, FfnPrune(method="ffn", keep=0.5, pages=2), training)["text"]
    assert "of the training answers" in prune(KIE, student, VocabularyPrune(method="vocabulary"), training)["text"]


def test_training_through_the_command_line_leaves_no_picture(packets: Path, tmp_path: Path) -> None:
    def run(*words: str | Path, code: int = 0) -> Any:
        result = CliRunner().invoke(cli.app, [str(word) for word in words])
        assert result.exit_code == code, result.stderr
        return json.loads(result.stdout) if code == 0 else " ".join(result.stderr.split())

    drawn = ["data.train.synth=small-labels", "data.train.n=3", "data.train.seed=3"]
    how = ["batch_size=2", "reading=20", "--json"]
    words = ["train", "--task", "kie", "--new", "donut-tiny", "--data", packets, *drawn, *how]
    done = run(*words, "--out", tmp_path / "teacher", "--epochs", "2")
    assert "on 3 documents drawn anew in each epoch" in done["text"]
    assert yaml.safe_load((tmp_path / "teacher" / "stage.yaml").read_text())["data"]["train"]["n"] == 3
    places = [*drawn, f"data.validation={packets / 'validation'}"]
    words = ["distill", done["model"], "--student", done["model"], *places, "--out", tmp_path / "student", "--json"]
    assert Path(run(*words, "epochs=1")["model"]).is_dir()
    assert _pictures(tmp_path) == []
    words[words.index(tmp_path / "student")] = tmp_path / "other"
    assert "distill.cache_logits: asks the teacher once" in run(*words, "cache_logits=4", code=2)
    assert "data.train.n: required, not given" in run(*words[:4], drawn[0], *words[7:], code=2)
    assert "give --data" in run(*words[:4], *words[8:], code=2)


class _Killed(BaseException):
    """Stands for SIGKILL: nothing in docstill may catch it and tidy up."""


def test_a_stage_that_was_stopped_ends_in_the_same_model(
    packets: Path, training: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, model = engine.optimise, str(_student(training).save(tmp_path / "begun"))
    data = {"train": DRAWN, "validation": packets / "validation"}

    def train(out: str) -> dict[str, torch.Tensor]:
        done = docstill.train("kie", model, data, tmp_path / out, **TRAINING, checkpoint_minutes=0)
        return load_file(Path(done["model"]) / "model.safetensors")

    def stopping(calls: Iterator[int]) -> Callable[..., dict[str, Any]]:
        def optimise(*arguments: Any) -> dict[str, Any]:
            if next(calls) == 1:
                raise _Killed
            return whole(*arguments)

        return optimise

    one = train("whole")
    for _ in range(2):  # in the first epoch; gone on with, in the second
        monkeypatch.setattr(engine, "optimise", stopping(itertools.count()))
        with pytest.raises(_Killed):
            train("stopped")
    monkeypatch.setattr(engine, "optimise", whole)
    other = train("stopped")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_run_says_that_its_documents_are_drawn(
    packets: Path, training: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "measure", partial(compression.measure, rounds=1))
    recipe = parse_recipe(_recipe(packets, teacher=str(_student(training).save(tmp_path / "teacher"))))
    results = docstill.compress(recipe, tmp_path / "run")
    assert results["data"]["train"] == {
        "path": "generated small-labels of seed 3",
        "n": 3,
        "drawn": "in each epoch",
    }
    assert "drawn anew in each epoch" in (tmp_path / "run" / "report.html").read_text()
    assert _pictures(tmp_path) == []


def test_the_folder_to_score_on_must_hold_other_documents(packets: Path) -> None:
    data = Data.model_validate({"train": {**DRAWN, "seed": 8}, "validation": packets / "validation"})
    with pytest.raises(UserError, match="another seed than that of the folder"):
        read_splits(KIE, data)


@pytest.mark.parametrize(
    ("train", "changes", "problem"),
    [
        ({"synth": "lables"}, {}, "data.train.synth: 'lables' given, one of pages, labels, small-labels, receipts expected"),
        ({"synth": "layout"}, {}, "data.train.synth: 'layout' given, one of pages, "),
        ({"n": 0}, {}, "data.train.n: 0 given; input should be greater than 0"),
        ({"form": "flat"}, {}, "data.train.form: is for receipts, synth is small-labels; leave it out"),
        ({"corpus": "wiki.txt"}, {}, "data.train.corpus: is for pages, synth is small-labels; leave it out"),
        ({"glyphs": True}, {}, "data.train.glyphs: unknown key; allowed: synth, n, "),
        ({}, {"data": {"validation": DRAWN}}, "data.validation: must be a folder, only data.train can be drawn"),
        ({}, {"data": {"unlabelled": DRAWN}}, "data.unlabelled: must be a folder, only data.train can be drawn"),
        ({}, {"task": "classification"}, "data.train: documents are drawn while training for kie alone"),
        ({}, {"cache_logits": 4}, "stages.0.distill.cache_logits: asks the teacher once about each document"),
        ({}, {"answers": "teacher"}, "stages.0.distill.answers: asks the teacher once about each document"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_a_sentence(
    train: dict[str, Any], changes: dict[str, Any], problem: str
) -> None:
    content = _recipe(Path("packets"))
    content["data"] = {**content["data"], "train": {**DRAWN, **train}, **changes.get("data", {})}
    content["task"] = changes.get("task", "kie")
    content["stages"][0]["distill"] |= {key: changes[key] for key in ("cache_logits", "answers") if key in changes}
    with pytest.raises(RecipeError) as error:
        parse_recipe(content)
    [line] = error.value.problems
    assert line.startswith(problem)


def test_what_is_not_there_is_said_before_anything_is_trained(
    packets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {**_recipe(packets), "teacher": "shipped:small-labels"}
    content["data"]["train"] = {**DRAWN, "papers": str(tmp_path / "papers")}
    with pytest.raises(UserError, match="there is no folder of papers"):
        docstill.compress(parse_recipe(content), tmp_path / "run")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="synth needs packages"):
        stream_of(Generated.model_validate(DRAWN))


def test_a_folder_in_a_recipe_gives_way_to_generated_documents(packets: Path, tmp_path: Path) -> None:
    content = _recipe(packets)
    content["data"]["train"] = "pages/train"
    path = tiny.write_recipe(tmp_path / "recipe.yaml", content)
    recipe = load_recipe(path, ["data.train.synth=labels", "data.train.n=20000"])
    assert recipe.data.train == Generated(synth="labels", n=20000)
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
    assert load_recipe(path).data.train == Path("pages/train")
