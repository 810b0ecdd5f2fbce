"""Recipes: every mistake at once, in words; overrides; the shipped ones hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import tiny
from docstill.errors import RecipeError, UserError
from docstill.objective_settings import made_objective
from docstill.objectives import OBJECTIVES
from docstill.recipe import dump_recipe, load_recipe, parse_recipe, parse_stage
from docstill.recipe_text import differences, read_yaml
from docstill.settings import DistillStage, TrainStage
from docstill.shipped import FOLDER, STUDIES, copy_recipe, find_recipe, recipes
from docstill.studies.grid import load_study


def _problems(content: dict[str, Any]) -> list[str]:
    with pytest.raises(RecipeError) as error:
        parse_recipe(content)
    return error.value.problems


def test_all_mistakes_come_at_once_each_with_path_and_nearest_name() -> None:
    content = tiny.recipe(Path("data"), repeats=0, control=["teacher"])
    content["task"] = "clasification"
    content["stages"][0]["prune"]["sparcity"] = 0.4
    content["stages"][1]["distill"]["objectives"][1] = {"kind": "kl", "temperature": 2}
    content["stages"][1]["distill"]["objectives"][0]["wieght"] = 2
    problems = _problems(content)
    text = "\n".join(problems)
    assert (
        "task: 'clasification' given, one of classification, kie, layout expected; did you mean classification?"
        in problems
    )
    assert "control: unknown key; did you mean controls?" in problems
    assert "stages.0.prune.sparcity: unknown key; did you mean sparsity?" in problems
    assert (
        f"stages.1.distill.objectives.1.kind: 'kl' given, one of {', '.join(OBJECTIVES)} expected; did you mean kd?"
        in problems
    )
    assert "stages.1.distill.objectives.0.wieght: unknown key; did you mean weight?" in problems
    assert "repeats: 0 given" in text
    assert len(problems) == 6


def test_values_of_the_wrong_kind_say_what_was_given() -> None:
    content = tiny.recipe(Path("data"))
    content["stages"][1]["distill"]["epochs"] = "many"
    content["stages"][1]["distill"]["objectives"][1]["temperature"] = -1
    problems = _problems(content)
    assert any(line.startswith("stages.1.distill.epochs: 'many' given") for line in problems)


def test_objective_options_are_checked() -> None:
    content = tiny.recipe(Path("data"))
    content["stages"][1]["distill"]["objectives"][1]["temperature"] = -1
    assert _problems(content) == ["stages.1.distill.objectives.1.temperature: -1 given; input should be greater than 0"]


def test_a_stage_has_exactly_one_key() -> None:
    content = tiny.recipe(Path("data"))
    content["stages"][0]["train"] = {}
    assert any("exactly one key" in line for line in _problems(content))


def test_missing_keys_are_named() -> None:
    assert "data: required, not given" in _problems(
        {"task": "kie", "teacher": "x", "stages": [{"prune": {"sparsity": 0.5}}]}
    )


def test_overrides_reach_into_lists_and_complain_in_words(tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path / "r.yaml", tiny.recipe(Path("data")))
    recipe = load_recipe(path, ["stages.1.distill.epochs=7", "seed=3"])
    assert recipe.stages[1].distill is not None
    assert recipe.stages[1].distill.epochs == 7
    assert recipe.seed == 3
    with pytest.raises(RecipeError, match="no entry 5"):
        load_recipe(path, ["stages.5.distill.epochs=7"])
    with pytest.raises(RecipeError, match=r"expected key\.path=value"):
        load_recipe(path, ["epochs"])


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("task: kie\n  data: [")
    with pytest.raises(RecipeError, match="line 2"):
        load_recipe(tmp_path / "r.yaml")


def test_the_resolved_recipe_reads_back_as_itself() -> None:
    recipe = parse_recipe(tiny.recipe(Path("data")))
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
    changed = parse_recipe(tiny.recipe(Path("data"), seed=4))
    assert differences(dump_recipe(recipe), dump_recipe(changed)) == ["seed: 0 -> 4"]


@pytest.mark.parametrize("name", recipes())
def test_shipped_recipes_hold_and_begin_with_the_command_that_runs_them(name: str) -> None:
    path = find_recipe(name)
    load_recipe(path)
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert recipes()[name]
    assert any(line.startswith(f"# docstill {'demo' if name == 'demo' else 'compress ' + name}") for line in comments)


def test_copying_makes_the_folder(tmp_path: Path) -> None:
    assert copy_recipe("doctype", tmp_path / "new" / "mine.yaml").is_file()


def test_copying_never_overwrites(tmp_path: Path) -> None:
    copied = copy_recipe("doctype", tmp_path)
    assert copied.read_text() == find_recipe("doctype").read_text()
    with pytest.raises(UserError, match="not overwritten"):
        copy_recipe("doctype", tmp_path)
    with pytest.raises(UserError, match="did you mean doctype"):
        find_recipe("doctpe")


@pytest.mark.parametrize("sides", [[0, 0], [-32, 32]])
def test_a_size_in_pixels_is_positive(sides: list[int]) -> None:
    content = tiny.recipe(Path("data"), student={"new": "resnet-18", "image_size": sides})
    assert f"student.image_size.0: {sides[0]} given; input should be greater than 0" in _problems(content)


def test_an_override_changes_one_of_those_that_stand_at_an_anchor(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("one: &shared {train: {epochs: 3}}\ntwo: *shared\n")
    found = read_yaml(tmp_path / "a.yaml", ["one.train.epochs=7"])
    assert found == {"one": {"train": {"epochs": 7}}, "two": {"train": {"epochs": 3}}}


@pytest.mark.parametrize("name", ["2024", "2024-05-01", "runs/a #1", "no", "1e3", "[old]/train", "@scans", "*x"])
def test_a_folder_is_named_as_it_is_written(name: str, tmp_path: Path) -> None:
    path = tiny.write_recipe(tmp_path / "recipe.yaml", tiny.recipe(Path("data")))
    recipe = load_recipe(path, [f"data.train={name}", f"teacher={name}", "student=null"])
    assert (str(recipe.data.train), recipe.teacher, recipe.student) == (name, name, None)
    assert str(load_recipe(path, ["data.train='2024'"]).data.train) == "2024"


def test_a_recipe_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("task: kie  # für".encode("latin-1"))
    with pytest.raises(RecipeError, match="not UTF-8"):
        read_yaml(tmp_path / "a.yaml")


def test_options_are_taken_as_they_were_read() -> None:
    stage = parse_stage("distill", {"objectives": [{"kind": "labels"}, {"kind": "kd", "temperature": "4e0"}]}).settings
    assert isinstance(stage, DistillStage)
    assert stage.objectives == [{"kind": "labels"}, {"kind": "kd", "temperature": 4.0}]
    made = made_objective(stage.objectives[1])
    assert made.temperature == 4.0


def test_a_stage_with_nothing_under_it_has_its_defaults() -> None:
    (stage,) = parse_recipe({**tiny.recipe(Path("data")), "stages": [{"train": None}]}).stages
    assert isinstance(stage.settings, TrainStage)
    assert stage.settings.epochs == 10


@pytest.mark.parametrize(
    ("task", "stage", "line"),
    [
        ("classification", {"prune": {"method": "vocabulary"}}, "stages.0.prune.method: vocabulary is for kie"),
        ("classification", {"prune": {"method": "backbone", "to": "x"}}, "backbone is for layout"),
        ("classification", {"prune": {"method": "resolution", "keep": 0.5}}, "resolution is for kie and layout"),
        ("classification", {"train": {"reading": 20}}, "stages.0.train.reading: is for kie"),
        ("layout", {"train": {"smoothing": 0.1}}, "stages.0.train.smoothing: is for classification and kie"),
        ("kie", {"train": {"prune": {"sparsity": 0.5, "begin": 0.5}}}, "begin: 0.5 given, which is not before end"),
    ],
)
def test_what_does_not_fit_the_task_is_said_before_a_teacher_learns(task: str, stage: Any, line: str) -> None:
    content = {"task": task, "teacher": "t", "data": {"train": "a", "validation": "b"}, "stages": [stage]}
    assert line in "\n".join(_problems(content))


@pytest.mark.parametrize(
    ("task", "data", "said"),
    [
        ("kie", {}, "the task is kie and unlabelled pages are not given"),
        ("classification", {"unlabelled": "more"}, "the task is classification and unlabelled pages are given"),
    ],
)
def test_a_confidence_without_use_is_refused(task: str, data: dict[str, str], said: str) -> None:
    content = tiny.recipe(Path("data"))
    content["task"] = task
    content["data"] |= {"confidence": 0.7, **data}
    assert _problems(content) == [f"data.confidence is for data.unlabelled of kie and layout, {said}; leave it out"]
    content["data"]["confidence"] = 0.9  # as dumped recipes say it
    assert parse_recipe(content).data.confidence == 0.9


def test_models_that_ship_have_a_name() -> None:
    content = tiny.recipe(Path("data"), teacher="shipped:small-labels")
    content["task"] = "kie"
    content["stages"], content["student"] = [{"prune": {"method": "depth", "keep": 2, "of": "decoder"}}], None
    assert (Path(str(parse_recipe(content).teacher)) / "model.safetensors").is_file()
    content["teacher"] = "shipped:small-lables"
    assert _problems(content)[0].startswith("teacher: no teacher small-lables is shipped; choose one of small-labels")


@pytest.mark.parametrize("name", ["demo", "studies/donut-hole-micro"])
def test_recipes_with_a_teacher_that_ships_find_it(name: str) -> None:
    path = find_recipe(name.rpartition("/")[2], STUDIES if "/" in name else FOLDER)
    found = load_study(path, []).teachers["labels"] if "/" in name else load_recipe(path).teacher
    assert Path(str(found)).is_dir()
