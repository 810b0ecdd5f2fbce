"""Unknown pages: by hand, and against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import binary_auroc

from docstill.metrics.ood import detection, energy


def test_by_hand() -> None:
    found = detection(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.65, 0.5]))
    assert found["auroc"] == pytest.approx(7 / 8)
    assert found["fpr95"] == pytest.approx(1 / 2)  # all four known must be accepted: threshold 0.6


def test_the_threshold_accepts_at_least_95_per_cent() -> None:
    known = np.arange(100.0)
    assert detection(known, np.array([4.0, 5.0, 6.0]))["fpr95"] == pytest.approx(2 / 3)  # 5 … 99 are accepted


def test_auroc_agrees_with_torchmetrics() -> None:
    source = np.random.default_rng(0)
    known, unknown = source.normal(1, 1, 300).round(1), source.normal(0, 1, 200).round(1)
    scores, truth = np.concatenate([known, unknown]), np.repeat([1, 0], [300, 200])
    span = scores.max() - scores.min()
    expected = binary_auroc(torch.tensor((scores - scores.min()) / span), torch.tensor(truth)).item()
    assert detection(known, unknown)["auroc"] == pytest.approx(expected, abs=1e-6)


def test_energy_survives_large_logits() -> None:
    logits = np.array([[1e4, 0.0], [0.0, 0.0]])
    assert energy(logits) == pytest.approx([1e4, np.log(2)])
