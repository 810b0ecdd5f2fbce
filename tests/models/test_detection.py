"""Detectors: sizes as published, folders loaded whole, and questions about given regions that get the same answer twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForObjectDetection

from docstill.errors import ModelError, UserError
from docstill.models import detr
from docstill.models.detection import check_learns, detect, learn, look
from docstill.models.detector import fitting_size, load_detector, new_detector
from docstill.models.faster_rcnn import _images
from docstill.models.io import DocumentModel
from docstill.models.labelled import replace_classes
from layout_tiny import KINDS, TINY_DETR, TINY_RCNN

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")

BOTH = pytest.mark.parametrize("kind", [TINY_RCNN, TINY_DETR], ids=["faster-rcnn", "rt-detr"])


def made(kind: dict[str, Any], labels: tuple[str, ...] = KINDS, seed: int = 0) -> DocumentModel:
    torch.manual_seed(seed)
    height, width = kind["image_size"]
    return new_detector(kind["new"], kind["config"], labels, (height, width))


def pages(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 96, 64, generator=torch.Generator().manual_seed(1))


WHOLE = torch.ones(2, 4)
"""Pages that fill the input."""
BOXES = [torch.tensor([[0.1, 0.1, 0.8, 0.3], [0.2, 0.5, 0.6, 0.9]]), torch.tensor([[0.1, 0.4, 0.9, 0.6]])]
LABELS = [torch.tensor([0, 2]), torch.tensor([1])]


@pytest.mark.parametrize(("size", "millions"), [("rt-detrv2-r18", 20.1), ("d-fine-s", 10.2)])
def test_sizes_have_the_published_number_of_parameters(size: str, millions: float) -> None:
    network = new_detector(size, {}, [str(index) for index in range(17)], (256, 192)).network
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("size", ["rt-detrv2-r18", "d-fine-s"])
def test_from_scratch_a_page_reaches_the_decoder_and_regions_begin_as_their_anchors(size: str) -> None:
    """transformers draws norms around 0 and all layers a hundredth as large as the page is."""
    torch.manual_seed(0)
    network = new_detector(size, {"num_queries": 20}, KINDS, (96, 64)).network.train()
    seen: list[Tensor] = []
    for level in network.model.decoder_input_proj:
        level.register_forward_hook(lambda _module, _args, output: seen.append(output))
    memory = detr.remember(network, pages())
    assert len(seen) == 3
    assert all(0.1 < level.std() < 10 for level in seen)
    assert 0.1 < memory["encoder_hidden_states"].std() < 10
    decoder = network.model.decoder
    assert not decoder.bbox_embed[0].layers[-1].weight.any()
    assert not network.model.enc_bbox_head.layers[-1].weight.any()
    assert not decoder.layers[0].encoder_attn.sampling_offsets.weight.any()
    assert decoder.class_embed[0].bias.sigmoid().max() < 0.3
    position = decoder.query_pos_head.layers[0]
    assert position.weight.std().item() == pytest.approx((3 * position.in_features) ** -0.5, rel=0.2)


@BOTH
def test_a_folder_holds_all_that_is_needed(kind: dict[str, Any], tmp_path: Path) -> None:
    model = made(kind)
    again = load_detector(str(model.save(tmp_path / "model")))
    assert again.labels == list(KINDS)
    assert dict(again.processor.pad_size) == dict(model.processor.pad_size)
    for one, other in zip(*(detect(each.network, pages(), WHOLE, 10) for each in (model, again)), strict=True):
        assert torch.equal(one["boxes"], other["boxes"])
        assert torch.equal(one["scores"], other["scores"])


@BOTH
def test_missing_weights_and_other_heads_are_refused_by_name(kind: dict[str, Any], tmp_path: Path) -> None:
    folder = made(kind).save(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    head = next(name for name in weights if name.endswith(("cls_score.weight", "enc_score_head.weight")))
    save_file(
        {name: value for name, value in weights.items() if name != head}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match=f"{head} is missing"):
        load_detector(str(folder))
    save_file({**weights, head: weights[head][:2].clone()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"{head} has shape"):
        load_detector(str(folder))


@BOTH
def test_other_classes_change_nothing_but_the_heads(kind: dict[str, Any]) -> None:
    model = made(kind)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    replace_classes(model, ["a", "b", "c", "d", "e"])
    after = model.network.state_dict()
    changed = [name for name in after if before[name].shape != after[name].shape]
    assert changed
    assert all("score" in name or "class" in name or "bbox_pred" in name for name in changed)
    assert all(torch.equal(after[name], before[name]) for name in after if name not in changed)
    assert model.labels == ["a", "b", "c", "d", "e"]


@BOTH
def test_classes_of_the_same_name_keep_what_they_know(kind: dict[str, Any]) -> None:
    model = made(kind)
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    replace_classes(model, ["aa", "figure", "zz"])
    after = model.network.state_dict()
    name, first = ("class_embed.0.weight", 0) if kind is TINY_DETR else ("roi_heads.box_predictor.cls_score.weight", 1)
    old = first + KINDS.index("figure")
    assert torch.equal(after[name][first + 1], before[name][old])
    for row in (first, first + 2):
        assert not any(torch.equal(after[name][row], known) for known in before[name])
    if first:
        assert torch.equal(after[name][0], before[name][0]), "the background stays"
        boxes = "roi_heads.box_predictor.bbox_pred.weight"
        assert torch.equal(after[boxes][4 * 2 : 4 * 3], before[boxes][4 * old : 4 * old + 4])
    else:
        noise = "model.denoising_class_embed.weight"
        assert torch.equal(after[noise][1], before[noise][old])
        assert torch.equal(after[noise][3], before[noise][3]), "that of no class stays"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"anchor_sizes": [8, 16, 32]}, "anchor_sizes must be 5 numbers above 0"),
        ({"anchor_ratios": [0]}, "anchor_ratios must be a list of numbers above 0"),
        ({"pyramid_channels": 0}, "pyramid_channels must be a whole number above 0, 0 given"),
        ({"pyramid_channels": "8"}, "whole number above 0, '8' given"),
        ({"backbone": "resnet34x"}, "did you mean resnet34"),
    ],
)
def test_configurations_that_no_network_can_be_made_of(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        new_detector("faster-rcnn-r18", config, KINDS, (96, 64))


def test_sizes_that_do_not_exist_or_fit() -> None:
    with pytest.raises(UserError, match="126 places for the 300 queries"):
        new_detector("rt-detrv2-r18", {}, KINDS, (96, 64))
    with pytest.raises(UserError, match="did you mean rt-detrv2-r18"):
        new_detector("rt-detr-v2-r18", {}, KINDS, (96, 64))
    with pytest.raises(UserError, match="multiples of 32"):
        new_detector("faster-rcnn-r18", {}, KINDS, (100, 64))
    with pytest.raises(UserError, match="did you mean num_queries"):
        new_detector("rt-detrv2-r18", {"num_querys": 3}, KINDS, (96, 64))


def test_the_input_is_no_squarer_than_the_pages() -> None:
    assert fitting_size([(700, 1000)] * 20) == (1024, 736)
    assert fitting_size([(1000, 700)] * 20) == (736, 1024)
    assert fitting_size([(700, 1000)] * 10 + [(1000, 700)] * 10, 512) == (512, 512)
    assert fitting_size([(700, 1000)] * 40 + [(3000, 1000)]) == (1024, 736), "one odd page does not make all pages pay"


@BOTH
def test_what_a_network_says_of_regions_does_not_depend_on_who_chose_them(kind: dict[str, Any]) -> None:
    network = made(kind).network
    with torch.no_grad():
        learnt = learn(network, pages(), BOXES, LABELS, looks=True, pools=True)
        asked = look(network, pages(), WHOLE, learnt.pages, learnt.given, pools=True)
    assert learnt.answers is not None
    assert learnt.answers.pooled is not None
    assert asked.pooled is not None
    assert torch.allclose(asked.classes, learnt.answers.classes, atol=1e-4)
    assert torch.allclose(asked.boxes, learnt.answers.boxes, atol=1e-4)
    assert torch.allclose(asked.pooled, learnt.answers.pooled, atol=1e-4)
    assert (learnt.answers.background is None) == (kind is TINY_DETR)
    assert learnt.answers.boxes.shape == (len(learnt.given), 3, 4)


@BOTH
def test_pages_with_other_numbers_of_regions_do_not_disturb_one_another(kind: dict[str, Any]) -> None:
    network = made(kind).network
    both, numbers = torch.cat(BOXES), torch.tensor([0, 0, 1])
    with torch.no_grad():
        together = look(network, pages(), WHOLE, numbers, both, pools=True)
        first = look(network, pages()[:1], WHOLE[:1], torch.tensor([0, 0]), BOXES[0], pools=True)
        last = look(network, pages()[1:], WHOLE[:1], torch.tensor([0]), BOXES[1], pools=True)
    assert torch.allclose(together.classes, torch.cat([first.classes, last.classes]), atol=1e-4)
    assert torch.allclose(together.boxes, torch.cat([first.boxes, last.boxes]), atol=1e-4)


@BOTH
def test_learning_reaches_every_weight(kind: dict[str, Any]) -> None:
    network = made(kind).network.train()
    learn(network, pages(), BOXES, LABELS, looks=False, pools=False).loss.backward()
    silent = [name for name, value in network.named_parameters() if value.requires_grad and value.grad is None]
    assert not silent
    assert all(torch.isfinite(value.grad).all() for value in network.parameters() if value.grad is not None)


@BOTH
def test_pages_without_regions_can_be_learnt_from(kind: dict[str, Any]) -> None:
    network = made(kind).network.train()
    nothing = [torch.zeros(0, 4)] * 2
    learnt = learn(network, pages(), nothing, [torch.zeros(0, dtype=torch.int64)] * 2, looks=True, pools=False)
    assert torch.isfinite(learnt.loss)
    assert len(learnt.given)


def test_all_labelled_regions_are_among_those_whose_features_are_compared() -> None:
    learnt = learn(made(TINY_DETR).network, pages(), BOXES, LABELS, looks=True, pools=True)
    for page, boxes in enumerate(BOXES):
        given = learnt.given[learnt.pages == page]
        assert torch.cdist(boxes, given).min(1).values.max() < 1e-5
    assert learnt.pages.bincount().tolist() == [12, 12]
    learnt = learn(made(TINY_DETR).network, pages(), BOXES, LABELS, looks=True, pools=False)
    for page, boxes in enumerate(BOXES):
        given = learnt.given[learnt.pages == page]
        assert torch.cdist(boxes, given).min() > 0.01, (
            "with answers alone, the queries are told nothing of where things lie"
        )


def test_a_query_finds_its_content_at_the_regions_centre_on_the_level_of_its_size() -> None:
    shapes = [(12, 8), (6, 4), (3, 2)]
    # side 0.05: finest; 0.1: middle; 0.8: coarsest
    regions = torch.tensor(
        [[[0.5, 0.5, 0.05, 0.05], [0.99, 0.0, 0.1, 0.1], [0.4, 0.9, 0.8, 0.8], [1.0, 1.0, 0.01, 0.01]]]
    )
    assert detr.places(regions, shapes).tolist() == [[6 * 8 + 4, 96 + 3, 96 + 24 + 2 * 2 + 0, 95]]


def test_a_detector_that_only_teaches_answers_with_its_own_boxes() -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "detr", d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=6, num_labels=3, use_pretrained_backbone=False,
        use_timm_backbone=False, backbone=None,
        backbone_config=AutoConfig.for_model("resnet", embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], out_features=["stage2"]),
    )  # fmt: skip
    network = AutoModelForObjectDetection.from_config(config).eval()
    with pytest.raises(ModelError, match="can teach but not learn"):
        check_learns(network)
    with torch.no_grad():
        found = detect(network, pages(), WHOLE, 6)
        own = found[0]["boxes"][:1]
        far = torch.tensor([[0.0, 0.0, 0.001, 0.001]])
        answers = look(network, pages(), WHOLE, torch.tensor([0, 0]), torch.cat([own, far]), pools=False)
    probabilities = answers.classes.sigmoid()
    assert probabilities[0].max().item() == pytest.approx(found[0]["scores"][0].item(), abs=1e-3)
    assert probabilities[1].max() < 1e-3, "nothing of its own lies there"
    with pytest.raises(ModelError, match="can teach but not learn"):
        learn(network, pages(), BOXES, LABELS, looks=False, pools=False)
    with pytest.raises(ModelError, match="shows no features of regions"):
        look(network, pages(), WHOLE, torch.tensor([0]), own, pools=True)


@pytest.mark.parametrize("kind", ["detr", "conditional_detr", "deformable_detr"])
def test_a_page_is_seen_alike_alone_and_padded_beside_others(kind: str) -> None:
    """These networks answer in shares of the page, whatever padding lies behind it."""
    torch.manual_seed(0)
    backbone = AutoConfig.for_model(
        "resnet", embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], out_features=["stage2"]
    )
    config = AutoConfig.for_model(
        kind, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=6, num_labels=3, use_pretrained_backbone=False,
        use_timm_backbone=False, backbone=None, backbone_config=backbone,
        **({"num_feature_levels": 1} if kind == "deformable_detr" else {}),
    )  # fmt: skip
    network = AutoModelForObjectDetection.from_config(config).eval()
    page = torch.rand(1, 3, 64, 64)
    padded = torch.zeros(1, 3, 64, 128)
    padded[..., :64] = page
    frame = torch.tensor([[0.5, 1.0, 0.5, 1.0]])
    with torch.no_grad():
        [alone], [beside] = detect(network, page, WHOLE[:1], 6), detect(network, padded, frame, 6)
        given = alone["boxes"][:1]
        asked = look(network, padded, frame, torch.tensor([0]), given * frame, pools=False)
        [whole] = detect(network, page, WHOLE[:1], 100)
    # where each class is judged by itself, a query may stand for several, as for the network's authors
    assert len(whole["scores"]) == (6 if kind == "detr" else 18)
    assert whole["scores"].tolist() == sorted(whole["scores"].tolist(), reverse=True)
    assert torch.allclose(beside["boxes"] / frame, alone["boxes"], atol=0.02)
    assert torch.allclose(asked.boxes[:, 0] / frame, given, atol=0.02), "the box of its own that lies there is found"


def test_boxes_are_reckoned_in_float32_whatever_the_networks_run_in() -> None:
    """In bf16 proposals have steps of up to two pixels; those of thin regions lose their height, and the loss is NaN."""
    network = made(TINY_RCNN).network.eval()
    with torch.no_grad():
        whole, _ = network.rpn(_images(pages()), network.maps(pages()))
        with torch.autocast("cpu", torch.bfloat16):
            half, _ = network.rpn(_images(pages()), network.maps(pages()))
            found = network.detect(pages())
    for one, other in zip(whole, half, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert not torch.equal(other, other.bfloat16().float())
    assert found[0]["boxes"].dtype == torch.float32


def test_only_the_backbone_of_a_detr_runs_in_half_precision() -> None:
    network = made(TINY_DETR).network.train()
    seen: dict[str, set[torch.dtype]] = {"backbone": set(), "rest": set()}

    def note(name: str, output: Any) -> None:
        found = list(output if isinstance(output, (tuple, list)) else [output])
        seen[name] |= {each.dtype for each in found if isinstance(each, Tensor)}

    for path, module in network.named_modules():
        if not list(module.children()):
            where = "backbone" if path.startswith("model.backbone.") else "rest"
            module.register_forward_hook(lambda _module, _given, output, where=where: note(where, output))
    with torch.autocast("cpu", torch.bfloat16):
        learn(network, pages(), BOXES, LABELS, looks=True, pools=False).loss.backward()
    assert torch.bfloat16 in seen["backbone"]
    assert seen["rest"] == {torch.float32}
    assert "forward" not in vars(network.model.backbone)
    assert all(torch.isfinite(each.grad).all() for each in network.parameters() if each.grad is not None)
    seen["backbone"].clear()
    learn(network, pages(), BOXES, LABELS, looks=True, pools=False)
    assert seen["backbone"] == {torch.float32}, "without autocast nothing is half"


def test_regions_thinner_than_a_pixel() -> None:
    network = made(TINY_RCNN).network.train()
    thin = [torch.tensor([[0.1, 0.5, 0.9, 0.5 + 1e-9]]), torch.tensor([[0.5, 0.1, 0.5, 0.9]])]
    learnt = learn(network, pages(), thin, [torch.tensor([0]), torch.tensor([1])], looks=True, pools=False)
    assert torch.isfinite(learnt.loss)
    assert ((learnt.given[:, 2:] - learnt.given[:, :2]) > 0).all()


def test_boxes_that_are_no_numbers_end_a_training_in_one_sentence() -> None:
    network = made(TINY_DETR).network.train()
    with torch.no_grad():
        for parameter in network.model.decoder.bbox_embed.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(ModelError, match="lower learning_rate"):
        learn(network, pages(), BOXES, LABELS, False, False)
