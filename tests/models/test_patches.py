"""Patches: tokens come back to the place on the page that they stand for, in every kind of network that is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageClassification

from docstill.errors import ModelError
from docstill.models.patches import IN_FRONT, Patches, laid_out, patches_of
from docstill.models.taps import tapped

SMALL = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 8}
SHIFTED = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2, "patch_size": 4}
HEIGHT, WIDTH = 24, 40
CHANGES: dict[str, dict[str, Any]] = {
    **{kind: {**SMALL, "image_size": [HEIGHT, WIDTH]} for kind in IN_FRONT},
    "deit": {**SMALL, "image_size": [HEIGHT, WIDTH], "architectures": ["DeiTForImageClassification"]},
    # These stretch their positions to the page, so that its size is not the one in their configuration.
    "dinov2": {**SMALL, "image_size": 40},
    "dinov2_with_registers": {**SMALL, "image_size": 40, "num_register_tokens": 3},
    "swin": {**SHIFTED, "image_size": [HEIGHT, WIDTH]},
    "swinv2": {**SHIFTED, "image_size": [HEIGHT, WIDTH]},
}


def network(kind: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForImageClassification.from_config(AutoConfig.for_model(kind, **CHANGES[kind])).eval()


def tapped_maps(net: Any, path: str, pixels: Tensor) -> Tensor:
    with torch.no_grad(), tapped(net, [path]) as features:
        net(pixel_values=pixels)
    return laid_out(features[path], patches_of(net.config, *pixels.shape[2:]), path)


@pytest.mark.parametrize("kind", IN_FRONT)
def test_a_patch_of_the_page_that_changes_changes_its_place_on_the_map(kind: str) -> None:
    net = network(kind)
    side = net.config.patch_size
    rows, columns = HEIGHT // side, WIDTH // side
    before = torch.zeros(1, 3, HEIGHT, WIDTH)
    for row, column in ((0, 0), (0, columns - 1), (rows - 1, 1), (1, columns - 2)):
        after = before.clone()
        after[:, :, row * side : (row + 1) * side, column * side : (column + 1) * side] = 1
        path = f"{net.base_model_prefix}.embeddings"
        gap = (tapped_maps(net, path, after) - tapped_maps(net, path, before)).abs().amax((0, 1))
        assert gap.shape == (rows, columns)
        assert (gap > 1e-6).nonzero().tolist() == [[row, column]]


@pytest.mark.parametrize("kind", ["swin", "swinv2"])
@pytest.mark.parametrize("size", [(24, 40), (20, 36), (22, 38)])
def test_stages_that_merge_patches_are_laid_out_as_the_network_does_it(kind: str, size: tuple[int, int]) -> None:
    """Also where rows and columns are odd, and where the page is no whole number of patches."""
    torch.manual_seed(0)
    changes = {**CHANGES[kind], "image_size": size}
    net = AutoModelForImageClassification.from_config(AutoConfig.for_model(kind, **changes)).eval()
    pixels = torch.randn(2, 3, *size)
    with torch.no_grad():
        own = net(pixel_values=pixels, output_hidden_states=True).reshaped_hidden_states
    for place, path in ((0, "embeddings"), (1, "encoder.layers.0")):
        assert torch.allclose(tapped_maps(net, f"{kind}.{path}", pixels), own[place], atol=1e-6)


def test_what_is_tapped_before_the_tokens_in_front_are_there() -> None:
    net = network("vit")
    maps = tapped_maps(net, "vit.embeddings.patch_embeddings", torch.randn(2, 3, HEIGHT, WIDTH))
    assert maps.shape == (2, 8, 3, 5)


def test_patches_need_not_be_square() -> None:
    config = AutoConfig.for_model("vit", patch_size=(8, 4))
    assert patches_of(config, 32, 32) == Patches(((4, 8),), 1)


def test_tokens_that_cannot_be_laid_out_are_refused() -> None:
    assert patches_of(AutoConfig.for_model("hiera"), 32, 32) is None  # its patches are not in rows
    with pytest.raises(
        ModelError, match=r"x gives \(2, 16, 4\), of which it is not known where on the page .* swin, swinv2, vit"
    ):
        laid_out(torch.zeros(2, 16, 4), None, "x")
    with pytest.raises(ModelError, match=r"maps .* are needed, and x gives \(2, 4\)"):
        laid_out(torch.zeros(2, 4), Patches(((2, 2),)), "x")
    with pytest.raises(
        ModelError, match=r"x gives 18 tokens, which fill no grid of 4 × 4 patches with or without the 1 in front"
    ):
        laid_out(torch.zeros(2, 18, 4), Patches(((4, 4),), 1), "x")
