"""Convolutions in the place of the last layers: what they look at is what each kind of network hands its own classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification

from docstill.models.conv_head import give_conv_head, last_map, with_conv_head
from docstill.models.head import head_of

SIDES = {"mobilenet_v1": 64, "mobilenet_v2": 64, "efficientnet": 64, "convnext": 8, "convnextv2": 8}
"""Of the pages, in pixels, where it is not 16: deep networks halve their maps five times."""
TOKENS = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
STAGES = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1], "num_channels": 3}
MOBILE = {"depth_multiplier": 0.1, "min_depth": 4, "depth_divisible_by": 4}
SHIFTED = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2, "patch_size": 4}
KINDS: dict[str, dict[str, Any]] = {
    "resnet": {**STAGES, "layer_type": "basic"},
    "regnet": {**STAGES, "groups_width": 4},
    "mobilenet_v1": MOBILE,
    "mobilenet_v2": MOBILE,
    "efficientnet": {"width_coefficient": 0.1, "depth_coefficient": 0.1, "hidden_dim": 128},
    "convnext": {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2},
    "convnextv2": {"hidden_sizes": [4, 8], "depths": [1, 1], "num_stages": 2},
    "vit": TOKENS,
    "vit_msn": TOKENS,
    "beit": TOKENS,
    "data2vec-vision": TOKENS,
    "deit": {**TOKENS, "architectures": ["DeiTForImageClassification"]},
    "dinov2": TOKENS,
    "dinov2_with_registers": {**TOKENS, "num_register_tokens": 3},
    "ijepa": TOKENS,
    "swin": SHIFTED,
    "swinv2": SHIFTED,
}
POOLED_LAST = ("resnet", "regnet", "mobilenet_v1", "mobilenet_v2", "efficientnet", "ijepa", "swin", "swinv2")
"""Their classifier looks at the mean of the last map as it is."""
NORMED_LAST = ("convnext", "convnextv2", "beit", "data2vec-vision")
"""Theirs looks at a norm of the mean: of a map of one position that is the mean of the norm."""
PICKED = ("vit", "vit_msn", "deit", "dinov2", "dinov2_with_registers")
"""Theirs looks at the CLS token behind the last norm."""


def network(kind: str, patch: int) -> Any:
    torch.manual_seed(0)
    size = {"image_size": SIDES.get(kind, 16)} if kind != "resnet" else {}
    cut = {"patch_size": patch} if KINDS[kind] is not SHIFTED and "num_hidden_layers" in KINDS[kind] else {}
    config = AutoConfig.for_model(kind, **{**size, **cut, **KINDS[kind]}, num_labels=3)
    made = AutoModelForImageClassification.from_config(config).eval()
    for name, parameter in made.named_parameters():  # norms that do something
        if "norm" in name.lower():
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return made


def pages(kind: str) -> torch.Tensor:
    side = SIDES.get(kind, 16)
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [*POOLED_LAST, *NORMED_LAST])
def test_the_last_map_is_what_the_classifier_sees_the_mean_of(kind: str) -> None:
    net, seen = network(kind, 16 if kind in NORMED_LAST else 8), []
    pixels = pages(kind)
    head_of(net).register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        net(pixel_values=pixels)
        maps = last_map(net, pixels)
    assert maps.shape[2:] == ((1, 1) if kind in NORMED_LAST else (2, 2))
    assert torch.allclose(maps.mean((2, 3)), seen[0], atol=1e-5)


@pytest.mark.parametrize("kind", PICKED)
def test_patches_go_through_the_norm_that_the_picked_token_goes_through(kind: str) -> None:
    net, pixels = network(kind, 8), pages(kind)
    layers = next(module for name, module in net.named_modules() if name.endswith(("layers", "layer")))
    seen: list[Any] = []
    layers[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        maps = last_map(net, pixels)
        tokens = net.base_model.layernorm(seen[0] if isinstance(seen[0], torch.Tensor) else seen[0][0])
    front = {"deit": 2, "dinov2_with_registers": 4}.get(kind, 1)
    assert maps.shape == (2, 8, 2, 2)
    assert torch.allclose(maps.flatten(2).transpose(1, 2), tokens[:, front:], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_of_every_kind_reloads_with_its_convolutions(kind: str, tmp_path: Path) -> None:
    net, pixels = network(kind, 8), pages(kind)
    usual = type(net)
    give_conv_head(net, 10)
    with torch.no_grad():
        before = net(pixel_values=pixels).logits
    assert head_of(net).in_features == 5
    net.save_pretrained(tmp_path)
    again = with_conv_head(usual).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(again(pixel_values=pixels).logits, before, atol=1e-6)


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_network_with_convolutions_can_be_exported(kind: str) -> None:
    net, pixels = network(kind, 8), pages(kind)
    give_conv_head(net, 10)
    exported: Any = torch.export.export(net.eval(), (), {"pixel_values": pixels}).module()
    with torch.no_grad():
        assert torch.allclose(exported(pixel_values=pixels).logits, net(pixel_values=pixels).logits, atol=1e-5)
