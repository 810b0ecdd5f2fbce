"""`docstill compare`: two models on the same pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import docstill
import kie_tiny
import tiny
from docstill import cli
from docstill.errors import UserError
from docstill.models.classifier import new_classifier
from docstill.optimiser import seed_everything
from docstill.similarity.comparison import comparison
from docstill.similarity.heatmap import heatmap
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
    assert found["agreement"]["top1"] == 1
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
    text = run("compare", world["vit"], world["resnet"], world["data"])
    assert "global_cka" in text
    assert "encoder 1 ~ encoder 1.1" in text


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
    image = heatmap([[1.0, 0.0], [None, 0.5]], ["a", "b"], ["c", "d"], "title", "teacher", "student")
    colours = {colour for _, colour in image.getcolors(maxcolors=100_000) or []}
    assert {(12, 68, 124), (246, 248, 251), (222, 222, 222), (129, 158, 188)} <= colours
