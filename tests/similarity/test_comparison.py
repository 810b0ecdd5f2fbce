"""`docstill compare`: two models on the same pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import docstill
import kie_tiny
import tiny
from docstill import cli
from docstill.data.images import open_image
from docstill.errors import UserError
from docstill.metrics.cka import cka
from docstill.models.classifier import new_classifier
from docstill.models.taps import tapped
from docstill.optimiser import seed_everything
from docstill.similarity.comparison import comparison
from docstill.similarity.heatmap import heatmap
from docstill.similarity.pair import Pair, _whole
from docstill.tasks.base import drawn
from docstill.tasks.classification import Classification
from docstill.tasks.kie import Kie


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages, and classifiers of two families."""
    root = tmp_path_factory.mktemp("compare")
    data = tiny.class_folders(root / "data", validation=4)
    paths = {"data": data}
    for name, size, spec in (("vit", "vit-tiny", tiny.TINY_VIT), ("resnet", "resnet-18", tiny.TINY_RESNET)):
        seed_everything(0)
        paths[name] = new_classifier(size, spec["config"], tiny.KINDS, (32, 32)).save(root / name)
    return paths


def run(*words: str | Path, code: int = 0) -> Any:
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    return json.loads(result.stdout) if code == 0 and "--json" in words else result.stdout + result.stderr


def test_a_model_and_itself(world: dict[str, Path]) -> None:
    found = run("compare", world["vit"], world["vit"], world["data"], "--json")
    assert list(found) == ["task", "teacher", "student", "data", "n", "similarity", "agreement", "disagreements"]
    assert found["n"] == 12
    assert found["similarity"]["global"] == 1
    assert [pair["cka"] for pair in found["similarity"]["layers"]["matched"]] == [1, 1]
    assert found["similarity"]["biased"]["global"] == 1
    assert found["agreement"]["top1"] == 1
    assert found["agreement"]["against_truth"]["accuracy"]["difference"] == 0
    assert found["agreement"]["kl"] == pytest.approx(0, abs=1e-9)
    assert found["disagreements"] == []


def test_two_families_side_by_side(world: dict[str, Path], tmp_path: Path) -> None:
    picture = tmp_path / "new" / "cka.png"
    found = run("compare", world["vit"], world["resnet"], world["data"], "--picture", picture, "--json")
    similar = found["similarity"]
    assert len(similar["layers"]["matrix"]) == 2
    assert similar["global"] < 1
    assert found["picture"] == str(picture)
    with Image.open(picture) as image:
        assert image.format == "PNG"
    assert (
        sum(
            found["agreement"][name]
            for name in ("both_right", "only_teacher_right", "only_student_right", "none_right")
        )
        == 12
    )
    agreed = found["agreement"]
    truth = agreed["against_truth"]["accuracy"]
    assert truth["teacher"] == pytest.approx((agreed["both_right"] + agreed["only_teacher_right"]) / 12)
    assert truth["student"] == pytest.approx((agreed["both_right"] + agreed["only_student_right"]) / 12)
    assert truth["difference"] == pytest.approx(truth["student"] - truth["teacher"])
    text = run("compare", world["vit"], world["resnet"], world["data"])
    assert "global_cka" in text
    assert "encoder 1 ~ encoder 1.1" in text


def test_layers_are_chosen_by_path(world: dict[str, Path]) -> None:
    layers = ("--layers", "vit.layers.1", "--layers", "resnet.encoder.stages.*")
    found = run("compare", world["vit"], world["resnet"], world["data"], *layers, "--json")["similarity"]["layers"]
    assert found["teacher_layers"] == found["teacher_names"] == ["vit.layers.1"]
    assert found["student_layers"] == ["resnet.encoder.stages.0", "resnet.encoder.stages.1"]
    assert [len(row) for row in found["matrix"]] == [2]
    wrong = run("compare", world["vit"], world["resnet"], world["data"], "--layers", "vit.layers.7", code=2)
    assert "no module of teacher or student fits 'vit.layers.7'" in " ".join(wrong.split())


def test_figures_are_those_of_the_features_themselves(world: dict[str, Path]) -> None:
    """Through the public parts: each model's own pixels, the blocks' outputs by hooks, CKA of all pages at once."""
    task, pages = Classification(), Classification().read(world["data"] / "validation")
    rows = []
    for name, path in (("vit", "vit.layers.1"), ("resnet", "resnet.encoder.stages.1.layers.0")):
        model = task.load_model(str(world[name]))
        images = [open_image(document.file) for document in pages.documents]
        pixels = model.processor(images=images, return_tensors="pt")["pixel_values"]
        with torch.inference_mode(), tapped(model.network, [path]) as kept:
            model.network(pixels)
        rows.append(kept[path].double())
    features = rows[0].mean(1).numpy(), rows[1].mean((2, 3)).numpy()
    found = run("compare", world["vit"], world["resnet"], world["data"], "--json")["similarity"]
    assert found["layers"]["matrix"][1][1] == pytest.approx(cka(*features, estimator="unbiased"), abs=1e-5)
    assert found["biased"]["matrix"][1][1] == pytest.approx(cka(*features, estimator="biased"), abs=1e-5)


def test_a_limit_draws_from_all_classes_and_always_the_same(world: dict[str, Path]) -> None:
    pages = Classification().read(world["data"] / "validation")
    some = drawn(pages, 6)
    assert len(some.documents) == 6
    assert len({document.target for document in some.documents}) == 3
    assert drawn(pages, 6) == some
    assert drawn(pages, 12) is pages
    found = run("compare", world["vit"], world["vit"], world["data"], "--limit", "6", "--json")
    assert found["n"] == 6


def test_batches_do_not_change_the_answer_when_all_fit(world: dict[str, Path]) -> None:
    first, second = docstill.load(world["vit"]), docstill.load(world["resnet"])
    pages = Classification().read(world["data"] / "validation")
    one = comparison(first.task, first.model, second.model, pages, "pooled")
    again = comparison(first.task, first.model, second.model, pages, "pooled")
    assert one == again
    flat = comparison(first.task, first.model, second.model, pages, "flattened")
    assert flat["similarity"]["tokens"] == "flattened"
    assert flat["similarity"]["global"] != one["similarity"]["global"]


def test_donuts_are_compared_in_both_parts(tmp_path: Path) -> None:
    folder = kie_tiny.tiny_folder(tmp_path / "validation", kie_tiny.ANSWERS + kie_tiny.ANSWERS)
    pages = Kie().read(folder)
    one, other = kie_tiny.tiny_donut(0), kie_tiny.tiny_donut(1)
    same = comparison(Kie(), one, one, pages)
    assert same["similarity"]["global"] == 1
    assert same["agreement"]["exact"] == 1
    assert same["agreement"]["tokens"] == 1
    found = comparison(Kie(), one, other, pages)
    assert set(found["similarity"]["parts"]) == {"encoder", "decoder"}
    assert found["similarity"]["global"] < 1


def test_equal_models_are_alike_to_the_last_bit(world: dict[str, Path], tmp_path: Path) -> None:
    """Before figures are rounded, from two loads of the same weights; the biased one comes from BLAS, which rounds."""
    answers = [{"shop": "A" * (1 + index), "total": f"{index}.50"} for index in range(9)]
    donut = kie_tiny.tiny_donut(0).save(tmp_path / "donut")
    for task, folder, pages in (
        (Classification(), world["vit"], Classification().read(world["data"] / "validation")),
        (Classification(), world["resnet"], Classification().read(world["data"] / "validation")),
        (Kie(), donut, Kie().read(kie_tiny.tiny_folder(tmp_path / "validation", answers))),
    ):
        for tokens in ("pooled", "flattened"):
            one, other = (task.load_model(str(folder)) for _ in range(2))
            pair = Pair(task, one, other, tokens)
            pair.see(pages, answers=False, samples=4)
            assert pair.cka.overall() == 1.0
            assert (pair.cka.matrix().diagonal() == 1.0).all()
            assert pair.cka.overall("biased") == pytest.approx(1, abs=1e-12)


def test_a_batch_is_as_large_as_there_is_room_for(world: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, other = docstill.load(world["vit"]), docstill.load(world["resnet"])
    pages = loaded.task.read(world["data"] / "validation")
    one = sum(
        rows.nbytes
        for layers in Pair(loaded.task, loaded.model, other.model, "flattened")._look(pages.documents[:1], pages, False)
        for rows in layers
    )
    sizes: dict[tuple[str, int], list[int]] = {}
    for tokens, room in (("flattened", 12), ("flattened", 6), ("flattened", 1), ("pooled", 1)):
        monkeypatch.setattr("docstill.similarity.pair.ROOM", room * one)
        pair, seen = Pair(loaded.task, loaded.model, other.model, tokens), sizes.setdefault((tokens, room), [])
        monkeypatch.setattr(
            pair.cka, "add", lambda teacher, student, seen=seen: seen.extend((len(teacher[0]), len(student[-1])))
        )
        pair.see(pages, answers=False)
    assert sizes == {
        ("flattened", 12): [12] * 2,
        ("flattened", 6): [6] * 4,
        ("flattened", 1): [4] * 6,
        ("pooled", 1): [12] * 2,
    }


def test_parts_of_a_batch_do_not_stay_beside_the_whole() -> None:
    parts = [[np.full((2, 3), layer), np.full((1, 2), layer)] for layer in range(2)]
    first, second = _whole(by_part := [list(rows) for rows in zip(*parts, strict=True)])
    assert first.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert second.tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]
    assert by_part == [[], []]


@pytest.mark.parametrize("tokens", ["pooled", "flattened"])
def test_padding_never_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: str) -> None:
    """Answers of very unlike lengths: one document at a time (no padding at all) gives what one batch of all gives."""
    answers = [{"shop": "A" * (1 + 7 * index), "total": "1"} for index in range(6)]
    pages = Kie().read(kie_tiny.tiny_folder(tmp_path / "validation", answers))
    found = []
    for at_once in (1, 16):
        monkeypatch.setattr("docstill.similarity.pair.MOST_AT_ONCE", at_once)
        pair = Pair(Kie(), kie_tiny.tiny_donut(0), kie_tiny.tiny_donut(1), tokens)
        pair.see(pages, answers=False)
        found.append(pair.similarity())
    for part in ("layers", "biased"):
        one, other = (np.array(similar[part]["matrix"]) for similar in found)
        assert one == pytest.approx(other, abs=1e-4)


def test_donuts_of_other_sizes_and_other_vocabularies(tmp_path: Path) -> None:
    pages = Kie().read(kie_tiny.tiny_folder(tmp_path / "validation"))
    small = kie_tiny.tiny_donut(1, tags=[*kie_tiny.TAGS, "<s_more>", "</s_more>"], image_size=(160, 224))
    found = comparison(Kie(), kie_tiny.tiny_donut(0), small, pages, "flattened")
    assert found["agreement"]["tokens"] is None
    assert found["agreement"]["kl"] is None
    assert 0 <= found["similarity"]["biased"]["global"] < 1
    assert set(found["agreement"]["against_truth"]) == {"exact", "field_f1"}


def test_mistakes_are_one_sentence(world: dict[str, Path], tmp_path: Path) -> None:
    assert "pooled or flattened" in run(
        "compare", world["vit"], world["vit"], world["data"], "--tokens", "averaged", code=2
    )
    seed_everything(0)
    strange = new_classifier("vit-tiny", tiny.TINY_VIT["config"], ("a", "b", "c"), (32, 32)).save(tmp_path / "strange")
    assert "do not have the same classes" in run("compare", world["vit"], strange, world["data"], code=2)
    pages = Classification().read(world["data"] / "validation")
    few = type(pages)(pages.folder, pages.documents[:3], pages.labels)
    model = docstill.load(world["vit"])
    with pytest.raises(UserError, match="CKA needs at least 4"):
        comparison(model.task, model.model, model.model, few)


def test_the_picture_is_dark_where_layers_are_alike() -> None:
    image = heatmap([[1.0, 0.0], [None, 0.5]], ["a", "b"], ["c", "d"], "title", framed=[(0, 0)])
    colours = {colour for _, colour in image.getcolors(maxcolors=100_000) or []}
    assert {(12, 68, 124), (246, 248, 251), (222, 222, 222), (129, 158, 188)} <= colours


def test_the_picture_has_room_for_long_names() -> None:
    short = heatmap([[0.5]], ["a"], ["b"], "title")
    long = heatmap([[0.5]], ["decoder.model.decoder.layers.0"], ["encoder.encoder.layers.0.blocks.1"], "title")
    assert long.width > short.width + 250
    assert long.height > short.height + 250
