"""N:M pruning: of every M weights in a row, the N largest stay (Zhou et al. 2021, arXiv 2102.04010).

2:4 is what the sparse units of recent GPUs read. No CPU kernel of torch is faster with it.
"""

from __future__ import annotations

from torch import Tensor, nn

from docstill.errors import ModelError
from docstill.pruning.magnitude import select_weights
from docstill.pruning.masks import Masks


def pattern_masks(
    model: nn.Module, keep: int, of_every: int, *, of: str = "non-embedding", within: Masks | None = None
) -> Masks:
    """Masks that keep the ``keep`` largest of every ``of_every`` weights along the inputs of each output.

    Args:
        model: whose weights are looked at; it is not changed.
        keep: N, at least 1.
        of_every: M, above N.
        of: ``all``, ``non-embedding``, or a glob over parameter names.
        within: earlier masks; what they took goes first.

    Returns:
        ``within``, and a mask for each selected weight of a linear layer or convolution with at least M inputs; inputs left over at the end of a row (where
        M does not divide their number) all stay, but for what ``within`` took.

    Raises:
        UserError: ``of`` selects nothing.
        ModelError: no selected layer has M inputs.
    """
    earlier, fresh = within or {}, {}
    layers = {f"{path}.weight" for path, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)}
    for name, weight in select_weights(model, of).items():
        if name not in layers or weight.shape[1] < of_every:
            continue
        scores = weight.abs().float()
        if name in earlier:
            scores = scores.masked_fill(~earlier[name].to(scores.device), -1.0)
        mask = _keep(scores.movedim(1, -1), keep, of_every).movedim(-1, 1)
        fresh[name] = (mask & (scores >= 0)).contiguous()
    if not fresh:
        raise ModelError(f"no selected layer has {of_every} inputs, so {keep}:{of_every} takes nothing away")
    return {**earlier, **fresh}


def _keep(scores: Tensor, keep: int, of_every: int) -> Tensor:
    whole = scores.shape[-1] // of_every * of_every
    groups = scores[..., :whole].reshape(*scores.shape[:-1], -1, of_every)
    ranks = groups.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    mask = scores.new_ones(scores.shape).bool()
    mask[..., :whole] = (ranks < keep).flatten(-2)
    return mask
