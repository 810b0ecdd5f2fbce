"""What the encoder sees in fewer steps is what it sees by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DonutSwinConfig, DonutSwinModel

from docstill.decoding.looking import seen

pytestmark = pytest.mark.usefixtures("one_thread")
USUAL = {"embed_dim": 16, "num_heads": [2, 2], "window_size": 4, "patch_size": 4}


def model_of(**changes: Any) -> Any:
    """Random weights, with which windows and what is near matter."""
    torch.manual_seed(0)
    encoder = DonutSwinModel(DonutSwinConfig(**USUAL | changes)).eval()
    for name, weight in encoder.named_parameters():
        with torch.no_grad():
            weight.normal_(std=1.0 if "relative_position" in name or "norm" in name else 0.2)
    return SimpleNamespace(encoder=encoder)


def both(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        return seen(network, pixels), network.encoder(pixels).last_hidden_state


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"depths": [2, 3]}, (64, 96)),  # shifted in both stages
        ({"depths": [1, 2, 1], "num_heads": [1, 2, 2]}, (64, 64)),  # the last stage is one window
        ({"depths": [2, 2], "window_size": 5}, (80, 160)),  # a window of odd sides
        ({"depths": [2, 2], "qkv_bias": False, "hidden_act": "relu"}, (64, 128)),
    ],
)
@pytest.mark.parametrize("pages", [1, 3])
def test_the_same_numbers(changes: dict[str, Any], size: tuple[int, int], pages: int) -> None:
    found, expected = both(model_of(**changes, image_size=list(size)), torch.rand(pages, 3, *size))
    assert found.shape == expected.shape
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "size", "left"),
    [
        ({}, (64, 96), 0),  # 16 × 24 patches, then 8 × 12
        ({}, (62, 64), 0),  # patches pad the page
        ({}, (48, 64), 3),  # 12 × 16, then 6 × 8
        ({}, (64, 60), 2),  # 16 × 15, then, padded, 8 × 8
        ({"window_size": 5}, (60, 100), 3),  # 15 × 25, then, padded, 8 × 13
        ({}, (64, 72), 5),  # 16 × 18, then 8 × 9
        ({"depths": [2, 1, 2], "num_heads": [1, 2, 2]}, (96, 64), 2),  # 24 × 16, 12 × 8, then 6 × 4: one window high
    ],
)
@pytest.mark.parametrize("pages", [1, 2])
def test_only_stages_that_windows_do_not_fill_are_left_to_the_network(
    changes: dict[str, Any], size: tuple[int, int], left: int, pages: int
) -> None:
    model = model_of(**{"depths": [2, 3]} | changes)
    pixels, asked = torch.rand(pages, 3, *size), []
    for stage in model.encoder.encoder.layers:
        for block in stage.blocks:
            block.register_forward_pre_hook(lambda block, given: asked.append(block))
    with torch.inference_mode():
        found = seen(model, pixels)
    assert len(asked) == left
    expected = model.encoder(pixels).last_hidden_state
    assert found.shape == expected.shape
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    if left == 5:
        assert torch.equal(found, expected)


def test_pages_of_several_sizes() -> None:
    """What is kept for one size is not taken for another."""
    model = model_of(depths=[2, 2])
    for size in ((64, 64), (64, 128), (128, 64), (64, 64)):
        found, expected = both(model, torch.rand(1, 3, *size))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_gradients_pass_after_a_look_without_them() -> None:
    model, pixels = model_of(depths=[2, 2]), torch.rand(1, 3, 64, 64)
    both(model, pixels)
    seen(model, pixels).sum().backward()
    assert model.encoder.embeddings.patch_embeddings.projection.weight.grad is not None
