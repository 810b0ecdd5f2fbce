"""How hard each objective pulls at the student, beside the labels: one that drowns them, or hardly counts, is seen in time.

The published small students of GraphKD came to localise hardly at all while the losses of all their objectives fell; which
of them had taken over could not be told from the losses. Nor can it be told that one does nothing: the labels' loss of an
RT-DETR is a sum over its decoder's layers and noisy copies, beside which objectives at weights that suit a Faster R-CNN vanish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import Any

import torch
from torch import Tensor, nn

LABELS = "labels"
DROWNS = 10.0
"""From so many times the gradient of the labels, what they say hardly counts."""
IDLES = 0.02
"""Down to such a share of the gradient of the labels, an objective hardly counts."""


def gradient_ratios(losses: Mapping[str, Tensor], student: nn.Module) -> dict[str, float]:
    """The norm of each weighted loss's gradient over that of the labels.

    Args:
        losses: by name, one of them `LABELS`; their graphs are kept.
        student: what is pulled at, as far as it learns.

    Returns:
        By name, without the labels; empty if the labels have no gradient here.
    """
    if LABELS not in losses:
        return {}
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    sizes = {name: _size(loss, learning) for name, loss in losses.items()}
    labels = sizes.pop(LABELS)
    return {name: size / labels for name, size in sizes.items()} if labels else {}


def mean_ratios(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The geometric mean of each objective's ratios over a training, by name; one whose gradient was 0 was meant so, and is left out.

    Args:
        lines: of a `metrics.jsonl`.
    """
    found: dict[str, list[float]] = {}
    for line in lines:
        for name, ratio in line.get("gradients", {}).items():
            if ratio > 0:
                found.setdefault(name, []).append(ratio)
    return {name: geometric_mean(ratios) for name, ratios in found.items()}


def unbalanced(lines: Sequence[Mapping[str, Any]], title: str) -> list[str]:
    """A sentence for each objective whose gradient was `DROWNS` times that of the labels or more, or `IDLES` of it or less.

    Args:
        lines: of a `metrics.jsonl`.
        title: what the sentences call the training.
    """
    sentences = []
    for name, ratio in mean_ratios(lines).items():
        if ratio >= DROWNS:
            sentences.append(
                f"{title}: the gradient of {name} was {ratio:.0f} times that of the labels, which hardly counted beside it; lower its weight."
            )
        elif ratio <= IDLES:
            sentences.append(
                f"{title}: the gradient of {name} was {ratio:.2g} of that of the labels, beside which it hardly counted; raise its weight."
            )
    return sentences


def _size(loss: Tensor, parameters: Sequence[nn.Parameter]) -> float:
    if not loss.requires_grad:
        return 0.0
    gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    squares = [gradient.detach().float().square().sum() for gradient in gradients if gradient is not None]
    return float(torch.stack(squares).sum().sqrt()) if squares else 0.0
