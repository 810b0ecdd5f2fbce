"""Magnitude pruning: the smallest weights go (Han et al. 2015, arXiv 1506.02626; DONUT-hole, arXiv 2311.05778).

Sparsity is the share of the weights *selected by* ``of`` that become zero, exact to one weight, whatever the ties.
Biases and norms are never pruned. Zeros make a model smaller when packed; on dense kernels they make nothing faster.
"""

from __future__ import annotations

import difflib
import fnmatch
from typing import Literal

import torch
from torch import Tensor, nn

from docstill.errors import UserError
from docstill.models.size import embedding_parameters
from docstill.pruning.masks import Masks

_PRUNED_BEFORE = -1.0
"""Score of a weight that an earlier mask took: below every magnitude, so it goes first."""


def magnitude_masks(
    model: nn.Module,
    sparsity: float,
    *,
    scope: Literal["global", "layer"] = "global",
    of: str = "non-embedding",
    within: Masks | None = None,
) -> Masks:
    """Masks that keep the largest weights.

    Args:
        model: whose weights are looked at; it is not changed.
        sparsity: share of the selected weights that become zero, in [0, 1).
        scope: one threshold over all selected tensors, or one for each.
        of: ``all``, ``non-embedding``, or a glob over parameter names such as ``encoder.*``.
        within: earlier masks; what they took stays taken (and counts towards ``sparsity``).

    Raises:
        UserError: sparsity out of range, or ``of`` selects nothing.
    """
    if not 0 <= sparsity < 1:
        raise UserError(f"a sparsity of {sparsity} was given; it must be at least 0 and below 1")
    selected = select_weights(model, of)
    scores = {name: _scores(weight, (within or {}).get(name)) for name, weight in selected.items()}
    masks = dict(within or {})
    if scope == "layer":
        masks |= {name: _keep_largest(score, sparsity).reshape(selected[name].shape) for name, score in scores.items()}
        return masks
    kept = _keep_largest(torch.cat(list(scores.values())), sparsity)
    start = 0
    for name, score in scores.items():
        masks[name] = kept[start : start + score.numel()].clone().reshape(selected[name].shape)
        start += score.numel()
    return masks


def select_weights(model: nn.Module, of: str) -> dict[str, Tensor]:
    """The weight tensors (more than one dimension) that ``of`` names; tied tensors once."""
    weights = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.dim() > 1}
    if of == "all":
        return weights
    if of == "non-embedding":
        embeddings = embedding_parameters(model)
        return {name: weight for name, weight in weights.items() if name not in embeddings}
    chosen = {name: weight for name, weight in weights.items() if fnmatch.fnmatchcase(name, of)}
    if not chosen:
        near = difflib.get_close_matches(of, weights, n=3, cutoff=0.2) or list(weights)[:3]
        raise UserError(f"no weight is called {of!r}; give `all`, `non-embedding`, or a glob over names such as {', '.join(near)}")
    return chosen


def _scores(weight: Tensor, mask: Tensor | None) -> Tensor:
    scores = weight.abs().float().flatten()
    if mask is not None:
        scores = scores.masked_fill(~mask.to(scores.device).flatten(), _PRUNED_BEFORE)
    return scores


def _keep_largest(scores: Tensor, sparsity: float) -> Tensor:
    """A bool tensor that is False for exactly round(sparsity · n) of the smallest; among ties the first go."""
    count = round(sparsity * scores.numel())
    if count == 0:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = scores.kthvalue(count).values  # unlike torch.quantile, not limited to 16 million elements
    gone = scores < threshold
    ties = (scores == threshold).nonzero().flatten()
    gone[ties[: count - int(gone.sum())]] = True
    return ~gone
