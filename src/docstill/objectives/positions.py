"""Features by document and position: what a feature objective compares, without the padding of short answers."""

from __future__ import annotations

import torch
from torch import Tensor

from docstill.errors import ModelError
from docstill.objectives.base import Outputs


def as_tokens(features: Tensor) -> Tensor:
    """``(B, C, H, W)`` maps become ``(B, H·W, C)`` tokens, ``(B, C)`` vectors ``(B, 1, C)``; tokens stay."""
    if features.dim() == 4:
        return features.flatten(2).transpose(1, 2)
    if features.dim() == 2:
        return features.unsqueeze(1)
    if features.dim() == 3:
        return features
    raise ModelError(
        f"features of shape {tuple(features.shape)} cannot be compared; tap a module whose output is (B, C), (B, T, C) or (B, C, H, W)"
    )


def kept(outputs: Outputs, path: str) -> Tensor:
    """``(B, T, 1)`` float32: 1 where a position of the module's output counts, 0 at padding of an answer."""
    tokens = as_tokens(outputs.features[path])
    if outputs.answers is not None:
        part, scored = outputs.answers
        # The cross-attention of the writing part also holds projections of the page: those have the page's length.
        if path.startswith(part) and scored.shape == tokens.shape[:2]:
            return scored.to(torch.float32).unsqueeze(-1)
    return torch.ones(*tokens.shape[:2], 1, device=tokens.device)


def document_mean(values: Tensor, kept: Tensor) -> Tensor:
    """Mean over a document's kept positions and channels, then over documents: batches of any size weigh alike.

    Args:
        values: ``(B, T, C)``.
        kept: ``(B, T, 1)`` of 0 and 1; at least one 1 in each document.
    """
    return ((values * kept).sum((1, 2)) / (kept.sum((1, 2)) * values.shape[-1])).mean()


def pooled(outputs: Outputs, path: str) -> Tensor:
    """``(B, C)`` float32: the mean over each document's kept positions."""
    tokens, mask = as_tokens(outputs.features[path]), kept(outputs, path)
    return (tokens * mask).sum(1) / mask.sum(1)
