"""The objective `heads`: whose heads the student has, the loss by hand, training through the stage, networks that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import docstill
from docstill.errors import ModelError, RecipeError
from docstill.models.detector import new_detector
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.objectives.heads import DETR, FASTER_RCNN, Heads
from docstill.recipe import parse_stage
from docstill.tasks.layout import Layout
from layout_tiny import KINDS, TINY_D_FINE, TINY_DETR, TINY_RCNN, coco_folder

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")
"""Torch 2.14 corrupts memory going backwards through convolutions as narrow as a tiny RT-DETR's with several threads (oneDNN)."""
LEVELS = tuple(f"backbone.fpn.layer_blocks.{level}" for level in range(4))


def made(seed: int, labels: tuple[str, ...] = KINDS, kind: dict[str, Any] = TINY_RCNN, **changes: Any) -> DocumentModel:
    torch.manual_seed(seed)
    return new_detector(kind["new"], {**kind["config"], **changes}, labels, (96, 64))


def maps(seed: int, grid: int = 8) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    features = {
        path: torch.randn(2, 3, grid >> level, grid >> level, generator=generator) * (1 + level)
        for level, path in enumerate(LEVELS)
    }
    return Outputs(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), 2, features)


def on_pyramids() -> Heads:
    objective = Heads()
    objective.attach(made(2).network, made(1).network)
    return objective


def test_the_loss_by_hand() -> None:
    student, teacher = maps(1), maps(2)
    objective = on_pyramids()
    objective.prepare(student, teacher)
    expected = []
    for path in LEVELS:
        ours, theirs = (outputs.features[path].double().numpy() for outputs in (student, teacher))
        expected.append(((ours - theirs) ** 2).mean() / theirs.var(axis=(0, 2, 3)).mean())
    assert objective(student, teacher).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert objective(teacher, teacher).item() == 0


def test_maps_of_another_grid_are_resized() -> None:
    student, teacher = maps(1, grid=16), maps(2)
    objective = on_pyramids()
    objective.prepare(student, teacher)
    assert torch.isfinite(objective(student, teacher))


def test_the_heads_are_the_teachers_class_by_class() -> None:
    """The teacher's body under a student that lists the classes in another order answers as the teacher does."""
    teacher, student = made(1), made(2, labels=(KINDS[2], KINDS[0], KINDS[1]))
    student.network.backbone.load_state_dict(teacher.network.backbone.state_dict())
    objective = Heads()
    objective.attach(student.network, teacher.network)
    pixels = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    regions = [torch.tensor([[5.0, 5, 50, 30], [10, 40, 60, 90]])] * 2
    with torch.no_grad():
        theirs, ours = (model.network.eval().look(pixels, regions) for model in (teacher, student))
    order = [0, 3, 1, 2]
    assert torch.allclose(ours.logits, theirs.logits[:, order], atol=1e-6)
    assert torch.allclose(ours.boxes, theirs.boxes[:, [2, 0, 1]], atol=1e-4)
    proposals = [model.network.rpn.head.bbox_pred.weight for model in (teacher, student)]
    assert torch.equal(*proposals)


@pytest.mark.parametrize(("kind", "layers"), [(TINY_DETR, 2), (TINY_DETR, 3), (TINY_D_FINE, 2)])
def test_a_decoder_is_the_teachers_class_by_class(kind: dict[str, Any], layers: int) -> None:
    """The same for queries; of a teacher with more layers the student takes the first ones."""
    teacher = made(1, kind=kind, decoder_layers=layers)
    student = made(2, labels=(KINDS[2], KINDS[0], KINDS[1]), kind=kind)
    for path in ("backbone", "encoder_input_proj", "encoder", "decoder_input_proj"):
        taught = teacher.network.model.get_submodule(path).state_dict()
        student.network.model.get_submodule(path).load_state_dict(taught)
    Heads().attach(student.network, teacher.network)
    pixels = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        theirs, ours = (model.network.eval()(pixel_values=pixels) for model in (teacher, student))
    order = [KINDS.index(name) for name in student.labels]
    torch.testing.assert_close(ours.enc_outputs_class, theirs.enc_outputs_class[..., order])
    logits, boxes = theirs.logits, theirs.pred_boxes
    if layers > 2:
        logits, boxes = theirs.intermediate_logits[:, 1], theirs.intermediate_reference_points[:, 1]
    torch.testing.assert_close(ours.logits, logits[..., order])
    torch.testing.assert_close(ours.pred_boxes, boxes)
    noise = [model.network.model.denoising_class_embed.weight for model in (teacher, student)]
    assert torch.equal(noise[1], noise[0][[*order, 3]])


@pytest.mark.parametrize("noisy", [(0, 6), (6, 0), (0, 0)])
def test_without_noisy_labels_there_is_less_to_take(noisy: tuple[int, int]) -> None:
    student, teacher = (made(seed, kind=TINY_DETR, num_denoising=many).network for seed, many in enumerate(noisy))
    Heads().attach(student, teacher)
    assert torch.equal(student.model.enc_score_head.weight, teacher.model.enc_score_head.weight)


KIND = pytest.mark.parametrize("kind", [TINY_RCNN, TINY_DETR], ids=["faster-rcnn", "rt-detrv2"])


@KIND
@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_heads_stay_and_learn_again_afterwards(frozen: bool, kind: dict[str, Any]) -> None:
    teacher, student = made(1, kind=kind), made(2, kind=kind)
    objective = Heads(frozen=frozen)
    objective.attach(student.network, teacher.network)
    held = {name for name, parameter in student.network.named_parameters() if not parameter.requires_grad}
    assert bool(held) == frozen
    assert all(name.startswith((*FASTER_RCNN.taken, *DETR.taken, "class_embed", "bbox_embed")) for name in held)
    objective.detach()
    assert all(parameter.requires_grad for parameter in student.network.parameters())


@KIND
def test_a_student_is_distilled_with_its_teachers_heads(kind: dict[str, Any], tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data")
    teacher, student = (made(seed, kind=kind).save(tmp_path / str(seed)) for seed in (1, 2))
    done = docstill.distill(
        teacher,
        str(student),
        data,
        tmp_path / "out",
        objectives=[{"kind": "labels"}, {"kind": "heads"}],
        epochs=1,
        batch_size=3,
        keep="last",
    )
    before, theirs, ours = (Layout().load_model(str(path)).network for path in (student, teacher, done["model"]))
    for path in DETR.taken if kind is TINY_DETR else FASTER_RCNN.taken:
        wanted = theirs.get_submodule(path).state_dict()
        for name, weights in ours.get_submodule(path).state_dict().items():
            assert torch.equal(weights, wanted[name]), f"{path}.{name}"
    bodies = [network.model.encoder if kind is TINY_DETR else network.backbone for network in (before, ours)]
    moved = [not torch.equal(old, new) for old, new in zip(*(body.parameters() for body in bodies), strict=True)]
    assert sum(moved) > len(moved) / 2


def test_networks_that_do_not_fit_are_refused() -> None:
    teacher = made(1)
    with pytest.raises(
        ModelError, match=r"rpn\.head\.conv\.0\.0\.weight is 8 × 8 × 3 × 3, the student's 4 × 4 × 3 × 3; give both"
    ):
        Heads().attach(made(2, pyramid_channels=4).network, teacher.network)
    with pytest.raises(ModelError, match="the student is an RT-DETR, the teacher a Faster R-CNN; use query"):
        Heads().attach(made(2, kind=TINY_DETR).network, teacher.network)
    with pytest.raises(ModelError, match="the student is a D-FINE, the teacher an RT-DETR; use query"):
        Heads().attach(made(2, kind=TINY_D_FINE).network, made(1, kind=TINY_DETR).network)
    uneven = made(1, kind=TINY_D_FINE, decoder_n_points=[3, 6, 3])
    with pytest.raises(ModelError, match=r"decoder_n_points is \[3, 6, 3\], the student's \[4, 4, 4\]; give both"):
        Heads().attach(made(2, kind=TINY_D_FINE).network, uneven.network)
    deep, shallow = made(2, kind=TINY_DETR, decoder_layers=3), made(1, kind=TINY_DETR)
    with pytest.raises(
        ModelError, match=r"model\.decoder\.layers\.2\.\S+ is missing, .* at most as many decoder_layers"
    ):
        Heads().attach(deep.network, shallow.network)


def test_a_teacher_may_know_more_classes() -> None:
    teacher, student = made(1, labels=(KINDS[1], "stamp", KINDS[0], KINDS[2])), made(2)
    Heads().attach(student.network, teacher.network)
    theirs, ours = (model.network.roi_heads.box_predictor.cls_score.weight for model in (teacher, student))
    assert torch.equal(ours, theirs[[0, 3, 1, 4]])


@pytest.mark.parametrize("frozen", [True, False])
def test_heads_of_a_pruned_student(frozen: bool, tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data")
    teacher = made(1).save(tmp_path / "teacher")
    pruned = docstill.prune(made(2).save(tmp_path / "student"), tmp_path / "pruned", sparsity=0.5)["model"]
    settings: dict[str, Any] = {"objectives": [{"kind": "labels"}, {"kind": "heads", "frozen": frozen}], "epochs": 1}
    if frozen:
        with pytest.raises(
            ModelError, match=r"the student's were pruned there \(.*; prune with an `of` that leaves these out"
        ):
            docstill.distill(teacher, pruned, data, tmp_path / "out", **settings)
        return
    done = docstill.distill(teacher, pruned, data, tmp_path / "out", **settings)
    for model in (pruned, done["model"]):
        zeros = Layout().load_model(str(model)).network.roi_heads.box_head.fc6.weight == 0
        assert zeros.float().mean() > 0.2, "zeros stay zeros"


def test_frozen_heads_are_not_pruned_meanwhile() -> None:
    with pytest.raises(RecipeError) as error:
        parse_stage("distill", {"objectives": [{"kind": "labels"}, {"kind": "heads"}], "prune": {"sparsity": 0.5}})
    assert "objectives.1.frozen: heads keeps the teacher's heads as they are" in error.value.problems[0]
    entries = [{"kind": "labels"}, {"kind": "heads", "frozen": False}]
    parse_stage("distill", {"objectives": entries, "prune": {"sparsity": 0.5}})


@pytest.mark.parametrize("kind", ["rkd", "cka", "hint", "vkd"])
def test_regions_are_no_documents(kind: str, tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data")
    teacher, student = made(1).save(tmp_path / "teacher"), made(2).save(tmp_path / "student")
    objectives = [{"kind": "labels"}, {"kind": kind, "student_module": "roi_heads.box_head"}]
    with pytest.raises(
        ModelError, match=r"roi_heads\.box_head gives \d+ parts of 6 pages, which are no features of pages"
    ):
        docstill.distill(teacher, student, data, tmp_path / "out", objectives=objectives, epochs=1)


@pytest.mark.parametrize("kind", ["rkd", "cka"])
def test_noisy_queries_are_not_averaged_in(kind: str, tmp_path: Path) -> None:
    data = coco_folder(tmp_path / "data")
    model = made(1, kind=TINY_DETR).save(tmp_path / "model")
    objectives = [{"kind": "labels"}, {"kind": kind, "student_module": "model.decoder.layers.0"}]
    with pytest.raises(
        ModelError, match=r"gives \d+ positions and the teacher's model\.decoder\.layers\.0 \d+, which cannot"
    ):
        docstill.distill(model, model, data, tmp_path / "out", objectives=objectives, epochs=1)
