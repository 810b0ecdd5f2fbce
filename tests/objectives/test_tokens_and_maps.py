"""Objectives between tokens and maps: against plain NumPy, without the tokens in front, and in whole runs across families."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tiny
from docstill.compression import compress
from docstill.errors import ModelError
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.models.patches import Patches
from docstill.objectives.attention import Attention
from docstill.objectives.base import Objective, Outputs
from docstill.objectives.hint import Hint
from docstill.objectives.mgd import Mgd
from docstill.objectives.pkd import Pkd
from docstill.objectives.positions import reframed
from docstill.objectives.review import Review
from docstill.objectives.vkd import Vkd
from docstill.optimiser import seed_everything
from docstill.recipe import parse_recipe
from docstill.tasks.classification import Classification

TASK = Classification()
PATCHES = Patches(((2, 3),), 2)
"""Two rows of three patches, and two tokens in front."""
Array = np.ndarray[Any, np.dtype[np.float64]]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(path: str, features: Tensor, patches: Patches | None = None) -> Outputs:
    count = len(features)
    return Outputs(
        torch.zeros(count, 2), torch.zeros(count, dtype=torch.int64), count, {path: features}, patches=patches
    )


def tokens(channels: int, seed: int = 0) -> Outputs:
    return seen("tokens", random(4, 8, channels, seed=seed), PATCHES)


def maps(channels: int, scale: int = 1, seed: int = 1) -> Outputs:
    return seen("maps", random(4, channels, 2 * scale, 3 * scale, seed=seed))


def numbers(tensor: Tensor) -> Array:
    values: Array = tensor.detach().double().numpy()
    return values


def patch_rows(outputs: Outputs) -> Array:
    """``(B, 6, C)``: what stands at the six places, row by row."""
    features = outputs.features
    if "tokens" in features:
        return numbers(features["tokens"])[:, 2:]
    whole = numbers(features["maps"])
    batch, channels, height, width = whole.shape
    # Halving a map by bilinear resizing is the mean of each square of four.
    small = whole.reshape(batch, channels, 2, height // 2, 3, width // 3).mean((3, 5))
    return small.reshape(batch, channels, 6).transpose(0, 2, 1)


def directions(ours: int, theirs: int) -> list[tuple[Outputs, Outputs]]:
    """Maps of twice the grid towards tokens, and tokens towards maps of the same grid."""
    return [(maps(ours, scale=2), tokens(theirs)), (tokens(ours), maps(theirs))]


def prepared(objective: Objective, ours: Outputs, theirs: Outputs) -> Any:
    torch.manual_seed(0)
    objective.prepare(ours, theirs)
    return objective


def paths(ours: Outputs, theirs: Outputs) -> tuple[str, str]:
    return next(iter(ours.features)), next(iter(theirs.features))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("direction", [0, 1])
def test_hint_by_hand(direction: int, normalise: bool) -> None:
    ours, theirs = directions(3, 5)[direction]
    hint = prepared(Hint(*paths(ours, theirs), normalise=normalise), ours, theirs)
    linear, target = hint.projectors[0].linear, patch_rows(theirs)
    gap = patch_rows(ours) @ numbers(linear.weight).T + numbers(linear.bias) - target
    scale = np.square(target - target.mean((0, 1))).mean() if normalise else 1
    assert hint(ours, theirs).item() == pytest.approx(np.square(gap).mean() / scale, rel=1e-5)


@pytest.mark.parametrize("direction", [0, 1])
def test_vkd_by_hand(direction: int) -> None:
    ours, theirs = directions(3, 5)[direction]
    vkd = prepared(Vkd(*paths(ours, theirs)), ours, theirs)
    target = patch_rows(theirs)
    target = (target - target.mean(-1, keepdims=True)) / np.sqrt(target.var(-1, keepdims=True) + 1e-5)
    gap = np.abs(patch_rows(ours) @ numbers(vkd.projector.linear.weight).T - target)
    expected = np.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean()
    assert vkd(ours, theirs).item() == pytest.approx(expected, rel=1e-5)


def test_attention_by_hand() -> None:
    """Resizing follows squaring, so that a map of twice the grid is squared first."""
    for ours, theirs in directions(3, 5):
        rows = []
        for side in (ours, theirs):
            squared = seen(*next(iter(side.features.items())), side.patches)
            squared.features = {path: features.square() for path, features in squared.features.items()}
            energy = patch_rows(squared).mean(-1)
            rows.append(energy / np.linalg.norm(energy, axis=1, keepdims=True))
        expected = np.square(rows[0] - rows[1]).sum(1).mean()
        assert Attention(*paths(ours, theirs))(ours, theirs).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("direction", [0, 1])
def test_pkd_by_hand(direction: int) -> None:
    ours, theirs = directions(3, 5)[direction]
    pkd = prepared(Pkd(*paths(ours, theirs)), ours, theirs)
    mine = patch_rows(ours) @ numbers(pkd.projector.weight).T + numbers(pkd.projector.bias)
    rows = [side.reshape(-1, 5) for side in (mine, patch_rows(theirs))]
    correlations = [np.corrcoef(rows[0][:, channel], rows[1][:, channel])[0, 1] for channel in range(5)]
    assert pkd(ours, theirs).item() == pytest.approx(1 - np.mean(correlations), rel=1e-4)


@pytest.mark.parametrize("direction", [0, 1])
def test_review_by_hand(direction: int) -> None:
    ours, theirs = [(maps(3), tokens(5)), (tokens(3), maps(5))][direction]
    review = prepared(Review(*([path] for path in paths(ours, theirs)), width=4), ours, theirs)
    entry, leave = review.entries[0], review.exits[0]
    with torch.no_grad():  # a 1 × 1 convolution, which is a product
        centre = leave.weight[:, :, 1, 1].clone()
        leave.weight.zero_()[:, :, 1, 1] = centre
    fused = patch_rows(ours) @ numbers(entry.weight[:, :, 0, 0]).T + numbers(entry.bias)
    target = patch_rows(theirs)
    gap = fused @ numbers(centre).T + numbers(leave.bias) - target
    # Of the coarser grids 4 × 4, 2 × 2 and 1 × 1 only the last is smaller than 2 × 3: the mean of all places, at half the weight.
    whole, mean = np.square(gap).mean(), np.square(gap.mean(1)).mean()
    expected = (whole + mean / 2) / 1.5 / np.square(target - target.mean((0, 1))).mean()
    assert review(ours, theirs).item() == pytest.approx(expected, rel=1e-5)


def make(kind: str, ours: Outputs, theirs: Outputs) -> Any:
    one, two = paths(ours, theirs)
    made: dict[str, Objective] = {
        "hint": Hint(one, two),
        "vkd": Vkd(one, two),
        "attention": Attention(one, two),
        "review": Review([one], [two], width=5),
        "pkd": Pkd(one, two),
        "mgd": Mgd(one, two, mask=0.0),
    }
    return prepared(made[kind], ours, theirs)


@pytest.mark.parametrize("kind", ["hint", "vkd", "attention", "review", "pkd", "mgd"])
@pytest.mark.parametrize("direction", [0, 1])
def test_tokens_in_front_never_count_and_all_others_learn(kind: str, direction: int) -> None:
    values = []
    for front in (0.0, 50.0):
        pair = [(maps(5), tokens(5)), (tokens(5), maps(5))][direction]
        student = pair[0].features[paths(*pair)[0]].requires_grad_()
        for side in pair:
            if "tokens" in side.features:
                side.features["tokens"] = torch.cat([torch.full((4, 2, 5), front), side.features["tokens"][:, 2:]], 1)
        objective = make(kind, *pair)
        loss = objective(*pair)
        loss.backward()
        values.append(loss.item())
        assert student.grad is not None
        learning = student.grad.abs().sum(1 if student.dim() == 4 else -1)
        if direction == 1:
            assert learning[:, :2].max() == 0  # those in front
            learning = learning[:, 2:]
        assert learning.min() > 0
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.parametrize("kind", ["hint", "vkd", "attention", "review", "pkd"])
@pytest.mark.parametrize("direction", [0, 1])
def test_equals_behind_an_ideal_projector_give_nothing(kind: str, direction: int) -> None:
    one = tokens(5)
    if kind == "vkd":
        one.features["tokens"] = nn.functional.layer_norm(one.features["tokens"], (5,))
    two = seen("maps", one.features["tokens"][:, 2:].transpose(1, 2).reshape(4, 5, 2, 3))
    pair = (one, two) if direction else (two, one)
    objective = make(kind, *pair)
    with torch.no_grad():
        if kind == "hint":
            objective.projectors[0].linear.weight.copy_(torch.eye(5))
            objective.projectors[0].linear.bias.zero_()
        elif kind == "vkd":
            objective.projector.linear.weight = torch.eye(5)
        elif kind == "review":
            objective.entries[0].weight.copy_(torch.eye(5)[:, :, None, None])
            objective.exits[0].weight.zero_()[:, :, 1, 1] = torch.eye(5)
            objective.entries[0].bias.zero_()
            objective.exits[0].bias.zero_()
    assert objective(*pair).item() == pytest.approx(0, abs=1e-6)


def test_tokens_of_the_same_patches_stay_tokens_and_of_other_grids_are_compared_by_place() -> None:
    wide, tall = Patches(((2, 8),)), Patches(((4, 4),))
    ours, theirs = random(2, 16, 3), random(2, 16, 3, seed=1)

    def value(one: Patches | None, two: Patches | None) -> float:
        return float(Attention("a", "b")(seen("a", ours, one), seen("b", theirs, two)))

    by_place = Attention("a", "b")(
        seen("a", ours.transpose(1, 2).reshape(2, 3, 2, 8)), seen("b", theirs.transpose(1, 2).reshape(2, 3, 4, 4))
    )
    assert value(wide, tall) == pytest.approx(by_place.item(), rel=1e-6)
    assert value(wide, wide) == value(None, None) != pytest.approx(value(wide, tall), rel=1e-3)
    with_front = Patches(((3, 5),), 1)  # sixteen tokens, the first of which counts between such networks
    assert value(with_front, with_front) == value(None, None)


@pytest.mark.parametrize("kind", ["hint", "vkd", "attention", "review", "pkd", "mgd"])
def test_tokens_whose_places_are_not_known_are_refused_beside_maps(kind: str) -> None:
    """Even where there are as many as the map has positions: they may stand in another order."""
    six = seen("tokens", random(4, 6, 5))
    with pytest.raises(ModelError, match=r"maps \(B, C, H, W\) are needed, and tokens gives \(4, 6, 5\)"):
        make(kind, maps(5), six)(maps(5), six)


def test_windows_of_pages_are_refused_beside_maps() -> None:
    windows = seen("tokens", random(16, 6, 5), Patches(((4, 6), (2, 3))))
    windows.documents = 4
    with pytest.raises(
        ModelError, match=r"tokens gives 16 parts of 4 pages, which are no features of pages; tap a block"
    ):
        make("hint", maps(5), windows)


VIT = {"new": "vit-tiny", "config": {**tiny.TINY_VIT["config"], "image_size": [32, 48]}}  # type: ignore[dict-item]
RESNET = {**tiny.TINY_RESNET, "image_size": [48, 32]}
LAYERS = {"vit": ["vit.layers.0", "vit.layers.1"], "resnet": ["resnet.encoder.stages.0", "resnet.encoder.stages.1"]}


def objectives(student: str, teacher: str) -> list[dict[str, Any]]:
    ours, theirs = LAYERS[student], LAYERS[teacher]
    one = {"student_module": ours[1], "teacher_module": theirs[0]}
    return [
        {"kind": "hint", **one},
        {"kind": "vkd", **one},
        {"kind": "attention", **one},
        {"kind": "review", "student_stages": ours, "teacher_stages": theirs, "width": 4},
        {"kind": "pkd", **one},
        {"kind": "mgd", **one},
    ]


def model(spec: dict[str, Any], seed: int) -> DocumentModel:
    seed_everything(seed)
    return new_classifier(spec["new"], spec["config"], tiny.KINDS, spec.get("image_size"))


@pytest.mark.parametrize(("student", "teacher"), [("resnet", "vit"), ("vit", "resnet")])
@pytest.mark.parametrize("place", range(6))
def test_the_networks_say_where_their_tokens_stand(student: str, teacher: str, place: int) -> None:
    """A page of one picture has its patches where a map has them; only the student learns, up to the tapped layer."""
    specs = {"vit": VIT, "resnet": RESNET}
    ours, theirs = model(specs[student], 0), model(specs[teacher], 1)
    [entry] = objectives(student, teacher)[place : place + 1]
    lesson = Lesson(TASK, ours, theirs, make_objectives([entry]))
    labels = torch.zeros(3, dtype=torch.int64)
    batch = {
        "student": {"pixel_values": random(3, 3, *_size(ours)), "targets": labels},
        "teacher": {"pixel_values": random(3, 3, *_size(theirs), seed=1), "targets": labels},
        "files": ["1", "2", "3"],
    }
    lesson.prepare(batch)
    mine, its = lesson.outputs(batch)
    assert its is not None
    assert {"vit": Patches(((4, 6),), 1), "resnet": None} == {student: mine.patches, teacher: its.patches}
    [loss] = lesson(batch)
    loss.value.backward()
    first = next(iter(ours.network.parameters()))
    assert first.grad is not None
    assert first.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in theirs.network.parameters())


def _size(made: DocumentModel) -> tuple[int, int]:
    return made.processor.size["height"], made.processor.size["width"]


@pytest.mark.parametrize(("student", "teacher"), [(RESNET, VIT), (VIT, RESNET)])
def test_whole_runs_across_families(
    tmp_path: Path, student: dict[str, Any], teacher: dict[str, Any], no_onednn: None
) -> None:
    data = tiny.class_folders(tmp_path / "data")
    content = tiny.recipe(data, student=student, controls=[])
    content["teacher"]["model"] = teacher
    entries = objectives(*(("vit", "resnet") if student is VIT else ("resnet", "vit")))
    content["stages"] = [{"distill": {**content["stages"][1]["distill"], "objectives": entries}}]
    results = compress(parse_recipe(content), tmp_path / "run")
    curve = next(curve for curve in results["curves"] if curve["name"] == "student")
    for point in curve["points"]:
        assert all(point[entry["kind"]] > 0 for entry in entries)


def test_maps_of_pages_that_are_squashed_and_padded_are_compared_place_by_place() -> None:
    """Each cell says where on the page it stands: the teacher fills its input, the student's page two thirds by a half of its own."""

    def places(height: int, width: int, across: float, down: float) -> Tensor:
        rows, columns = (torch.arange(height) + 0.5) / height / down, (torch.arange(width) + 0.5) / width / across
        return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])[None]

    one, two = torch.ones(1, 4), torch.tensor([[2 / 3, 0.5, 2 / 3, 0.5]])
    whole = Outputs(
        torch.zeros(1, 1), torch.zeros(1), 1, features={"a": places(12, 12, 1, 1), "b": torch.zeros(1, 5)}, frames=one
    )
    found = reframed(whole, replace(whole, frames=two)).features
    expected = places(12, 12, 2 / 3, 0.5)
    inside = (expected < 1 - 0.5 / 12).all(1) & (expected > 0.5 / 12).all(1)
    assert inside.sum() > 20
    assert torch.allclose(found["a"].movedim(1, -1)[inside], expected.movedim(1, -1)[inside], atol=1e-5)
    assert torch.equal(found["b"], torch.zeros(1, 5))
    assert reframed(whole, whole) is whole
