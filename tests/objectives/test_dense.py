"""The objective `dense`: the loss by hand, pages that lie otherwise in the teacher's input, classes by name, networks that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import docstill
from docstill.errors import ModelError
from docstill.models.detector import new_detector
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.objectives.dense import BOXES, SCORES, Dense
from docstill.tasks.layout import Layout
from layout_tiny import KINDS, TINY_D_FINE, TINY_DETR, TINY_RCNN, coco_folder

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")
LEVELS = tuple(f"model.decoder_input_proj.{level}" for level in range(3))
SHAPES = ((6, 4), (3, 2), (2, 1))


def made(seed: int, labels: tuple[str, ...] = KINDS, kind: dict[str, Any] = TINY_DETR, **changes: Any) -> DocumentModel:
    torch.manual_seed(seed)
    return new_detector(kind["new"], {**kind["config"], **changes}, labels, (96, 64))


def said(seed: int, shapes: tuple[tuple[int, int], ...] = SHAPES, frame: tuple[float, float] = (1.0, 1.0)) -> Outputs:
    """What an encoder with maps of these shapes says of two pages that fill this share of its input."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(height * width for height, width in shapes)
    features = {path: torch.zeros(2, 1, *shape) for path, shape in zip(LEVELS, shapes, strict=True)}
    features[SCORES] = 2 * torch.randn(2, count, len(KINDS), generator=generator)
    features[BOXES] = 0.5 * torch.randn(2, count, 4, generator=generator)
    frames = torch.tensor([[*frame, *frame]] * 2)
    return Outputs(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64), 2, features, frames=frames)


def between(teacher: DocumentModel, student: DocumentModel, **options: Any) -> Dense:
    objective = Dense(**options)
    objective.attach(student.network, teacher.network)
    return objective


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def by_hand(student: Outputs, teacher: Outputs, gamma: float, box_weight: float) -> float:
    """Loops over the places of equal grids that pages fill wholly, in float64."""
    pages = []
    for page in range(2):
        classes = boxes = sure = 0.0
        at = 0
        for level, (height, width) in enumerate(SHAPES):
            for row in range(height):
                for column in range(width):
                    anchor = np.array([(column + 0.5) / width, (row + 0.5) / height, *[0.05 * 2**level] * 2])
                    assert ((anchor > 0.01) & (anchor < 0.99)).all()
                    logit = np.log(anchor / (1 - anchor))
                    p_s, p_t = (
                        sigmoid(each.features[SCORES][page, at].double().numpy()) for each in (student, teacher)
                    )
                    (one, two) = (
                        sigmoid(each.features[BOXES][page, at].double().numpy() + logit) for each in (student, teacher)
                    )
                    kl = p_t * np.log(p_t / p_s) + (1 - p_t) * np.log((1 - p_t) / (1 - p_s))
                    classes += (np.abs(p_t - p_s) ** gamma * kl).sum()
                    weight = p_t.max() ** 2
                    (left, top), (right, bottom) = (
                        np.stack([each[:2] + side * each[2:] / 2 for each in (one, two)]).T for side in (-1, 1)
                    )
                    inside = max(0, right.min() - left.max()) * max(0, bottom.min() - top.max())
                    union = ((right - left) * (bottom - top)).sum() - inside
                    hull = (right.max() - left.min()) * (bottom.max() - top.min())
                    apart = sum(abs(edge[0] - edge[1]) for edge in (left, top, right, bottom))
                    boxes += weight * (5 * apart + 2 * (1 - inside / union + (hull - union) / hull))
                    sure += weight
                    at += 1
        pages.append((classes + box_weight * boxes) / max(1, sure))
    return float(np.mean(pages))


@pytest.mark.parametrize(("gamma", "box_weight"), [(1.0, 1.0), (0.0, 0.5), (2.0, 0.0)])
def test_the_loss_by_hand(gamma: float, box_weight: float) -> None:
    student, teacher = said(1), said(2)
    objective = between(made(1), made(2), gamma=gamma, box_weight=box_weight)
    assert objective(student, teacher).item() == pytest.approx(by_hand(student, teacher, gamma, box_weight), rel=1e-4)
    assert objective(teacher, teacher).item() == pytest.approx(0, abs=1e-5)
    assert list(objective.parameters()) == [], "the networks are none of its own modules"


def test_a_page_without_anything_on_it_weighs_little() -> None:
    """Where the teacher sees nothing and the student agrees, the loss is nearly 0, not a quotient of nearly nothing."""
    student, teacher = said(1), said(2)
    for outputs in (student, teacher):
        outputs.features[SCORES] = torch.full_like(outputs.features[SCORES], -6.0)
    assert between(made(1), made(2))(student, teacher).item() < 0.01


def points(outputs: Outputs) -> Outputs:
    """The same answers from a place of the page, whatever the grid: scores and boxes are functions of where its centre lies on the page."""
    assert outputs.frames is not None
    frame, found_scores, found_boxes = outputs.frames[0], [], []
    for level, path in enumerate(LEVELS):
        height, width = outputs.features[path].shape[2:]
        for row in range(height):
            for column in range(width):
                x, y = (column + 0.5) / width / float(frame[0]), (row + 0.5) / height / float(frame[1])
                found_scores.append([4 * (int(4 * x) % 2) - 2, 3 * (int(6 * y) % 2) - 1.5, -1.0 + level])
                wanted = np.clip(np.array([x, y, 0.3, 0.2]) * np.tile(frame[:2].numpy(), 2), 0.001, 0.999)
                anchor = np.array([(column + 0.5) / width, (row + 0.5) / height, *[0.05 * 2**level] * 2])
                found_boxes.append(np.log(wanted / (1 - wanted)) - np.log(anchor / (1 - anchor)))
    both: list[tuple[str, Any]] = [(SCORES, found_scores), (BOXES, np.stack(found_boxes))]
    for name, values in both:
        outputs.features[name] = torch.tensor(values, dtype=torch.float32)[None].repeat(2, 1, 1)
    return outputs


@pytest.mark.parametrize(
    ("shapes", "frame"),
    [
        (((12, 4), (6, 2), (4, 1)), (1.0, 0.5)),  # twice the rows of an input of which the page fills the upper half
        (((6, 8), (3, 4), (2, 2)), (0.5, 1.0)),
        (((18, 12), (9, 6), (6, 3)), (1.0, 1.0)),  # a finer grid, whose middle places stand for the student's
    ],
)
def test_places_are_compared_by_where_they_lie_on_the_page(
    shapes: tuple[tuple[int, int], ...], frame: tuple[float, float]
) -> None:
    student, teacher = points(said(1)), points(said(2, shapes, frame))
    objective = between(made(1), made(2))
    assert objective(student, teacher).item() == pytest.approx(0, abs=2e-5)


def test_padding_does_not_count() -> None:
    student, teacher = said(1, frame=(0.5, 1.0)), said(2, frame=(0.5, 1.0))
    objective = between(made(1), made(2))
    value = objective(student, teacher)
    beside = torch.zeros(24, dtype=torch.bool).view(6, 4)
    beside[:, 2:] = True
    student.features[SCORES][:, :24][:, beside.flatten()] += 5
    teacher.features[BOXES][:, :24][:, beside.flatten()] += 5
    assert torch.equal(objective(student, teacher), value)


def test_classes_are_matched_by_name_and_others_left_out() -> None:
    teacher = made(1, labels=(KINDS[2], "stamp", KINDS[0], KINDS[1]))
    student, its = said(1), said(2)
    scores = its.features[SCORES]
    shuffled = torch.stack([scores[..., 2], 9 + scores[..., 0], scores[..., 0], scores[..., 1]], dim=-1)
    both = Outputs(its.logits, its.targets, 2, {**its.features, SCORES: shuffled}, frames=its.frames)
    assert torch.equal(between(teacher, made(2))(student, both), between(made(1), made(2))(student, its))


def test_no_gradient_reaches_the_teacher() -> None:
    student, teacher = said(1), said(2)
    leaves: list[Tensor] = []
    for outputs in (student, teacher):
        for name in (SCORES, BOXES):
            outputs.features[name] = outputs.features[name].clone().requires_grad_()
            leaves.append(outputs.features[name])
    between(made(1), made(2))(student, teacher).backward()
    assert all(leaf.grad is not None and leaf.grad.isfinite().all() and leaf.grad.any() for leaf in leaves[:2])
    assert all(leaf.grad is None for leaf in leaves[2:])


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0])
def test_a_student_that_says_what_its_teacher_says_has_a_gradient_of_nothing(gamma: float) -> None:
    student, teacher = said(1), said(1)
    scores = student.features[SCORES].requires_grad_()
    between(made(1), made(2), gamma=gamma)(student, teacher).backward()
    assert scores.grad is not None
    assert scores.grad.abs().max() < 1e-5


@pytest.mark.parametrize("kind", [TINY_DETR, TINY_D_FINE])
def test_a_student_comes_to_say_what_its_teacher_says(kind: dict[str, Any], tmp_path: Path) -> None:
    """Through the stage, with two families: the teacher is an RT-DETR, other in width, and its maps are larger."""
    data = coco_folder(tmp_path / "data")
    teacher = made(1, d_model=24, decoder_in_channels=[16, 16, 16]).save(tmp_path / "teacher")
    student = made(2, kind=kind).save(tmp_path / "student")
    settings: dict[str, Any] = {"epochs": 8, "batch_size": 3, "learning_rate": 0.002, "keep": "last", "augment": 0}
    weighted = [{"kind": "labels", "weight": 0.0}, {"kind": "dense"}]
    docstill.distill(teacher, str(student), data, tmp_path / "out", objectives=weighted, **settings)
    rows = [row for row in docstill.run.read_metrics(tmp_path / "out" / "metrics.jsonl") if "dense" in row]
    assert rows[-1]["dense"] < 0.5 * rows[0]["dense"]
    Layout().load_model(str(tmp_path / "out" / "model"))


def test_networks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="the student is a Faster R-CNN; use query"):
        between(made(1), made(2, kind=TINY_RCNN))
    with pytest.raises(ModelError, match="the teacher is a Faster R-CNN; use query"):
        between(made(1, kind=TINY_RCNN), made(2))
    more = {"num_feature_levels": 4, "decoder_n_levels": 4, "decoder_in_channels": [16, 16, 16]}
    with pytest.raises(ModelError, match="the student has 3 and the teacher 4; give both the same num_feature_levels"):
        between(made(1, **more), made(2))
