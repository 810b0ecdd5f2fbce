"""Objectives against values computed by hand, and the faults of published code that must not come back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from docstill.errors import ModelError
from docstill.objectives import OBJECTIVES
from docstill.objectives.base import Objective, Outputs
from docstill.objectives.hint import Hint
from docstill.objectives.kd import Kd
from docstill.objectives.labels import Labels
from docstill.objectives.positions import as_tokens
from docstill.objectives.projectors import TokenProjector


def outputs(logits: list[list[float]], targets: list[int], **features: torch.Tensor) -> Outputs:
    return Outputs(torch.tensor(logits), torch.tensor(targets), len(targets), dict(features))


def random_outputs(seed: int, decisions: int = 6, classes: int = 4, **features: torch.Tensor) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    return Outputs(
        torch.randn(decisions, classes, generator=generator),
        torch.randint(classes, (decisions,), generator=generator),
        decisions,
        dict(features),
    )


def test_labels_is_cross_entropy_by_hand() -> None:
    student = outputs([[0.0, math.log(3.0)], [0.0, 0.0]], [1, 0])
    expected = (-math.log(0.75) - math.log(0.5)) / 2
    assert Labels()(student, None).item() == pytest.approx(expected)


def test_smoothing_changes_the_value() -> None:
    student = random_outputs(0)
    assert Labels(smoothing=0.1)(student, None).item() != pytest.approx(Labels()(student, None).item())


def test_labels_takes_the_tasks_own_loss_where_there_is_one() -> None:
    student = random_outputs(0)
    student.loss = torch.tensor(7.0)
    assert Labels()(student, None).item() == 7.0


def test_labels_needs_no_teacher() -> None:
    assert Labels.needs_teacher is False


def test_kd_by_hand() -> None:
    """KL of (3/4, 1/4) from (1/2, 1/2) at T = 1; and at T = 2 on logits twice as large, times T²."""
    student, teacher = outputs([[0.0, 0.0]], [0]), outputs([[math.log(3.0), 0.0]], [0])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert Kd(temperature=1.0)(student, teacher).item() == pytest.approx(expected)
    doubled = outputs([[2 * math.log(3.0), 0.0]], [0])
    assert Kd(temperature=2.0)(student, doubled).item() == pytest.approx(4 * expected)


def test_kd_is_zero_for_equals_and_changes_with_temperature() -> None:
    student, teacher = random_outputs(0), random_outputs(1)
    assert Kd(temperature=3.0)(student, student).item() == pytest.approx(0, abs=1e-6)
    assert Kd(temperature=3.0)(student, teacher).item() != pytest.approx(Kd(temperature=1.0)(student, teacher).item())


def test_kd_is_a_mean_over_decisions_not_a_sum() -> None:
    """The published re-implementations divide by the batch only, so that the loss grows with the text's length."""
    student, teacher = random_outputs(0), random_outputs(1)
    twice = [Outputs(side.logits.repeat(2, 1), side.targets.repeat(2), 12) for side in (student, teacher)]
    assert Kd()(*twice).item() == pytest.approx(Kd()(student, teacher).item())


def test_kd_refuses_other_widths() -> None:
    with pytest.raises(ModelError, match="one shape"):
        Kd()(random_outputs(0, classes=4), random_outputs(0, classes=5))


def _hint(student: torch.Tensor, teacher: torch.Tensor, normalise: bool = True) -> tuple[Hint, Outputs, Outputs]:
    hint = Hint("a", "b", normalise=normalise)
    pair = random_outputs(0, a=student), random_outputs(0, b=teacher)
    hint.prepare(*pair)
    return hint, *pair


def test_hint_reaches_negative_targets() -> None:
    """A projector that ends in a ReLU stops at half the variance; ours must get to nothing."""
    torch.manual_seed(0)
    student, teacher = torch.randn(64, 1, 8), torch.randn(8, 6)
    hint, ours, theirs = _hint(student, student @ teacher - 1.0)
    optimizer = torch.optim.Adam(hint.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss = hint(ours, theirs)
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


def test_hint_normalises_by_the_teachers_variance() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(8, 5, 4), torch.randn(8, 5, 6)
    plain, scaled = _hint(student, 10 * teacher, normalise=False), _hint(student, 10 * teacher)
    scaled[0].load_state_dict(plain[0].state_dict())
    variance = ((10 * teacher) - (10 * teacher).mean((0, 1))).square().mean().item()
    assert scaled[0](*scaled[1:]).item() == pytest.approx(plain[0](*plain[1:]).item() / variance, rel=1e-5)


def test_hint_of_equals_begins_at_zero() -> None:
    features = torch.randn(4, 3, 5)
    hint, ours, theirs = _hint(features, features)
    [projector] = hint.projectors
    assert isinstance(projector, TokenProjector)
    assert projector.linear.weight.requires_grad
    assert hint(ours, theirs).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((2, 4, 8, 8), (2, 6, 4, 4)), ((2, 4, 4, 4), (2, 16, 6)), ((2, 9, 4), (2, 9, 6)), ((2, 4), (2, 6))],
)
def test_projectors_are_made_from_shapes(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    target = torch.randn(teacher)
    projector = TokenProjector(torch.randn(student), target)
    assert projector(torch.randn(student)).shape == as_tokens(target).shape


def test_projectors_refuse_grids_that_cannot_be_matched() -> None:
    with pytest.raises(ModelError, match="positions"):
        TokenProjector(torch.randn(2, 9, 4), torch.randn(2, 10, 4))
    with pytest.raises(ModelError, match="cannot be compared"):
        as_tokens(torch.randn(2))


def test_tokens_that_are_not_as_many_are_refused() -> None:
    hint, ours, theirs = _hint(torch.randn(4, 3, 5), torch.randn(4, 3, 5))
    more = replace(ours, features={path: torch.randn(4, 6, 5) for path in ours.features})
    with pytest.raises(ModelError, match=r"gives 6 positions and the teacher's .* 3"):
        hint(more, theirs)


def test_every_objective_says_what_it_averages_and_is_documented() -> None:
    for kind, objective in OBJECTIVES.items():
        assert issubclass(objective, Objective)
        assert objective.average in {"decisions", "labelled", "documents"}
        assert kind == objective.__name__.lower()
        assert objective.__doc__
