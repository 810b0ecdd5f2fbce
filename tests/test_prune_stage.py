"""The stage `prune`: every method through recipes and the command line; settings that do not hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import docstill
import kie_tiny
import tiny
from docstill import cli
from docstill.data.class_folders import read_class_folders
from docstill.errors import ModelError, RecipeError, UserError
from docstill.models.classifier import new_classifier
from docstill.models.io import read_card
from docstill.models.size import count_parameters
from docstill.prune_settings import PRUNING
from docstill.prune_stage import METHODS
from docstill.recipe import parse_recipe
from docstill.tasks import task_named
from docstill.tasks.base import Pages


def test_every_method_has_settings_a_worker_and_a_page() -> None:
    assert set(PRUNING.values()) == set(METHODS)
    pages = Path(__file__).parents[1] / "docs" / "methods"
    assert [name for name in PRUNING if not (pages / f"{name}.md").is_file()] == []


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    model = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32))
    return model.save(tmp_path / "vit")


def verb(*words: object) -> tuple[int, dict[str, Any], str]:
    result = CliRunner().invoke(cli.app, list(map(str, words)))
    return result.exit_code, json.loads(result.stdout) if result.exit_code == 0 else {}, result.stderr


@pytest.mark.parametrize(
    "settings",
    [
        ["--method", "depth", "keep=1"],
        ["--method", "depth", "keep=0.5", "by=influence"],
        ["--method", "ffn", "keep=0.5"],
        ["--method", "ffn", "keep=0.5", "by=magnitude"],
        ["--method", "pattern", "pattern='2:4'"],
        ["--sparsity", "0.5"],
    ],
)
def test_the_verb(vit: Path, tmp_path: Path, settings: list[str]) -> None:
    data = tiny.class_folders(tmp_path / "data")
    code, done, said = verb("prune", vit, "--out", tmp_path / "out", "--data", data, *settings, "--json")
    assert code == 0, said
    task = task_named("classification")
    before, after = task.load_model(str(vit)), task.load_model(done["model"])
    pages = Pages(data, read_class_folders(data / "validation").documents, list(tiny.KINDS))
    assert set(task.evaluate(after, pages).metrics) == set(task.evaluate(before, pages).metrics)
    if settings[1] in {"depth", "ffn"}:
        assert done["total"] == count_parameters(after.network).total < count_parameters(before.network).total
        assert f"{done['total']:,} of {done['total_before']:,} parameters are left" in done["text"]
    else:
        assert done["zero_non_embedding"] > 0
        assert "total" not in done
    [entry] = read_card(tmp_path / "out" / "model")["lineage"]
    assert entry["settings"]["method"] in PRUNING


def test_channels_through_the_verb(tmp_path: Path) -> None:
    model = new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (32, 32)).save(tmp_path / "resnet")
    code, done, said = verb("prune", model, "--method", "channels", "keep=0.5", "--out", tmp_path / "out", "--json")
    assert code == 0, said
    assert done["total"] < 0.4 * done["total_before"]


def test_what_needs_pages_says_so(vit: Path, tmp_path: Path) -> None:
    code, _, said = verb("prune", vit, "--method", "ffn", "keep=0.5", "--out", tmp_path / "out")
    assert code == 2
    assert "pruning by activation looks at training pages; give --data, or another `by`" in " ".join(said.split())


def test_a_donut_through_the_function(tmp_path: Path) -> None:
    data = tmp_path / "data"
    kie_tiny.tiny_folder(data / "train")
    kie_tiny.tiny_folder(data / "validation")
    donut = kie_tiny.tiny_donut(changes={"decoder": {"decoder_layers": 2}}).save(tmp_path / "donut")
    done = docstill.prune(donut, tmp_path / "shallow", data=data, method="depth", keep=1, of="decoder", by="influence")
    done = docstill.prune(done["model"], tmp_path / "narrow", data=data, method="ffn", keep=0.5, pages=2)
    narrow = task_named("kie").load_model(done["model"])
    assert narrow.network.config.decoder.decoder_layers == 1
    assert narrow.network.config.decoder.decoder_ffn_dim == 64
    assert [entry["stage"] for entry in narrow.card["lineage"]] == ["prune", "prune"]


def test_a_donut_takes_smaller_pages(tmp_path: Path) -> None:
    donut = kie_tiny.tiny_donut(changes={"encoder": {"window_size": 2}})
    whole = donut.save(tmp_path / "donut")
    for split in ("train", "validation"):
        kie_tiny.tiny_folder(tmp_path / "data" / split)
    done = docstill.prune(whole, tmp_path / "small", method="resolution", keep=0.6)
    assert "Pages are taken at 96 × 96 pixels instead of 160 × 160" in done["text"]
    small = task_named("kie").load_model(done["model"])
    assert list(small.network.config.encoder.image_size) == [96, 96]
    assert task_named("kie").page_size(small) == (96, 96)
    before, after = donut.network.state_dict(), small.network.state_dict()
    assert all(torch.equal(before[name], weights) for name, weights in after.items())
    learnt = docstill.distill(
        whole,
        done["model"],
        tmp_path / "data",
        tmp_path / "out",
        objectives=[{"kind": "labels"}, {"kind": "kd"}],
        epochs=1,
        batch_size=2,
    )
    image = tmp_path / "data" / "train" / "0.png"
    assert "fields" in docstill.load(learnt["model"]).predict([image])[0]
    with pytest.raises(ModelError, match=r"32 × 32 pixels is too small for window_size 2; make both sides at least 64"):
        docstill.prune(whole, tmp_path / "tiny", method="resolution", keep=0.2)


def test_a_classifier_keeps_its_pages(vit: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="resolution is for kie and layout, this is a model for classification; use another method"
    ):
        docstill.prune(vit, tmp_path / "out", method="resolution", keep=0.5)


def test_pages_that_say_where_characters_stand_can_be_looked_at(tmp_path: Path) -> None:
    donut = kie_tiny.tiny_donut(changes={"decoder": {"decoder_layers": 2}}).save(tmp_path / "donut")
    kie_tiny.glyph_folder(tmp_path / "data" / "train")
    kie_tiny.tiny_folder(tmp_path / "data" / "validation")
    done = docstill.prune(donut, tmp_path / "narrow", data=tmp_path / "data", method="ffn", keep=0.5, pages=2)
    assert task_named("kie").load_model(done["model"]).network.config.decoder.decoder_ffn_dim == 64


def test_a_smaller_teacher_is_distilled_and_its_control_begins_where_it_begins(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    content = tiny.recipe(data, student=None)
    hint = {"kind": "hint", "student_module": "vit.layers.0", "teacher_module": "vit.layers.1"}
    content["stages"][1]["distill"]["objectives"][2:] = [
        hint,
        {"kind": "attention", "student_module": "vit.layers", "map": "kept"},
    ]
    content["stages"][:1] = [
        {"prune": {"method": "depth", "keep": 1}},
        {"prune": {"method": "ffn", "keep": 0.5, "pages": 2}},
        {"prune": {"sparsity": 0.3}},
    ]
    run = tmp_path / "run"
    results = docstill.compress(parse_recipe(content), run)
    rows = {row["name"]: row for row in results["rows"]}
    sizes = {name: row["params"]["total"] for name, row in rows.items()}
    assert sizes["student"] == sizes["no-kd"] < sizes["teacher"]
    assert not (run / "seed-0" / "no-kd" / "1-prune").exists()
    # what pruning left of the teacher, before anybody learnt anything
    begun = task_named("classification").load_model(str(run / "seed-0" / "student" / "2-prune" / "model")).network
    teacher = task_named("classification").load_model(str(run / "teacher" / "model")).network
    query = "vit.layers.0.attention.q_proj.weight"
    assert begun.state_dict()[query].equal(teacher.state_dict()[query])


def test_a_pruned_folder_as_a_student_still_knows_its_layers(vit: Path, tmp_path: Path) -> None:
    pruned = docstill.prune(vit, tmp_path / "pruned", method="depth", keep=1)
    content = tiny.recipe(tiny.class_folders(tmp_path / "data"), teacher=str(vit), student=pruned["model"], controls=[])
    distill = {**content["stages"][1]["distill"], "epochs": 1}
    distill["objectives"] = [{"kind": "labels"}, {"kind": "hint", "student_module": "vit.layers", "map": "kept"}]
    content["stages"] = [{"distill": distill}]
    docstill.compress(parse_recipe(content), tmp_path / "run")
    card = read_card(tmp_path / "run" / "model")
    assert card["kept_layers"] == [{"vit.layers": {"of": 2, "kept": [0]}}]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"method": "dept"},
            "prune.method: 'dept' given, one of magnitude, pattern, depth, ffn, channels, vocabulary, merges, backbone, resolution expected; did you mean depth?",
        ),
        (
            {"method": "depth", "keep": 0.5, "sparsity": 0.3},
            "sparsity: unknown key; allowed: method, keep, of, by, pages",
        ),
        ({"method": "ffn", "kep": 0.5}, "kep: unknown key; did you mean keep?"),
        ({"method": "ffn"}, "keep: required, not given"),
        ({"method": "depth", "keep": 1.5}, "keep: 1.5 given; a share between 0 and 1"),
        ({"method": "depth", "keep": [2, 0]}, "keep: [2, 0] given; a share between 0 and 1"),
        ({"method": "pattern", "pattern": 124}, "pattern: 124 given; write N:M in quotes"),
        ({"method": "pattern", "pattern": "4:2"}, "pattern: '4:2' given; write N:M in quotes"),
        ({"method": "depth", "keep": 1, "of": "decodr"}, "did you mean decoder?"),
        ({"method": "channels", "keep": 1.0}, "keep: 1.0 given; input should be less than 1"),
    ],
)
def test_settings_that_do_not_hold(settings: dict[str, Any], line: str) -> None:
    content = tiny.recipe(Path("data"))
    content["stages"][0] = {"prune": settings}
    with pytest.raises(RecipeError) as error:
        parse_recipe(content)
    assert any(problem.startswith("stages.0.prune") and line in problem for problem in error.value.problems)


def test_a_stage_that_fails_leaves_nothing_behind(vit: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has 2 blocks"):
        docstill.prune(vit, tmp_path / "out", method="depth", keep=7)
    assert not (tmp_path / "out" / "model").exists()
