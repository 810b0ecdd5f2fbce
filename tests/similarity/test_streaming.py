"""CKA over batches: the same as all at once, in memory that does not grow."""

from __future__ import annotations

import numpy as np
import pytest

from docstill.metrics.cka import cka, hsic_unbiased
from docstill.similarity.streaming import LayerCka


def layers(seed: int, count: int, m: int = 24) -> list[np.ndarray]:
    source = np.random.default_rng(seed)
    first = source.normal(size=(m, 4))
    return [
        first @ source.normal(size=(4, 3 + index)) + 0.3 * source.normal(size=(m, 3 + index)) for index in range(count)
    ]


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_one_batch_is_plain_cka(estimator: str) -> None:
    teacher, student = layers(0, 3), layers(1, 2)
    summed = LayerCka(3, 2)
    summed.add(teacher, student)
    expected = [[cka(one, other, estimator=estimator) for other in student] for one in teacher]
    assert summed.matrix(estimator) == pytest.approx(np.array(expected), abs=1e-9)


def test_many_batches_come_near_all_at_once_and_memory_stays() -> None:
    teacher, student = layers(0, 3, m=2000), layers(0, 2, m=2000)
    whole, parts = LayerCka(3, 2), LayerCka(3, 2)
    whole.add(teacher, student)
    held = parts._sums.shape
    for start in range(0, 2000, 50):
        rows = slice(start, start + 50)
        parts.add([one[rows] for one in teacher], [one[rows] for one in student])
    assert parts.matrix() == pytest.approx(whole.matrix(), abs=0.02)
    assert parts.matrix("biased") == pytest.approx(whole.matrix("biased"), abs=1e-9)
    assert parts.overall("biased", chance=True) == pytest.approx(whole.overall("biased", chance=True), abs=1e-9)
    assert parts._sums.shape == held == (5, 5)


def test_minibatch_cka_follows_its_definition() -> None:
    """Nguyen et al. 2021, equation 2: sums of HSIC₁ over batches above and below, one ratio at the end."""
    teacher, student = layers(0, 2), layers(1, 3)
    summed = LayerCka(2, 3)
    above, one, other = np.zeros((2, 3)), np.zeros(2), np.zeros(3)
    for start in range(0, 24, 8):
        batch = slice(start, start + 8)
        summed.add([rows[batch] for rows in teacher], [rows[batch] for rows in student])
        grams, others = (np.stack([rows[batch] @ rows[batch].T for rows in model]) for model in (teacher, student))
        above += hsic_unbiased(grams, others)
        one += np.diag(hsic_unbiased(grams, grams))
        other += np.diag(hsic_unbiased(others, others))
    assert summed.matrix() == pytest.approx(above / np.sqrt(np.outer(one, other)), abs=1e-9)


def test_global_is_cka_of_the_summed_kernels() -> None:
    teacher, student = layers(0, 3), layers(1, 2)
    summed = LayerCka(3, 2)
    summed.add(teacher, student)

    def together(parts: list[np.ndarray]) -> np.ndarray:
        """Kernels of layers each divided by √HSIC(K, K) add up to the kernel of the scaled layers side by side."""
        scaled = []
        for part in parts:
            centred = part - part.mean(0)
            scaled.append(centred / np.sqrt(np.linalg.norm(centred @ centred.T)))
        return np.concatenate(scaled, axis=1)

    expected = cka(together(teacher), together(student), estimator="biased")
    assert summed.overall("biased") == pytest.approx(expected, abs=1e-9)


def test_global_of_equals_is_one_and_by_chance_it_is_lower() -> None:
    teacher = layers(0, 3)
    summed = LayerCka(3, 3)
    summed.add(teacher, teacher)
    assert summed.overall() == 1.0
    assert (summed.matrix().diagonal() == 1.0).all()
    assert abs(summed.overall(chance=True)) < 0.5


def test_a_constant_layer_is_not_defined_and_adds_nothing() -> None:
    teacher, student = layers(0, 2), layers(1, 2)
    without = LayerCka(2, 2)
    without.add(teacher, student)
    with_constant = LayerCka(3, 2)
    with_constant.add([*teacher, np.ones((24, 2))], student)
    assert np.isnan(with_constant.matrix()[2]).all()
    assert with_constant.overall() == pytest.approx(without.overall(), abs=1e-9)
