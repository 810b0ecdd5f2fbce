"""Objectives on the regions that two detectors look at, against plain NumPy; means over pages; empty pages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torchvision.ops import generalized_box_iou

from docstill.errors import ModelError
from docstill.objective_settings import objective_problems
from docstill.objectives import OBJECTIVES
from docstill.objectives.assigned import one_each
from docstill.objectives.base import BACKGROUND, UNLABELLED, Looks, Objective, Outputs
from docstill.objectives.dsig import Dsig
from docstill.objectives.looks import binary_logits, foreground, page_mean, probabilities, surprise
from docstill.objectives.mgd import Mgd
from docstill.objectives.pkd import Pkd
from docstill.objectives.query import Query, giou
from docstill.objectives.roi import Roi
from looks_made import leaves, look, page_of

Array = NDArray[np.float64]
REGIONS = ["roi", "query", "dsig", "graphkd"]
EITHER = ["query", "dsig", "graphkd"]


def numbers(tensor: Tensor | None) -> Array:
    assert tensor is not None
    return tensor.detach().double().numpy()


def looked(whole: Outputs) -> Looks:
    assert whole.looks is not None
    return whole.looks


def made(kind: str, student: Outputs, teacher: Outputs, **options: Any) -> Objective:
    """An objective that has seen its dry batch; out of training, so that nothing about it changes."""
    torch.manual_seed(0)
    objective = OBJECTIVES[kind](**options)
    objective.prepare(student, teacher)
    return objective.eval()


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    shares: Array = powers / powers.sum(-1, keepdims=True)
    return shares


def scores(looks: Looks) -> Array:
    """Probabilities of the classes."""
    if looks.background is None:
        return 1 / (1 + np.exp(-numbers(looks.classes)))
    return softmax(np.concatenate([numbers(looks.background)[:, None], numbers(looks.classes)], 1))[:, 1:]


def mean_of_pages(values: Array, looks: Looks, documents: int, weights: Array | None = None, least: float = 0) -> float:
    weights = np.ones(len(values)) if weights is None else weights
    total = 0.0
    for page in range(documents):
        here = (looks.pages == page).numpy()
        if weights[here].sum() > 0:
            total += float((weights * values)[here].sum() / max(weights[here].sum(), least))
    return total / documents


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_roi_by_hand(temperature: float) -> None:
    student, teacher = look([7, 0, 4], seed=1), look([7, 0, 4], seed=2)
    ours, theirs = looked(student), looked(teacher)
    z_s, z_t = (np.concatenate([numbers(k.background)[:, None], numbers(k.classes)], 1) for k in (ours, theirs))
    p_s, p_t = softmax(z_s / temperature), softmax(z_t / temperature)
    kl = (p_t * np.log(p_t / p_s)).sum(1) * temperature**2
    likeliest, rows = z_t[:, 1:].argmax(1), np.arange(11)
    given = numbers(ours.given)
    w, h = given[:, 2] - given[:, 0], given[:, 3] - given[:, 1]
    gaps = np.abs(numbers(ours.boxes) - numbers(theirs.boxes))[rows, likeliest] / np.stack([w, h, w, h], 1)
    there = (z_t.argmax(1) > 0).astype(float)
    assert 0 < there.sum() < 11
    expected = mean_of_pages(kl, ours, 3) + 0.5 * mean_of_pages(gaps.sum(1), ours, 3, there)
    assert Roi(temperature, box_weight=0.5)(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_roi_boxes_do_not_depend_on_the_size_of_the_region() -> None:
    """The same error, in units of the region, of regions of two sizes."""
    student, teacher = look([5], seed=1), look([5], seed=2)
    values = []
    for scale in (1.0, 0.1):
        pair = []
        for whole in (student, teacher):
            looks = looked(whole)
            small = Looks(
                looks.pages, scale * looks.given, looks.classes, looks.background, scale * looks.boxes, looks.truths
            )
            pair.append(Outputs(looks.classes, looks.truths, 1, looks=small))
        values.append(Roi()(*pair).item())
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize(("mine", "its"), [(False, True), (True, False), (False, False)])
def test_roi_refuses_detectors_without_background(mine: bool, its: bool) -> None:
    whose = "student" if not mine else "teacher"
    with pytest.raises(ModelError, match=f"the {whose} scores each class by itself; use query"):
        Roi()(look([3], background=mine), look([3], background=its))


@pytest.mark.parametrize(("mine", "its"), [(False, False), (True, True), (True, False)])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_query_by_hand(mine: bool, its: bool, gamma: float) -> None:
    student, teacher = look([7, 0, 4], seed=1, background=mine), look([7, 0, 4], seed=2, background=its)
    ours, theirs = looked(student), looked(teacher)
    p_s, p_t = scores(ours), scores(theirs)
    kl = (p_t * np.log(p_t / p_s) + (1 - p_t) * np.log((1 - p_t) / (1 - p_s))).sum(1)
    sure, likeliest, rows = p_t.max(1), p_t.argmax(1), np.arange(11)
    one, two = ours.boxes[rows, likeliest], theirs.boxes[rows, likeliest]
    off = 5 * np.abs(numbers(one - two)).sum(1) + 2 * (1 - numbers(generalized_box_iou(one, two)).diagonal())
    expected = mean_of_pages(kl, ours, 3, sure**gamma + 0.01) + 0.5 * mean_of_pages(off, ours, 3, sure, least=1)
    assert Query(gamma, box_weight=0.5)(student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_what_a_teacher_finds_many_times_goes_to_one_query() -> None:
    """Three regions on one thing, one on another, one on nothing; the student's box at the third lies best on the first thing."""
    thing, other = torch.tensor([0.1, 0.1, 0.5, 0.5]), torch.tensor([0.6, 0.6, 0.9, 0.9])
    its = torch.stack([thing, thing + 0.01, thing - 0.01, other, other])
    mine = torch.stack([thing + 0.1, thing + 0.2, thing, other, torch.tensor([0.0, 0.8, 0.1, 0.9])])
    sure = torch.tensor([[6.0, 0.0], [5.0, 0.0], [4.0, 0.0], [0.0, 5.0], [-9.0, -9.0]])
    pages = torch.zeros(5, dtype=torch.int64)
    theirs = Looks(pages, its, sure, torch.zeros(5), its[:, None].expand(-1, 2, -1), pages)
    ours = Looks(pages, its, torch.zeros(5, 2), None, mine[:, None].expand(-1, 2, -1), pages)
    found = one_each(ours, theirs)
    said, boxes = found.classes.sigmoid(), found.boxes[:, 0]
    likely = probabilities(theirs)
    assert said[2, 0].item() == pytest.approx(likely[0, 0].item(), rel=1e-4), "the surest of the three, at the best box"
    assert torch.allclose(boxes[2], thing)
    assert said[3, 1].item() == pytest.approx(likely[3, 1].item(), rel=1e-4)
    assert said[[0, 1, 4]].max() < 2e-4, "all others say nothing"
    shifted = replace(ours, boxes=(mine + torch.tensor([0.0, 0.0, 0.1, 0.0]))[:, None].expand(-1, 2, -1))
    worse = one_each(shifted, theirs).classes.sigmoid()
    assert worse[2, 0].item() == pytest.approx(0.8 * likely[0, 0].item(), rel=1e-3), "as far as the boxes overlap"


def test_a_page_on_which_the_teacher_finds_nothing_and_none_at_all() -> None:
    blank = look([3], background=True)
    nothing = replace(looked(blank), classes=torch.full((3, 5), -20.0))
    ours = look([3], seed=1, background=False)
    assert one_each(looked(ours), nothing).classes.sigmoid().max() < 2e-4
    loss = Query()(ours, replace(blank, looks=nothing))
    assert torch.isfinite(loss)
    empty = look([0], background=False), look([0], background=True)
    assert Query()(*empty).item() == 0


def test_query_is_not_drowned_by_regions_where_nothing_is() -> None:
    """One region that the student misses, among 99 that hold nothing."""
    teacher, student = torch.full((100, 5), -6.0), torch.full((100, 5), -6.0)
    teacher[0, 2] = 3.0
    boxes = torch.tensor([0.1, 0.1, 0.5, 0.5]).expand(100, 5, 4)

    def whole(classes: Tensor) -> Outputs:
        truths = torch.full((100,), BACKGROUND)
        looks = Looks(torch.zeros(100, dtype=torch.int64), boxes[:, 0], classes, None, boxes, truths)
        return Outputs(classes, truths, 1, looks=looks)

    alike, weighed = (Query(gamma)(whole(student), whole(teacher)).item() for gamma in (0.0, 1.0))
    assert weighed > 20 * alike


def test_binary_logits_hold_where_probabilities_are_nearly_0_or_1() -> None:
    classes = torch.tensor([[200.0, 0.0, 0.0], [-200.0, 0.0, 1.0], [1.0, 1.0, -300.0], [0.0, 0.0, 0.0]])
    classes.requires_grad_()
    truths = torch.zeros(4, dtype=torch.int64)
    given = torch.zeros(4, 4)
    looks = Looks(truths, given, classes, torch.zeros(4), given[:, None].expand(4, 3, 4), truths)
    logits = binary_logits(looks)
    every = torch.cat([torch.zeros(4, 1), classes], 1).detach().double()
    expected = torch.stack(
        [every[:, j] - every[:, [i for i in range(4) if i != j]].logsumexp(1) for j in range(1, 4)], dim=1
    )
    assert torch.allclose(logits.double(), expected, rtol=1e-5, atol=1e-5)
    logits.sum().backward()
    assert classes.grad is not None
    assert torch.isfinite(classes.grad).all()


def test_giou_is_torchvisions_and_holds_for_boxes_without_area() -> None:
    ours, theirs = looked(look([20], seed=1)).boxes[:, 0], looked(look([20], seed=2, shared=1)).boxes[:, 0]
    assert torch.allclose(giou(ours, theirs), generalized_box_iou(ours, theirs).diagonal(), atol=1e-5)
    point = torch.tensor([[0.3, 0.3, 0.3, 0.3]], requires_grad=True)
    value = giou(point, point.detach())
    assert value.item() == pytest.approx(1)
    value.backward()
    assert point.grad is not None
    assert torch.isfinite(point.grad).all()


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
def test_dsig_by_hand(background: bool, labelled: bool) -> None:
    counts = [9, 0, 6, 1]
    student = look(counts, seed=1, background=background, labelled=labelled)
    teacher = look(counts, seed=2, background=background, labelled=labelled)
    ours, theirs = looked(student), looked(teacher)
    p_t = scores(theirs)
    nothing = 1 - p_t.sum(1) if background else 1 - p_t.max(1)
    opinion = p_t.max(1) >= (nothing if background else 0.5)
    there = (ours.truths >= 0).numpy() if labelled else opinion
    doubted = -np.log(nothing) >= 0.6
    f_s, f_t = (numbers(looks.pooled).reshape(16, -1) for looks in (ours, theirs))
    expected, mined = 0.0, 0
    for page in range(4):
        here = (ours.pages == page).numpy()
        front, back, nodes = here & there, here & ~there, here & (there | doubted)
        mined += int((nodes & ~there).sum())
        if front.any():
            expected += 0.5 * np.square(f_s - f_t)[front].mean()
        if back.any():
            expected += 0.5 * 7.5 * front.sum() / back.sum() * np.square(f_s - f_t)[back].mean()
        if nodes.sum() > 1:
            u_s, u_t = (f[nodes] / np.linalg.norm(f[nodes], axis=1, keepdims=True) for f in (f_s, f_t))
            expected += 2.0 * 0.5 * np.square(u_s @ u_s.T - u_t @ u_t.T).mean()
    assert mined or not background
    assert made("dsig", student, teacher)(student, teacher).item() == pytest.approx(expected / 4, rel=1e-4)


def test_the_background_of_dsig_weighs_as_in_its_own_code_and_not_as_in_graphkds() -> None:
    """128 regions with something and 384 without: 2.5, where a misplaced bracket gives 0.04."""
    count = 512
    truths = torch.cat([torch.zeros(128, dtype=torch.int64), torch.full((384,), BACKGROUND)])
    zeros = torch.zeros(count, 1)

    def whole(features: Tensor) -> Outputs:
        boxes = torch.zeros(count, 4)
        looks = Looks(
            torch.zeros(count, dtype=torch.int64), boxes, zeros, zeros[:, 0] + 9, boxes[:, None], truths, features
        )
        return Outputs(zeros, truths, 1, looks=looks)

    features = torch.ones(count, 2, 1, 1)
    off = features.clone()
    off[128:] += 1
    value = Dsig(edge_weight=0.0, background_weight=1.0)(whole(off), whole(features)).item()
    assert value == pytest.approx(7.5 * 128 / 384)


def test_pkd_by_hand_is_one_minus_pearson() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 4, 5, 2, generator=generator) for _ in range(2))
    columns = [numbers(features).transpose(1, 0, 2, 3).reshape(4, -1) for features in (student, 3 * teacher + 7)]
    expected = 1 - np.mean([np.corrcoef(one, two)[0, 1] for one, two in zip(*columns, strict=True)])
    assert pair_loss(Pkd("a", "b"), student, 3 * teacher + 7).item() == pytest.approx(expected, rel=1e-4)


def features(value: Tensor, path: str) -> Outputs:
    return Outputs(torch.zeros(len(value), 2), torch.zeros(len(value), dtype=torch.int64), len(value), {path: value})


def pair_loss(objective: Objective, student: Tensor, teacher: Tensor) -> Tensor:
    torch.manual_seed(0)
    objective.prepare(features(student, "a"), features(teacher, "b"))
    loss: Tensor = objective(features(student, "a"), features(teacher, "b"))
    return loss


@pytest.mark.parametrize("kind", [Pkd, Mgd])
def test_maps_of_other_grids_and_widths_get_a_projector(kind: type[Pkd | Mgd]) -> None:
    """The pages of two batches need not have one size."""
    generator = torch.Generator().manual_seed(0)
    objective = kind("a", "b")
    student = torch.randn(2, 3, 8, 6, generator=generator, requires_grad=True)
    pair_loss(objective, student, torch.randn(2, 5, 4, 3, generator=generator)).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert isinstance(objective.projector, torch.nn.Linear)
    assert objective.projector.weight.grad is not None
    other = objective(features(torch.randn(1, 3, 9, 9), "a"), features(torch.randn(1, 5, 5, 5), "b"))
    assert torch.isfinite(other)


def test_pkd_of_equals_of_dead_channels_and_of_other_scales() -> None:
    maps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    maps[:, 1] = 0
    assert pair_loss(Pkd("a", "b"), maps, maps).item() == pytest.approx(0, abs=1e-6)
    assert pair_loss(Pkd("a", "b"), maps, 100 * maps - 5).item() == pytest.approx(0, abs=1e-4)
    student = torch.ones(2, 3, 4, 4, requires_grad=True)
    pair_loss(Pkd("a", "b"), student, maps).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_pkd_takes_tokens_of_one_length_only() -> None:
    assert torch.isfinite(pair_loss(Pkd("a", "b"), torch.randn(2, 9, 4), torch.randn(2, 9, 6)))
    with pytest.raises(ModelError, match="positions"):
        pair_loss(Pkd("a", "b"), torch.randn(2, 9, 4), torch.randn(2, 10, 4))


@pytest.mark.parametrize("training", [True, False])
def test_mgd_by_hand(training: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    objective = Mgd("a", "b", mask=0.5).train(training)
    objective.prepare(features(student, "a"), features(teacher, "b"))
    torch.manual_seed(5)
    drawn = torch.rand(2, 1, 4, 5)
    torch.manual_seed(5)
    value = objective(features(student, "a"), features(teacher, "b")).item()
    masked = numbers(student) * (numbers(drawn) >= 0.5) if training else numbers(student)
    first, _, second = objective.generator
    assert isinstance(first, torch.nn.Conv2d)
    assert isinstance(second, torch.nn.Conv2d)
    generated = convolved(np.maximum(convolved(masked, first), 0), second)
    target = numbers(teacher)
    variance = np.square(target - target.mean((0, 2, 3), keepdims=True)).mean()
    assert value == pytest.approx(np.square(generated - target).mean() / variance, rel=1e-4)


def convolved(maps: Array, layer: torch.nn.Conv2d) -> Array:
    padded = np.pad(maps, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    result: Array = np.einsum("bchwij,ocij->bohw", windows, numbers(layer.weight))
    return result + numbers(layer.bias)[:, None, None]


def test_mgd_draws_a_new_mask_each_time_and_the_same_ones_for_a_seed() -> None:
    maps = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    objective = Mgd("a", "b")
    values = []
    for seed in (1, 1, 2):
        pair_loss(objective, maps, maps)  # the same generator each time
        torch.manual_seed(seed)
        values.append(objective(features(maps, "a"), features(maps, "b")).item())
    assert values[0] == values[1] != values[2]


def test_mgd_can_reach_negative_targets() -> None:
    torch.manual_seed(0)
    student = torch.randn(2, 8, 5, 5)
    teacher = student[:, :4] - 1
    objective = Mgd("a", "b", mask=0.0)
    objective.prepare(features(student, "a"), features(teacher, "b"))
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        loss = objective(features(student, "a"), features(teacher, "b"))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_mgd_needs_maps() -> None:
    with pytest.raises(ModelError, match=r"maps \(B, C, H, W\) are needed, and a gives \(2, 9, 4\)"):
        pair_loss(Mgd("a", "b"), torch.randn(2, 9, 4), torch.randn(2, 9, 4))


@pytest.mark.parametrize("kind", ["pkd", "mgd"])
def test_features_of_the_teacher_get_no_gradient(kind: str) -> None:
    student, teacher = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)
    pair_loss(OBJECTIVES[kind]("a", "b"), student, teacher).backward()  # type: ignore[call-arg]
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("kind", REGIONS)
def test_equals_give_nothing(kind: str, background: bool) -> None:
    if kind == "roi" and not background:
        return
    one, two = (look([8, 0, 1, 5], seed=3, background=background) for _ in range(2))
    assert made(kind, one, two)(one, two).item() == pytest.approx(0, abs=2e-6)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", REGIONS)
def test_gradients_reach_the_student_and_not_the_teacher(kind: str, labelled: bool) -> None:
    student, teacher = look([8, 5], seed=1, labelled=labelled), look([8, 5], seed=2, labelled=labelled, width=9)
    mine, its = leaves(student), leaves(teacher)
    objective = made(kind, student, teacher).train()
    objective(student, teacher).backward()
    reached = [tensor.grad for tensor in mine if tensor.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in reached)
    assert sum(gradient.abs().sum().item() for gradient in reached) > 0
    assert all(tensor.grad is None for tensor in its)
    assert all(parameter.grad is not None for parameter in objective.parameters())


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("kind", EITHER)
def test_a_batch_is_the_mean_of_its_pages(kind: str, background: bool) -> None:
    """The published losses are sums over the images of a batch. Pages without regions count."""
    counts = [9, 1, 0, 12, 2]
    student, teacher = look(counts, seed=1, background=background), look(counts, seed=2, background=background)
    objective = made(kind, student, teacher)
    alone = [objective(page_of(student, page), page_of(teacher, page)).item() for page in range(len(counts))]
    assert alone[2] == 0
    assert objective(student, teacher).item() == pytest.approx(np.mean(alone), rel=1e-4)


def test_a_batch_is_the_mean_of_its_pages_for_roi() -> None:
    student, teacher = look([9, 1, 0, 12], seed=1), look([9, 1, 0, 12], seed=2)
    alone = [Roi()(page_of(student, page), page_of(teacher, page)).item() for page in range(4)]
    assert Roi()(student, teacher).item() == pytest.approx(np.mean(alone), rel=1e-4)


@pytest.mark.parametrize("counts", [[0], [1], [0, 0], [1, 0], [1, 1]])
@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", REGIONS)
def test_pages_with_no_region_or_one_are_no_trouble(kind: str, labelled: bool, counts: list[int]) -> None:
    student, teacher = look(counts, seed=1, labelled=labelled), look(counts, seed=2, labelled=labelled)
    mine = leaves(student)
    loss = made(kind, student, teacher).train()(student, teacher)
    loss.backward()
    assert torch.isfinite(loss)
    assert (loss.item() == 0) or sum(counts)
    assert all(tensor.grad is None or torch.isfinite(tensor.grad).all() for tensor in mine)


@pytest.mark.parametrize("kind", ["dsig", "graphkd"])
def test_pooled_features_of_another_grid_are_resized_even_where_there_are_none(kind: str) -> None:
    for counts in ([4, 2], [0]):
        student, teacher = look(counts, seed=1, grid=5), look(counts, seed=2, width=9)
        assert torch.isfinite(made(kind, student, teacher)(student, teacher))


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("truth", [BACKGROUND, 2])
def test_pages_of_nothing_but_background_or_foreground(kind: str, truth: int) -> None:
    student, teacher = look([6, 3], seed=1), look([6, 3], seed=2)
    for whole in (student, teacher):
        looked(whole).truths[:] = truth
    mine = leaves(student)
    loss = made(kind, student, teacher).train()(student, teacher)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(tensor.grad is None or torch.isfinite(tensor.grad).all() for tensor in mine)


@pytest.mark.parametrize("kind", REGIONS)
def test_large_logits_and_features_stay_finite(kind: str) -> None:
    student, teacher = look([6, 3], seed=1), look([6, 3], seed=2)
    for whole in (student, teacher):
        looks = looked(whole)
        looks.classes *= 1e4
        assert looks.pooled is not None
        looks.pooled *= 1e4
        looks.pooled[0] = 0
        looks.boxes[1] = looks.boxes[1, :, :2].repeat(1, 2)
    mine = leaves(student)
    loss = made(kind, student, teacher)(student, teacher)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(tensor.grad is None or torch.isfinite(tensor.grad).all() for tensor in mine)


@pytest.mark.parametrize(("kind", "background"), [("roi", True), ("query", True), ("query", False)])
def test_gradients_are_those_of_finite_differences(kind: str, background: bool) -> None:
    student, teacher = look([4, 2], seed=1, background=background), look([4, 2], seed=2, background=background)
    for whole in (student, teacher):
        looks = looked(whole)
        looks.classes, looks.boxes = looks.classes.double(), looks.boxes.double()
        looks.given = looks.given.double()
        if looks.background is not None:
            looks.background = looks.background.double()
    looks = looked(student)

    def value(classes: Tensor, boxes: Tensor) -> Tensor:
        looks.classes, looks.boxes = classes, boxes
        return OBJECTIVES[kind]()(student, teacher)

    free = looks.classes.clone().requires_grad_(), looks.boxes.clone().requires_grad_()
    assert torch.autograd.gradcheck(value, free)


@pytest.mark.parametrize("kind", REGIONS)
def test_other_classes_and_other_tasks_are_refused(kind: str) -> None:
    student, teacher = look([3]), look([3])
    looked(teacher).classes = torch.zeros(3, 7)
    with pytest.raises(ModelError, match=f"{kind} compares detectors of the same classes"):
        OBJECTIVES[kind]()(student, teacher)
    bare = Outputs(torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64), 3)
    with pytest.raises(ModelError, match="use it with the task layout"):
        OBJECTIVES[kind]()(bare, bare)


@pytest.mark.parametrize("kind", ["dsig", "graphkd"])
def test_features_are_asked_for_and_needed(kind: str) -> None:
    assert OBJECTIVES[kind].pools
    whole = look([3])
    looked(whole).pooled = None
    with pytest.raises(ModelError, match=f"{kind} compares the features of regions"):
        OBJECTIVES[kind]().prepare(whole, whole)


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [
        ("roi", {"temperature": 1.0}, {"temperature": 4.0}),
        ("roi", {"box_weight": 1.0}, {"box_weight": 4.0}),
        ("query", {"gamma": 0.0}, {"gamma": 2.0}),
        ("query", {"box_weight": 1.0}, {"box_weight": 4.0}),
        ("dsig", {"foreground_weight": 0.5}, {"foreground_weight": 1.0}),
        ("dsig", {"background_weight": 0.5}, {"background_weight": 1.0}),
        ("dsig", {"edge_weight": 0.5}, {"edge_weight": 4.0}),
        ("dsig", {"alpha": 1.0}, {"alpha": 7.5}),
        ("dsig", {"mining": 0.1, "edge_weight": 99.0}, {"mining": 5.0, "edge_weight": 99.0}),
        ("graphkd", {"split": "labels"}, {"split": "covariance"}),
        ("graphkd", {"non_text": ["figure"]}, {"non_text": ["text", "caption"]}),
        ("graphkd", {"text_weight": 0.5}, {"text_weight": 1.0}),
        ("graphkd", {"edge_weight": 0.5}, {"edge_weight": 1.0}),
    ],
)
def test_every_setting_changes_the_value(kind: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    student, teacher = look([20, 15], seed=1), look([20, 15], seed=2)
    values = [made(kind, student, teacher, **options)(student, teacher).item() for options in (one, two)]
    assert values[0] != pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"kind": "roi", "temperature": 0}, "0.temperature: 0 given"),
        ({"kind": "roi", "box_weight": -1}, "0.box_weight: -1 given"),
        ({"kind": "query", "gama": 1}, "0.gama: unknown key; did you mean gamma?"),
        ({"kind": "pkd"}, "0.student_module: required, not given"),
        ({"kind": "mgd", "student_module": "a", "mask": 1.0}, "0.mask: 1.0 given"),
        ({"kind": "dsig", "mining": -0.1}, "0.mining: -0.1 given"),
        ({"kind": "graphkd", "split": "label"}, "0.split: 'label' given, one of labels, covariance expected"),
        ({"kind": "graphkd", "split": "covariance", "non_text": ["table"]}, "0.non_text: names are given"),
    ],
)
def test_options_are_checked(entry: dict[str, Any], problem: str) -> None:
    problems = objective_problems([entry])
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_options_that_hold() -> None:
    entries: list[dict[str, Any]] = [
        {"kind": "roi", "temperature": 1, "box_weight": 0},
        {"kind": "query", "gamma": 0},
        {"kind": "pkd", "student_module": "a"},
        {"kind": "mgd", "student_module": "a", "mask": 0.5},
        {"kind": "dsig"},
        {"kind": "graphkd", "non_text": ["table", "figure"]},
    ]
    assert not objective_problems(entries)
    assert all("layout" in OBJECTIVES[entry["kind"]].tasks for entry in entries)
    assert all(OBJECTIVES[entry["kind"]].average == "documents" for entry in entries)


def test_page_mean_by_hand() -> None:
    pages, values = torch.tensor([0, 0, 0, 2]), torch.tensor([1.0, 2.0, 6.0, 5.0])
    assert page_mean(values, pages, 3).item() == pytest.approx((3 + 0 + 5) / 3)
    counts = torch.tensor([True, False, True, False])
    assert page_mean(values, pages, 3, counts).item() == pytest.approx(3.5 / 3)
    assert page_mean(values, pages, 3, counts, least=4.0).item() == pytest.approx(7 / 4 / 3)


def test_what_is_foreground_by_labels_and_by_the_teacher() -> None:
    classes = torch.tensor([[2.0, 0.0], [-2.0, -1.0], [0.2, -3.0], [2.0, 0.0]])
    boxes = torch.zeros(4, 2, 4)
    truths = torch.tensor([UNLABELLED, UNLABELLED, UNLABELLED, BACKGROUND])
    pages = torch.zeros(4, dtype=torch.int64)
    alone = Looks(pages, boxes[:, 0], classes, None, boxes, truths)
    beside = Looks(pages, boxes[:, 0], classes, torch.full((4,), 1.0), boxes, truths)
    assert foreground(truths, alone).tolist() == [True, False, True, False]
    assert foreground(truths, beside).tolist() == [True, False, False, False]
    assert torch.allclose(surprise(beside), -(1 - probabilities(beside).sum(1)).log(), atol=1e-5)
    assert torch.allclose(surprise(alone), -(1 - probabilities(alone).amax(1)).log(), atol=1e-5)
    every = torch.cat([torch.full((4, 1), 1.0), classes], 1)
    assert torch.allclose(probabilities(beside), functional.softmax(every, 1)[:, 1:])
