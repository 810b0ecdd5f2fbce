"""Layer maps: pairs of layers in one objective, against the sum written out by hand; what depth pruning kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from docstill.batches import epoch_batches, page_set
from docstill.errors import ModelError
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.objective_settings import objective_problems
from docstill.objectives.attention import Attention
from docstill.objectives.base import Outputs
from docstill.objectives.hint import Hint
from docstill.objectives.layered import Layered, kept_places
from docstill.optimiser import seed_everything
from docstill.prune_settings import DepthPrune
from docstill.prune_stage import prune
from docstill.settings import Training
from docstill.tasks.classification import Classification

TASK = Classification()


def stack(count: int) -> nn.Module:
    return nn.ModuleDict({"layers": nn.ModuleList(nn.Identity() for _ in range(count)), "head": nn.Identity()})


def seen(count: int, width: int, seed: int) -> Outputs:
    made = torch.Generator().manual_seed(seed)
    features = {f"layers.{index}": (1 + index) * torch.randn(4, 5, width, generator=made) for index in range(count)}
    return Outputs(torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), 4, features)


def numbers(tensor: Tensor) -> Any:
    return tensor.detach().double().numpy()


def mapped(objective: Layered, ours: int, theirs: int, card: dict[str, Any]) -> Layered:
    objective.know(card)
    objective.attach(stack(ours), stack(theirs))
    return objective


CARD = {"kept_layers": [{"layers": {"of": 5, "kept": [0, 1, 3]}}]}


@pytest.mark.parametrize(("how", "places"), [("even", [0, 2, 4]), ("kept", [0, 1, 3])])
def test_a_mapped_hint_by_hand(how: Any, places: list[int]) -> None:
    ours, theirs = seen(3, 4, 0), seen(5, 6, 1)
    hint = mapped(Hint("layers", map=how), 3, 5, CARD)
    assert isinstance(hint, Hint)
    assert hint.pairs == [(f"layers.{index}", f"layers.{place}") for index, place in enumerate(places)]
    torch.manual_seed(0)
    hint.prepare(ours, theirs)
    total = 0.0
    for index, place in enumerate(places):
        linear = hint.projectors[index].linear
        student, teacher = numbers(ours.features[f"layers.{index}"]), numbers(theirs.features[f"layers.{place}"])
        gap = student @ numbers(linear.weight).T + numbers(linear.bias) - teacher
        total += np.square(gap).mean() / np.square(teacher - teacher.mean((0, 1))).mean()
    assert hint(ours, theirs).item() == pytest.approx(total / 3, rel=1e-5)


def test_a_mapped_attention_by_hand() -> None:
    ours, theirs = seen(3, 4, 0), seen(5, 6, 1)
    total = 0.0
    for index, place in enumerate([0, 1, 3]):
        maps = []
        for features in (ours.features[f"layers.{index}"], theirs.features[f"layers.{place}"]):
            energy = np.square(numbers(features)).mean(-1)
            maps.append(energy / np.linalg.norm(energy, axis=1, keepdims=True))
        total += np.square(maps[0] - maps[1]).sum(1).mean()
    value = mapped(Attention("layers", map="kept"), 3, 5, CARD)(ours, theirs)
    assert value.item() == pytest.approx(total / 3, rel=1e-5)


def test_places_lead_through_as_many_prunings_as_lie_between() -> None:
    records = [{"x": {"of": 6, "kept": [0, 2, 3, 5]}}, {"y": {"of": 4, "kept": [1]}}, {"x": {"of": 4, "kept": [0, 2]}}]
    assert kept_places(records, "x", 2, 6) == [0, 3]
    assert kept_places(records, "x", 2, 4) == [0, 2]
    assert kept_places(records, "x", 2, 2) == [0, 1]
    with pytest.raises(ModelError, match=r"which of the teacher's 5 layers the 2 of the student's x were.*map: even"):
        kept_places(records, "x", 2, 5)


def test_maps_that_cannot_be_made() -> None:
    with pytest.raises(ModelError, match=r"layers has 4 for the 3 of the teacher's layers; name pairs"):
        mapped(Hint("layers", map="even"), 4, 3, {})
    with pytest.raises(ModelError, match=r"the student's layers.0 is a Identity; did you mean layers"):
        mapped(Hint("layers.0", "layers", map="even"), 2, 3, {})
    with pytest.raises(ModelError, match=r"the teacher's ModuleDict has no module 'layer'; did you mean layers"):
        mapped(Attention("layers", "layer", map="even"), 2, 3, {})
    [problem] = objective_problems([{"kind": "hint", "student_module": "layers", "map": "evn"}])
    assert "did you mean even?" in problem


def test_a_student_made_shallower_twice_follows_the_layers_it_kept(tmp_path: Path) -> None:
    data = tiny.class_folders(tmp_path / "data")
    config = {**tiny.TINY_VIT["config"], "num_hidden_layers": 6}  # type: ignore[dict-item]
    seed_everything(0)
    teacher = new_classifier("vit-tiny", config, tiny.KINDS, (32, 32))
    student = DocumentModel("classification", teacher.network, teacher.processor, teacher.labels)
    prune(TASK, student, DepthPrune(method="depth", keep=4), None)
    prune(TASK, student, DepthPrune(method="depth", keep=3), None)
    student = TASK.load_model(str(student.save(tmp_path / "student")))
    assert student.card["kept_layers"] == [
        {"vit.layers": {"of": 6, "kept": [0, 2, 3, 5]}},
        {"vit.layers": {"of": 4, "kept": [0, 2, 3]}},
    ]
    one_line = [{"kind": "hint", "student_module": "vit.layers", "map": "kept"}]
    by_hand = [
        {"kind": "hint", "student_module": f"vit.layers.{ours}", "teacher_module": f"vit.layers.{theirs}"}
        for ours, theirs in enumerate([0, 3, 5])
    ]
    examples = page_set(TASK, TASK.read(data / "train"), student, teacher, Training(), seed=0)
    batch = next(epoch_batches(examples, 0, 0, 6, 0))
    sums = []
    for entries in (one_line, by_hand):
        lesson = Lesson(TASK, student, teacher, make_objectives(entries))
        torch.manual_seed(0)
        lesson.prepare(batch)
        losses = [loss.value.item() for loss in lesson(batch)]
        sums.append(sum(losses) / len(losses))
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)
    assert sums[0] > 0
