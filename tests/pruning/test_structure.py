"""Structural pruning: what went did nothing, so nothing changes; the rest is an ordinary, smaller transformers model."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from docstill.errors import ModelError, UserError
from docstill.models.blocks import blocks_of
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.models.size import count_parameters
from docstill.pruning.channels import prune_channels
from docstill.pruning.depth import block_influence, evenly, prune_depth
from docstill.pruning.ffn import pair_of, prune_ffn
from docstill.pruning.magnitude import magnitude_masks
from docstill.pruning.masks import apply_masks
from docstill.pruning.pattern import pattern_masks
from kie_tiny import tiny_donut

SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit-tiny", {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2}),
    "beit": (
        "dit-base",
        {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2},
    ),
    "swin": ("swin-tiny", {"embed_dim": 8, "depths": [2, 4], "num_heads": [2, 2], "window_size": 2, "mlp_ratio": 3.0}),
    "resnet": ("resnet-18", {"embedding_size": 6, "hidden_sizes": [6, 10], "depths": [3, 2]}),
    "wide stem": ("resnet-18", {"embedding_size": 8, "hidden_sizes": [6, 10], "depths": [2, 1]}),
    "bottleneck": ("resnet-50", {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2]}),
}
TRANSFORMERS, RESNETS = ("vit", "beit", "swin"), ("resnet", "wide stem", "bottleneck")


def model(name: str) -> DocumentModel:
    torch.manual_seed(0)
    size, changes = SIZES[name]
    made = new_classifier(size, changes, ["a", "b", "c"], (32, 32))
    for parameter in made.network.parameters():  # biases and norms begin at 0 and 1, where mistakes do not show
        parameter.data += 0.1 * torch.randn_like(parameter)
    return made


def pages(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def logits(network: Any) -> Tensor:
    with torch.no_grad():
        answer: Tensor = network(pixel_values=pages()).logits
    return answer


def _look(network: nn.Module) -> None:
    logits(network)


def empty(network: nn.Module, block: str) -> None:
    """Makes a transformer block hand on what it is given."""
    for name, module in network.get_submodule(block).named_modules():
        if name.endswith(("o_proj", "fc2")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_blocks_that_do_nothing_are_found_and_missed_by_nobody(name: str) -> None:
    network = model(name).network
    # in a network of stages one of an even and one of an odd place, so that the windows of the others stay as they were
    idle = [block.path for block in blocks_of(network)][2:4] if name == "swin" else [blocks_of(network)[1].path]
    for path in idle:
        empty(network, path)
    influence = block_influence(network, lambda: _look(network))
    assert sorted(influence, key=lambda path: influence[path])[: len(idle)] == idle
    assert all(influence[path] == pytest.approx(0, abs=1e-6) for path in idle)
    keep: Any = [2, 2] if name == "swin" else len(blocks_of(network)) - 1
    smaller, _, gone = prune_depth(network, {}, keep, look=lambda: _look(network))
    assert gone == idle
    assert len(blocks_of(smaller)) == len(blocks_of(network)) - len(idle)
    torch.testing.assert_close(logits(smaller), logits(network))


@pytest.mark.parametrize("name", ["resnet", "bottleneck"])
def test_residual_blocks_go_but_never_the_first_of_a_stage(name: str) -> None:
    network = model(name).network
    smaller, _, gone = prune_depth(network, {}, [1, 1], look=lambda: _look(network))
    assert all(not path.endswith("layers.0") for path in gone)
    first = f"{blocks_of(network)[0].path}.layer.0.convolution.weight"
    assert torch.equal(smaller.state_dict()[first], network.state_dict()[first])
    assert smaller.config.depths == [1, 1]


@pytest.mark.parametrize("name", TRANSFORMERS)
@pytest.mark.parametrize("by", ["activation", "magnitude"])
def test_units_that_do_nothing_go_first_and_change_nothing(name: str, by: str) -> None:
    network = model(name).network
    for block in blocks_of(network):
        second = pair_of(network, block.path)[1][1]
        second.weight.data[:, ::2] = 0  # every other unit is not listened to
    smaller, _ = prune_ffn(network, {}, 0.5, look=(lambda: _look(network)) if by == "activation" else None)
    assert count_parameters(smaller).total < count_parameters(network).total
    torch.testing.assert_close(logits(smaller), logits(network))


def test_a_unit_that_is_always_the_same_is_folded_into_the_bias() -> None:
    network = model("vit").network
    for block in blocks_of(network):
        (_, first), (_, second) = pair_of(network, block.path)
        first.weight.data[:12] = 0  # says its bias alone, whatever the page
        first.bias.data[:12] = 2.0
        second.weight.data[:, :12] *= 10  # large, so that magnitude would keep it
    smaller, _ = prune_ffn(network, {}, 0.5, look=lambda: _look(network))
    torch.testing.assert_close(logits(smaller), logits(network), atol=1e-4, rtol=1e-4)
    by_magnitude, _ = prune_ffn(network, {}, 0.5)
    assert (logits(by_magnitude) - logits(network)).abs().max() > 0.01


@pytest.mark.parametrize("name", RESNETS)
def test_channels_that_do_nothing_go_and_change_nothing(name: str) -> None:
    network = model(name).network.eval()
    config, half = network.config, {}
    inner = 4 if config.layer_type == "bottleneck" else 1
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):  # the second half of every layer's channels says nothing
            width = module.out_channels
            norm = network.get_submodule(path.replace("convolution", "normalization"))
            half[path] = width // 2
            for tensor in (module.weight, norm.weight, norm.bias):
                tensor.data[width // 2 :] = 0
    smaller, _ = prune_channels(network, {}, 0.5)
    assert smaller.config.hidden_sizes == [size // 2 for size in config.hidden_sizes]
    assert smaller.config.embedding_size == config.embedding_size // 2
    assert all(
        module.out_channels == half[path] for path, module in smaller.named_modules() if isinstance(module, nn.Conv2d)
    )
    assert all(size % inner == 0 for size in smaller.config.hidden_sizes)
    torch.testing.assert_close(logits(smaller), logits(network))


PRUNED: dict[str, Callable[[Any], Any]] = {
    "depth": lambda network: prune_depth(network, {}, 0.5)[0],
    "ffn": lambda network: prune_ffn(network, {}, 0.5)[0],
}

ALONE = """
import sys
sys.modules["docstill"] = None  # an import of it would fail
import torch
from transformers import AutoModelForImageClassification, DonutProcessor, VisionEncoderDecoderModel
for folder in sys.argv[1:]:
    kind = VisionEncoderDecoderModel if "donut" in folder else AutoModelForImageClassification
    network, info = kind.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), (folder, info)
    if "donut" in folder:
        processor = DonutProcessor.from_pretrained(folder)
        ids = network.generate(pixel_values=torch.ones(1, 3, 160, 160), max_length=8)
        processor.tokenizer.batch_decode(ids)
    else:
        network(pixel_values=torch.ones(1, 3, 32, 32))
"""


def test_plain_transformers_loads_them_where_docstill_is_not(tmp_path: Path) -> None:
    for method, prune in PRUNED.items():
        for name in ("vit", "beit", "swin"):
            made = model(name)
            made.network = prune(made.network)
            made.save(tmp_path / f"{name}-{method}")
        donut = tiny_donut(changes={"encoder": {"depths": [2, 2, 2, 2]}, "decoder": {"decoder_layers": 2}})
        donut.network = prune(donut.network)
        donut.save(tmp_path / f"donut-{method}")
    made = model("resnet")
    made.network, _ = prune_channels(made.network, {}, 0.5)
    made.save(tmp_path / "resnet-channels")
    folders = [str(folder) for folder in tmp_path.iterdir()]
    done = subprocess.run([sys.executable, "-c", ALONE, *folders], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_donut_writes_what_it_wrote_when_an_idle_decoder_layer_goes() -> None:
    donut = tiny_donut(changes={"decoder": {"decoder_layers": 3}})
    last = "decoder.model.decoder.layers.1"
    for name, module in donut.network.get_submodule(last).named_modules():
        if name.endswith(("out_proj", "fc2")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    images = torch.randn(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    smaller, _, gone = prune_depth(donut.network, {}, 2, of="decoder")
    assert gone == [last]
    assert smaller.config.encoder.depths == donut.network.config.encoder.depths
    settings: dict[str, Any] = {"pixel_values": images, "max_length": 12, "do_sample": False}
    assert torch.equal(smaller.generate(**settings), donut.network.generate(**settings))


def test_masks_follow_their_weights() -> None:
    network = model("vit").network
    masks = magnitude_masks(network, 0.6)
    apply_masks(network, masks)
    shallow, left, _ = prune_depth(network, masks, 2)
    narrow, left = prune_ffn(shallow, left, 0.5)
    parameters = dict(narrow.named_parameters())
    assert all(torch.equal(parameters[name] != 0, mask) for name, mask in left.items())
    assert torch.equal(left["vit.layers.1.attention.q_proj.weight"], masks["vit.layers.3.attention.q_proj.weight"])
    assert left["vit.layers.0.mlp.fc1.weight"].shape == (12, 16)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_shifted_windows_stay_at_odd_places(keep: int) -> None:
    network = model("swin").network
    before = network.state_dict()
    smaller, _, _ = prune_depth(network, {}, [2, keep])
    stage = [block.path for block in blocks_of(smaller) if block.stage == 1]
    for place, path in enumerate(stage):
        weight = smaller.state_dict()[f"{path}.mlp.fc1.weight"]
        came_from = [
            index
            for index in range(4)
            if torch.equal(before[f"swin.encoder.layers.1.blocks.{index}.mlp.fc1.weight"], weight)
        ]
        assert [index % 2 for index in came_from] == [place % 2]


def test_evenly() -> None:
    assert [evenly(12, 2), evenly(12, 4), evenly(3, 3), evenly(5, 1)] == [[0, 11], [0, 4, 7, 11], [0, 1, 2], [0]]


def test_the_old_network_is_not_changed() -> None:
    network = model("swin").network
    before = copy.deepcopy(network.state_dict())
    prune_depth(network, {}, [1, 2], look=lambda: _look(network))
    prune_ffn(network, {}, 0.3, look=lambda: _look(network))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert network.config.depths == [2, 4]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_what_does_not_fit_is_refused_in_a_sentence() -> None:
    vit, swin, resnet = (model(name).network for name in ("vit", "swin", "resnet"))
    with pytest.raises(UserError, match=r"the encoder has 4 blocks; give a share such as 0.5, or how many"):
        prune_depth(vit, {}, 5)
    with pytest.raises(UserError, match=r"the encoder has 2 \+ 4 blocks; .* a number for each stage"):
        prune_depth(swin, {}, 3)
    with pytest.raises(UserError, match="leaves every block in place"):
        prune_depth(vit, {}, 4)
    with pytest.raises(UserError, match="has no decoder; give of: all, encoder"):
        prune_depth(vit, {}, 2, of="decoder")
    with pytest.raises(ModelError, match="ffn pruning is for transformers, use channels for a ResNet"):
        prune_ffn(resnet, {}, 0.5)
    with pytest.raises(ModelError, match="channel pruning is for a resnet, this is a vit"):
        prune_channels(vit, {}, 0.5)
    mobile = new_classifier("mobilenet-v2", {"depth_multiplier": 0.35}, ["a", "b"], (32, 32)).network
    with pytest.raises(ModelError, match="it can be changed for vit"):
        prune_depth(mobile, {}, 0.5)


def test_pattern_keeps_the_largest_of_every_group() -> None:
    layer = nn.Sequential(nn.Linear(10, 3), nn.Conv2d(8, 2, 3), nn.Linear(3, 2))
    masks = pattern_masks(layer, 2, 4)
    assert sorted(masks) == ["0.weight", "1.weight"]  # the last has fewer than 4 inputs
    for start in (0, 4):
        group, kept = layer[0].weight.abs()[:, start : start + 4], masks["0.weight"][:, start : start + 4]
        assert kept.sum(1).tolist() == [2, 2, 2]
        least = torch.where(kept, group, torch.inf).min(1).values
        assert (torch.where(kept, -torch.inf, group).max(1).values <= least).all()
    assert masks["0.weight"][:, 8:].all()
    assert masks["1.weight"].unflatten(1, (2, 4)).sum(2).unique().tolist() == [2]


def test_pattern_takes_earlier_zeros_first_and_brings_none_back() -> None:
    layer = nn.Sequential(nn.Linear(8, 2))
    earlier = {"0.weight": torch.ones(2, 8, dtype=torch.bool)}
    earlier["0.weight"][0, :3] = False
    mask = pattern_masks(layer, 2, 4, within=earlier)["0.weight"]
    assert not mask[0, :3].any()
    assert mask[0, 3]
    assert mask[0, 4:].sum() == 2
    with pytest.raises(ModelError, match="no selected layer has 16 inputs"):
        pattern_masks(layer, 2, 16)
