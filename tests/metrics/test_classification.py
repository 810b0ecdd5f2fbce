from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_auroc, multiclass_calibration_error, multiclass_f1_score

from docstill.metrics.classification import (
    augrc,
    aurc,
    auroc,
    classification_metrics,
    coverage_at_risk,
    ece,
    ece_equal_mass,
    ece_floor,
    macro_f1,
    oracle_aurc,
    per_class_accuracy,
    softmax,
)

KEYS = {
    "accuracy", "macro_f1", "nll", "brier", "ece", "ece_equal_mass", "ece_floor", "aurc", "e_aurc", "augrc", "auroc_failure", "coverage_at_5_risk",
}  # fmt: skip


def answers(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is too sure of itself, and labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes)) * 2
    labels = np.array([rng.choice(classes, p=row) for row in softmax(logits)])
    return softmax(logits * 1.7), labels


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (50, 2), (500, 9), (3000, 16)])
def test_figures_agree_with_torch_and_torchmetrics(n: int, classes: int) -> None:
    probabilities, labels = answers(n, classes)
    figures = classification_metrics(probabilities, labels)
    p, y = torch.from_numpy(probabilities), torch.from_numpy(labels)
    assert set(figures) == KEYS
    assert all(type(value) is float and np.isfinite(value) for value in figures.values())
    assert figures["accuracy"] == pytest.approx((p.argmax(1) == y).double().mean().item())
    assert figures["nll"] == pytest.approx(torch.nn.functional.nll_loss(p.log(), y).item())
    assert figures["brier"] == pytest.approx(((p - torch.nn.functional.one_hot(y, classes)) ** 2).sum(1).mean().item())
    wanted = multiclass_calibration_error(p, y, num_classes=classes, n_bins=15, norm="l1").item()
    assert figures["ece"] == pytest.approx(wanted, abs=1e-6)
    if n > 1:
        wanted = binary_auroc(p.max(1).values, (p.argmax(1) == y).int()).item()
        assert figures["auroc_failure"] == pytest.approx(wanted, abs=1e-6)
    if n > 100:  # all classes occur
        assert figures["macro_f1"] == pytest.approx(
            multiclass_f1_score(p, y, num_classes=classes, average="macro").item(), abs=1e-6
        )


def test_macro_f1_is_over_the_classes_that_occur() -> None:
    # class 0: F1 2/3; class 1: 0, wanted only; class 2: 0, given only; class 3: nowhere
    assert macro_f1(np.array([0, 0, 2]), np.array([0, 1, 0])) == pytest.approx((2 * 1 / 4 + 0 + 0) / 3)


def test_nll_of_an_impossible_answer_is_finite() -> None:
    assert classification_metrics(np.array([[1.0, 0.0]]), np.array([1]))["nll"] == pytest.approx(-np.log(1e-12))


def test_brier_by_hand() -> None:
    assert classification_metrics(np.array([[0.7, 0.3], [0.0, 1.0]]), np.array([1, 0]))["brier"] == pytest.approx(
        (0.49 * 2 + 2) / 2
    )


def test_ece_bins_hold_their_upper_edge() -> None:
    # 0.6 is an edge: (8/15, 9/15] holds both 0.6 and 0.55, which are right and wrong.
    assert ece(np.array([0.6, 0.55]), np.array([True, False])) == pytest.approx(abs(0.5 - 0.575))
    assert ece(np.array([1.0, 1.0, 0.0]), np.array([True, False, False])) == pytest.approx(1 / 3)


def test_ece_floor_is_what_a_calibrated_model_shows() -> None:
    rng = np.random.default_rng(5)
    confidence = rng.uniform(0.3, 1.0, 1000)
    simulated = np.mean([ece(confidence, rng.random(1000) < confidence) for _ in range(300)])
    assert ece_floor(confidence) == pytest.approx(simulated, rel=0.05)
    assert 3 * ece_floor(confidence) < ece(confidence, rng.random(1000) < confidence - 0.2)
    assert ece_floor(np.tile(confidence, 16)) == pytest.approx(ece_floor(confidence) / 4, rel=0.1)
    assert ece_floor(np.ones(10)) == 0.0


def test_risk_coverage_by_hand() -> None:
    confidence, correct = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, True])
    assert aurc(confidence, correct) == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert oracle_aurc(correct) == pytest.approx((1 / 4) / 4)
    assert augrc(confidence, correct) == pytest.approx((0 + 1 + 1 + 1) / 4 / 4)
    assert auroc(confidence, correct) == pytest.approx(1 / 3)
    assert coverage_at_risk(confidence, correct, 0.05) == 1 / 4
    assert coverage_at_risk(confidence, correct, 0.25) == 1.0
    assert coverage_at_risk(confidence, ~correct, 0.05) == 0.0


def test_a_tie_is_covered_whole_or_not_at_all() -> None:
    confidence = np.array([0.9, 0.8, 0.8, 0.7])
    assert coverage_at_risk(confidence, np.array([True, True, False, True]), 0.05) == 1 / 4
    assert coverage_at_risk(confidence, np.array([True, False, True, True]), 0.05) == 1 / 4
    assert aurc(confidence, np.array([True, True, False, True])) == pytest.approx((0 + 0.5 / 2 + 1 / 3 + 1 / 4) / 4)


def test_where_all_are_right_or_all_wrong() -> None:
    confidence = np.array([0.9, 0.8, 0.8])
    for correct, risk, coverage in ((np.ones(3, bool), 0.0, 1.0), (np.zeros(3, bool), 1.0, 0.0)):
        assert aurc(confidence, correct) == oracle_aurc(correct) == risk
        assert auroc(confidence, correct) == 0.5
        assert coverage_at_risk(confidence, correct, 0.05) == coverage


OUTCOMES = st.lists(
    st.tuples(st.sampled_from([0.2, 0.4, 0.5, 0.9, 1.0]) | st.floats(0.01, 1), st.booleans()), min_size=1, max_size=40
)


@settings(deadline=None, max_examples=50)
@given(OUTCOMES)
def test_areas_keep_their_bounds_and_augrc_its_closed_form(outcomes: list[tuple[float, bool]]) -> None:
    confidence, correct = np.array([c for c, _ in outcomes]), np.array([a for _, a in outcomes])
    n, accuracy = len(outcomes), correct.mean()
    assert oracle_aurc(correct) - 1e-12 <= aurc(confidence, correct) <= 1 + 1e-12
    # Traub et al. 2024, eq. for AUGRC in terms of AUROC; the last term vanishes for many documents
    wanted = (
        (1 - auroc(confidence, correct)) * accuracy * (1 - accuracy)
        + (1 - accuracy) ** 2 / 2
        + (1 - accuracy) / (2 * n)
    )
    assert augrc(confidence, correct) == pytest.approx(wanted, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(OUTCOMES, st.randoms(use_true_random=False))
def test_the_order_of_documents_changes_nothing(outcomes: list[tuple[float, bool]], rng: object) -> None:
    shuffled = list(outcomes)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    figures = []
    for rows in (outcomes, shuffled):
        # two classes, so that the confidence is at least a half and ties stay ties
        probabilities = np.array([[0.5 + c / 2, 0.5 - c / 2] for c, _ in rows])
        figures.append(classification_metrics(probabilities, np.array([0 if right else 1 for _, right in rows])))
    assert figures[0] == pytest.approx(figures[1], abs=1e-12)


def test_an_oracle_has_no_excess_and_chance_has_the_error_rate() -> None:
    rng = np.random.default_rng(1)
    correct = rng.random(20000) < 0.8
    assert aurc(correct + rng.random(20000), correct) == pytest.approx(oracle_aurc(correct))
    assert oracle_aurc(correct) == pytest.approx(0.2 + 0.8 * np.log(0.8), abs=0.005)
    assert aurc(rng.random(20000), correct) == pytest.approx(0.2, abs=0.02)


def test_softmax_survives_large_logits() -> None:
    logits = np.array([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0]], dtype=np.float32)
    assert softmax(logits) == pytest.approx(torch.softmax(torch.from_numpy(logits).double(), 1).numpy())


def test_per_class_accuracy_leaves_out_classes_without_documents() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0]])
    assert per_class_accuracy(probabilities, np.array([0, 1, 1]), ["form", "letter", "memo"]) == {
        "form": 1.0,
        "letter": 0.5,
    }


def test_metrics_and_scoring_do_not_need_torch() -> None:
    code = (
        "import sys, docstill; docstill.score\n"
        "import docstill.metrics.classification, docstill.metrics.fields, docstill.metrics.reading, docstill.metrics.tree\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ece_of_equal_mass_by_hand() -> None:
    """15 documents, one a bin: the mean of |correct − confidence|; and ties share a bin, whatever their number."""
    confidence = np.linspace(0.5, 0.99, 15)
    correct = np.arange(15) % 2 == 0
    assert ece_equal_mass(confidence, correct) == pytest.approx(np.abs(correct - confidence).mean())
    assert ece_equal_mass(np.full(100, 0.8), np.arange(100) < 70) == pytest.approx(0.1)


def test_ece_of_equal_mass_sees_what_one_wide_bin_hides() -> None:
    """All confidences in the last bin of equal width: half too sure, half not sure enough."""
    confidence = np.repeat([0.95, 0.99], 100)
    correct = np.concatenate([np.ones(100, dtype=bool), np.arange(100) < 94])
    assert ece(confidence, correct) == pytest.approx(0.0, abs=1e-9)
    assert ece_equal_mass(confidence, correct) == pytest.approx(0.05)
