"""SimKD: the student with the teacher's classifier is an ordinary model that reloads alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForImageClassification

import docstill
import kie_tiny
import tiny
from docstill.compression import compress
from docstill.errors import ModelError, RecipeError
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import load_classifier, new_classifier
from docstill.models.conv_head import give_conv_head
from docstill.models.head import head_of
from docstill.models.io import DocumentModel
from docstill.models.labelled import replace_classes
from docstill.objectives.simkd import Simkd
from docstill.optimiser import seed_everything
from docstill.recipe import parse_recipe, parse_stage
from docstill.tasks.classification import Classification

TASK = Classification()


def model(size: str, spec: dict[str, Any], seed: int, labels: tuple[str, ...] = tiny.KINDS) -> DocumentModel:
    seed_everything(seed)
    return new_classifier(size, spec["config"], labels, (32, 32))


def lesson(student: DocumentModel, teacher: DocumentModel, **options: Any) -> tuple[Lesson, dict[str, Any]]:
    made = Lesson(TASK, student, teacher, make_objectives([{"kind": "simkd", **options}]))
    source = torch.Generator().manual_seed(0)
    pages = {"pixel_values": torch.randn(6, 3, 32, 32, generator=source), "targets": torch.zeros(6, dtype=torch.int64)}
    batch = {"student": pages, "teacher": dict(pages), "files": [str(index) for index in range(6)]}
    made.prepare(batch)
    return made, batch


def parts_of(student: DocumentModel) -> Any:
    return head_of(student.network).parametrizations


def same_with_identity(student: DocumentModel, teacher: DocumentModel) -> tuple[Lesson, dict[str, Any]]:
    """Asserts that a student of the teacher's features, with an identity as projector, gives the teacher's logits."""
    made, batch = lesson(student, teacher)
    with torch.no_grad():
        parts_of(student).weight.original.copy_(torch.eye(16))
    student.network.eval()
    ours, theirs = made.outputs(batch)
    assert theirs is not None
    assert torch.allclose(ours.logits, theirs.logits, atol=1e-5)
    return made, batch


@pytest.mark.parametrize("labels", [tiny.KINDS, tiny.KINDS[::-1]])
def test_a_student_equal_to_its_teacher_with_an_identity_projector_gives_its_logits(labels: tuple[str, ...]) -> None:
    """Whatever the order of the teacher's classes."""
    student, teacher = model("vit-tiny", tiny.TINY_VIT, 0), model("vit-tiny", tiny.TINY_VIT, 0, labels)
    teacher.network.load_state_dict(student.network.state_dict())
    made, batch = same_with_identity(student, teacher)
    (loss,) = made(batch)
    assert loss.value.item() == pytest.approx(0, abs=1e-8)


def test_classes_are_matched_in_whatever_order_the_teachers_file_names_them(tmp_path: Path) -> None:
    """transformers writes the names as 0, 1, 10, 11, 2, and a network hands them on in the order of the file."""
    labels = tuple(f"kind {number:02d}" for number in range(12))
    student = model("vit-tiny", tiny.TINY_VIT, 0, labels)
    folder = student.save(tmp_path / "teacher")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = dict(sorted(config["id2label"].items()))
    (folder / "config.json").write_text(json.dumps(config))
    teacher = load_classifier(str(folder))
    assert list(teacher.network.config.id2label.values()) != list(labels) == teacher.labels
    same_with_identity(student, teacher)


def test_by_hand_and_without_normalising() -> None:
    student, teacher = model("resnet-18", tiny.TINY_RESNET, 0), model("vit-tiny", tiny.TINY_VIT, 1)
    made, batch = lesson(student, teacher, normalise=False)
    seen: dict[str, torch.Tensor] = {}
    for side, network in (("student", student.network), ("teacher", teacher.network)):
        head_of(network).register_forward_pre_hook(lambda _module, inputs, side=side: seen.update({side: inputs[0]}))
    (loss,) = made(batch)
    parts = parts_of(student)
    projected = seen["student"] @ parts.weight.original.T + parts.bias.original
    assert loss.value.item() == pytest.approx((projected - seen["teacher"]).square().mean().item(), rel=1e-5)
    (scaled,) = lesson(model("resnet-18", tiny.TINY_RESNET, 0), teacher)[0](batch)
    assert scaled.value.item() != pytest.approx(loss.value.item(), rel=1e-2)


def test_afterwards_the_student_is_an_ordinary_model(tmp_path: Path) -> None:
    student, teacher = model("resnet-18", tiny.TINY_RESNET, 0), model("vit-tiny", tiny.TINY_VIT, 1)
    names = list(student.network.state_dict())
    made, batch = lesson(student, teacher)
    student.network.eval()
    before = made.outputs(batch)[0].logits.detach()
    made.finish()
    assert sorted(student.network.state_dict()) == sorted(names)
    pixels = batch["student"]["pixel_values"]
    assert torch.allclose(student.network(pixel_values=pixels).logits, before, atol=1e-6)
    again = load_classifier(str(student.save(tmp_path / "model")))
    assert torch.allclose(again.network(pixel_values=pixels).logits, before, atol=1e-6)
    code = (
        "import sys; sys.modules['docstill'] = None\n"
        "from transformers import AutoModelForImageClassification as A\n"
        f"print(A.from_pretrained({str(tmp_path / 'model')!r}).config.num_labels)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "3"
    )


@pytest.mark.parametrize(("size", "spec"), [("resnet-18", tiny.TINY_RESNET), ("vit-tiny", tiny.SMALLER_VIT)])
def test_an_mlp_as_projector_stays_in_the_student(size: str, spec: dict[str, Any], tmp_path: Path) -> None:
    student, teacher = model(size, spec, 0), model("vit-tiny", tiny.TINY_VIT, 1)
    made, batch = lesson(student, teacher, projector="mlp", normalise=False)
    seen: dict[str, torch.Tensor] = {}
    first, _, last = student.network.classifier[-1] if size == "resnet-18" else student.network.classifier
    first.register_forward_pre_hook(lambda _module, inputs: seen.update(student=inputs[0]))
    head_of(teacher.network).register_forward_pre_hook(lambda _module, inputs: seen.update(teacher=inputs[0]))
    student.network.eval()
    (loss,) = made(batch)
    parts = last.parametrizations
    hidden = nn.functional.gelu(seen["student"] @ first.weight.T + first.bias)
    projected = hidden @ parts.weight.original.T + parts.bias.original
    assert hidden.shape == (6, 16)
    assert loss.value.item() == pytest.approx((projected - seen["teacher"]).square().mean().item(), rel=1e-5)
    before = made.outputs(batch)[0].logits.detach()
    assert torch.allclose(before, head_of(teacher.network)(projected), atol=1e-5)
    made.finish()
    again = load_classifier(str(student.save(tmp_path / "model")))
    pixels = batch["student"]["pixel_values"]
    assert torch.allclose(again.network(pixel_values=pixels).logits, before, atol=1e-6)
    replace_classes(again, ["one", "other"])
    assert again.network(pixel_values=pixels).logits.shape == (6, 2)
    assert again.network.get_submodule(_path_of(first, student)).weight.equal(first.weight)
    lesson(student, teacher, projector="mlp")  # taught again, it gets no third layer
    assert sum(isinstance(module, nn.GELU) for module in student.network.classifier.modules()) == 1


def _path_of(module: nn.Module, student: DocumentModel) -> str:
    return next(name for name, found in student.network.named_modules() if found is module)


def _body(student: DocumentModel, pixels: torch.Tensor) -> torch.Tensor:
    """The last map by hand: a ResNet's as it is, of a ViT the patches behind the last norm, without the CLS token."""
    if "resnet" in student.network.config.model_type:
        maps: torch.Tensor = student.network.resnet(pixel_values=pixels).last_hidden_state
        return maps
    vit, seen = student.network.vit, []
    handle = vit.layers[-1].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    student.network(pixel_values=pixels)
    handle.remove()
    return vit.layernorm(seen[0])[:, 1:].transpose(1, 2).reshape(len(pixels), 8, 4, 4)


@pytest.mark.parametrize(("size", "spec"), [("resnet-18", tiny.TINY_RESNET), ("vit-tiny", tiny.SMALLER_VIT)])
def test_convolutions_over_the_last_map_stay_in_the_student(size: str, spec: dict[str, Any], tmp_path: Path) -> None:
    student, teacher = model(size, spec, 0), model("vit-tiny", tiny.TINY_VIT, 1)
    made, batch = lesson(student, teacher, projector="cnn", normalise=False)
    pixels = batch["student"]["pixel_values"]
    targets: list[torch.Tensor] = []
    head_of(teacher.network).register_forward_pre_hook(lambda _module, inputs: targets.append(inputs[0]))
    made.train()  # what it gives does not hang on the pages beside a page; but a ResNet's own body does
    student.network.base_model.eval()
    (loss,) = made(batch)
    narrow, first, _, wide, second, *_ = student.network.classifier
    maps = functional.conv2d(_body(student, pixels), narrow.weight)
    assert maps.shape[1] == 8  # half of the teacher's features
    maps = functional.conv2d(functional.group_norm(maps, 1, first.weight, first.bias).relu(), wide.weight, padding=1)
    maps = functional.group_norm(maps, 1, second.weight, second.bias).relu()
    parts = parts_of(student)
    last = functional.conv2d(maps, parts.weight.original[:, :, None, None], parts.bias.original)
    projected = last.mean((2, 3))  # as in the paper: convolution, then pooling
    assert loss.value.item() == pytest.approx((projected - targets[-1]).square().mean().item(), rel=1e-5)
    loss.value.backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in student.network.classifier.parameters())
    student.network.eval()
    before = made.outputs(batch)[0].logits.detach()
    assert torch.allclose(before, head_of(teacher.network)(projected), atol=1e-5)
    alone = torch.cat([student.network(pixel_values=page[None]).logits for page in pixels])
    assert torch.allclose(before, alone, atol=1e-5)
    made.finish()
    folder = student.save(tmp_path / "model")
    again = load_classifier(str(folder))
    assert torch.allclose(again.network(pixel_values=pixels).logits, before, atol=1e-6)
    assert torch.allclose(docstill.load(str(folder)).model.network(pixel_values=pixels).logits, before, atol=1e-6)
    replace_classes(again, ["one", "other"])
    assert again.network(pixel_values=pixels).logits.shape == (6, 2)
    assert again.network.classifier[0].weight.equal(narrow.weight)
    lesson(student, teacher, projector="cnn")  # taught again, it keeps its convolutions
    assert student.network.classifier[0] is narrow
    with pytest.raises(ModelError, match=r"already ends in the layers of projector: cnn, which mlp cannot replace"):
        lesson(student, teacher, projector="mlp")


def test_convolutions_reach_negative_targets() -> None:
    """Which a projector that ends in a ReLU cannot; what is left would be the targets' squares, 4."""
    student, teacher = model("resnet-18", tiny.TINY_RESNET, 0), model("vit-tiny", tiny.TINY_VIT, 1)
    with torch.no_grad():
        teacher.network.vit.layernorm.weight.zero_()
        teacher.network.vit.layernorm.bias.fill_(-2)
    made, batch = lesson(student, teacher, projector="cnn", normalise=False)
    optimiser = torch.optim.Adam(student.network.classifier.parameters(), lr=0.1)
    for _ in range(40):
        optimiser.zero_grad()
        (loss,) = made(batch)
        loss.value.backward()
        optimiser.step()
    assert loss.value.item() < 0.5


@pytest.mark.parametrize("projector", ["linear", "mlp", "cnn"])
def test_a_whole_recipe_with_the_best_weights_kept(tmp_path: Path, projector: str) -> None:
    data = tiny.class_folders(tmp_path / "data")
    content = tiny.recipe(data, repeats=1, controls=["teacher"])
    content["stages"] = [
        {"distill": {**content["stages"][1]["distill"], "objectives": [{"kind": "simkd", "projector": projector}]}}
    ]
    results = compress(parse_recipe(content), tmp_path / "run")
    accuracy = next(row for row in results["rows"] if row["role"] == "student")["metrics"]["accuracy"]["mean"]
    curve = next(curve for curve in results["curves"] if curve["name"] == "student")
    looks = [point["validation"]["accuracy"] for point in curve["points"] if "validation" in point]
    assert accuracy == max(looks)  # what was scored while training is what is handed on


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"objectives\.0\.kind: simkd puts the teacher's classifier in the place"):
        parse_stage("distill", {"objectives": [{"kind": "simkd"}], "prune": {"sparsity": 0.5}})
    donut = kie_tiny.tiny_donut()
    with pytest.raises(ModelError, match="needs a page classifier"):
        Simkd().attach(donut.network, donut.network)
    poolformer = AutoModelForImageClassification.from_config(AutoConfig.for_model("poolformer", num_labels=3))
    with pytest.raises(
        ModelError, match="last feature map, which is not known for a poolformer; give a student of one of beit, "
    ):
        give_conv_head(poolformer, 4)
    student, teacher = model("resnet-18", tiny.TINY_RESNET, 0), model("vit-tiny", tiny.TINY_VIT, 1)
    head = next(name for name, module in student.network.named_modules() if module is head_of(student.network))
    student.masks = {f"{head}.weight": torch.ones(3, 8, dtype=torch.bool)}
    with pytest.raises(ModelError, match="pruned weights of that classifier"):
        Lesson(TASK, student, teacher, make_objectives([{"kind": "simkd"}]))
    assert isinstance(head_of(student.network), nn.Linear)
