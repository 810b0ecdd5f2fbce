"""Magnitude pruning: the smallest weights go (Han et al. 2015, arXiv 1506.02626; DONUT-hole, arXiv 2311.05778).

Sparsity is the share of the weights *selected by* ``of`` that become zero, exact to one weight, whatever the ties.
Biases (a Swin's tables of position biases among them) and norms are never pruned. Zeros make a model smaller when
packed; on dense kernels they make nothing faster.
"""

from __future__ import annotations

import difflib
import fnmatch
from typing import Literal

import torch
from torch import Tensor, nn

from docstill.errors import ModelError, UserError
from docstill.models.size import embedding_parameters
from docstill.pruning.masks import Masks

Scope = Literal["global", "layer", "lamp"]

_PRUNED_BEFORE = -1.0
"""Score of a weight that an earlier mask took: below every magnitude, so it goes first."""


def magnitude_masks(
    model: nn.Module,
    sparsity: float,
    *,
    scope: Scope = "global",
    of: str = "non-embedding",
    within: Masks | None = None,
) -> Masks:
    """Masks that keep the largest weights.

    Args:
        model: whose weights are looked at; it is not changed.
        sparsity: share of the selected weights that become zero, in [0, 1).
        scope: one threshold over all selected tensors, one for each, or one over all for magnitudes that are made
            comparable first (``lamp``; Lee et al. 2021, arXiv 2010.07611, section 2.2).
        of: ``all``, ``non-embedding``, or a glob over parameter names such as ``encoder.*``.
        within: earlier masks; what they took stays taken and counts towards ``sparsity``. Where they took more than
            ``sparsity`` asks for, they stay as they are and no further weight goes.

    Returns:
        ``within`` and a mask for each selected tensor: on the tensor's device, round(sparsity · n) of its n weights (or
        of all selected weights, unless ``scope`` is ``layer``) False.

    Raises:
        UserError: sparsity out of range, or ``of`` selects nothing.
        ModelError: ``within`` was made for another model, or a selected weight is not a finite number.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"a sparsity of {sparsity} was given; it must be at least 0 and below 1")
    selected = select_weights(model, of)
    earlier = within or {}
    wrong = [name for name, weight in selected.items() if name in earlier and earlier[name].shape != weight.shape]
    if wrong:
        raise ModelError(
            f"the earlier masks do not fit the model ({', '.join(wrong[:5])}); use the masks that were made for it"
        )
    # one flat tensor on the CPU, written part by part, so that joining 140 million weights needs no second copy
    sizes = [weight.numel() for weight in selected.values()]
    scores = torch.empty(sum(sizes))
    parts = dict(zip(selected, torch.split(scores, sizes), strict=True))
    for name, part in parts.items():
        part.copy_(selected[name].flatten()).abs_()
        if not part.max().isfinite():  # one NaN makes the maximum NaN; a hundred times faster than asking each weight
            raise ModelError(
                f"{name} holds weights that are not finite numbers, which have no magnitude; train the model again"
            )
        if name in earlier:
            part.masked_fill_(~earlier[name].flatten().cpu(), _PRUNED_BEFORE)
        if scope == "lamp":
            _share_of_larger(part)
    if scope == "layer":
        kept = [_keep_largest(part, sparsity) for part in parts.values()]
    else:
        kept = list(torch.split(_keep_largest(scores, sparsity), sizes))
    fresh = {
        # a clone, since a view would keep the bits of all tensors alive
        name: keep.clone().reshape(weight.shape).to(weight.device)
        for (name, weight), keep in zip(selected.items(), kept, strict=True)
    }
    return {**earlier, **fresh}


def select_weights(model: nn.Module, of: str) -> dict[str, Tensor]:
    """The weight tensors (more than one dimension, and no bias) that ``of`` names; tied tensors once, by their first name."""
    weights = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and "bias" not in name.rpartition(".")[2]
    }
    if of != "all" and of != "non-embedding":
        return _matching(weights, of)
    if of == "non-embedding":
        embeddings = embedding_parameters(model)
        weights = {name: weight for name, weight in weights.items() if name not in embeddings}
    if not weights:
        raise UserError(
            f"the model holds no weights of the kind {of!r}, so there is nothing to prune; give a model with layers"
        )
    return weights


def _matching(weights: dict[str, Tensor], of: str) -> dict[str, Tensor]:
    chosen = {name: weight for name, weight in weights.items() if fnmatch.fnmatchcase(name, of)}
    if not chosen:
        near = difflib.get_close_matches(of, weights, n=3, cutoff=0.2) or list(weights)[:3]
        raise UserError(
            f"no weight is called {of!r}; give `all`, `non-embedding`, or a glob over names such as {', '.join(near)}"
        )
    return chosen


def _share_of_larger(magnitudes: Tensor) -> None:
    """Makes each magnitude, in place, its square's share in the squares of the tensor's weights that are not smaller.

    The largest of a tensor becomes 1, so that no tensor loses all. What was pruned before stays where it is.
    """
    left = magnitudes != _PRUNED_BEFORE
    squares, order = magnitudes[left].double().square().sort(stable=True)
    shares = squares / squares.flip(0).cumsum(0).flip(0).clamp_min(torch.finfo(torch.float64).tiny)
    magnitudes[left.nonzero().flatten()[order]] = shares.float()


def _keep_largest(scores: Tensor, sparsity: float) -> Tensor:
    """A bool tensor, False for round(sparsity · n) of the smallest, and for all pruned before; among ties the first go."""
    gone = scores == _PRUNED_BEFORE
    count = round(sparsity * scores.numel())
    if count <= int(torch.count_nonzero(gone)):
        return ~gone
    # torch.quantile stops at 16 million elements; torch.kthvalue also makes an index of 8 bytes a weight
    ordered = scores.numpy().copy()
    ordered.partition(count - 1)
    threshold = float(ordered[count - 1])
    gone = scores < threshold
    ties = (scores == threshold).nonzero().flatten()
    gone[ties[: count - int(torch.count_nonzero(gone))]] = True
    return ~gone
