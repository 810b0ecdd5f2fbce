"""The biased HSIC over all documents: the same as from the m × m matrices, in any batches, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.metrics.cka import linear_gram
from docstill.similarity.exact import ExactHsic, gram, joined
from docstill.similarity.streaming import LayerCka

Rows = np.ndarray


def layers(seed: int, m: int, widths: tuple[int, ...]) -> list[Rows]:
    source = np.random.default_rng(seed)
    hidden = source.normal(size=(m, 3))
    return [hidden @ source.normal(size=(3, p)) + source.normal(size=(m, p)) + 7 for p in widths]


def by_definition(x: Rows, y: Rows) -> float:
    """tr(K H L H) / (m − 1)² with every matrix written out."""
    m = len(x)
    centring = np.eye(m) - np.ones((m, m)) / m
    return float(np.trace(x @ x.T @ centring @ y @ y.T @ centring)) / (m - 1) ** 2


def fed(parts: list[Rows], edges: list[int]) -> ExactHsic:
    exact = ExactHsic(len(parts))
    for start, end in zip([0, *edges], [*edges, len(parts[0])], strict=True):
        exact.add([rows[start:end] for rows in parts])
    return exact


@given(
    st.integers(0, 10_000),
    st.integers(5, 60),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.lists(st.integers(1, 59), max_size=5),
)
@settings(deadline=None, max_examples=50)
def test_any_batches_give_the_definition(seed: int, m: int, widths: list[int], cuts: list[int]) -> None:
    parts = layers(seed, m, tuple(widths))
    exact = fed(parts, sorted({cut for cut in cuts if cut < m}))
    hsic, varied = exact.hsic()
    expected = np.array([[by_definition(x, y) for y in parts] for x in parts])
    assert hsic == pytest.approx(expected, rel=1e-9)
    assert (hsic == hsic.T).all()
    assert varied == pytest.approx([len(rows) * rows.var(axis=0).sum() for rows in parts], rel=1e-9)


@pytest.mark.parametrize("m", [20, 400])
def test_cka_over_all_documents_whether_rows_or_sums_are_kept(m: int) -> None:
    teacher, student = layers(0, m, (6, 40)), layers(0, m, (5, 9, 12))
    summed = LayerCka(2, 3)
    for start in range(0, m, 10):
        batch = slice(start, start + 10)
        summed.add([rows[batch] for rows in teacher], [rows[batch] for rows in student])
    assert bool(summed._exact._products) == (m == 400)
    for i, x in enumerate(teacher):
        for j, y in enumerate(student):
            expected = by_definition(x, y) / np.sqrt(by_definition(x, x) * by_definition(y, y))
            assert summed.matrix("biased")[i, j] == pytest.approx(expected, abs=1e-6)


def test_what_is_held_stops_growing_with_the_number_of_documents() -> None:
    exact, held, shapes = ExactHsic(2), [], []
    parts = layers(0, 2000, (4, 6))
    for start in range(0, 2000, 20):
        exact.add([rows[start : start + 20] for rows in parts])
        held.append(sum(rows.nbytes for batch in exact._kept for rows in batch))
        shapes.append({pair: products.shape for pair, products in exact._products.items()})
    assert max(held) <= 8 * (4 * 4 + 4 * 6 + 6 * 6)
    assert shapes[0] == shapes[-1] == {(0, 0): (4, 4), (0, 1): (4, 6), (1, 1): (6, 6)}
    assert exact.documents == 2000


def test_equal_layers_give_one_and_a_large_mean_costs_nothing() -> None:
    rows = layers(3, 500, (6,))[0] + 1e6
    summed = LayerCka(1, 2)
    for start in range(0, 500, 25):
        part = rows[start : start + 25]
        summed.add([part], [part.copy(), part @ np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0] * 3])
    assert abs(summed.matrix("biased")[0, 0] - 1) < 1e-12
    assert abs(summed.matrix("biased")[0, 1] - 1) < 1e-6
    assert abs(summed.overall("biased") - 1) < 1e-6


def test_a_layer_that_gets_wider_had_zeros_there() -> None:
    rows = layers(1, 300, (5,))[0]
    rows[:100, 3:] = 0
    other = layers(2, 300, (4,))[0]
    exact = ExactHsic(2)
    for start in range(0, 300, 20):
        width = 3 if start < 100 else 5
        exact.add([rows[start : start + 20, :width], other[start : start + 20]])
    assert exact._products
    hsic, _ = exact.hsic()
    assert hsic[0, 0] == pytest.approx(by_definition(rows, rows), rel=1e-9)
    assert hsic[0, 1] == pytest.approx(by_definition(rows, other), rel=1e-9)


def test_layers_that_fit_nowhere_are_not_defined_and_nothing_is_held() -> None:
    summed = LayerCka(1, 1, room=2000)
    for seed in range(4):
        rows = np.random.default_rng(seed).normal(size=(8, 30))
        summed.add([rows], [rows])
    assert summed.too_wide
    assert not summed._exact._kept
    assert np.isnan(summed.matrix("biased")).all()
    assert np.isnan(summed.overall("biased"))
    assert summed.overall() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("m", [12, 300])
def test_a_constant_layer_has_no_hsic(m: int) -> None:
    exact = fed([np.full((m, 3), 0.1), layers(0, m, (3,))[0]], [6])
    hsic, varied = exact.hsic()
    assert hsic[0].tolist() == [0, 0]
    assert hsic[1, 1] > 0
    assert varied[0] == 0


def test_by_chance_is_the_mean_over_all_exchanges() -> None:
    x, y = layers(0, 40, (6,))[0], layers(1, 40, (20,))[0]
    summed = LayerCka(1, 1)
    summed.add([x], [y])
    source = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        mixed = LayerCka(1, 1)
        mixed.add([x], [y[source.permutation(40)]])
        drawn.append(mixed.overall("biased"))
    assert summed.overall("biased", chance=True) == pytest.approx(np.mean(drawn), abs=0.01)


def test_wide_layers_are_multiplied_some_columns_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = layers(0, 9, (50,))[0]
    assert (gram(wide) == linear_gram(wide)).all()
    monkeypatch.setattr("docstill.similarity.exact.COLUMNS", 7)
    assert gram(wide) == pytest.approx(linear_gram(wide), rel=1e-12, abs=1e-12)
    assert not gram(np.ones((4, 20))).any()


def test_shorter_batches_are_filled_up_with_noughts() -> None:
    rows = joined([np.ones((2, 3)), np.ones((1, 5))])
    assert rows.sum(1).tolist() == [3, 3, 5]
