"""The main job on tiny models: what it leaves behind, resuming, refusing, controls, equal losses."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import docstill
import tiny
from docstill import compression
from docstill.errors import DataError, ModelError, RecipeError, UserError
from docstill.files import full_disk_said, write_json
from docstill.recipe import dump_recipe, parse_recipe
from docstill.run import open_run, read_metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Data, run folder and results of one whole run."""
    root = tmp_path_factory.mktemp("run")
    data = tiny.class_folders(root / "data")
    results = compression.compress(parse_recipe(tiny.recipe(data, repeats=2)), root / "run")
    return data, root / "run", results


def test_a_run_leaves_student_report_and_results(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, results = finished
    assert [row["name"] for row in results["rows"]] == ["teacher", "student", "no-kd"]
    assert json.loads((run / "results.json").read_text()) == results
    assert "<html" in (run / "report.html").read_text()
    assert (run / "model" / "model.safetensors").is_file()
    assert json.loads((run / "model" / "docstill.json").read_text())["task"] == "classification"
    student = results["rows"][1]
    assert len(student["metrics"]["accuracy"]["values"]) == 2
    assert student["metrics"]["accuracy"]["std"] is not None
    assert not list(run.rglob("*.pt")), "checkpoints of finished stages are dropped"
    assert not list(run.rglob("*.partial"))
    (shared,) = [line for line in results["warnings"] if line.startswith("6 of 6 pictures in ")]
    assert "bars/0.png (bars/0.png there), bars/1.png (bars/1.png there)" in shared


def test_what_is_left_by_pruning_is_scored_before_it_learns(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    data, run, results = finished
    cut, *others = [stage for stage in results["stages"] if "score" in stage]
    assert not others
    assert cut["name"] == "prune"
    score = docstill.evaluate(run / "seed-0" / "student" / "1-prune" / "model", data / "validation")["metrics"][
        "accuracy"
    ]
    assert cut["score"] == pytest.approx(score)
    assert cut["text"].endswith(f"As pruned, it has accuracy {score:.4f} on the validation split.")


def test_pruned_weights_stay_zero_through_distillation(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, results = finished
    assert results["rows"][0]["sparsity"] == []
    pruned = {entry["of"]: entry for entry in results["rows"][1]["sparsity"]}["pruned tensors"]
    assert pruned["zero"] == round(0.3 * pruned["total"])
    assert (run / "model" / "masks.safetensors").is_file()


def test_the_same_seed_gives_the_same_student(finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    data, run, _ = finished
    compression.compress(parse_recipe(tiny.recipe(data, repeats=2)), tmp_path / "again")
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (run, tmp_path / "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_is_not_done_again(
    finished: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run, results = finished
    monkeypatch.setattr(compression, "run_stage", lambda *_: pytest.fail("a finished stage was run again"))
    assert compression.compress(parse_recipe(tiny.recipe(data, repeats=2)), run)["rows"] == results["rows"]


def test_another_recipe_in_the_same_folder_is_refused_with_what_differs(
    finished: tuple[Path, Path, dict[str, Any]],
) -> None:
    data, run, _ = finished
    with pytest.raises(RecipeError, match="another recipe") as error:
        compression.compress(parse_recipe(tiny.recipe(data, repeats=3)), run)
    assert error.value.problems == ["repeats: 2 -> 3"]


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(UserError, match="not empty"):
        compression.compress(parse_recipe(tiny.recipe(tmp_path / "data")), tmp_path)


def test_the_no_kd_control_never_asks_the_teacher(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, _ = finished
    asked = {
        chain: json.loads((run / "seed-0" / chain / "2-distill" / "done.json").read_text())["teacher_asked"]
        for chain in ("student", "no-kd")
    }
    assert asked == {"student": True, "no-kd": False}
    lines = read_metrics(run / "seed-0" / "no-kd" / "2-distill" / "metrics.jsonl")
    assert "labels" in lines[0]
    assert "kd" not in lines[0]


def test_control_and_student_begin_from_the_same_weights(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, _ = finished
    assert not (run / "seed-0" / "no-kd" / "1-prune").exists(), (
        "the control shares the stages before the first distil stage"
    )


def test_a_weak_teacher_is_refused(finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    data, run, _ = finished
    content = tiny.recipe(data, teacher=str(run / "teacher" / "model"), teacher_floor=1.01)
    with pytest.raises(ModelError, match="below the recipe's teacher_floor"):
        compression.compress(parse_recipe(content), tmp_path / "run")


def test_bad_pages_are_all_named_before_anything_is_trained(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    (data / "train" / "bars" / "9.png").write_bytes(b"")
    (data / "validation" / "dots" / "9.jpg").write_bytes(b"%PDF-1.7")
    with pytest.raises(DataError) as error:
        compression.compress(parse_recipe(tiny.recipe(data)), tmp_path / "run")
    assert len(error.value.problems) == 2
    assert not (tmp_path / "run" / "teacher").exists()


def test_a_student_that_does_not_fit_together_is_told_before_the_teacher_is_trained(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    recipe = parse_recipe(tiny.recipe(finished[0], student={"new": "vit-tiny", "image_size": [8, 8]}))
    with pytest.raises(UserError, match=r"image_size \[8, 8\] cannot look at a page"):
        compression.compress(recipe, tmp_path / "run")
    assert not list((tmp_path / "run" / "teacher").rglob("metrics.jsonl"))


def test_an_objective_that_does_not_fit_is_told_before_the_teacher_is_trained(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    content = tiny.recipe(finished[0], repeats=1, controls=["teacher"])
    entry = {"kind": "hint", "student_module": "vit.layer.0"}
    last = len(content["stages"]) - 1
    objectives = content["stages"][last]["distill"]["objectives"]
    content["stages"][last]["distill"]["objectives"] = [*objectives, entry]
    with pytest.raises(RecipeError) as error:
        compression.compress(parse_recipe(content), tmp_path / "run")
    assert len(error.value.problems) == 1
    assert error.value.problems[0].startswith(f"stages.{last}.distill: ")
    assert "did you mean vit.layers.0" in error.value.problems[0]
    assert not list((tmp_path / "run").rglob("metrics.jsonl"))
    content["stages"][last]["distill"]["objectives"] = objectives
    assert compression.compress(parse_recipe(content), tmp_path / "run")["rows"], "in the same folder"


def test_data_that_are_mended_before_anybody_has_learnt_are_looked_at_again(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    content = tiny.recipe(data, repeats=1, controls=["teacher"], calibrate=True)
    with pytest.raises(UserError, match="validation"):
        compression.compress(parse_recipe(content), tmp_path / "run")  # too few pages to calibrate on
    broken = data / "validation" / "bars" / "9.png"
    broken.write_bytes(b"")
    with pytest.raises(DataError, match=r"9\.png"):
        compression.compress(parse_recipe({**content, "calibrate": False}), tmp_path / "run")
    broken.unlink()
    mine = tmp_path / "run" / "data" / "mine.png"
    mine.touch()
    page = data / "validation" / "bars" / "0.png"
    shutil.copy(page, page.with_name("8.png"))
    assert compression.compress(parse_recipe({**content, "calibrate": False}), tmp_path / "run")["rows"]
    assert mine.exists()


def test_two_processes_do_not_share_a_run_folder(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    data, run, _ = finished
    from docstill.run import locked

    with locked(run), pytest.raises(UserError, match="another process"):
        compression.compress(parse_recipe(tiny.recipe(data, repeats=2)), run)


_COMPRESS = """
import sys, yaml
from pathlib import Path
import docstill.measure
docstill.measure.measure_peak_memory = lambda model, task: 1.0
from docstill.compression import compress
from docstill.recipe import parse_recipe
import torch; torch.set_num_threads(1)
compress(parse_recipe(yaml.safe_load(Path(sys.argv[1]).read_text())), Path(sys.argv[2]))
"""


def _start(recipe: Path, run: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _COMPRESS, str(recipe), str(run)], stderr=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    """kill -9 at any moment, then the same command: the final student equals the uninterrupted one."""
    data = tiny.class_folders(tmp_path / "data", train=8)
    path = tiny.write_recipe(tmp_path / "recipe.yaml", tiny.recipe(data))
    began = time.monotonic()
    assert _start(path, tmp_path / "whole").wait() == 0
    whole_time = time.monotonic() - began
    rng = random.Random(0)
    kills = runs = 0
    while kills < 20:
        process = _start(path, tmp_path / "killed")
        try:
            process.wait(timeout=rng.uniform(0.3, 1.1) * whole_time)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.returncode == 0
        if kills < 20:  # it got through: begin a new one, and go on killing
            _same_student(tmp_path / "whole", tmp_path / "killed")
            (tmp_path / "killed").rename(tmp_path / f"done-{runs}")
            runs += 1
    assert _start(path, tmp_path / "killed").wait() == 0
    _same_student(tmp_path / "whole", tmp_path / "killed")


def _same_student(first: Path, second: Path) -> None:
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in one)


class _Killed(BaseException):
    """Stands for SIGKILL: nothing in docstill may catch it and tidy up."""


@pytest.mark.parametrize("moment", [1, 4, 7, 11, 13])
def test_stopping_at_any_step_and_going_on_changes_nothing(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    data, run, _ = finished
    from docstill import engine

    whole, calls = engine.optimise, 0

    def stopping(*arguments: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == moment:
            raise _Killed
        return whole(*arguments)

    content = parse_recipe(tiny.recipe(data, repeats=2))
    monkeypatch.setattr(engine, "optimise", stopping)
    with pytest.raises(_Killed):
        compression.compress(content, tmp_path / "run")
    monkeypatch.setattr(engine, "optimise", whole)
    compression.compress(content, tmp_path / "run")
    _same_student(run, tmp_path / "run")


def test_time_before_a_stop_counts(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, _ = finished
    from docstill import engine

    whole, calls = engine.optimise, 0

    def slow(*arguments: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise _Killed
        time.sleep(0.2)
        return whole(*arguments)

    content = parse_recipe(tiny.recipe(data, repeats=1))
    monkeypatch.setattr(engine, "optimise", slow)
    with pytest.raises(_Killed):
        compression.compress(content, tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "teacher" / "last.pt", weights_only=True)["progress"]["step"]
    assert saved > 0
    monkeypatch.setattr(engine, "optimise", whole)
    results = compression.compress(content, tmp_path / "run")
    reports = [json.loads(done.read_text()) for done in (tmp_path / "run").rglob("done.json")]
    assert json.loads((tmp_path / "run" / "teacher" / "done.json").read_text())["seconds"] >= 0.2 * saved
    assert results["seconds"] == pytest.approx(sum(report["seconds"] for report in reports), abs=0.1)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from docstill import checkpoint
    from docstill.files import atomic

    path = tmp_path / "last.pt"
    with atomic(path) as file:
        file.write(b"good")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="disk is full"):
        checkpoint.save_weights(path, torch.nn.Linear(1, 1))
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("change", ["labels", "teacher"])
def test_other_data_or_another_teacher_of_the_same_name_are_refused(
    change: str, finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Else rows from before and after the change would stand side by side."""
    data, run, _ = finished
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(run / "teacher" / "model", tmp_path / "teacher")
    content = tiny.recipe(tmp_path / "data", teacher=str(tmp_path / "teacher"), repeats=1, controls=["teacher"])
    results = compression.compress(parse_recipe(content), tmp_path / "run")
    assert compression.compress(parse_recipe(content), tmp_path / "run")["rows"] == results["rows"]
    if change == "labels":
        page = tmp_path / "data" / "validation" / "bars" / "0.png"
        page.rename(page.parents[1] / "dots" / "moved.png")
        problem = "data.validation: is not what it was"
    else:
        shutil.copy(run / "model" / "model.safetensors", tmp_path / "teacher" / "model.safetensors")
        problem = "teacher: is not what it was"
    with pytest.raises(RecipeError, match="begun with other data or another teacher") as error:
        compression.compress(parse_recipe(content), tmp_path / "run")
    assert error.value.problems == [problem]


def test_a_mistyped_path_does_not_claim_the_folder(finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    data, run, _ = finished
    content = tiny.recipe(data, teacher=str(tmp_path / "nowhere"), repeats=1, controls=["teacher"])
    with pytest.raises(ModelError, match="there is no model folder"):
        compression.compress(parse_recipe(content), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    content["teacher"] = str(run / "teacher" / "model")
    content["teacher_floor"] = 1.01
    with pytest.raises(ModelError, match="teacher_floor"):
        compression.compress(parse_recipe(content), tmp_path / "run")


def test_data_that_were_only_looked_at_bind_nobody(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    content = tiny.recipe(data, teacher="owner/of-no-such-model-here", controls=["teacher"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text(dump_recipe(parse_recipe(content)))
    write_json(tmp_path / "run" / "data" / "done.json", {"warnings": ["of other data"]})
    content["repeats"] = 3
    open_run(tmp_path / "run", dump_recipe(parse_recipe(content)))
    assert not (tmp_path / "run" / "data" / "done.json").exists(), "they are looked at again"


def test_a_model_that_has_learnt_goes_on_gently(finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    data, run, _ = finished
    model = run / "teacher" / "model"
    scratch = docstill.NewModel(**tiny.TINY_VIT)
    rates = []
    for name, source in (("learnt", model), ("new", scratch)):
        docstill.train("classification", source, data, tmp_path / name, epochs=1, warmup_ratio=0.0)
        rates.append(read_metrics(tmp_path / name / "metrics.jsonl")[0]["learning_rate"])
    assert rates == [1e-4, 1e-3]


def test_figures_keep_the_machine_they_were_taken_on(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, results = finished
    assert json.loads((run / "measurements" / "done.json").read_text())["hardware"] == results["hardware"]


@pytest.mark.parametrize("words", ["unexpected pos 14628352 vs 14628240", "something else"])
def test_a_full_disk_is_found_out_behind_torchs_words(words: str, tmp_path: Path) -> None:
    def save() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError(words)  # noqa: B904  # as torch does

    with pytest.raises(UserError, match="the disk is full"), full_disk_said(tmp_path / "x"):
        save()
    with pytest.raises(RuntimeError, match="something else"), full_disk_said(tmp_path / "x"):
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ({"method": "depth", "keep": 9}, r"stages.1.prune: keep: 9 was given, the encoder has 2 blocks"),
        ({"method": "channels", "keep": 0.5}, r"stages.1.prune: channel pruning is for a resnet"),
    ],
)
def test_what_cannot_be_cut_is_said_before_anybody_learns(cut: dict[str, Any], said: str, tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    content = tiny.recipe(data)
    content["stages"] = [content["stages"][1], {"prune": cut}]
    with pytest.raises(RecipeError) as error:
        compression.compress(parse_recipe(content), tmp_path / "run")
    assert error.value.problems[0].startswith(said)
    content["stages"][1] = {"prune": {"method": "depth", "keep": 1, "by": "influence"}}
    compression.compress(parse_recipe(content), tmp_path / "run")
