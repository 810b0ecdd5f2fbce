"""Temperature scaling: a known temperature comes back, no answer changes, and halves do not see their own labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.metrics.classification import classification_metrics, softmax
from docstill.metrics.temperature import cross_fitted, fit_temperature, scaled, split_in_two


def answers(temperature: float, n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure by ``temperature``, and labels drawn from the right ones."""
    source = np.random.default_rng(seed)
    logits = 2 * source.normal(size=(n, 5))
    labels = (softmax(logits).cumsum(1) < source.random((n, 1))).sum(1)
    return softmax(temperature * logits), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 3.0])
def test_a_known_temperature_comes_back(temperature: float) -> None:
    assert fit_temperature(*answers(temperature)) == pytest.approx(temperature, rel=0.02)


def test_scaling_makes_a_model_rightly_sure() -> None:
    probabilities, labels = answers(2.5, 4000)
    before = classification_metrics(probabilities, labels)
    after = classification_metrics(cross_fitted(probabilities, labels), labels)
    assert before["ece"] > 0.1
    assert after["ece"] < 2 * after["ece_floor"]
    assert after["nll"] < before["nll"]
    assert after["accuracy"] == before["accuracy"]


def test_a_half_is_scaled_by_the_other_alone() -> None:
    probabilities, labels = answers(2.0, 400)
    halves = split_in_two(labels, 0)
    found = cross_fitted(probabilities, labels)
    changed = labels.copy()
    index = int(np.flatnonzero(halves == 0)[0])
    changed[index] = (labels[index] + 1) % 5
    # The label of one page of a half moves the other half only. The halves are kept: the class counts stay.
    other = scaled(probabilities[halves == 1], fit_temperature(probabilities[halves == 0], changed[halves == 0]))
    assert not np.allclose(other, found[halves == 1])
    own = scaled(probabilities[halves == 0], fit_temperature(probabilities[halves == 1], changed[halves == 1]))
    assert np.allclose(own, found[halves == 0])


@given(st.integers(0, 1000), st.integers(2, 60), st.integers(2, 6))
@settings(deadline=None, max_examples=50)
def test_no_answer_changes_and_likelihood_gets_no_worse(seed: int, n: int, classes: int) -> None:
    source = np.random.default_rng(seed)
    probabilities, labels = softmax(3 * source.normal(size=(n, classes))), source.integers(classes, size=n)
    temperature = fit_temperature(probabilities, labels)
    after = scaled(probabilities, temperature)
    assert (after.argmax(1) == probabilities.argmax(1)).all()
    rows = np.arange(n)
    assert -np.log(after[rows, labels]).mean() <= -np.log(probabilities[rows, labels]).mean() + 1e-4
    halves = split_in_two(labels, seed)
    for label in np.unique(labels):
        ones = halves[labels == label].sum()
        assert abs(2 * ones - (labels == label).sum()) <= 1
