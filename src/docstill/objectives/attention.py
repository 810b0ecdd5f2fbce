"""Attention transfer: the student looks where the teacher looks (Zagoruyko & Komodakis 2017, arXiv 1612.03928, section 3.1).

    a(h) = mean over channels of h²,  as a vector over positions, divided by its length
    loss = mean over documents of ‖ a(h_s) − a(h_t) ‖²

Needs no projector: channels are averaged away. Maps of another grid are resized to the teacher's. Zero where both look
alike, at most 2.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from docstill.errors import ModelError
from docstill.objectives.base import Outputs
from docstill.objectives.layered import Layered
from docstill.objectives.positions import as_tokens, kept, side_by_side


class Attention(Layered):
    """Where a layer is active, not with what."""

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean squared distance between the two normalised maps of a document."""
        assert teacher is not None
        losses = []
        student, teacher = side_by_side(student, teacher, self.pairs)
        for our_path, their_path in self.pairs:
            ours, theirs = energy(student.features[our_path]), energy(teacher.features[their_path])
            if ours.dim() == theirs.dim() == 4 and ours.shape != theirs.shape:
                ours = functional.interpolate(ours, size=theirs.shape[2:], mode="bilinear", align_corners=False)
            ours, theirs = as_tokens(ours), as_tokens(theirs)
            if ours.shape != theirs.shape:
                raise ModelError(
                    f"attention compares positions, {our_path} has {ours.shape[1]} and {their_path} {theirs.shape[1]}; "
                    "tap modules with the same grid, or maps (B, C, H, W) on both sides"
                )
            mask = kept(teacher, their_path)
            ours, theirs = (functional.normalize(tokens * mask, dim=1, eps=1e-8) for tokens in (ours, theirs))
            losses.append((ours - theirs).square().sum((1, 2)).mean())
        return torch.stack(losses).mean()


def energy(features: Tensor) -> Tensor:
    """Mean of the squares over channels; the channel axis stays, with length 1."""
    return features.square().mean(1 if features.dim() == 4 else -1, keepdim=True)
