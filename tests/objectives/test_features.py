"""Objectives on features, against plain NumPy; projectors that reach their targets; padding that never counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from docstill.errors import ModelError
from docstill.objective_settings import objective_problems
from docstill.objectives import OBJECTIVES
from docstill.objectives.attention import Attention
from docstill.objectives.base import Objective, Outputs
from docstill.objectives.cka import Cka
from docstill.objectives.positions import document_mean, kept, pooled
from docstill.objectives.review import Review, context_loss
from docstill.objectives.rkd import Rkd
from docstill.objectives.vkd import Vkd

Array = np.ndarray[Any, np.dtype[np.float64]]


def seen(features: dict[str, Tensor], answers: tuple[str, Tensor] | None = None) -> Outputs:
    count = len(next(iter(features.values())))
    return Outputs(torch.zeros(count, 2), torch.zeros(count, dtype=torch.int64), count, features, answers=answers)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prepared(objective: Objective, student: Tensor, teacher: Tensor) -> tuple[Objective, Outputs, Outputs]:
    ours, theirs = seen({"a": student}), seen({"b": teacher})
    torch.manual_seed(0)
    objective.prepare(ours, theirs)
    return objective, ours, theirs


def test_attention_by_hand() -> None:
    student, teacher = random(3, 4, 2, 5), random(3, 6, 2, 5, seed=1)

    def where(features: Tensor) -> Array:
        maps = features.double().numpy().reshape(3, -1, 10)
        energy = np.square(maps).mean(1)
        rows: Array = energy / np.linalg.norm(energy, axis=1, keepdims=True)
        return rows

    expected = np.square(where(student) - where(teacher)).sum(1).mean()
    value = Attention("a", "b")(seen({"a": student}), seen({"b": teacher}))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_attention_resizes_maps_and_refuses_tokens_of_another_length() -> None:
    value = Attention("a", "b")(seen({"a": random(2, 4, 8, 8)}), seen({"b": random(2, 6, 4, 4)}))
    assert 0 < value.item() < 2
    with pytest.raises(ModelError, match="the student's a gives 9 positions and the teacher's b 10"):
        Attention("a", "b")(seen({"a": random(2, 9, 4)}), seen({"b": random(2, 10, 4)}))


def test_rkd_by_hand() -> None:
    student, teacher = random(4, 3), random(4, 7, seed=1)

    def huber(gap: Array) -> float:
        size = np.abs(gap)
        return float(np.where(size < 1, 0.5 * size**2, size - 0.5).mean())

    def relations(points: Array) -> tuple[Array, Array]:
        index = range(len(points))
        lengths = np.array([np.linalg.norm(points[i] - points[j]) for i in index for j in index if i != j])
        cosines = []
        for j in index:
            for i in index:
                for k in index:
                    if len({i, j, k}) == 3:
                        one, two = points[i] - points[j], points[k] - points[j]
                        cosines.append(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
        return lengths / lengths.mean(), np.array(cosines)

    ours, theirs = relations(student.double().numpy()), relations(teacher.double().numpy())
    expected = 3 * huber(ours[0] - theirs[0]) + 0.5 * huber(ours[1] - theirs[1])
    value = Rkd("a", "b", distance_weight=3.0, angle_weight=0.5)(seen({"a": student}), seen({"b": teacher}))
    assert value.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rkd_and_cka_of_small_batches_and_of_equal_points_have_gradients(count: int) -> None:
    for objective in (Rkd("a", "b"), Cka("a", "b")):
        student = torch.ones(count, 4, requires_grad=True)
        loss = objective(seen({"a": student}), seen({"b": random(count, 5)}))
        loss.backward()
        assert torch.isfinite(loss)
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()


def test_cka_by_hand() -> None:
    student, teacher = random(6, 5, 3), random(6, 2, 4, 4, seed=1)
    x, y = student.double().mean(1).numpy(), teacher.double().mean((2, 3)).numpy()
    x, y = x - x.mean(0), y - y.mean(0)
    expected = 1 - np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    value = Cka("a", "b")(seen({"a": student}), seen({"b": teacher}))
    assert value.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_cka_and_rkd_do_not_see_rotation_and_scale(scale: float) -> None:
    student = random(8, 5)
    rotation, _ = torch.linalg.qr(random(5, 5, seed=2))
    for objective in (Cka("a", "b"), Rkd("a", "b")):
        value = objective(seen({"a": student}), seen({"b": scale * student @ rotation}))
        assert value.item() == pytest.approx(0, abs=1e-4)


def test_vkd_by_hand() -> None:
    objective, ours, theirs = prepared(Vkd("a", "b"), random(3, 2, 4), 5 * random(3, 2, 6, seed=1) + 2)
    assert isinstance(objective, Vkd)
    weight = objective.projector.linear.weight.detach().double().numpy()
    assert weight.T @ weight == pytest.approx(np.eye(4), abs=1e-5)
    target = theirs.features["b"].double().numpy()
    target = (target - target.mean(-1, keepdims=True)) / np.sqrt(target.var(-1, keepdims=True) + 1e-5)
    gap = np.abs(ours.features["a"].double().numpy() @ weight.T - target)
    expected = np.where(gap < 1, 0.5 * gap**2, gap - 0.5).mean()
    assert objective(ours, theirs).item() == pytest.approx(expected, rel=1e-5)


def test_the_vkd_projector_stays_orthogonal_while_it_learns() -> None:
    student = random(16, 1, 6)
    rotation, _ = torch.linalg.qr(random(6, 6, seed=3))
    if torch.det(rotation) < 0:  # a mirror cannot be reached from a rotation by small steps
        rotation[:, 0] *= -1
    target = torch.nn.functional.layer_norm(student @ rotation, (6,))
    student = target @ rotation.T  # so that a rotation of it is the target exactly
    objective, ours, theirs = prepared(Vkd("a", "b"), student, target)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.05)
    first = objective(ours, theirs).item()
    for _ in range(400):
        optimizer.zero_grad()
        loss = objective(ours, theirs)
        loss.backward()
        optimizer.step()
    weight = objective.projector.linear.weight  # type: ignore[union-attr]
    assert torch.allclose(weight.T @ weight, torch.eye(6), atol=1e-4)
    assert loss.item() < 0.5 * first


def test_context_loss_by_hand() -> None:
    ours, theirs = random(2, 3, 8, 8), random(2, 3, 8, 8, seed=1)
    gap = (ours - theirs).double().numpy()

    def at(grid: int) -> float:
        side = 8 // grid
        return float(np.square(gap.reshape(2, 3, grid, side, grid, side).mean((3, 5))).mean())

    expected = (at(8) + at(4) / 2 + at(2) / 4 + at(1) / 8) / (1 + 1 / 2 + 1 / 4 + 1 / 8)
    assert context_loss(ours, theirs).item() == pytest.approx(expected, rel=1e-5)


def test_review_reaches_negative_targets_of_other_widths_and_grids() -> None:
    torch.manual_seed(0)
    ours = seen({"a": random(4, 3, 8, 8), "b": random(4, 5, 4, 4, seed=1)})
    theirs = seen({"c": random(4, 6, 4, 4, seed=2) - 1, "d": random(4, 7, 2, 2, seed=3) - 1})
    objective = Review(["a", "b"], ["c", "d"], width=48)
    objective.prepare(ours, theirs)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    first = objective(ours, theirs).item()
    for _ in range(400):
        optimizer.zero_grad()
        loss = objective(ours, theirs)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 * first


def test_review_names_what_it_cannot_use() -> None:
    tokens = seen({"a": random(2, 9, 4)})
    with pytest.raises(ModelError, match=r"maps \(B, C, H, W\) are needed, and a gives \(2, 9, 4\)"):
        Review(["a"]).prepare(tokens, tokens)
    problems = objective_problems([{"kind": "review", "student_stages": ["a", "b"], "teacher_stages": ["c"]}])
    assert problems == ["0.teacher_stages: 1 paths for 2 student_stages; name one for each"]


@pytest.mark.parametrize("kind", ["attention", "rkd", "cka"])
def test_equals_give_nothing(kind: str) -> None:
    same = seen({"a": random(5, 3, 4)})
    assert OBJECTIVES[kind]("a")(same, same).item() == pytest.approx(0, abs=1e-5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("one", "two"),
    [({"distance_weight": 1.0}, {"distance_weight": 2.0}), ({"angle_weight": 1.0}, {"angle_weight": 2.0})],
)
def test_every_setting_of_rkd_changes_the_value(one: dict[str, float], two: dict[str, float]) -> None:
    ours, theirs = seen({"a": random(5, 3)}), seen({"b": random(5, 3, seed=1)})
    values = [Rkd("a", "b", **options)(ours, theirs).item() for options in (one, two)]
    assert values[0] != pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize("kind", ["hint", "vkd", "attention", "rkd", "cka"])
def test_padding_of_answers_never_counts(kind: str) -> None:
    """Features of the writing part beyond the answer's end may be anything."""
    scored = torch.tensor([[True, True, True, False], [True, True, False, False], [True, True, True, True]])
    objective = OBJECTIVES[kind]("decoder.x")  # type: ignore[call-arg]
    values = []
    for padding in (0.0, 50.0):
        features = []
        for seed in (0, 1):
            tensor = random(3, 4, 5, seed=seed)
            tensor[~scored] = padding * (1 + seed)
            features.append(seen({"decoder.x": tensor}, ("decoder.", scored)))
        torch.manual_seed(0)
        objective.prepare(*features)
        values.append(objective(*features).item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)
    assert values[0] > 0


def test_what_is_kept_depends_on_the_path_and_the_length() -> None:
    scored = torch.tensor([[True, False]])
    outputs = seen({"decoder.a": random(1, 2, 3), "decoder.b": random(1, 5, 3), "encoder": random(1, 2, 3)})
    outputs.answers = ("decoder.", scored)
    assert kept(outputs, "decoder.a").flatten().tolist() == [1, 0]
    assert kept(outputs, "decoder.b").flatten().tolist() == [1] * 5
    assert kept(outputs, "encoder").flatten().tolist() == [1, 1]
    assert torch.equal(pooled(outputs, "decoder.a"), outputs.features["decoder.a"][:, 0])


def test_a_document_weighs_the_same_however_long_it_is() -> None:
    values, mask = torch.tensor([[[1.0], [1.0]], [[4.0], [9.0]]]), torch.tensor([[[1.0], [1.0]], [[1.0], [0.0]]])
    assert document_mean(values, mask).item() == pytest.approx((1 + 4) / 2)
