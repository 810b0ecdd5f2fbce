"""Batch norm in training: statistics over batches, whatever momentum a network came with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import docstill
import tiny
from docstill.models.batch_norm import average_batches
from docstill.models.classifier import new_classifier


def momenta(network: nn.Module) -> set[float | None]:
    return {module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)}


@pytest.mark.parametrize("size", ["mobilenet-v2", "efficientnet-b0"])
def test_statistics_are_not_those_of_the_last_batch(size: str) -> None:
    network = new_classifier(size, {}, ["a", "b"], (32, 32)).network
    assert max(momenta(network)) > 0.5, "transformers has mended it; take docstill.models.batch_norm out"
    average_batches(network)
    assert momenta(network) == {0.1}


def test_other_momenta_stay() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, momentum=0.03), nn.BatchNorm2d(2, momentum=None))
    average_batches(network)
    assert [module.momentum for module in network] == [0.1, 0.03, None]


def test_training_does_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.class_folders(tmp_path / "data")
    seen = []
    monkeypatch.setattr("docstill.engine.average_batches", lambda network: seen.append(momenta(network)))
    new = docstill.NewModel(new="mobilenet-v2", image_size=(32, 32))
    docstill.train("classification", new, data=data, out=tmp_path / "run", epochs=0.5, batch_size=4)
    assert seen == [{0.997}]


def test_a_mobilenet_from_scratch_drops_a_fifth() -> None:
    """With transformers' default four fifths of what the classifier sees are dropped."""
    network = new_classifier("mobilenet-v2", {}, ["a", "b"], (32, 32)).network
    assert network.dropout.p == 0.2
    assert torch.isfinite(network(torch.zeros(1, 3, 32, 32)).logits).all()
