"""The command line: help with an example each, one JSON document on stdout, exit codes, no traceback for a user's mistake."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.table import Table
from typer.main import get_command
from typer.testing import CliRunner

import tiny
from docstill import cli
from docstill.cli.app import LESS_MEMORY
from docstill.cli.making import _quoted
from docstill.cli.output import print_table, short_names
from docstill.deploy.benchmark import measure_peak_memory
from docstill.errors import out_of_memory
from docstill.recipe import load_recipe

VERBS = sorted(get_command(cli.app).commands)  # type: ignore[attr-defined]


def docstill(*words: str | Path, code: int = 0) -> Any:
    """Runs the command line; returns what it printed with --json, else (stdout, stderr)."""
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    return json.loads(result.stdout) if "--json" in words and code == 0 else (result.stdout, result.stderr)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data, and a finished run with a teacher and a student."""
    root = tmp_path_factory.mktemp("cli")
    data = tiny.class_folders(root / "data")
    path = tiny.write_recipe(root / "recipe.yaml", tiny.recipe(data))
    results = docstill("compress", path, "stages.1.distill.epochs=1", "--run", root / "run", "--json")
    assert [row["name"] for row in results["rows"]] == ["teacher", "student", "no-kd"]
    return data, root / "run"


def test_the_verbs_are_there() -> None:
    promised = "compress study train prune distill evaluate score compare benchmark predict check recipes report demo"
    assert set(promised.split()) <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    result = CliRunner().invoke(cli.app, [verb, "--help"])
    assert result.exit_code == 0
    assert f"Example: docstill {verb}" in " ".join(result.stdout.split())


def test_evaluate(world: tuple[Path, Path]) -> None:
    data, run = world
    result = docstill("evaluate", run / "model", data, "--limit", "5", "--json")
    assert list(result) == ["task", "model", "data", "n", "metrics"]
    assert result["n"] == 5
    assert {"accuracy", "macro_f1", "ece"} <= set(result["metrics"])


def test_predict(world: tuple[Path, Path]) -> None:
    data, run = world
    file = data / "validation" / "bars" / "0.png"
    [answer] = docstill("predict", run / "model", file, "--json")
    assert answer["label"] in tiny.KINDS
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_benchmark(world: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docstill.measure.measure_peak_memory", measure_peak_memory)
    data, run = world
    result = docstill(
        "benchmark",
        run / "model",
        run / "teacher" / "model",
        "--data",
        data / "validation",
        "--rounds",
        "2",
        "--threads",
        "1",
        "--json",
    )
    row = result["models"][str(run / "model")]
    assert {"params", "flops", "bytes", "latency_ms", "peak_memory_mb", "runtime", "precision", "threads"} <= set(row)
    assert set(row["params"]) == {"total", "non_embedding", "nonzero"}
    assert row["params"]["nonzero"] < row["params"]["total"]
    assert row["flops"] > 0
    assert row["bytes"] > 0
    assert row["threads"] == 1
    assert row["peak_memory_mb"] != 1.0
    assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p95"]
    assert result["hardware"]["cpu"]


def test_one_stage_verbs(world: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = world
    pruned = docstill("prune", run / "teacher" / "model", "--sparsity", "0.5", "--out", tmp_path / "pruned", "--json")
    assert pruned["zero_non_embedding"] > 0
    done = docstill(
        "distill",
        run / "teacher" / "model",
        "--student",
        pruned["model"],
        "--data",
        data,
        "--out",
        tmp_path / "student",
        "--epochs",
        "1",
        "--json",
    )
    assert (Path(done["model"]) / "masks.safetensors").is_file()
    trained = docstill(
        "train", "--model", pruned["model"], "--data", data, "--out", tmp_path / "trained", "--epochs", "1", "--json"
    )
    assert Path(trained["model"]).is_dir()
    _, message = docstill(
        "train", "--model", pruned["model"], "--data", data, "--out", tmp_path / "trained", "--epochs", "2", code=2
    )
    assert "another stage's work" in message


def test_report_and_check_and_recipes(world: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = world
    (run / "report.html").unlink()
    assert Path(docstill("report", run, "--json")["report"]).is_file()
    assert docstill("check", data, "--json")["problems"] == []
    (tmp_path / "a").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "y.png").write_bytes(b"")
    out, _ = docstill("check", tmp_path, "--json", code=2)
    assert len(json.loads(out)["problems"]) == 1
    assert "doctype" in docstill("recipes", "list", "--json")
    assert docstill("recipes", "show", "sroie")[0].startswith("#")
    assert Path(docstill("recipes", "copy", "sroie", tmp_path / "mine.yaml", "--json")["file"]).is_file()


def test_score(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"total": "3.00"}\n{"total": "1"}\n')
    (tmp_path / "a.jsonl").write_text('{"total": "3.00"}\n{"total": "2"}\n')
    result = docstill("score", "--task", "kie", tmp_path / "p.jsonl", tmp_path / "a.jsonl", "--json")
    assert result["n"] == 2
    assert result["metrics"]["field_f1"] == 0.5
    assert [document["field_f1"] for document in result["documents"]] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compress", "nowhere.yaml"], "there is no recipe nowhere.yaml"),
        (["evaluate", "nowhere/model/x", "."], "there is no model folder nowhere/model/x"),
        (["predict", "{run}/model", "nothing.jpg"], "nothing.jpg: cannot be read"),
        (["benchmark", "{run}/model", "--data", "{empty}"], "holds no images"),
        (["benchmark", "{run}/model", "--draft", "{run}/model"], "only a Donut can write ahead of a Donut"),
        (["predict", "{run}/model", "scan.png", "--draft", "{run}/model"], "only a Donut can write ahead of a Donut"),
        (["benchmark", "{run}/model", "{run}/../run/model"], "model was given twice"),
        (["recipes", "sing"], "use list, show NAME, or copy NAME"),
        (["report", "{empty}"], "holds no results.json"),
        (["train", "--data", "{data}", "--out", "{empty}/x"], "give exactly one of"),
        (
            ["train", "--model", "{run}/model", "--data", "{data}", "--out", "{empty}/x", "config={{a: 1}}"],
            "has its own",
        ),
        (
            ["train", "--new", "vit-tiny", "--data", "{data}", "--out", "{empty}/x", "config=3"],
            "config=3 is no mapping",
        ),
        (["train", "--new", "resnet-81", "--data", "{data}", "--out", "{empty}/y"], "did you mean resnet-18"),
        (["evaluate", "{run}/model", "{data}", "--task", "kie"], "is a model for classification"),
        (["evaluate", "{run}/model", "{data}", "--split", "test"], "has no split test"),
        (
            ["distill", "{run}/model", "--data", "{data}", "--out", "{empty}/z", "objectives=[{{kind: labels"],
            "is no YAML",
        ),
        (
            [
                "distill",
                "{run}/model",
                "--data",
                "{data}",
                "--out",
                "{empty}/z",
                "objectives=[{{kind: kd}}]",
                "--alpha",
                "1",
            ],
            "--temperature and --alpha are for the usual objectives",
        ),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    world: tuple[Path, Path], tmp_path: Path, words: list[str], message: str
) -> None:
    data, run = world
    _, errors = docstill(*[word.format(run=run, data=data, empty=tmp_path) for word in words], code=2)
    assert message in " ".join(errors.split())


def test_a_reader_who_has_seen_enough_is_no_fault() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    code = "from docstill.cli import app; app(['recipes', 'list', '--json'])"
    done = subprocess.run([sys.executable, "-c", code], stdout=theirs, stderr=subprocess.PIPE, text=True, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, "")


def test_bad_pictures_are_each_one_line(world: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = world
    whole = tmp_path / "whole.jpg"
    Image.effect_noise((200, 200), 50).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "zero.jpg").write_bytes(b"")
    (tmp_path / "pdf.jpg").write_bytes(b"%PDF-1.7 and so on")
    for name, message in (("cut", "is damaged"), ("zero", "0 bytes"), ("pdf", "is a PDF")):
        _, errors = docstill("predict", run / "model", tmp_path / f"{name}.jpg", code=2)
        assert message in " ".join(errors.split())


def test_what_cannot_be_read_keeps_no_other_page_from_being_answered(world: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = world
    whole, cut, tiff = data / "validation" / "bars" / "0.png", tmp_path / "cut.png", tmp_path / "two.tif"
    cut.write_bytes(whole.read_bytes()[:60])
    page = Image.open(whole).convert("RGB")
    page.save(tiff, save_all=True, append_images=[page])
    files = [cut, whole, tmp_path / "none.png", tiff]
    printed, errors = docstill("predict", run / "model", *files, "--json", code=2)
    answers = json.loads(printed)
    assert [(answer["file"], "label" in answer, answer.get("page")) for answer in answers] == [
        (str(cut), False, None),
        (str(whole), True, None),
        (str(files[2]), False, None),
        (str(tiff), True, 1),
        (str(tiff), True, 2),
    ]
    assert "2 of 4 files could not be read" in errors
    assert all(answer["error"] in errors for answer in answers if "error" in answer)


def test_import_is_light_and_never_brings_torch() -> None:
    code = (
        "import time; began = time.process_time(); import docstill, sys; took = time.process_time() - began\n"
        "docstill.score; docstill.check; dir(docstill)\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "assert took < 1, took\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_extra_is_one_sentence() -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom docstill.cli import main\nsys.argv = ['docstill', 'evaluate', 'a', 'b']\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'pip install "docstill[train]"' in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compress", "doctype"], "stopped; run the same command again to go on where it stopped\n"),
        (["demo"], "stopped; run the same command again to go on where it stopped\n"),
        (["report", "."], "stopped\n"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_ctrl_c_is_clean_and_says_what_can_be_gone_on_with(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import docstill as package

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(package, words[0], interrupted, raising=False)
    printed, errors = docstill(*words, code=130)
    assert (printed, errors) == ("", said)


def test_figures_of_models_side_by_side_are_whole_however_narrow_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import docstill as package

    size = {"params": {"total": 123_456_789, "nonzero": 98_765_432}, "bytes": 493_827_156, "peak_memory_mb": 1234.5}
    rows = {
        "runs/pages/teacher/model": {**size, "latency_ms": {"p50": 1234.567, "p95": 2345.678}},
        "runs/pages/model": {**size, "latency_ms": {"encoder": {"p50": 1.2, "p95": 1.3}}},
    }
    monkeypatch.setenv("COLUMNS", "40")
    drafted = {"draft": "runs/pages/model", "latency_ms": {"p50": 617.283, "p95": 1172.839}}
    monkeypatch.setattr(package, "benchmark", lambda *_: {"models": rows, "drafted": drafted}, raising=False)
    printed, _ = docstill("benchmark", *rows)
    figures = ["123,456,789", "98,765,432", "493,827,156", "p50 1234.57, p95 2345.68", "p50 1.20, p95 1.30"]
    for figure in [*figures, "drafted by runs/pages/model, document ms: p50 617.28, p95 1172.84"]:
        assert figure in printed
    assert [line for line in printed.splitlines() if not line.startswith(" ")] == ["teacher/model:", "pages/model:"]


def test_tables_go_on_in_a_line_below_and_lose_no_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    table = Table("name", "parameters", "bytes")
    table.add_row("a", "123,456,789", "987,654,321")
    print_table(table)
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert sum(map(str.isdigit, printed)) == 18


@pytest.mark.parametrize(
    ("paths", "short"),
    [
        (["runs/a/model", "runs/b/model"], ["a/model", "b/model"]),
        (["runs/a/model", "runs/a/teacher/model", "small"], ["a/model", "teacher/model", "small"]),
        (["model", "a/model"], ["model", "a/model"]),
        (["/runs/model"], ["model"]),
    ],
)
def test_models_go_by_the_shortest_ending_that_tells_them_apart(paths: list[str], short: list[str]) -> None:
    assert short_names(paths) == short


def test_a_pattern_needs_no_quotes_that_a_shell_would_strip(world: tuple[Path, Path], tmp_path: Path) -> None:
    model = world[1] / "teacher" / "model"
    done = docstill("prune", model, "--method", "pattern", "pattern=2:4", "--out", tmp_path / "pruned", "--json")
    assert (Path(done["model"]) / "masks.safetensors").is_file()
    data = tiny.recipe(world[0], stages=[{"prune": {"method": "pattern"}}])
    recipe = tiny.write_recipe(tmp_path / "recipe.yaml", data)
    [stage] = load_recipe(recipe, _quoted(["stages.0.prune.pattern=2:4"])).stages
    assert stage.prune is not None
    assert stage.prune.model_dump()["pattern"] == "2:4"


def closed(*_: Any, **__: Any) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_recipe_is_copied_to_where_one_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", closed)
    _, errors = docstill("recipes", "copy", "doctype", tmp_path / "ro" / "x.yaml", code=2)
    assert "x.yaml may not be written (Read-only file system); give a folder" in errors


def test_a_demo_runs_where_one_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    _, errors = docstill("demo", "--run", file, code=2)
    assert "is a file; give a new folder" in errors
    monkeypatch.setattr(Path, "mkdir", closed)
    _, errors = docstill("demo", "--run", tmp_path / "ro" / "demo", code=2)
    assert "demo may not be written (Read-only file system); give a folder" in errors


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "{run}/model", "{data}", "--outputs"],
        ["compare", "{run}/model", "{run}/model", "{data}", "--picture"],
    ],
    ids=["evaluate", "compare"],
)
def test_a_file_that_cannot_be_written_is_found_out_before_the_work(
    words: list[str], world: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = world
    monkeypatch.setattr("docstill.tasks.classification.Classification.read", lambda *_: pytest.fail("pages were read"))
    said = [word.format(run=run, data=data) for word in words]
    (tmp_path / "file").write_text("")
    _, errors = docstill(*said, tmp_path / "file" / "x", code=2)
    assert "file is a file; give a path below a folder" in errors
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and allowed(path, mode))
    _, errors = docstill(*said, tmp_path / "ro" / "x", code=2)
    assert "x may not be written; give a folder that you may write to" in errors
    assert not (tmp_path / "ro").exists()


def test_a_fault_of_ours_is_exit_code_1_and_asks_for_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import docstill as package

    def broken(*_: Any) -> None:
        raise IndexError("boom")

    monkeypatch.setattr(package, "report", broken, raising=False)
    result = CliRunner().invoke(cli.app, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "fault in docstill" in result.stderr
    assert "boom" in result.stderr


def said_after(words: list[str], error: BaseException, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a verb says that ends with an error of memory."""
    import docstill as package

    def large(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(package, "load" if words[0] == "predict" else words[0], large, raising=False)
    _, errors = docstill(*words, code=1)
    assert "fault" not in errors
    return " ".join(errors.split())


def worker(end: str) -> RuntimeError:
    """A process that makes batches and did not end well, as torch says it."""
    error = RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")
    error.__cause__ = RuntimeError(f"DataLoader worker (pid 7) {end}")
    return error


@pytest.mark.parametrize(
    "ran_out",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to …"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("unable to mmap 1024 bytes from file </torch_7_1_0>: Cannot allocate memory (12)"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        OSError("Caught OSError in DataLoader worker process 0. … [Errno 12] Cannot allocate memory"),
    ],
    ids=["python", "gpu", "processor", "cublas", "mmap", "system", "system in a process"],
)
def test_out_of_memory_names_the_knob(monkeypatch: pytest.MonkeyPatch, ran_out: Exception) -> None:
    said = said_after(["compress", "doctype"], ran_out, monkeypatch)
    assert "smaller batch_size" in said
    assert "teacher=FOLDER/teacher/model" in said


@pytest.mark.parametrize(
    ("ran_out", "knob"),
    [
        (worker("is killed by signal: Killed. "), "fewer workers"),
        (worker("is killed by signal: Bus error. … dataloader's workers are out of shared memory. …"), "--shm-size"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "fewer workers"),
        (RuntimeError("unable to write to file </torch_7_1_0>: No space left on device (28)"), "workers=0"),
    ],
    ids=["killed", "bus", "killed, without a cause", "file"],
)
def test_processes_without_memory_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, ran_out: Exception, knob: str
) -> None:
    said = said_after(["train", "--new", "resnet-18", "--data", ".", "--out", "x"], ran_out, monkeypatch)
    assert knob in said
    assert "teacher" not in said


def test_torch_still_says_it_in_these_words(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\nfrom torch.utils.data import DataLoader\nfrom docstill.errors import out_of_memory, way_out\n"
        "class Pages(list):\n    def __getitem__(self, index):\n        time.sleep(0.5)\n        os.kill(os.getpid(), super().__getitem__(index))\n"
        "for signal in (9, 7):\n    try:\n        next(iter(DataLoader(Pages([signal]), num_workers=1, multiprocessing_context='fork')))\n"
        "    except RuntimeError as error:\n        print(out_of_memory(error), way_out(error))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    killed, bus = done.stdout.splitlines()
    assert killed.startswith("True"), done.stderr
    assert "fewer workers" in killed
    assert bus.startswith("True"), done.stderr
    assert "--shm-size" in bus


def test_what_only_looks_like_want_of_memory_is_a_fault() -> None:
    for error in (
        worker("exited unexpectedly with exit code 1. Details are lost due to multiprocessing."),
        worker("is killed by signal: Segmentation fault. "),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("out of memory"),
        RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"),
    ):
        assert not out_of_memory(error), error


@pytest.mark.parametrize(
    ("words", "knob"),
    [
        (["predict", "model", "page.jpg"], "fewer files at a time"),
        (["evaluate", "model", "pages"], "a model that takes smaller pages"),
        (["compare", "model", "other", "pages"], "--limit"),
        (["benchmark", "model"], "one model at a time"),
        (["report", "."], "end other programs"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_verbs_without_batches_name_what_they_have(
    monkeypatch: pytest.MonkeyPatch, words: list[str], knob: str
) -> None:
    said = said_after(words, torch.OutOfMemoryError("CUDA out of memory."), monkeypatch)
    assert knob in said
    assert "batch_size" not in said
    assert "FOLDER" not in said


def test_options_that_need_less_memory_are_the_verbs_own() -> None:
    commands = get_command(cli.app).commands  # type: ignore[attr-defined]
    assert set(LESS_MEMORY) <= set(VERBS)
    for verb, said in LESS_MEMORY.items():
        options = {name for parameter in commands[verb].params for name in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", said)) <= options, verb


def test_exported_members_are_all_there_and_sorted() -> None:
    import docstill as package

    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
