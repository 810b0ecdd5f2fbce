"""Asking the teacher once: how often it is called, what is kept of it, what makes an answer stale."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from docstill import teacher_cache
from docstill.batches import PageSet, epoch_batches, page_set
from docstill.compression import compress
from docstill.errors import ModelError, RecipeError, UserError
from docstill.lesson import Lesson, ask, make_objectives
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.optimiser import seed_everything
from docstill.recipe import parse_recipe, parse_stage
from docstill.run import read_metrics
from docstill.settings import DistillStage
from docstill.stages import Bench, learn
from docstill.tasks.kie import Kie
from docstill.teacher_cache import ask_once
from kie_tiny import ANSWERS, page, tiny_donut, tiny_folder

KIE, CPU = Kie(), torch.device("cpu")
OBJECTIVES = [{"kind": "labels", "weight": 0.5}, {"kind": "kd", "temperature": 2.0}]


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    answers = [*ANSWERS, *ANSWERS[:2]]
    found = tiny_folder(tmp_path_factory.mktemp("cache") / "pages", answers)
    for index, answer in enumerate(answers):  # slender, so that there is room for another place on the canvas
        page(answer, (90, 150)).save(found / f"{index}.png")
    return found


def stage(**changes: Any) -> DistillStage:
    return DistillStage(
        **{"objectives": OBJECTIVES, "cache_logits": 8, "batch_size": 2, "precision": "fp32", **changes}
    )


def examples(folder: Path, settings: DistillStage, teacher: DocumentModel | None = None, seed: int = 0) -> PageSet:
    return page_set(KIE, KIE.read(folder), tiny_donut(0), teacher or tiny_donut(1), settings, seed)


def count_calls(monkeypatch: pytest.MonkeyPatch, last: float = math.inf) -> list[int]:
    """Counts batches the teacher is asked about, and kills at the one after ``last``."""
    calls: list[int] = []

    def counted(*arguments: Any) -> Any:
        if len(calls) >= last:
            raise Killed
        calls.append(1)
        return ask(*arguments)

    monkeypatch.setattr(teacher_cache, "ask", counted)
    return calls


@pytest.mark.parametrize("largest", [4, 1000])
def test_what_is_kept_by_hand(folder: Path, tmp_path: Path, largest: int) -> None:
    """The largest logits as they were; the rest even, with its mass at T; everything where k is no smaller than C."""
    found = examples(folder, stage(cache_logits=largest))
    cache = ask_once(found, tmp_path, largest, 2.0, CPU)
    batch = KIE.collate(found.teacher, [found[index]["teacher"] for index in (5, 0)])
    truth = KIE.forward(found.teacher, batch)
    kept = cache.outputs([5, 0], CPU)
    assert torch.equal(kept.targets, truth.targets)
    assert kept.documents == 2
    places = truth.logits.topk(min(largest, cache.classes)).indices
    assert torch.allclose(kept.logits.gather(1, places), truth.logits.gather(1, places), atol=1e-5)
    ours, theirs = ((logits / 2).softmax(-1) for logits in (kept.logits, truth.logits))
    if largest >= cache.classes:
        assert torch.allclose(kept.logits, truth.logits.detach(), atol=1e-5)
        assert cache.held() == 1
        return
    assert torch.allclose(ours.gather(1, places), theirs.gather(1, places), atol=1e-5), "the rest has its mass"
    for row, kept_places in zip(ours, places, strict=True):
        rest = row[[index for index in range(cache.classes) if index not in kept_places.tolist()]]
        assert torch.allclose(rest, rest[:1], atol=1e-7), "and shares it evenly"
    everyone = cache.outputs(range(6), CPU)
    share = (everyone.logits / 2).softmax(-1).topk(largest).values.sum(-1).mean()
    assert cache.held() == pytest.approx(share.item(), abs=1e-5)


def test_the_losses_are_those_of_a_teacher_asked_every_time(folder: Path, tmp_path: Path) -> None:
    """With every logit kept; with fewer, off by what the rest's shape is worth, and by less the more are kept."""
    found = examples(folder, stage())
    entries = [*OBJECTIVES, {"kind": "mse"}, {"kind": "nkd"}, {"kind": "dkd", "temperature": 2.0}]
    lesson = Lesson(KIE, found.student, found.teacher, make_objectives(entries))
    batch = next(epoch_batches(found, 0, 0, 4, 0))
    expected = {loss.name: loss.value.item() for loss in lesson(batch)}
    gaps = []
    for largest in (4, 64, 1000):
        lesson.recall = ask_once(found, tmp_path, largest, 2.0, CPU).outputs
        losses = {loss.name: loss.value.item() for loss in lesson(batch)}
        gaps.append(abs(losses["kd"] - expected["kd"]))
    assert losses == pytest.approx(expected, rel=1e-5)
    assert gaps[0] > gaps[1] > gaps[2]


def test_student_and_teacher_see_one_view_the_same_in_every_epoch_and_for_every_seed(folder: Path) -> None:
    found = examples(folder, stage())
    first = found[3]
    for other in (replace(found, epoch=2), replace(found, seed=5)):
        assert torch.equal(other[3]["student"]["pixel_values"], first["student"]["pixel_values"])
    moving = examples(folder, stage(cache_logits=0))
    views = [replace(moving, epoch=epoch)[3]["student"]["pixel_values"] for epoch in (0, 1)]
    assert not torch.equal(*views)
    assert torch.equal(first["teacher"]["pixel_values"], first["student"]["pixel_values"])


def test_the_teacher_is_called_once_a_document_whatever_the_epochs_and_seeds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, calls = tiny_donut(1), []
    teacher.network.register_forward_hook(lambda *_: calls.append(1))
    pages = KIE.read(folder)
    bench = Bench(KIE, pages, replace(pages, documents=pages.documents[:1]), teacher, shared=tmp_path)
    settings = stage(epochs=3, evaluate_every=3)
    chance = []
    prepare = Lesson.prepare
    monkeypatch.setattr(Lesson, "prepare", lambda *all: (chance.append(torch.get_rng_state()), prepare(*all)))
    for name, seed in (("0", 0), ("1", 1), ("0 again", 0)):
        report = learn(bench, tiny_donut(0), settings, settings.objectives, tmp_path / name, seed, "")
        assert len(calls) == 3, "six documents, two at a time, in epoch 0 or before it; none after, none for seed 1"
    assert torch.equal(chance[0], chance[2]), (
        "what begins at random begins alike, whether the teacher was asked just now or before"
    )
    assert "The teacher was asked once: 8 of" in report["text"]
    assert len(read_metrics(tmp_path / "1" / "metrics.jsonl")) == 9


def test_anything_the_answers_depend_on_makes_others(folder: Path, tmp_path: Path) -> None:
    pages = tiny_folder(tmp_path / "pages", ANSWERS[:1])

    def name(settings: DistillStage, largest: int = 8, temperature: float = 2.0, seed: int = 1) -> str:
        teacher = tiny_donut(seed)
        teacher.processor.image_processor.image_mean = mean
        return ask_once(examples(pages, settings, teacher), tmp_path / "kept", largest, temperature, CPU).folder.name

    mean = [0.5, 0.5, 0.5]
    first = name(stage())
    assert name(stage(epochs=3, learning_rate=0.5)) == first
    found = [name(stage(), largest=9), name(stage(), temperature=3.0), name(stage(), seed=2)]
    found.append(name(stage(precision="bf16")))
    mean = [0.4, 0.5, 0.5]
    found.append(name(stage()))
    mean = [0.5, 0.5, 0.5]
    assert name(stage()) == first
    tiny_folder(pages, [{**ANSWERS[0], "total": "9.01"}])
    found.append(name(stage()))
    assert len({first, *found}) == 7


def test_an_interrupted_look_goes_on_and_half_a_file_is_no_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher_cache, "SHARD", 2)
    whole = ask_once(examples(folder, stage()), tmp_path / "whole", 8, 2.0, CPU)
    count_calls(monkeypatch, last=2)
    with pytest.raises(Killed):
        ask_once(examples(folder, stage()), tmp_path / "cut", 8, 2.0, CPU)
    (cut,) = (tmp_path / "cut").iterdir()
    (cut / ".0000004.safetensors.partial").write_bytes(b"half")
    calls = count_calls(monkeypatch)
    again = ask_once(examples(folder, stage()), tmp_path / "cut", 8, 2.0, CPU)
    assert len(calls) == 1
    assert torch.equal(again.outputs(range(6), CPU).logits, whole.outputs(range(6), CPU).logits)
    (again.folder / "0000002.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="delete it, and the teacher is asked again"):
        replace(again, _opened={}, _starts={}).outputs([3], CPU)


def test_objectives_that_compare_every_logit_need_them_all(folder: Path, tmp_path: Path) -> None:
    settings = stage(objectives=[{"kind": "mse"}])
    pages = KIE.read(folder)
    with pytest.raises(ModelError, match=r"mse compares every logit .* keeps 8 of 1[0-9][0-9]; set it to 1"):
        learn(Bench(KIE, pages, pages, tiny_donut(1)), tiny_donut(0), settings, settings.objectives, tmp_path, 0, "")


def test_a_whole_recipe_killed_in_its_second_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Classification, all logits kept: the student of an uninterrupted run, one look for both seeds, nothing left behind."""
    from docstill import engine

    monkeypatch.setattr("docstill.measure.measure_peak_memory", lambda model, task: 1.0)
    data = tiny.class_folders(tmp_path / "data")
    seed_everything(0)
    new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32)).save(tmp_path / "teacher")
    training = {"epochs": 2, "batch_size": 4, "precision": "fp32"}
    content = tiny.recipe(
        data,
        teacher=str(tmp_path / "teacher"),
        stages=[{"distill": {**training, "cache_logits": 64, "objectives": OBJECTIVES}}],
        controls=["no-kd"],
        repeats=2,
    )
    calls, steps, whole = count_calls(monkeypatch), 0, engine.optimise

    def stopping(*arguments: Any) -> dict[str, float]:
        nonlocal steps
        steps += 1
        if steps == 16:  # 6 steps for each student and each control: in the second student's second epoch
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(engine, "optimise", stopping)
    with pytest.raises(Killed):
        compress(parse_recipe(content), tmp_path / "run")
    assert len(calls) == 3
    assert (tmp_path / "run" / "teacher" / teacher_cache.FOLDER).is_dir()
    monkeypatch.setattr(engine, "optimise", whole)
    results = compress(parse_recipe(content), tmp_path / "run")
    assert len(calls) == 3
    assert not (tmp_path / "run" / "teacher" / teacher_cache.FOLDER).exists()
    assert "3 of 3 logits were kept, with 100.00% of its probability at temperature 2" in results["stages"][0]["text"]
    del content["stages"][0]["distill"]["cache_logits"]
    compress(parse_recipe({**content, "repeats": 1, "controls": []}), tmp_path / "asked")
    curves = [
        [line["kd"] for line in read_metrics(tmp_path / run / "seed-0" / "student" / "1-distill" / "metrics.jsonl")]
        for run in ("run", "asked")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert json.loads((tmp_path / "run" / "seed-0" / "no-kd" / "1-distill" / "done.json").read_text())["text"].endswith(
        "of 6."
    )


def test_recipes_that_cannot_be_are_refused() -> None:
    def problems(**changes: Any) -> list[str]:
        with pytest.raises(RecipeError) as error:
            parse_stage("distill", {"objectives": OBJECTIVES, "cache_logits": 64, **changes})
        return error.value.problems

    (augmented,) = problems(augment=0.5)
    assert augmented.startswith("distill.augment: 0.5 given, but cache_logits keeps what the teacher said of one view")
    (blended,) = problems(blend="mixup", objectives=[{"kind": "kd"}])
    assert blended.startswith("distill.blend: mixup given, but cache_logits")
    assert problems(objectives=[{"kind": "labels"}]) == [
        "distill.cache_logits: no objective asks the teacher; leave it out, or add one such as kd"
    ]
    for entry in ({"kind": "hint", "student_module": "a"}, {"kind": "simkd"}):
        (line,) = problems(objectives=[{"kind": "kd"}, entry])
        assert line.startswith(f"distill.objectives.1.kind: {entry['kind']} looks inside the teacher")
    assert problems(cache_logits=-1)[0].startswith("distill.cache_logits: -1 given")
