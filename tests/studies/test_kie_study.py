"""A study of Donuts from end to end: the columns that only documents with fields have, against the models in its folders."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import docstill
import tiny
from docstill.deploy.benchmark import time_interleaved
from docstill.files import read_json
from docstill.models.size import bytes_on_disk, count_parameters
from docstill.reporting.figures import count, size
from kie_tiny import ANSWERS, tiny_folder

pytestmark = pytest.mark.usefixtures("one_thread")

TRAINING = {"epochs": 1, "batch_size": 4, "learning_rate": 0.005, "precision": "fp32"}
DISTILL = {"distill": {"objectives": [{"kind": "labels"}, {"kind": "kd"}]}}
DONUT = {"decoder_layers": 2, "max_position_embeddings": 24}
"""Of the teacher's decoder; an answer has 21 tokens at most."""
HEADINGS = [
    *("method", "field F1", "over no-KD", "gap closed", "TED accuracy", "reading"),
    *("weights", "on disk", "ms a page", "speed", "CKA", "training"),
]
Line = dict[str, str]


def content(data: Path) -> dict[str, Any]:
    model = {"new": "donut-tiny", "config": {"decoder": DONUT}}
    return {
        "task": "kie",
        "data": {split: str(data / split) for split in ("train", "validation")},
        "teachers": {"donut": {"model": model, "train": {**TRAINING, "epochs": 12}}},
        "students": {"copy": None},
        "training": TRAINING,
        "methods": {
            "shallow": [{"prune": {"method": "depth", "of": "decoder", "keep": 1}}, DISTILL],
            "pruned": [{"prune": {"sparsity": 0.3}}],
        },
        "repeats": 1,
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data, and the folder of a finished study."""
    root = tmp_path_factory.mktemp("kie-study")
    tiny_folder(root / "data" / "train", ANSWERS * 4)  # an epoch of some steps: after each it is looked how good it is
    tiny_folder(root / "data" / "validation", ANSWERS)
    grid = tiny.write_recipe(root / "grid.yaml", content(root / "data"))
    with pytest.MonkeyPatch.context() as patch:
        twice: Any = lambda *contenders, **named: time_interleaved(*contenders, **{**named, "rounds": 2})  # noqa: E731
        patch.setattr("docstill.measure.time_interleaved", twice)
        docstill.study(grid, root / "run")
    return root / "data", root / "run"


def table(run: Path) -> dict[str, Line]:
    """The lines of `table.md` by their first column, each by the table's headings."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (run / "table.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    headings, rule, *lines = rows
    assert headings == HEADINGS
    assert set(rule) == {"---"}
    return {line[0]: dict(zip(headings, line, strict=True)) for line in lines}


def test_the_table_says_what_the_results_hold(finished: tuple[Path, Path]) -> None:
    _, run = finished
    results, lines = read_json(run / "results.json"), table(run)
    shallow, pruned = results["cells"]
    assert (results["task"], results["primary_metric"]) == ("kie", "field_f1")
    assert [cell["state"] for cell in results["cells"]] == ["done", "done"]
    rows = {"teacher": shallow["of_teacher"], "no-KD": shallow["twin"], "shallow": shallow, "pruned": pruned}
    assert list(lines) == list(rows)
    for name, row in rows.items():
        line, metrics, cost = lines[name], row["metrics"], row["cost"]
        assert metrics.keys() >= {"field_f1", "precision", "recall", "ted_accuracy", "reading"}
        assert all(0 <= figure["mean"] <= 1 and len(figure["values"]) == 1 for figure in metrics.values())
        assert line["field F1"] == f"{metrics['field_f1']['mean']:.4f}"
        assert line["TED accuracy"] == f"{metrics['ted_accuracy']['mean']:.3f}"
        assert line["reading"] == f"{metrics['reading']['mean']:.3f}"
        assert math.isfinite(cost["ms"])
        assert cost["ms"] > 0
        assert (line["weights"], line["on disk"]) == (count(cost["nonzero_non_embedding"]), size(cost["bytes"]))
        assert line["ms a page"] == f"{cost['ms']:.1f}"
        if name == "teacher":
            assert (cost["cka"], line["CKA"], line["speed"], line["training"]) == (None, "–", "–", "")
        else:
            assert abs(cost["cka"]["mean"]) <= 1.000001  # without its bias, of four pages, it may be negative
            assert line["CKA"] == f"{cost['cka']['mean']:.3f}".replace("-", "−")
            assert line["speed"] == f"{row['speed_up']:.1f} ×"
    gained = shallow["over_twin"]["mean"]
    scores = [row["metrics"]["field_f1"]["mean"] for row in (shallow, shallow["twin"])]
    assert gained == pytest.approx(scores[0] - scores[1])
    assert lines["shallow"]["over no-KD"] == f"{gained:+.4f}".replace("-", "−")
    assert lines["shallow"]["gap closed"].endswith("%")
    # what was not taught has no twin that learnt without a teacher
    assert (pruned["twin"], pruned["over_twin"], pruned["gap_closed"]) == (None, None, None)
    assert (lines["pruned"]["over no-KD"], lines["pruned"]["gap closed"]) == ("–", "–")
    assert all(lines[name]["training"].endswith(" s") for name in ("shallow", "pruned"))
    taught = shallow["of_teacher"]["metrics"]
    assert taught["ted_accuracy"]["mean"] > 0.3, "it has learnt something that is worth the columns"


def test_the_figures_are_those_of_the_models(finished: tuple[Path, Path]) -> None:
    data, run = finished
    results = read_json(run / "results.json")
    for cell in results["cells"]:
        folder = run / "cells" / cell["run"] / "model"
        network = docstill.load(folder).model.network
        assert cell["cost"]["nonzero_non_embedding"] == count_parameters(network).nonzero_non_embedding
        assert cell["cost"]["bytes"] == bytes_on_disk(folder)
        scored = docstill.evaluate(folder, data)["metrics"]
        for metric in ("field_f1", "ted_accuracy", "reading"):
            assert cell["metrics"][metric]["mean"] == pytest.approx(scored[metric], abs=1e-6)
        alike = docstill.compare(run / "teachers" / "donut" / "model", folder, data)["similarity"]
        assert cell["cost"]["cka"]["mean"] == pytest.approx(alike["global"], abs=1e-4)
    shallow, pruned = (cell["cost"] for cell in results["cells"])
    teacher = results["cells"][0]["of_teacher"]["cost"]
    assert shallow["bytes"] < pruned["bytes"] == pytest.approx(teacher["bytes"], rel=0.01), "zeros are written, too"
    assert max(shallow["nonzero_non_embedding"], pruned["nonzero_non_embedding"]) < teacher["nonzero_non_embedding"]


def test_the_page_is_written(finished: tuple[Path, Path]) -> None:
    _, run = finished
    page = (run / "study.html").read_text(encoding="utf-8")
    assert "donut teaches copy" in page
    assert page.count("<svg") >= 2
    assert "<script" not in page
    for line in table(run).values():
        assert all(figure in page for figure in line.values())
    assert all(heading in page for heading in HEADINGS)
    for cell in read_json(run / "results.json")["cells"]:
        assert (run / "cells" / cell["run"] / "report.html").is_file()
