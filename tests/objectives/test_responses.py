"""Objectives on logits, against plain NumPy, and the faults of published code that must not come back."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from docstill.data.images import open_image
from docstill.errors import ModelError
from docstill.objective_settings import objective_problems
from docstill.objectives import OBJECTIVES
from docstill.objectives.base import Outputs
from docstill.objectives.dist import Dist, correlation
from docstill.objectives.dkd import Dkd
from docstill.objectives.kd import Kd
from docstill.objectives.mse import Mse
from docstill.objectives.nkd import Nkd
from docstill.tasks.kie import Kie
from kie_tiny import tiny_donut, tiny_folder

Array = np.ndarray[Any, np.dtype[np.float64]]
RESPONSES = ("kd", "mse", "nkd", "dkd", "dist")


def pair(seed: int, decisions: int = 5, classes: int = 4, scale: float = 2.0) -> tuple[Outputs, Outputs]:
    source = np.random.default_rng(seed)
    targets = torch.tensor(source.integers(classes, size=decisions))
    logits = [torch.tensor(scale * source.normal(size=(decisions, classes)), dtype=torch.float32) for _ in range(2)]
    return Outputs(logits[0], targets, decisions), Outputs(logits[1], targets, decisions)


def log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    rows: Array = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return rows


def softmax(logits: Array) -> Array:
    rows: Array = np.exp(log_softmax(logits))
    return rows


def plain(outputs: Outputs) -> Array:
    return outputs.logits.double().numpy()


def others(logits: Array, targets: Array) -> Array:
    return np.stack([np.delete(row, target) for row, target in zip(logits, targets, strict=True)])


def kl(p: Array, q: Array) -> Array:
    """KL(p ‖ q) of rows of probabilities."""
    total: Array = (p * (np.log(p) - np.log(q))).sum(-1)
    return total


def test_mse_by_hand() -> None:
    student, teacher = pair(0)
    assert Mse()(student, teacher).item() == pytest.approx(np.square(plain(student) - plain(teacher)).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "mix", "expected"),
    [
        ("forward", None, lambda p, q: kl(p, q)),
        ("reverse", None, lambda p, q: kl(q, p)),
        ("jsd", 0.3, lambda p, q: 0.3 * kl(p, 0.3 * p + 0.7 * q) + 0.7 * kl(q, 0.3 * p + 0.7 * q)),
        ("skew", 0.2, lambda p, q: kl(p, 0.2 * p + 0.8 * q)),
    ],
)
def test_divergences_by_hand(kind: Any, mix: float | None, expected: Callable[[Array, Array], Array]) -> None:
    student, teacher = pair(1)
    p, q = softmax(plain(teacher) / 3), softmax(plain(student) / 3)
    value = Kd(temperature=3.0, divergence=kind, mix=mix)(student, teacher).item()
    assert value == pytest.approx(9 * expected(p, q).mean(), rel=1e-4)


def test_standardised_logits_by_hand() -> None:
    student, teacher = pair(2)

    def score(outputs: Outputs) -> Array:
        logits = plain(outputs)
        rows: Array = (logits - logits.mean(-1, keepdims=True)) / logits.std(-1, keepdims=True)
        return rows

    expected = 4 * kl(softmax(score(teacher) / 2), softmax(score(student) / 2)).mean()
    assert Kd(temperature=2.0, standardise=True)(student, teacher).item() == pytest.approx(expected, rel=1e-4)
    shifted = Outputs(7 * teacher.logits - 3, teacher.targets, 5)
    assert Kd(standardise=True)(shifted, teacher).item() == pytest.approx(0, abs=1e-6)
    assert Kd(standardise=False)(shifted, teacher).item() > 0.1


def test_a_constant_row_standardised_pulls_with_a_bounded_gradient() -> None:
    """Divided by a deviation of nothing, one empty row would drown the rest of the batch."""
    student, teacher = pair(2)
    student.logits[0] = 3.0
    student.logits.requires_grad_()
    Kd(standardise=True)(student, teacher).backward()
    assert student.logits.grad is not None
    assert 0 < student.logits.grad.abs().max() < 1e3


def test_kd_as_it_comes_is_the_plain_formula_to_the_last_bit() -> None:
    for seed in range(20):
        student, teacher = pair(seed)
        ours, theirs = (functional.log_softmax(side.logits / 2.0, dim=-1) for side in (student, teacher))
        rows = functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
        assert torch.equal(Kd()(student, teacher), rows.mean() * 2.0**2)


def test_dkd_by_hand() -> None:
    student, teacher = pair(3)
    targets = student.targets.numpy()
    p, q = softmax(plain(teacher) / 4), softmax(plain(student) / 4)
    index = np.arange(len(targets))
    right = kl(
        np.stack([p[index, targets], 1 - p[index, targets]], -1),
        np.stack([q[index, targets], 1 - q[index, targets]], -1),
    )
    wrong = kl(softmax(others(plain(teacher) / 4, targets)), softmax(others(plain(student) / 4, targets)))
    value = Dkd(alpha=0.5, beta=3.0, temperature=4.0)(student, teacher).item()
    assert value == pytest.approx(16 * (0.5 * right + 3 * wrong).mean(), rel=1e-4)


def test_dkd_with_the_teachers_own_weight_is_kd() -> None:
    """KD = KL of the right answer against the rest + (1 − p_t[y]) · KL among the rest (the paper's equation 5)."""
    student, teacher = pair(4, decisions=1)
    rest = 1 - float(torch.softmax(teacher.logits / 2, -1)[0, teacher.targets[0]])
    value = Dkd(alpha=1.0, beta=rest, temperature=2.0)(student, teacher).item()
    assert value == pytest.approx(Kd(temperature=2.0)(student, teacher).item(), rel=1e-4)


def test_nkd_by_hand() -> None:
    student, teacher = pair(5)
    targets = student.targets.numpy()
    index = np.arange(len(targets))
    sure = softmax(plain(teacher))[index, targets]
    right = -sure * log_softmax(plain(student))[index, targets]
    wrong = kl(softmax(others(plain(teacher) / 2, targets)), softmax(others(plain(student) / 2, targets)))
    value = Nkd(temperature=2.0, gamma=1.5)(student, teacher).item()
    assert value == pytest.approx((right + 1.5 * 4 * wrong).mean(), rel=1e-4)


def test_nkd_of_equals_leaves_the_label_alone() -> None:
    """What is left for equal models is the label's cross entropy, weighted by how sure they are."""
    student, _ = pair(6)
    expected = Nkd(gamma=0.0)(student, student).item()
    assert Nkd(gamma=5.0)(student, student).item() == pytest.approx(expected, rel=1e-5)
    assert expected > 0


def test_nkd_of_equals_pulls_towards_the_label_only() -> None:
    """Its gradient there is that of the weighted cross entropy, p_t[y] (p_s − 1[y]) over the decisions; not zero."""
    student, _ = pair(6)
    logits = student.logits.clone().requires_grad_()
    Nkd(gamma=5.0)(Outputs(logits, student.targets, 5), student).backward()
    p, index = softmax(plain(student)), np.arange(5)
    right = student.targets.numpy()
    expected = p[index, right][:, None] * (p - np.eye(4)[right]) / 5
    assert logits.grad is not None
    assert logits.grad.numpy() == pytest.approx(expected, abs=1e-6)


def test_dist_by_hand() -> None:
    student, teacher = pair(7)
    p, q = softmax(plain(teacher) / 2), softmax(plain(student) / 2)
    classes = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    decisions = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    value = Dist(beta=2.0, gamma=0.5, temperature=2.0)(student, teacher).item()
    assert value == pytest.approx(4 * (2 * classes + 0.5 * decisions), rel=1e-4)


def test_dist_in_a_batch_of_one_and_with_constant_rows() -> None:
    student, teacher = pair(8, decisions=1)
    assert Dist(beta=0.0)(student, teacher).item() == 0
    flat = Outputs(torch.zeros(3, 4, requires_grad=True), torch.zeros(3, dtype=torch.int64), 3)
    assert Dist()(flat, Outputs(torch.zeros(3, 4), flat.targets, 3)).item() == pytest.approx(0, abs=1e-6)
    loss = Dist()(flat, pair(8, decisions=3)[1])
    loss.backward()
    assert loss.item() == pytest.approx(2.0, abs=1e-5)  # a constant row says nothing of the other
    assert flat.logits.grad is not None
    assert torch.isfinite(flat.logits.grad).all()


@pytest.mark.parametrize("decisions", [8, 32, 64, 512])
def test_dist_of_a_collapsed_student_does_not_follow_rounding_errors(decisions: int) -> None:
    """The same answer for every document: a column's mean is off by a last bit, which must not count as a ranking."""
    for seed in range(3):
        student, teacher = pair(seed, decisions, 9)
        logits = student.logits[:1].repeat(decisions, 1).requires_grad_()
        loss = Dist(beta=0.0)(Outputs(logits, student.targets, decisions), teacher)
        loss.backward()
        assert loss.item() == pytest.approx(1.0, abs=1e-6)
        assert logits.grad is not None
        assert logits.grad.abs().max() < 1


def test_correlation_is_one_only_where_both_are_constant() -> None:
    rows = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    against = torch.tensor([[5.0, 5.0, 5.0], [5.0, 5.0, 5.0], [2.0, 4.0, 6.0]])
    assert correlation(rows, against).tolist() == pytest.approx([1.0, 0.0, 1.0])


@pytest.mark.parametrize("kind", [kind for kind in RESPONSES if kind != "nkd"])
def test_equals_give_nothing(kind: str) -> None:
    student, _ = pair(9)
    assert OBJECTIVES[kind]()(student, student).item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [
        ("kd", {"temperature": 1.0}, {"temperature": 5.0}),
        ("kd", {"divergence": "forward"}, {"divergence": "reverse"}),
        ("kd", {"divergence": "jsd"}, {"divergence": "jsd", "mix": 0.9}),
        ("kd", {"divergence": "skew"}, {"divergence": "skew", "mix": 0.9}),
        ("kd", {"standardise": False}, {"standardise": True}),
        ("nkd", {"temperature": 1.0}, {"temperature": 2.0}),
        ("nkd", {"gamma": 1.0}, {"gamma": 2.0}),
        ("dkd", {"alpha": 1.0}, {"alpha": 2.0}),
        ("dkd", {"beta": 1.0}, {"beta": 2.0}),
        ("dkd", {"temperature": 1.0}, {"temperature": 2.0}),
        ("dist", {"beta": 1.0}, {"beta": 2.0}),
        ("dist", {"gamma": 1.0}, {"gamma": 2.0}),
        ("dist", {"temperature": 1.0}, {"temperature": 2.0}),
    ],
)
def test_every_setting_changes_the_value(kind: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    """DistilDoc's published NKD never receives its temperature and gamma."""
    student, teacher = pair(10)
    values = [OBJECTIVES[kind](**options)(student, teacher).item() for options in (one, two)]
    assert values[0] != pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize("kind", RESPONSES)
def test_other_widths_are_refused(kind: str) -> None:
    student, teacher = pair(0)[0], pair(0, classes=5)[1]
    with pytest.raises(ModelError, match=f"{kind} compares logits of one shape"):
        OBJECTIVES[kind]()(student, teacher)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in RESPONSES),
    ("kd", {"standardise": True}),
    *(("kd", {"divergence": kind}) for kind in ("reverse", "jsd", "skew")),
]


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_gradients_are_those_of_finite_differences(kind: str, options: dict[str, Any]) -> None:
    student, teacher = pair(11)
    objective, against = OBJECTIVES[kind](**options), Outputs(teacher.logits.double(), teacher.targets, 5)
    logits = student.logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda free: objective(Outputs(free, student.targets, 5), against), (logits,))


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_one_or_two_classes_are_no_trouble(kind: str, options: dict[str, Any], classes: int) -> None:
    student, teacher = pair(12, classes=classes)
    student.logits.requires_grad_()
    loss = OBJECTIVES[kind](**options)(student, teacher)
    loss.backward()
    assert math.isfinite(loss.item())
    assert student.logits.grad is not None
    assert torch.isfinite(student.logits.grad).all()
    if classes == 1 and kind != "mse":
        assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_large_logits_stay_finite(kind: str, options: dict[str, Any]) -> None:
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    targets = torch.tensor([1, 0])
    loss = OBJECTIVES[kind](**options)(Outputs(logits, targets, 2), Outputs(-logits.detach(), targets, 2))
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(3, 7), st.floats(-20, 20))
@settings(deadline=None, max_examples=50)
def test_a_common_offset_changes_nothing_but_mse(seed: int, decisions: int, classes: int, offset: float) -> None:
    student, teacher = pair(seed, decisions, classes)
    shifted = Outputs(student.logits + offset, student.targets, decisions)
    for kind in RESPONSES:
        objective = OBJECTIVES[kind]()
        value = objective(student, teacher).item()
        assert value >= -1e-5
        if kind != "mse":
            assert objective(shifted, teacher).item() == pytest.approx(value, rel=1e-3, abs=1e-4)


def test_mix_without_a_mixture_is_a_line_of_the_recipes_errors() -> None:
    problems = objective_problems([{"kind": "labels"}, {"kind": "kd", "mix": 0.3}])
    assert len(problems) == 1
    assert problems[0].startswith("1.mix: 0.3 is given, but divergence forward has none")
    assert not objective_problems([{"kind": "kd", "divergence": "skew", "mix": 0.3}])


def test_an_objective_without_settings_takes_none() -> None:
    assert not objective_problems([{"kind": "mse", "weight": 0.5}])
    assert objective_problems([{"kind": "mse", "temperature": 2.0}])[0].startswith("0.temperature")


def test_padding_of_a_short_answer_never_counts(tmp_path: Path) -> None:
    """The value of a batch is that of its documents one by one, weighed by the length of their answers."""
    task, student, teacher = Kie(), tiny_donut(seed=0), tiny_donut(seed=1)
    examples = [
        task.example(student, document, open_image(document.file), [], None)
        for document in task.read(tiny_folder(tmp_path)).documents
    ]
    lengths = [len(example["ids"]) - 1 for example in examples]
    assert len(set(lengths)) > 1

    def outputs(some: list[dict[str, Any]]) -> list[Outputs]:
        with torch.no_grad():
            return [task.forward(model, task.collate(model, some)) for model in (student, teacher)]

    together, alone = outputs(examples), [outputs([example]) for example in examples]
    for kind in ("kd", "mse", "nkd", "dkd"):
        objective = OBJECTIVES[kind]()
        expected = np.average([objective(*one).item() for one in alone], weights=lengths)
        assert objective(*together).item() == pytest.approx(expected, rel=1e-4)
    rows = Dist(gamma=0.0)  # its other part is about the batch, not a mean over decisions
    expected = np.average([rows(*one).item() for one in alone], weights=lengths)
    assert rows(*together).item() == pytest.approx(expected, rel=1e-4)
