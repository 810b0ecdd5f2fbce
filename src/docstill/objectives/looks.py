"""Two detectors' looks at the same regions, side by side: what the objectives of layouts share.

Every mean runs over the regions of a page first and over the pages of the batch then: a page with many regions weighs
as much as one with few, and one that has none adds 0 and is counted.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from docstill.errors import ModelError
from docstill.objectives.base import UNLABELLED, Looks, Outputs


def both(objective: str, student: Outputs, teacher: Outputs | None) -> tuple[Looks, Looks]:
    """The student's look and the teacher's, which no gradient goes through.

    Raises:
        ModelError: one is missing, or they are of other classes.
    """
    ours, theirs = student.looks, None if teacher is None else teacher.looks
    if ours is None or theirs is None:
        raise ModelError(f"{objective} compares two detectors on the regions of pages; use it with the task layout")
    if ours.classes.shape != theirs.classes.shape:
        raise ModelError(
            f"{objective} compares detectors of the same classes, the student's logits are {tuple(ours.classes.shape)} and "
            f"the teacher's {tuple(theirs.classes.shape)}; train both on the same classes"
        )
    return ours, replace(
        theirs,
        classes=theirs.classes.detach(),
        background=None if theirs.background is None else theirs.background.detach(),
        boxes=theirs.boxes.detach(),
        pooled=None if theirs.pooled is None else theirs.pooled.detach(),
    )


def with_looks(outputs: Outputs, looks: Looks) -> Outputs:
    """The outputs with these looks, and as logits what these say: of the background first, if it has one."""
    logits = looks.classes if looks.background is None else beside_background(looks)
    return replace(outputs, logits=logits, looks=looks)


def of_classes(looks: Looks, names: tuple[str, ...], truths: Tensor) -> Looks:
    """The looks of a detector that knows these classes alone.

    Args:
        looks: a detector's that knows them and more: to the softmax the others become background.
        names: in alphabetical order.
        truths: what lies in each region, by these classes.
    """
    kept = [looks.names.index(name) for name in names]
    background = looks.background
    if background is not None:
        others = [number for number in range(len(looks.names)) if number not in kept]
        background = torch.cat([background[:, None], looks.classes[:, others]], dim=1).logsumexp(1)
    return replace(
        looks,
        classes=looks.classes[:, kept],
        background=background,
        boxes=looks.boxes[:, kept],
        truths=truths,
        names=names,
    )


def pooled(objective: str, looks: Looks) -> Tensor:
    """The features of the regions, ``(N, D, S, S)``.

    Raises:
        ModelError: there are none.
    """
    if looks.pooled is None:
        raise ModelError(f"{objective} compares the features of regions, this detector gives none; use query or pkd")
    return looks.pooled


def page_mean(
    values: Tensor, pages: Tensor, documents: int, weights: Tensor | None = None, least: float = 1e-6
) -> Tensor:
    """Mean over the regions of each page, then over all pages; 0 for a page without regions.

    Args:
        values: ``(N,)``, one a region.
        pages: ``(N,)`` int64, the page of each.
        documents: how many pages there are, those without regions too.
        weights: ``(N,)``, how much each counts within its page, or bool which ones count; default: all the same.
        least: what the weights of a page are taken to sum up to at least.
    """
    weights = torch.ones_like(values) if weights is None else weights.to(values.dtype)
    nothing = values.new_zeros(documents)
    sums, weight = (nothing.index_add(0, pages, part) for part in (weights * values, weights))
    return (sums / weight.clamp_min(least)).mean()


def page_counts(there: Tensor, pages: Tensor, documents: int) -> Tensor:
    """``(documents,)`` float32: how many regions of each page are True."""
    counts = torch.zeros(documents, device=pages.device)
    return counts.index_add(0, pages, there.to(counts.dtype))


def beside_background(looks: Looks) -> Tensor:
    """``(N, 1 + C)`` logits: of the background, and of the classes."""
    assert looks.background is not None
    return torch.cat([looks.background[:, None], looks.classes], dim=1)


def probabilities(looks: Looks) -> Tensor:
    """``(N, C)``: how likely each class is, by a softmax with the background or by each one's sigmoid."""
    if looks.background is None:
        return looks.classes.sigmoid()
    return beside_background(looks).softmax(1)[:, 1:]


def binary_logits(looks: Looks) -> Tensor:
    """``(N, C)`` logits whose sigmoid is the probability of each class, whatever the detector.

    For a softmax that is z_c − log Σ_{j ≠ c} exp z_j, with j over the background and the other classes.
    """
    if looks.background is None:
        return looks.classes
    logits = beside_background(looks)
    # All but the likeliest are at most 1/2 likely, where log(1 − p) is exact; the rest of the likeliest is summed anew.
    rest = logits.logsumexp(1, keepdim=True) + torch.log1p(-logits.softmax(1).clamp_max(0.6))
    likeliest = torch.zeros_like(logits, dtype=torch.bool).scatter(1, logits.argmax(1, keepdim=True), True)
    beside = logits.masked_fill(likeliest, -torch.inf).logsumexp(1, keepdim=True)
    return (logits - torch.where(likeliest, beside, rest))[:, 1:]


def boxes_of(looks: Looks, classes: Tensor) -> Tensor:
    """``(N, 4)``: where the given class ``(N,)`` of each region would lie."""
    return looks.boxes[torch.arange(len(classes), device=classes.device), classes]


def surprise(looks: Looks) -> Tensor:
    """``(N,)`` nats: −log of the probability that the region is background.

    Without a logit for that, it is taken to be 1 − p of the likeliest class.
    """
    if looks.background is None:
        return functional.softplus(looks.classes.amax(1))
    return beside_background(looks).logsumexp(1) - looks.background


def foreground(truths: Tensor, teacher: Looks) -> Tensor:
    """``(N,)`` bool: whether something lies in the region, by the labels; where these are not known, by the teacher.

    To the teacher something is there if a class is likelier than the background or, without such, at least 1/2 likely.
    """
    limit = 0 if teacher.background is None else teacher.background
    return torch.where(truths == UNLABELLED, teacher.classes.amax(1) >= limit, truths >= 0)
