"""Figures of a model: operations of a page, or of a page and a token where answers are written token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import docstill
import kie_tiny
import tiny
from docstill.decoding.steps import Steps
from docstill.errors import UserError
from docstill.measure import flops
from docstill.models.classifier import new_classifier
from docstill.models.size import count_flops
from docstill.tasks import task_named

PAGE = Image.new("RGB", (64, 64), "white")


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("teach", "takes a list of models, teach was given alone"),
        (Path("teach"), "takes a list of models, teach was given alone"),
        ([], "no models were given"),
        (["a/model", "b/../a/model/"], "was given twice"),
    ],
)
def test_models_to_be_measured_are_a_list_of_different_ones(models: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        docstill.benchmark(models)


def test_a_classifier_has_operations_a_page() -> None:
    model = new_classifier("resnet-10-quarter", {}, tiny.KINDS, (32, 32))
    network = model.network
    with torch.inference_mode():
        alone = count_flops(lambda: network(pixel_values=torch.zeros(1, 3, 32, 32)))
    assert flops(task_named("classification"), model, PAGE) == alone


def test_a_donut_has_operations_of_its_encoder_and_of_a_token() -> None:
    model = kie_tiny.tiny_donut()
    counted = flops(task_named("kie"), model, PAGE)
    assert isinstance(counted, dict)
    assert set(counted) == {"encoder", "per_token"}
    width, height = task_named("kie").page_size(model)
    with torch.inference_mode():
        pixels = torch.zeros(1, 3, height, width)
        encoder = count_flops(lambda: Steps(model.network, model.network.encoder(pixels).last_hidden_state))
    assert counted["encoder"] == encoder
    decoder = model.network.config.decoder
    head = 2 * decoder.d_model * decoder.vocab_size
    assert head < counted["per_token"] < encoder, "a token costs its logits at least, and the page is not encoded again"
