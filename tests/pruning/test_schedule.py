"""The cubic schedule: its ends, its formula, and that it never gives a weight back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.pruning.schedule import cubic_sparsity

SHARES = st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)).map(sorted)


@given(st.integers(0, 500), st.integers(0, 500), SHARES)
@settings(deadline=None, max_examples=50)
def test_rises_from_initial_to_final(begin: int, length: int, shares: list[float]) -> None:
    initial, final = shares
    end = begin + length
    values = [cubic_sparsity(step, begin, end, final, initial) for step in range(begin, end + 3)]
    assert values[-1] == final
    assert cubic_sparsity(max(0, begin - 1), begin, end, final, initial) == initial
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
    assert all(initial - 1e-12 <= value <= final + 1e-12 for value in values)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (10, 0.0), (15, 0.8 * (1 - 0.5**3)), (20, 0.8), (99, 0.8)])
def test_the_formula(step: int, expected: float) -> None:
    assert cubic_sparsity(step, 10, 20, 0.8) == pytest.approx(expected)


def test_from_an_initial_sparsity() -> None:
    assert cubic_sparsity(5, 0, 10, 0.9, initial=0.5) == pytest.approx(0.9 - 0.4 / 8)
