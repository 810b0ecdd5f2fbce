"""One way to ask any detector, whatever its family: boxes are left, top, right, bottom as shares of the network's input.

Classes stand in the network's own order here; the task `layout` brings those of student and teacher together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign, box_convert, box_iou

from docstill.errors import ModelError
from docstill.models import detr
from docstill.models.blocks import QUERY_DETECTORS, TWO_STAGE_DETECTOR
from docstill.models.faster_rcnn import FasterRcnn

ON_A_PAGE = 100
"""Regions of a page that two DETR-type networks are compared on: the student's likeliest, behind the labelled ones where features are."""
SAME = 0.5
"""Overlap from which a box that a network chose itself stands for a region that it was not asked about."""


@dataclass(frozen=True)
class Answers:
    """What a network says of ``N`` regions; see `docstill.objectives.base.Looks`."""

    classes: Tensor
    background: Tensor | None
    boxes: Tensor
    pooled: Tensor | None = None


@dataclass(frozen=True)
class Learnt:
    """A training look: the network's own loss, the page of each region, the regions, and what is said of them if asked."""

    loss: Tensor
    pages: Tensor
    given: Tensor
    answers: Answers | None


def check_learns(network: Any) -> None:
    """Refuses a network that can only be a teacher.

    Raises:
        ModelError: it is of another kind than those whose losses are known here.
    """
    if network.config.model_type not in (TWO_STAGE_DETECTOR, *QUERY_DETECTORS):
        raise ModelError(
            f"a {network.config.model_type} can teach but not learn here; choose a student of faster-rcnn, rt-detrv2 or d-fine"
        )


def learn(
    network: Any, pixels: Tensor, boxes: Sequence[Tensor], labels: Sequence[Tensor], looks: bool, pools: bool
) -> Learnt:
    """Looks at labelled pages ``(B, 3, H, W)``: of each page boxes ``(T, 4)`` and labels ``(T,)``.

    Raises:
        ModelError: as for `check_learns`.
    """
    if isinstance(network, FasterRcnn):
        scale = _scale(pixels)
        sampled = network.learn(pixels, [there * scale for there in boxes], list(labels), pools)
        answers = sampled.answers
        return Learnt(
            sampled.loss,
            _numbered(sampled.regions),
            torch.cat(sampled.regions) / scale,
            Answers(answers.logits[:, 1:], answers.logits[:, 0], answers.boxes / scale, answers.pooled),
        )
    check_learns(network)
    centred = [box_convert(there, "xyxy", "cxcywh") for there in boxes]
    chosen = detr.learn(network, pixels, centred, list(labels))
    count = min(ON_A_PAGE, chosen.regions.shape[1])
    # Labelled regions among its own would tell its queries where all lies; they are there for objectives that compare features of regions.
    first = centred if pools else [there[:0] for there in centred]
    given = torch.stack([torch.cat([truths, own])[:count] for truths, own in zip(first, chosen.regions, strict=True)])
    flat = box_convert(given, "cxcywh", "xyxy").flatten(0, 1)
    answers_ = _decoded(network, chosen.memory, given, pools) if looks else None
    return Learnt(chosen.loss, _numbered(list(given)), flat, answers_)


def look(network: Any, pixels: Tensor, frames: Tensor, pages: Tensor, given: Tensor, pools: bool) -> Answers:
    """What the network says of ``given`` ``(N, 4)`` on the ``pages`` ``(N,)``, which do not fall.

    ``frames`` ``(B, 4)`` say which share of the input's width, height, width, height each page fills.
    """
    parts = [given[pages == page] for page in range(len(pixels))]
    if isinstance(network, FasterRcnn):
        scale = _scale(pixels)
        answers = network.look(pixels, [part * scale for part in parts], pools)
        return Answers(answers.logits[:, 1:], answers.logits[:, 0], answers.boxes / scale, answers.pooled)
    if network.config.model_type in QUERY_DETECTORS:
        memory = detr.remember(network, pixels)
        if len({len(part) for part in parts}) == 1:
            return _decoded(network, memory, box_convert(torch.stack(parts), "xyxy", "cxcywh"), pools)
        one_by_one = []  # regions of a page see one another in the decoder, so none can be padded with others
        for page, part in enumerate(parts):
            own = {**memory, "encoder_hidden_states": memory["encoder_hidden_states"][page : page + 1]}
            one_by_one.append(_decoded(network, own, box_convert(part, "xyxy", "cxcywh")[None], pools))
        return _joined(one_by_one)
    if pools:
        raise ModelError(
            f"a {network.config.model_type} shows no features of regions; use objectives that compare answers, such as query"
        )
    return _matched(network, pixels, frames, parts)


def glance(network: Any, pixels: Tensor, frames: Tensor) -> None:
    """Passes pages through a network that somebody taps; ``frames`` as for `look`."""
    if network.config.model_type in QUERY_DETECTORS:
        detr.remember(network, pixels)
    elif isinstance(network, FasterRcnn):
        network.detect(pixels)
    else:
        _own(network, pixels, frames)


def detect(network: Any, pixels: Tensor, frames: Tensor, most: int) -> list[dict[str, Tensor]]:
    """Of each page ``boxes`` (n, 4), ``scores`` and ``labels``, surest first; at most ``most``; the network in eval mode.

    ``frames`` as for `look`.
    """
    if isinstance(network, FasterRcnn):
        scale = _scale(pixels)
        return [
            {name: (value / scale if name == "boxes" else value)[:most] for name, value in page.items()}
            for page in network.detect(pixels)
        ]
    if network.config.model_type in QUERY_DETECTORS:
        found = detr.detect(network, pixels, most)
        return [{**page, "boxes": box_convert(page["boxes"], "cxcywh", "xyxy")} for page in found]
    pages = []
    all_probabilities, all_boxes, one_class = _own(network, pixels, frames)
    for probabilities, boxes in zip(all_probabilities, all_boxes, strict=True):
        if one_class:
            scores, labels = probabilities.max(-1)
            scores, place = scores.topk(min(most, len(scores)))
            labels = labels[place]
        else:  # as the authors do, one query may stand for several classes
            scores, index = probabilities.flatten().topk(min(most, probabilities.numel()))
            place, labels = index // probabilities.shape[-1], index % probabilities.shape[-1]
        pages.append({"boxes": boxes[place], "scores": scores, "labels": labels})
    return pages


def _decoded(network: Any, memory: dict[str, Any], given: Tensor, pools: bool) -> Answers:
    """Of ``(B, Q, 4)`` regions (centres and sizes), flattened to ``N = B · Q``."""
    answer = detr.look(network, memory, given)
    logits, boxes = answer.logits.flatten(0, 1), box_convert(answer.boxes, "cxcywh", "xyxy").flatten(0, 1)
    pooled = _pooled(memory, box_convert(given, "cxcywh", "xyxy")) if pools else None
    return Answers(logits, None, boxes[:, None].expand(-1, logits.shape[-1], -1), pooled)


def _pooled(memory: dict[str, Any], given: Tensor) -> Tensor:
    """Features of the regions, cut out of the maps that the decoder looks at."""
    flat, maps, start = memory["encoder_hidden_states"].float(), {}, 0
    shapes = memory["spatial_shapes_list"]
    for level, (height, width) in enumerate(shapes):
        part = flat[:, start : start + height * width]
        maps[str(level)] = part.transpose(1, 2).unflatten(2, (height, width))
        start += height * width
    height, width = 8 * shapes[0][0], 8 * shapes[0][1]  # the finest map has stride 8
    scale = given.new_tensor([width, height, width, height])
    pool = MultiScaleRoIAlign(list(maps), output_size=7, sampling_ratio=2)
    pooled: Tensor = pool(maps, list(given * scale), [(height, width)] * len(given))
    return pooled


def _own(network: Any, pixels: Tensor, frames: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Probabilities ``(B, Q, C)`` and boxes ``(B, Q, 4)``, shares of the input, of the regions that a network chose itself.

    And whether a region can be of one class alone.
    """
    height, width = pixels.shape[-2:]
    across, down = (frames[:, :2] * frames.new_tensor([width, height])).round().unbind(1)
    columns = torch.arange(width, device=pixels.device) < across[:, None]
    rows = torch.arange(height, device=pixels.device) < down[:, None]
    filled = (rows[:, :, None] & columns[:, None, :]).long()
    answer = network(pixel_values=pixels, pixel_mask=filled)
    logits = answer.logits.float()
    classes = network.config.num_labels
    # Where there is one logit more than classes, it stands for "nothing", and the classes share what is left.
    one_class = logits.shape[-1] > classes
    probabilities = logits.softmax(-1)[..., :classes] if one_class else logits.sigmoid()
    # Boxes of these networks are shares of the page, for the mask tells them where its padding begins.
    return probabilities, box_convert(answer.pred_boxes.float(), "cxcywh", "xyxy") * frames[:, None], one_class


def _matched(network: Any, pixels: Tensor, frames: Tensor, parts: Sequence[Tensor]) -> Answers:
    """For a network that cannot be asked about regions: its own box that lies best on each, or else background."""
    all_probabilities, all_boxes, _ = _own(network, pixels, frames)
    classes, where = [], []
    for part, probabilities, boxes in zip(parts, all_probabilities, all_boxes, strict=True):
        overlap, best = box_iou(part, boxes).max(1)
        near = (overlap >= SAME)[:, None]
        classes.append(torch.where(near, probabilities[best], torch.zeros(())).logit(eps=1e-4))
        where.append(torch.where(near, boxes[best], part))
    logits = torch.cat(classes)
    return Answers(logits, None, torch.cat(where)[:, None].expand(-1, logits.shape[-1], -1))


def _joined(parts: Sequence[Answers]) -> Answers:
    return Answers(
        torch.cat([part.classes for part in parts]),
        None,
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.pooled for part in parts if part.pooled is not None]) if parts[0].pooled is not None else None,
    )


def _numbered(parts: Sequence[Tensor]) -> Tensor:
    """The page of each region of ``parts``, put one after the other."""
    return torch.cat([part.new_full((len(part),), page, dtype=torch.int64) for page, part in enumerate(parts)])


def _scale(pixels: Tensor) -> Tensor:
    height, width = pixels.shape[-2:]
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=pixels.device)
