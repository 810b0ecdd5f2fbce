"""Confidences: what they are fitted to, what they are worth, and what may be accepted."""

from __future__ import annotations

import numpy as np
import pytest

from docstill.decoding.confidence import (
    calibrated,
    confidence_metrics,
    curve_of,
    fit_curve,
    marks,
    reliability,
)
from docstill.errors import ModelError
from docstill.metrics.classification import accepted
from docstill.metrics.fields import field_scores


def too_sure(n: int = 4000) -> tuple[list[float], list[bool], list[int]]:
    """Confidences whose true rate is 1 / (1 + exp(−(0.5 · logit − 1))): far too sure, in the right order."""
    rng = np.random.default_rng(0)
    logits = rng.normal(4, 3, n)
    right = rng.random(n) < 1 / (1 + np.exp(-(0.5 * logits - 1)))
    return (1 / (1 + np.exp(-logits))).tolist(), right.tolist(), list(range(n))


def test_the_curve_that_made_the_data_is_found() -> None:
    confidence, right, groups = too_sure()
    curve = fit_curve(confidence, right, groups)
    assert curve is not None
    assert curve["slope"] == pytest.approx(0.5, abs=0.04)
    assert curve["intercept"] == pytest.approx(-1, abs=0.15)
    assert curve["ece_before"] > 0.2
    assert curve["ece_after"] < 0.03
    assert (curve["n"], curve["right"]) == (4000, sum(right))


def test_order_and_what_can_be_accepted_stay() -> None:
    confidence, right, groups = too_sure(500)
    curve = fit_curve(confidence, right, groups)
    after = calibrated(confidence, curve)
    assert np.array_equal(np.argsort(confidence, kind="stable"), np.argsort(after, kind="stable"))
    before, now = (confidence_metrics(values, right) for values in (confidence, after))
    assert before["auroc_failure"] == now["auroc_failure"]
    for rate in before["accepted"]:
        assert before["accepted"][rate]["share"] == now["accepted"][rate]["share"]
    assert now["ece"] < before["ece"] / 3


@pytest.mark.parametrize(("right", "low", "high"), [([True] * 20, 0.9, 1.0), ([False] * 20, 0.0, 0.1)])
def test_all_right_or_all_wrong_is_not_taken_for_certainty(right: list[bool], low: float, high: float) -> None:
    curve = fit_curve([0.5, 0.999] * 10, right, list(range(20)))
    for value in calibrated([0.5, 0.999], curve):
        assert low < value < high


def test_confidences_that_point_the_wrong_way_become_the_share_of_right_ones() -> None:
    curve = fit_curve([0.9] * 50 + [0.1] * 50, [False] * 50 + [True] * 50, list(range(100)))
    assert curve is not None
    assert curve["slope"] == 0
    assert calibrated(0.99, curve) == calibrated(0.01, curve) == pytest.approx(0.5)


def test_perfectly_told_apart_values_give_a_finite_curve() -> None:
    curve = fit_curve([0.99] * 30 + [0.01] * 30, [True] * 30 + [False] * 30, list(range(60)))
    assert curve is not None
    assert calibrated(0.99, curve) > 0.9
    assert calibrated(0.01, curve) < 0.1
    assert np.isfinite([curve["slope"], curve["intercept"]]).all()


def test_without_a_curve_or_fields_nothing_changes() -> None:
    tree = {"a": [0.5, {"b": 0.25}]}
    assert calibrated(tree, None) == tree
    assert fit_curve([], [], []) is None
    assert confidence_metrics([], []) == {"n": 0}
    assert curve_of({}, "fields") is None
    assert curve_of({"confidence": {"fields": {"slope": 1, "intercept": 0}}}, "documents") is None


def test_one_document_alone_can_be_fitted() -> None:
    curve = fit_curve([0.9, 0.8], [True, False], [0, 0])
    assert curve is not None
    assert curve["ece_after"] == curve["ece_before"]


def test_a_broken_card_is_refused() -> None:
    for broken in ({"slope": "1", "intercept": 0}, {"slope": 1}, 3):
        with pytest.raises(ModelError, match="no slope and intercept"):
            curve_of({"confidence": {"fields": broken}}, "fields")


def test_values_count_as_the_field_metric_counts_them() -> None:
    fields = {"a": "1", "menu": [{"b": "x"}, {"b": "x"}, {"b": "y"}], "empty": "", "c": ["p", "q "]}
    sure = {"a": 0.1, "menu": [{"b": 0.2}, {"b": 0.3}, {"b": 0.4}], "empty": 0.5, "c": [0.6, 0.7]}
    truth = {"a": "2", "menu": [{"b": "y"}, {"b": "x"}], "c": ["q", "r"]}
    found = marks(fields, sure, truth)
    assert found == [(0.1, False), (0.2, True), (0.3, False), (0.4, True), (0.6, False), (0.7, True)]
    scores = field_scores([fields], [truth])
    assert sum(right for _, right in found) / len(found) == pytest.approx(scores.precision)


def test_what_may_be_accepted_unseen() -> None:
    sure, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    assert accepted(sure, right, 0.01) == {"share": 0.5, "above": 0.8}
    assert accepted(sure, right, 0.25) == {"share": 1.0, "above": 0.6}
    assert accepted(sure, ~right, 0.01) == {"share": 0.0, "above": None}


def test_groups_of_the_reliability_plot_hold_everything_once() -> None:
    sure, right = np.linspace(0, 1, 25), np.arange(25) % 2 == 0
    groups = reliability(sure, right)
    assert len(groups) == 10
    assert sum(group[2] for group in groups) == 25
    assert sum(group[1] * group[2] for group in groups) == pytest.approx(13)
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
