"""Study files: what they may say, and the recipes they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from docstill.errors import RecipeError
from docstill.recipe import dump_recipe, load_recipe
from docstill.shipped import STUDIES, recipes
from docstill.studies.grid import Cell, cells, dump_study, load_study, parse_study

KD = [{"distill": {"objectives": [{"kind": "labels"}, {"kind": "kd"}]}}]
MSE = [{"distill": {"objectives": [{"kind": "labels"}, {"kind": "mse"}]}}]
PRUNED = [{"prune": {"sparsity": 0.3}}, *KD]
TRAINING = {"epochs": 1, "batch_size": 4, "learning_rate": 0.003, "precision": "fp32"}


def content(data: Path = Path("data"), **changes: Any) -> dict[str, Any]:
    """Two teachers, a student, two methods."""
    teacher = {"model": tiny.TINY_VIT, "train": TRAINING}
    return {
        "task": "classification",
        "data": {"train": str(data / "train"), "validation": str(data / "validation")},
        "teachers": {"one": teacher, "two": {**teacher, "train": {**TRAINING, "epochs": 2}}},
        "students": {"small": tiny.SMALLER_VIT},
        "training": TRAINING,
        "methods": {"kd": KD, "mse": MSE},
        "repeats": 2,
        **changes,
    }


def grid(**changes: Any) -> list[Cell]:
    study = parse_study(content(**changes))
    return cells(study, {name: f"runs/{name}" for name in study.teachers})


def test_a_cell_for_each_teacher_student_and_method() -> None:
    found = grid(students={"small": tiny.SMALLER_VIT, "copy": None})
    assert len(found) == 2 * 2 * 2
    assert found[0].name == "one--small--kd"
    assert found[0].recipe.teacher == "runs/one"
    assert found[0].recipe.repeats == 2


def test_pairs_choose_among_them() -> None:
    assert {(cell.teacher, cell.student) for cell in grid(pairs=[["two", "small"]])} == {("two", "small")}


def test_a_pair_may_have_methods_of_its_own() -> None:
    methods = {"kd": KD, "labels": [{"train": {}}]}
    found = grid(methods=methods, pairs=[["one", "small", ["labels"]], ["two", "small"]])
    assert [cell.name for cell in found] == ["one--small--labels", "two--small--kd", "two--small--labels"]
    with pytest.raises(RecipeError, match=r"pairs.0: there is no method 'kdd'; one of kd, labels expected"):
        grid(methods=methods, pairs=[["one", "small", ["kdd"]]])


def test_shared_settings_give_way_to_a_stages_own() -> None:
    own = [{"distill": {"objectives": [{"kind": "kd"}], "epochs": 7}}]
    first, second = grid(methods={"kd": KD, "long": own}, pairs=[["one", "small"]])
    assert [cell.recipe.stages[0].settings.epochs for cell in (first, second)] == [1, 7]  # type: ignore[union-attr]
    assert second.recipe.stages[0].settings.batch_size == 4  # type: ignore[union-attr]


def test_a_twin_is_run_once_for_all_methods_and_teachers_it_is_the_same_for() -> None:
    found = grid(methods={"kd": KD, "mse": MSE, "pruned": PRUNED})
    assert [cell.twin for cell in found] == ["one--small--kd", "one--small--kd", "one--small--pruned"] * 2
    assert [cell.name for cell in found if "no-kd" in cell.recipe.controls] == ["one--small--kd", "one--small--pruned"]


def test_a_copy_of_the_teacher_has_a_twin_for_each_teacher() -> None:
    found = grid(students={"copy": None}, methods={"kd": KD})
    assert [cell.twin for cell in found] == ["one--copy--kd", "two--copy--kd"]


def distilled(*objectives: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    return [{"distill": {"objectives": [*objectives, {"kind": "kd"}], **settings}}]


def test_twins_that_learn_otherwise_are_different() -> None:
    """The twin keeps the smoothing of its labels; not the labels' weight, nor what the teacher's part says."""
    methods = {
        "kd": distilled({"kind": "labels"}),
        "smooth": distilled({"kind": "labels", "smoothing": 0.3}),
        "long": distilled({"kind": "labels"}, epochs=7),
        "alike": distilled({"kind": "labels", "weight": 0.3, "smoothing": 0.0}),
        "alone": distilled(),
    }
    found = {cell.method: cell for cell in grid(methods=methods, pairs=[["one", "small"]])}
    twins = {name: str(cell.twin).removeprefix("one--small--") for name, cell in found.items()}
    assert twins == {"kd": "kd", "smooth": "smooth", "long": "long", "alike": "kd", "alone": "kd"}
    assert [name for name, cell in found.items() if "no-kd" in cell.recipe.controls] == ["kd", "smooth", "long"]


def test_objectives_without_a_teacher_belong_to_the_twin() -> None:
    labels, reading = {"kind": "labels"}, {"kind": "reading"}
    methods = {
        "kd": distilled(labels),
        "reads": distilled(labels, {**reading, "weight": 20.0}),
        "less": distilled(labels, reading),
        "teachers-answers": distilled(labels, answers="teacher"),
    }
    found = grid(task="kie", teachers={"one": "runs/one"}, students={"small": None}, methods=methods)
    twins = [str(cell.twin).removeprefix("one--small--") for cell in found]
    assert twins == ["kd", "reads", "less", "kd"]


def test_calibrate_and_compare_are_handed_to_every_cell() -> None:
    plain, asked = grid()[0].recipe, grid(calibrate=True, compare=True)
    assert (plain.calibrate, plain.compare) == (False, None)
    assert all(cell.recipe.calibrate and cell.recipe.compare for cell in asked)
    assert [cell.twin for cell in asked] == ["one--small--kd"] * 2 + [
        "two--small--kd"
    ] * 2  # each beside its own teacher
    with pytest.raises(RecipeError, match="calibrate is for classification, the task is kie"):
        parse_study(content(task="kie", students={"small": None}, calibrate=True))


def test_a_method_without_a_teacher_has_no_twin() -> None:
    found = grid(methods={"labels": [{"train": {}}], "kd": KD}, pairs=[["one", "small"]])
    assert [cell.twin for cell in found] == [None, "one--small--kd"]


def test_each_cell_is_a_recipe_of_its_own(tmp_path: Path) -> None:
    for cell in grid():
        path = tmp_path / f"{cell.name}.yaml"
        path.write_text(dump_recipe(cell.recipe), encoding="utf-8")
        assert load_recipe(path) == cell.recipe


def test_all_mistakes_come_at_once() -> None:
    wrong = content(
        teachers={"a/b": "runs/teacher"},
        pairs=[["one", "small"], ["a/b", "tiny"]],
        methods={
            "kd": [{"distill": {"objectives": [{"kind": "kl"}]}}],
            "typo": [{"distill": {"objectives": [{"kind": "kd"}], "epoch": 3}}],
            "again": [{"prune": {"sparsity": 0.3}}],
            "same": [{"prune": {"sparsity": 0.3}}],
        },
    )
    with pytest.raises(RecipeError) as caught:
        parse_study(wrong)
    text = str(caught.value)
    for expected in (
        "teachers.a/b: a name becomes part of a folder's name",
        "pairs.0: there is no teacher 'one'",
        "pairs.1: there is no student 'tiny'",
        "methods.typo.0.distill.epoch: unknown key; did you mean epochs?",
        "methods.kd.0.distill.objectives.0.kind: 'kl' given",
        "methods.same: the same as again",
    ):
        assert expected in text
    with pytest.raises(RecipeError, match="method: unknown key; did you mean methods"):
        parse_study({**content(), "method": {}})


@pytest.mark.parametrize("name", recipes(STUDIES))
def test_shipped_studies_hold(name: str) -> None:
    study = load_study(STUDIES / f"{name}.yaml")
    assert recipes(STUDIES)[name]
    trained = {teacher: f"runs/{teacher}" for teacher in study.teachers}
    assert len(cells(study, trained)) >= 4
    assert parse_study(yaml.safe_load(dump_study(study))) == study


def test_what_stands_twice_or_does_not_fit_a_teacher() -> None:
    with pytest.raises(RecipeError) as error:
        parse_study(content(pairs=[["one", "small"], ["one", "small", ["kd"]]]))
    assert error.value.problems == ["pairs.1: one, small and kd stand here twice; leave one out"]
    layout = {**content(), "task": "layout", "methods": {"query": [{"distill": {"objectives": [{"kind": "query"}]}}]}}
    layout["teachers"]["one"] = {"model": {"new": "rt-detrv2-r18"}, "train": {**TRAINING, "blend": "mixup"}}
    with pytest.raises(RecipeError, match=r"teachers\.one\.train\.blend: is for classification, the task is layout"):
        parse_study(layout)
