"""RT-DETR, RT-DETRv2 and D-FINE: their decoders, asked about regions that they are given.

A detector of this kind chooses places on the encoder's maps, and its decoder says what lies there and where exactly. What
it chooses differs from network to network, so a student's and a teacher's answers cannot be compared one by one. Here the
decoder of either starts from the same regions (KD-DETR; Wang et al. 2024, arXiv 2211.08071, "consistent distillation
points"): the region is the query's reference box, and the query's content is what the network's own encoder has at the
region's centre, on the level whose anchors are nearest in size, just as for a place that it chose itself.

Boxes here are centre x, centre y, width, height as shares of the network's input.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from docstill.errors import ModelError

ANCHOR = 0.05
"""Side of the finest level's anchors as a share of the input; it doubles from level to level (``generate_anchors``)."""


@dataclass(frozen=True)
class QueryAnswers:
    """What a decoder says of regions: logits ``(B, Q, C)``, each class by itself, and boxes ``(B, Q, 4)``."""

    logits: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Chosen:
    """A training look: the loss, ``(B, Q, 4)`` regions the encoder holds likeliest, and what the decoder needs for others."""

    loss: Tensor
    regions: Tensor
    memory: dict[str, Any]


def learn(network: Any, pixel_values: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> Chosen:
    """Looks at labelled pages.

    Args:
        network: e.g. an `RTDetrV2ForObjectDetection`.
        pixel_values: ``(B, 3, H, W)``.
        boxes: of each page ``(T, 4)``; a page may have none.
        labels: of each page ``(T,)``.

    Returns:
        The network's own loss: a mean over the labelled regions of the batch.

    Raises:
        ModelError: training has diverged.
    """
    truths = [{"boxes": there, "class_labels": what} for there, what in zip(boxes, labels, strict=True)]
    with _float32_but_for_backbone(network, pixel_values), _remembered(network) as memory:
        try:
            answer = network(pixel_values=pixel_values, labels=truths)
        except ValueError as error:  # how the assignment of labels to queries ends where boxes are no numbers any more
            if "boxes" in str(error) or "nan" in str(error).lower():
                raise ModelError(
                    "the boxes that the network says are no numbers any more; lower learning_rate"
                ) from error
            raise
    queries = network.config.num_queries  # behind those that are noisy copies of the truths
    return Chosen(answer.loss, memory["reference_points"][:, -queries:].sigmoid().detach(), memory)


def remember(network: Any, pixel_values: Tensor) -> dict[str, Any]:
    """What the decoder needs to be asked about regions."""
    with _float32_but_for_backbone(network, pixel_values), _remembered(network) as memory:
        network(pixel_values=pixel_values)
    return memory


def look(network: Any, memory: dict[str, Any], regions: Tensor) -> QueryAnswers:
    """What the decoder says of ``regions`` ``(B, Q, 4)``, the same number on each page; all are in one attention."""
    model = network.model
    kept: Tensor = memory["encoder_hidden_states"]
    shapes = memory["spatial_shapes_list"]
    with _in_float32(kept):
        _, valid = model.generate_anchors(tuple(shapes), device=kept.device, dtype=kept.dtype)
        contents = model.enc_output(valid.to(kept.dtype) * kept)
        index = places(regions, shapes).unsqueeze(-1).expand(-1, -1, contents.shape[-1])
        asked = {
            **memory,
            "inputs_embeds": contents.gather(1, index).detach(),
            "reference_points": torch.special.logit(regions, eps=1e-5).to(kept.dtype),
            "encoder_attention_mask": None,
        }
        answer = model.decoder(**asked)
    return QueryAnswers(answer.intermediate_logits[:, -1].float(), answer.intermediate_reference_points[:, -1].float())


def proposed(network: Any, offsets: Tensor, shapes: tuple[tuple[int, int], ...]) -> tuple[Tensor, Tensor]:
    """Where the encoder takes the things to be that it sees at each place of its maps.

    Args:
        network: whose encoder.
        offsets: ``(B, N, 4)`` float32, what its head for boxes says: how far they are from the place's anchor.
        shapes: height and width of each level's map, finest first; ``N`` places in all.

    Returns:
        ``(B, N, 4)`` boxes, and ``(1, N)`` bool, False where a place is too near the edge to be chosen: its box means nothing.
    """
    anchors, valid = network.model.generate_anchors(shapes, device=offsets.device, dtype=offsets.dtype)
    there = valid.bool()
    return (offsets + torch.where(there, anchors, torch.zeros_like(anchors))).sigmoid(), there[..., 0]


def places(regions: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
    """Where the content of each region's query is found.

    Args:
        regions: ``(B, Q, 4)``.
        shapes: height and width of each level's map, finest first.

    Returns:
        ``(B, Q)`` int64, index into all maps, flattened one after the other.
    """
    side = (regions[..., 2] * regions[..., 3]).clamp_min(1e-8).sqrt()
    level = (side / ANCHOR).log2().round().clamp(0, len(shapes) - 1).long()
    sizes = torch.tensor(shapes, device=regions.device)
    starts = torch.tensor([0, *(height * width for height, width in shapes[:-1])], device=regions.device).cumsum(0)
    height, width = sizes[level, 0], sizes[level, 1]
    row = (regions[..., 1] * height).long().clamp_min(0).minimum(height - 1)
    column = (regions[..., 0] * width).long().clamp_min(0).minimum(width - 1)
    return starts[level] + row * width + column


def detect(network: Any, pixel_values: Tensor, most: int) -> list[dict[str, Tensor]]:
    """Of each page ``boxes`` (n, 4), ``scores`` and ``labels``, surest first; the network in eval mode.

    As the authors do, one query may stand for several classes, and there is no suppression of overlaps.
    """
    answer = network(pixel_values=pixel_values)
    scores = answer.logits.float().sigmoid().flatten(1)
    scores, index = scores.topk(min(most, scores.shape[1]), dim=1)
    classes = answer.logits.shape[-1]
    boxes = answer.pred_boxes.float().gather(1, (index // classes).unsqueeze(-1).expand(-1, -1, 4))
    return [
        {"boxes": there, "scores": sure, "labels": what}
        for there, sure, what in zip(boxes, scores, index % classes, strict=True)
    ]


def _in_float32(tensor: Tensor) -> torch.autocast:
    """No autocast: the decoder takes and gives boxes as shares of the page, and in bf16 these have steps of 1/256."""
    return torch.autocast(tensor.device.type, enabled=False)


@contextmanager
def _float32_but_for_backbone(network: Any, pixel_values: Tensor) -> Iterator[None]:
    """Lets the backbone alone run in the autocast that holds outside: it knows nothing of boxes, and most of the time goes there."""
    kind = pixel_values.device.type
    outside = torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind))
    backbone = network.model.backbone
    forward = backbone.forward

    def as_outside(*given: Any) -> list[tuple[Tensor, Tensor]]:
        with outside:
            maps = forward(*given)
        return [(each.float(), mask) for each, mask in maps]

    backbone.forward = as_outside
    try:
        with _in_float32(pixel_values):
            yield
    finally:
        del backbone.forward


@contextmanager
def _remembered(network: Any) -> Iterator[dict[str, Any]]:
    """Fills a dict with the arguments of the first call of the network's decoder within the block."""
    kept: dict[str, Any] = {}

    def note(module: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not kept:
            kept.update(named)

    handle = network.model.decoder.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield kept
    finally:
        handle.remove()
