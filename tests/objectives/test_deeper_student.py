"""A student with more layers than its teacher: the teacher's answers teach it, a layer map says what to do in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import docstill
import tiny
from docstill.errors import ModelError, RecipeError
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.tasks.kie import Kie
from kie_tiny import tiny_donut

KIE = Kie()
DEEPER = {**tiny.TINY_VIT, "config": {**tiny.TINY_VIT["config"], "num_hidden_layers": 3}}  # type: ignore[dict-item]
pytestmark = pytest.mark.usefixtures("one_thread")


def donut(layers: int, blocks: int) -> DocumentModel:
    return tiny_donut(changes={"encoder": {"depths": [1, 1, blocks, 1]}, "decoder": {"decoder_layers": layers}})


@pytest.mark.parametrize("kind", ["hint", "attention"])
@pytest.mark.parametrize("how", ["even", "kept"])
@pytest.mark.parametrize(
    ("path", "ours", "theirs"),
    [("decoder.model.decoder.layers", 3, 2), ("encoder.encoder.layers.2.blocks", 4, 2)],
)
def test_a_map_to_fewer_layers_is_refused_for_every_part_of_a_donut(
    path: str, ours: int, theirs: int, how: str, kind: str
) -> None:
    teacher, student = donut(2, 2), donut(3, 4)
    # that it is the other way round is said even where a card, of a pruning of long ago, speaks of these layers
    student.card["kept_layers"] = [{path: {"of": 6, "kept": list(range(ours))}}]
    with pytest.raises(
        ModelError,
        match=f"^map: {how} gives each layer of the student one of the teacher's, and {path} has {ours} for the "
        f"{theirs} of the teacher's {path}; name pairs of modules without map$",
    ):
        Lesson(KIE, student, teacher, make_objectives([{"kind": kind, "student_module": path, "map": how}]))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data, and a teacher of two layers."""
    root = tmp_path_factory.mktemp("deeper")
    teacher = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32))
    return tiny.class_folders(root / "data", train=2), teacher.save(root / "teacher")


def recipe(world: tuple[Path, Path], objective: dict[str, Any]) -> dict[str, Any]:
    data, teacher = world
    distill = {"epochs": 1, "batch_size": 6, "precision": "fp32", "objectives": [{"kind": "labels"}, objective]}
    stages = [{"distill": distill}]
    return tiny.recipe(data, teacher=str(teacher), student=DEEPER, stages=stages, controls=["teacher"])


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "kd"},
        {"kind": "hint", "student_module": "vit.layers.2", "teacher_module": "vit.layers.1"},  # as the refusal advises
    ],
)
def test_answers_and_named_pairs_teach_it(world: tuple[Path, Path], tmp_path: Path, objective: dict[str, Any]) -> None:
    results = docstill.compress(recipe(world, objective), tmp_path / "run")
    teacher, student = results["rows"]
    assert student["params"]["total"] > teacher["params"]["total"]
    assert docstill.load(tmp_path / "run" / "model").model.network.config.num_hidden_layers == 3


def test_a_recipe_with_a_map_is_refused_before_anybody_learns(world: tuple[Path, Path], tmp_path: Path) -> None:
    content = recipe(world, {"kind": "hint", "student_module": "vit.layers", "map": "even"})
    with pytest.raises(RecipeError) as error:
        docstill.compress(content, tmp_path / "run")
    [problem] = error.value.problems
    assert problem.startswith("stages.0.distill: map: even gives each layer of the student one of the teacher's")
    assert "vit.layers has 3 for the 2" in problem
    assert not list((tmp_path / "run").rglob("metrics.jsonl"))
