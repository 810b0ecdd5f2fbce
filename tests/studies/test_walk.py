"""`docstill study`: teachers trained once, cells resumed, failures named, one table."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from docstill import cli, compression
from docstill.errors import DocstillError, RecipeError, UserError
from docstill.files import read_json
from docstill.recipe import dump_recipe
from docstill.run import locked, open_run
from docstill.studies import walk
from docstill.studies.grid import parse_study

TRAINING = {"epochs": 1, "batch_size": 6, "learning_rate": 0.003, "precision": "fp32"}
KD = [{"distill": {"objectives": [{"kind": "labels"}, {"kind": "kd"}]}}]
HINT = [{"distill": {"objectives": [{"kind": "labels"}, {"kind": "hint", "student_module": "vit.layers.0"}]}}]


def content(data: Path, **changes: Any) -> dict[str, Any]:
    return {
        "task": "classification",
        "data": {"train": str(data / "train"), "validation": str(data / "validation")},
        "teachers": {"vit": {"model": tiny.TINY_VIT, "train": TRAINING}},
        "students": {"small": tiny.SMALLER_VIT},
        "training": TRAINING,
        "methods": {"kd": KD, "hint": HINT},
        "repeats": 1,
        **changes,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Data, a finished study and its results, through the command line."""
    root = tmp_path_factory.mktemp("study")
    data = tiny.class_folders(root / "data")
    file = tiny.write_recipe(root / "grid.yaml", content(data))
    result = CliRunner().invoke(cli.app, ["study", str(file), "seed=1", "--run", str(root / "run"), "--json"])
    assert result.exit_code == 0, result.stderr
    return data, root / "run", json.loads(result.stdout)


def test_what_comes_out(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, results = finished
    assert [cell["method"] for cell in results["cells"]] == ["kd", "hint"]
    assert all(cell["state"] == "done" for cell in results["cells"])
    kd, hint = results["cells"]
    assert kd["twin"] == hint["twin"]
    values = kd["metrics"]["accuracy"]["values"], kd["twin"]["metrics"]["accuracy"]["values"]
    assert kd["over_twin"]["mean"] == pytest.approx(values[0][0] - values[1][0])
    assert kd["seconds"] > 0
    assert (kd["calibration"], kd["twin"]["calibration"]) == (None, None)
    assert json.loads((run / "results.json").read_text(encoding="utf-8")) == results
    table = (run / "table.md").read_text(encoding="utf-8")
    assert "## vit → small" in table
    assert table.count("\n|") == 2 + 4  # head, rule, the teacher, the twin and two methods
    page = (run / "study.html").read_text(encoding="utf-8")
    assert "vit teaches small" in page
    assert page.count("<svg") >= 2
    assert "<script" not in page


def test_the_teacher_is_trained_once_and_the_twin_is_run_once(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    _, run, _ = finished
    assert (run / "teachers" / "vit" / "model").is_dir()
    assert not list(run.glob("cells/*/teacher/metrics.jsonl"))
    assert [path.parent.parent.name for path in run.glob("cells/*/seed-*/no-kd")] == ["vit--small--kd"]


def test_time_is_counted_once(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    """What a cell took over from another was not spent again."""
    _, run, _ = finished
    spent = [read_json(done)["seconds"] for done in run.glob("cells/*/teacher/evaluation/done.json")]
    assert len(spent) > 1
    assert sum(seconds > 0 for seconds in spent) == 1


def test_the_teacher_is_scored_once_and_every_cell_has_what_it_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, scored = tiny.class_folders(tmp_path / "data", validation=4), []
    evaluate = compression._evaluate

    def seen(bench: Any, model: Any, folder: Path, title: str) -> dict[str, Any]:
        scored.append(title)
        return evaluate(bench, model, folder, title)

    monkeypatch.setattr(compression, "_evaluate", seen)
    results = walk.run_study(parse_study(content(data, calibrate=True)), tmp_path / "run")
    assert [cell["state"] for cell in results["cells"]] == ["done", "done"]
    assert scored == ["scoring the teacher", *[f"scoring {row}, seed 0" for row in ("student", "no-kd", "student")]]
    first, second = (cell["of_teacher"] for cell in results["cells"])
    assert first["metrics"] == second["metrics"]
    assert first["calibration"] == second["calibration"]


def test_a_student_that_does_not_fit_together_is_told_before_a_teacher_is_trained(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    study = parse_study(content(finished[0], students={"small": {"new": "vit-tiny", "image_size": [8, 8]}}))
    with pytest.raises(UserError, match=r"image_size \[8, 8\] cannot look at a page"):
        walk.run_study(study, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("metrics.jsonl"))


def test_a_second_call_runs_nothing(
    finished: tuple[Path, Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run, results = finished

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a finished cell was run again")

    monkeypatch.setattr(walk, "compress", never)
    monkeypatch.setattr(compression, "run_stage", never)
    again = walk.run_study(parse_study(content(data, seed=1)), run, results["command"])
    assert again["cells"] == results["cells"]


def test_a_study_that_was_stopped_goes_on(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, results = finished
    study, whole, calls = parse_study(content(data, seed=1)), compression.compress, 0

    def stop_at_the_second(*arguments: Any, **options: Any) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(walk, "compress", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        walk.run_study(study, tmp_path / "run")
    states = [cell["state"] for cell in json.loads((tmp_path / "run" / "results.json").read_text())["cells"]]
    assert states == ["done", "waiting"]
    monkeypatch.setattr(walk, "compress", whole)
    resumed = walk.run_study(study, tmp_path / "run")
    figures = [[cell["metrics"], cell["over_twin"], cell["gap_closed"]] for cell in resumed["cells"]]
    assert figures == [[cell["metrics"], cell["over_twin"], cell["gap_closed"]] for cell in results["cells"]]


def test_a_second_process_takes_the_cells_that_the_first_is_not_in(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, results = finished
    study, whole, run = parse_study(content(data, seed=1)), compression.compress, tmp_path / "run"
    beside: list[dict[str, Any]] = []

    def a_process_begins_within_the_first_cell(recipe: Any, folder: Path, *arguments: Any, **options: Any) -> Any:
        open_run(folder, dump_recipe(recipe))
        with locked(folder):
            monkeypatch.setattr(walk, "compress", whole)
            beside.append(walk.run_study(study, run))
        return whole(recipe, folder, *arguments, **options)

    monkeypatch.setattr(walk, "compress", a_process_begins_within_the_first_cell)
    done = walk.run_study(study, run)
    assert [cell["state"] for cell in beside[0]["cells"]] == ["waiting", "done"]
    assert [cell["state"] for cell in done["cells"]] == ["done", "done"]
    assert [path.parent.parent.name for path in run.glob("cells/*/seed-*/no-kd")] == ["vit--small--kd"]
    assert [cell["over_twin"] for cell in done["cells"]] == [cell["over_twin"] for cell in results["cells"]]


def test_processes_that_begin_at_once_wait_for_the_one_that_makes_the_teachers_ready(
    finished: tuple[Path, Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, results = finished
    held = threading.Event()

    def beside() -> None:
        with locked(run):
            held.set()
            time.sleep(0.5)

    first = threading.Thread(target=beside)
    first.start()
    assert held.wait(10)
    assert walk.run_study(parse_study(content(data, seed=1)), run, results["command"])["cells"] == results["cells"]
    assert "another process makes the teachers ready; waiting for it" in capsys.readouterr().err
    first.join()


def test_a_cell_that_fails_is_named_and_the_others_run(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    data, _, _ = finished
    nowhere = [{"distill": {"objectives": [{"kind": "hint", "student_module": "vit.layer.0"}]}}]
    study = parse_study(content(data, methods={"nowhere": nowhere, "kd": KD}))
    with pytest.raises(UserError, match=r"(?s)1 of 2 cells failed.*vit--small--nowhere: .*did you mean"):
        walk.run_study(study, tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert [cell["state"] for cell in results["cells"]] == ["failed", "done"]
    assert "did you mean" in results["cells"][0]["error"]
    assert "did you mean" in (tmp_path / "run" / "table.md").read_text(encoding="utf-8")
    assert [path.parent.parent.name for path in tmp_path.glob("run/cells/*/seed-*/no-kd")] == ["vit--small--kd"]
    done = results["cells"][1]
    figures = [one["metrics"]["accuracy"]["values"][0] for one in (done, done["twin"])]
    assert done["over_twin"]["mean"] == pytest.approx(figures[0] - figures[1])
    with pytest.raises(UserError, match="1 of 2 cells failed"):  # again, and what was begun goes on as it was
        walk.run_study(study, tmp_path / "run")
    again = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert again["cells"] == results["cells"]


def test_a_study_whose_data_were_not_there_begins_anew(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Nothing was done, so its folder takes the mended study, and twins are shared as if it had been right at once."""
    data, first, _ = finished
    shared = {"teachers": {"vit": str(first / "teachers" / "vit" / "model")}, "methods": {"hint": HINT, "kd": KD}}
    wrong = {
        **content(data, **shared),
        "data": {"train": str(data / "nowhere"), "validation": str(data / "validation")},
    }
    with pytest.raises(UserError):
        walk.run_study(parse_study(wrong), tmp_path / "run")
    walk.run_study(parse_study(content(data, **shared)), tmp_path / "run")
    assert [path.parent.parent.name for path in tmp_path.glob("run/cells/*/seed-*/no-kd")] == ["vit--small--hint"]


def test_a_cell_that_memory_runs_out_in_is_one_that_fails(
    finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _, _ = finished
    compress = walk.compress

    def full(recipe: Any, run: Path, *rest: Any, **named: Any) -> dict[str, Any]:
        if run.name.endswith("first"):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compress(recipe, run, *rest, **named)

    monkeypatch.setattr(walk, "compress", full)
    with pytest.raises(DocstillError, match=r"1 of 2 cells failed.*vit--small--first: memory ran out.*batch_size"):
        walk.run_study(parse_study(content(data, methods={"first": HINT, "kd": KD})), tmp_path / "run")
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert [cell["state"] for cell in results["cells"]] == ["failed", "done"]


def test_calibration_comes_from_the_one_command(finished: tuple[Path, Path, dict[str, Any]], tmp_path: Path) -> None:
    _, run, _ = finished
    data = tiny.class_folders(tmp_path / "data", validation=4)  # enough to fit a temperature to
    teachers = {"vit": str(run / "teachers" / "vit" / "model")}
    study = parse_study(content(data, teachers=teachers, methods={"kd": KD}, calibrate=True, compare=True))
    (cell,) = walk.run_study(study, tmp_path / "run")["cells"]
    for row in (cell, cell["twin"], cell["of_teacher"]):
        assert row["calibration"]["temperature"]["mean"] > 0
        assert row["calibration"]["after"]["ece"]["mean"] >= 0
    assert cell["cost"]["cka"] is not None
    table = (tmp_path / "run" / "table.md").read_text(encoding="utf-8").splitlines()
    column = table[2].split(" | ").index("ECE scaled")
    assert table[-2].split(" | ")[column] == f"{cell['calibration']['after']['ece']['mean']:.3f}"
    assert "ECE scaled: the calibration error" in (tmp_path / "run" / "study.html").read_text(encoding="utf-8")


def test_a_changed_study_is_refused_with_what_differs(finished: tuple[Path, Path, dict[str, Any]]) -> None:
    data, run, _ = finished
    with pytest.raises(RecipeError, match=r"(?s)another study.*repeats: 1 -> 2"):
        walk.run_study(parse_study(content(data, seed=1, repeats=2)), run)
