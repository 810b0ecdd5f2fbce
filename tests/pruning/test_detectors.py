"""Detectors made smaller: shallower and narrower decoders, another backbone, smaller pages; all load without docstill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoImageProcessor, AutoModelForObjectDetection, DetrImageProcessor, RTDetrImageProcessor

import docstill
from docstill.errors import ModelError, UserError
from docstill.models.detection import detect
from docstill.models.detector import backbones, load_detector, new_detector
from docstill.models.io import DocumentModel
from docstill.models.size import count_parameters
from docstill.prune_settings import BackbonePrune, ChannelPrune, DepthPrune, FfnPrune, PruneStage, ResolutionPrune
from docstill.prune_stage import prune
from docstill.pruning.backbone import swap_backbone
from docstill.pruning.channels import prune_channels
from docstill.pruning.depth import prune_depth
from docstill.pruning.ffn import prune_ffn
from docstill.tasks.layout import Layout
from layout_tiny import KINDS, TINY_D_FINE, TINY_DETR, TINY_RCNN, coco_folder

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")

DETRS = pytest.mark.parametrize("kind", [TINY_DETR, TINY_D_FINE], ids=["rt-detr", "d-fine"])


def made(kind: dict[str, Any], **changes: Any) -> DocumentModel:
    torch.manual_seed(0)
    height, width = kind["image_size"]
    return new_detector(kind["new"], {**kind["config"], **changes}, KINDS, (height, width))


def pages_() -> torch.Tensor:
    return torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


@DETRS
def test_a_shallower_decoder_keeps_its_first_and_last_layer_with_their_heads(kind: dict[str, Any]) -> None:
    network = made(kind, decoder_layers=3).network
    smaller, _, gone = prune_depth(network, {}, 2)
    assert gone == ["model.decoder.layers.1"]
    assert smaller.config.decoder_layers == 2
    old, new = network.state_dict(), smaller.state_dict()
    for name in ("layers.{}.self_attn.q_proj.weight", "bbox_embed.{}.layers.0.weight", "class_embed.{}.weight"):
        there = [key for key in new if key.endswith(name.format(1)) and "decoder" in key]
        assert there
        for key in there:
            assert torch.equal(new[key], old[key.replace(f".{1}.", ".2.", 1)])
    with torch.no_grad():
        assert detect(smaller.eval(), pages_(), torch.ones(2, 4), 5)[0]["boxes"].shape == (5, 4)


@DETRS
def test_narrower_layers_of_encoder_and_decoder(kind: dict[str, Any]) -> None:
    network = made(kind).network
    smaller, _ = prune_ffn(network, {}, 0.5)
    assert (smaller.config.decoder_ffn_dim, smaller.config.encoder_ffn_dim) == (8, 8)
    only, _ = prune_ffn(network, {}, 0.5, of="decoder")
    assert (only.config.decoder_ffn_dim, only.config.encoder_ffn_dim) == (8, 16)
    assert count_parameters(smaller).total < count_parameters(only).total < count_parameters(network).total
    with torch.no_grad():
        assert torch.isfinite(detect(smaller.eval(), pages_(), torch.ones(2, 4), 5)[0]["scores"]).all()


def test_units_that_say_nothing_go_first() -> None:
    network = made(TINY_DETR).network
    with torch.no_grad():
        for layer in network.model.decoder.layers:
            layer.mlp.fc2.weight[:, 3:11] = 0
        before = detect(network, pages_(), torch.ones(2, 4), 12)
        smaller, _ = prune_ffn(network, {}, 0.5, of="decoder")
        after = detect(smaller, pages_(), torch.ones(2, 4), 12)
    assert torch.allclose(before[0]["boxes"], after[0]["boxes"], atol=1e-5)
    assert torch.allclose(before[0]["scores"], after[0]["scores"], atol=1e-5)


@DETRS
def test_by_what_passes_through(kind: dict[str, Any], tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data", train=3, validation=1)
    task, model = Layout(), made(kind, decoder_layers=3)
    pages = task.read(data / "train")
    prune(task, model, FfnPrune(method="ffn", keep=0.5, pages=2), pages)
    assert model.network.config.encoder_ffn_dim == 8
    done = prune(task, model, DepthPrune(method="depth", keep=2, by="influence", pages=2), pages)
    assert "model.decoder.layers." in done["text"]
    assert model.network.config.decoder_layers == 2
    with torch.no_grad():
        assert torch.isfinite(detect(model.network.eval(), pages_(), torch.ones(2, 4), 5)[0]["scores"]).all()


def test_another_backbone_keeps_what_lies_behind_it(tmp_path: Path) -> None:
    model = made({**TINY_RCNN, "new": "faster-rcnn-r34"})
    swapped, kept, behind = swap_backbone(model.network, "faster-rcnn-mobilenet-v2", backbones())
    assert swapped.config.backbone == "mobilenet_v2"
    heads = {
        name: value for name, value in model.network.state_dict().items() if name.startswith(("rpn.", "roi_heads."))
    }
    assert all(torch.equal(swapped.state_dict()[name], value) for name, value in heads.items())
    assert len(heads) < kept < behind, "the pyramid's first convolutions take other channels"
    again = load_detector(str(DocumentModel("layout", swapped, model.processor, list(KINDS)).save(tmp_path / "model")))
    with torch.no_grad():
        assert len(detect(again.network, pages_(), torch.ones(2, 4), 5)) == 2


def test_zeros_behind_another_backbone_stay(tmp_path: Path) -> None:
    model = made({**TINY_RCNN, "new": "faster-rcnn-r34"})
    model.save(tmp_path / "whole")
    sparse = docstill.prune(tmp_path / "whole", tmp_path / "sparse", sparsity=0.5, of="all")["model"]
    swapped = docstill.prune(sparse, tmp_path / "swapped", method="backbone", to="faster-rcnn-mobilenet-v2")["model"]
    again = load_detector(str(swapped))
    assert {name.partition(".")[0] for name in again.masks} >= {"rpn", "roi_heads"}
    assert not any(name.startswith("backbone.body.") for name in again.masks)
    weights = again.network.state_dict()
    assert all((weights[name][~mask] == 0).all() for name, mask in again.masks.items())


def test_a_detrs_backbone(tmp_path: Path) -> None:
    network = made(TINY_DETR).network
    swapped, kept, behind = swap_backbone(network, "rt-detrv2-r18", backbones())
    assert swapped.config.backbone_config.hidden_sizes == [64, 128, 256, 512]
    assert torch.equal(swapped.model.decoder.layers[0].mlp.fc1.weight, network.model.decoder.layers[0].mlp.fc1.weight)
    assert kept < behind
    convolution, norm = swapped.model.encoder_input_proj[0]
    assert norm.weight.shape == network.model.encoder_input_proj[0][1].weight.shape
    fan = convolution.weight[0].numel()  # wider than the old one: begun by what comes in, not with a deviation of 0.01
    assert convolution.weight.std().item() == pytest.approx((1 / (3 * fan)) ** 0.5, rel=0.1)
    with torch.no_grad():
        assert torch.isfinite(detect(swapped.eval(), pages_(), torch.ones(2, 4), 5)[0]["scores"]).all()


def test_a_new_backbone_learns_where_the_old_one_was_frozen() -> None:
    """Checkpoints of transformers freeze the norms of a pretrained backbone; those of a random one know nothing yet."""
    network = made(TINY_DETR, freeze_backbone_batch_norms=True).network
    assert any("Frozen" in type(module).__name__ for module in network.modules())
    swapped, _, _ = swap_backbone(network, "rt-detrv2-r18", backbones())
    assert not any("Frozen" in type(module).__name__ for module in swapped.modules())
    norms = [name for name, _ in swapped.model.backbone.named_parameters() if "normalization" in name]
    assert norms
    swapped.train()(pixel_values=pages_())
    moved = [value for name, value in swapped.state_dict().items() if "backbone" in name and "running_mean" in name]
    assert all(value.abs().max() > 0 for value in moved)
    assert network.config.freeze_backbone_batch_norms


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("layers", ["basic", "bottleneck"])
def test_channels_of_a_backbone_that_do_nothing_go_and_change_nothing(layers: str, frozen: bool) -> None:
    backbone = {
        **TINY_DETR["config"]["backbone_config"],
        "layer_type": layers,
        "embedding_size": 16,
        "hidden_sizes": [16, 32, 32, 64],
        "depths": [1, 2, 1, 1],
    }
    network = made(
        TINY_DETR,
        backbone_config=backbone,
        encoder_in_channels=[32, 32, 64],
        freeze_backbone_batch_norms=frozen,
    ).network.eval()
    inside = network.model.backbone
    for path, module in inside.named_modules():
        if isinstance(module, nn.Conv2d):  # the second half of every layer's channels says nothing
            half = module.out_channels // 2
            norm = inside.get_submodule(path.replace("convolution", "normalization"))
            norm.bias.data += 0.1 * torch.randn_like(norm.bias)  # they begin at 0, where mistakes do not show
            for tensor in (module.weight, norm.weight, norm.bias):
                tensor.data[half:] = 0
    smaller, _ = prune_channels(network, {}, 0.5)
    assert smaller.config.backbone_config.hidden_sizes == [8, 16, 16, 32]
    assert smaller.config.encoder_in_channels == [16, 16, 32]
    assert any(isinstance(module, nn.BatchNorm2d) for module in smaller.model.backbone.modules()), "they learn again"
    with torch.no_grad():
        before, after = (each(pixel_values=pages_()) for each in (network, smaller))
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after.pred_boxes, before.pred_boxes, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("new", "widths"),
    [("faster-rcnn-r18", [16, 16, 32, 32, 64]), ("faster-rcnn-r50", [16, 32, 64, 64, 128])],
    ids=["basic", "bottleneck"],
)
def test_channels_of_a_faster_rcnn_that_do_nothing_go_and_change_nothing(
    new: str, widths: list[int], tmp_path: Path
) -> None:
    model = made({**TINY_RCNN, "new": new}, widths=widths)
    network = model.network.eval()
    body = dict(network.backbone.body.named_modules())
    for path, module in body.items():
        if isinstance(module, nn.Conv2d):  # the second half of every layer's channels says nothing
            half = module.out_channels // 2
            norm = body[path.replace("conv", "bn").replace("downsample.0", "downsample.1")]
            norm.bias.data += 0.1 * torch.randn_like(norm.bias)  # they begin at 0, where mistakes do not show
            for tensor in (module.weight, norm.weight, norm.bias):
                tensor.data[half:] = 0
    regions = [torch.tensor([[4.0, 4, 40, 30], [0, 10, 60, 90]])] * 2
    with torch.no_grad():
        before = network.look(pages_(), regions)
        done = prune(Layout(), model, ChannelPrune(method="channels", keep=0.5), None)
        after = model.network.eval().look(pages_(), regions)
    assert model.network.config.widths == [width // 2 for width in widths]
    assert "50.0%" in done["text"]
    torch.testing.assert_close(after.logits, before.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after.boxes, before.boxes, atol=1e-4, rtol=1e-4)
    again = load_detector(str(model.save(tmp_path / "model"))).network
    with torch.no_grad():
        torch.testing.assert_close(again.eval().look(pages_(), regions).logits, after.logits)
    assert swap_backbone(again, "faster-rcnn-r34", backbones())[0].config.widths is None


@pytest.mark.parametrize(
    ("new", "widths"),
    [("mobilenet-v2", [8, 8, 8, 8, 8]), ("r18", [8, 8, 8]), ("r50", [8, 30, 60, 120, 240])],
    ids=["no resnet", "too few", "no multiple of 4"],
)
def test_widths_that_no_resnet_can_have(new: str, widths: list[int]) -> None:
    with pytest.raises(ModelError, match=r"widths: \[8, .* given; give five numbers"):
        made({**TINY_RCNN, "new": f"faster-rcnn-{new}"}, widths=widths)


def test_channels_of_a_backbone_that_is_no_resnet() -> None:
    with pytest.raises(
        ModelError, match="the backbone of this d_fine is a hgnet_v2; use another method, such as depth"
    ):
        prune_channels(made(TINY_D_FINE).network, {}, 0.5)
    with pytest.raises(ModelError, match="this Faster R-CNN is a mobilenet_v2; use backbone or resolution"):
        prune_channels(made({**TINY_RCNN, "new": "faster-rcnn-mobilenet-v2"}).network, {}, 0.5)


def test_backbones_that_do_not_fit() -> None:
    network = made(TINY_DETR).network
    with pytest.raises(ModelError, match="the student is a rt_detr_v2; choose one of rt-detrv2-r18"):
        swap_backbone(network, "faster-rcnn-r18", backbones())
    with pytest.raises(UserError, match="did you mean rt-detrv2-r18"):
        swap_backbone(network, "rt-detrv2-r19", backbones())


@pytest.mark.parametrize("kind", [TINY_RCNN, TINY_DETR], ids=["faster-rcnn", "rt-detr"])
def test_smaller_pages(kind: dict[str, Any], tmp_path: Path) -> None:
    task, model = Layout(), made({**kind, "image_size": [128, 96]})
    done = prune(task, model, ResolutionPrune(method="resolution", keep=0.7), None)
    assert "96 × 64 pixels instead of 128 × 96" in done["text"]
    folder = model.save(tmp_path / "model")
    again = load_detector(str(folder))
    assert task.page_size(again) == (64, 96)
    data = coco_folder(tmp_path / "data", train=1, validation=1)
    (answer,) = task.predict(again, [Image.open(data / "train" / "0.png").convert("RGB")])
    assert all(region["box"][0] + region["box"][2] <= 60.01 for region in answer["regions"])
    with pytest.raises(UserError, match="leaves pages at 96 × 64"):
        prune(task, again, ResolutionPrune(method="resolution", keep=0.99), None)


def test_anchors_shrink_with_the_pages(tmp_path: Path) -> None:
    model = made({**TINY_RCNN, "image_size": [128, 96]})
    before = model.network.config.anchor_sizes
    prune(Layout(), model, ResolutionPrune(method="resolution", keep=0.5), None)
    again = load_detector(str(model.save(tmp_path / "model"))).network
    assert again.config.anchor_sizes == [size // 2 for size in before]
    sides = [float(cell[-1, 2] - cell[-1, 0]) for cell in again.rpn.anchor_generator.cell_anchors]
    assert sides == pytest.approx([size // 2 for size in before], abs=1)  # the last ratio is a square


@pytest.mark.parametrize(
    ("sizes", "smaller", "pages"),
    [
        ({"size": {"height": 128, "width": 96}, "do_pad": True}, {"height": 64, "width": 64}, (64, 64)),
        ({"size": {"height": 128, "width": 96}}, {"height": 64, "width": 64}, (64, 64)),
        ({"size": {"max_height": 128, "max_width": 96}}, {"max_height": 64, "max_width": 64}, (64, 42)),
        ({"size": {"shortest_edge": 96, "longest_edge": 192}}, {"shortest_edge": 64, "longest_edge": 128}, (96, 64)),
        (
            {"size": {"height": 96, "width": 96}, "do_pad": True, "pad_size": {"height": 192, "width": 128}},
            {"height": 64, "width": 64},
            (128, 64),
        ),
    ],
)
def test_smaller_pages_whatever_the_sizes_say(
    sizes: dict[str, Any], smaller: dict[str, int], pages: tuple[int, int], tmp_path: Path
) -> None:
    task, model = Layout(), made(TINY_DETR)
    model.processor = RTDetrImageProcessor(**sizes)
    done = prune(task, model, ResolutionPrune(method="resolution", keep=0.6), None)
    assert "instead of" in done["text"]
    again = load_detector(str(model.save(tmp_path / "model")))
    assert {side: pixels for side, pixels in dict(again.processor.size).items() if pixels is not None} == smaller
    image = Image.new("RGB", (80, 120), "white")
    assert again.processor(images=[image], return_tensors="pt")["pixel_values"].shape[-2:] == pages


def test_a_size_that_is_not_known_is_named() -> None:
    model = made(TINY_DETR)
    model.processor = DetrImageProcessor(size={"shortest_edge": 96, "longest_edge": None})
    with pytest.raises(UserError, match="'shortest_edge': 96"):
        prune(Layout(), model, ResolutionPrune(method="resolution", keep=0.6), None)


@DETRS
def test_an_encoder_of_one_layer_stays(kind: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"of: encoder was given.*give of: decoder"):
        prune_depth(made(kind, decoder_layers=3).network, {}, 2, of="encoder")


@pytest.mark.parametrize(
    "settings",
    [DepthPrune(method="depth", keep=2), FfnPrune(method="ffn", keep=0.5)],
    ids=["depth", "ffn"],
)
def test_a_faster_rcnn_is_told_what_works_instead(settings: PruneStage) -> None:
    with pytest.raises(UserError, match=f"method: {settings.method} was given.*use channels, backbone or resolution"):
        prune(Layout(), made(TINY_RCNN), settings, None)


def test_one_decoder_layer_is_too_few() -> None:
    with pytest.raises(UserError, match="keep 2"):
        prune_depth(made(TINY_DETR, decoder_layers=3).network, {}, 1)


@pytest.mark.parametrize(
    ("kind", "cuts"),
    [
        (TINY_DETR, [DepthPrune(method="depth", keep=2), ChannelPrune(method="channels", keep=0.5)]),
        (TINY_DETR, [FfnPrune(method="ffn", keep=0.5, by="magnitude")]),
        (TINY_DETR, [BackbonePrune(method="backbone", to="rt-detrv2-r34")]),
        (TINY_D_FINE, [DepthPrune(method="depth", keep=2), FfnPrune(method="ffn", keep=0.5, by="magnitude")]),
    ],
    ids=["depth and channels", "ffn", "backbone", "d-fine"],
)
def test_a_smaller_detr_loads_in_plain_transformers(
    kind: dict[str, Any], cuts: list[PruneStage], tmp_path: Path
) -> None:
    model = made(kind, decoder_layers=3)
    for settings in cuts:
        prune(Layout(), model, settings, None)
    folder = model.save(tmp_path / "model")
    plain = AutoModelForObjectDetection.from_pretrained(folder)
    processor = AutoImageProcessor.from_pretrained(folder)
    assert processor.pad_size["height"] == 96
    with torch.no_grad():
        ours = detect(load_detector(str(folder)).network, pages_(), torch.ones(2, 4), 5)[0]
        theirs = plain.eval()(pixel_values=pages_())
    assert torch.allclose(ours["scores"][0], theirs.logits[0].sigmoid().max())
