"""Projectors: learned maps from the student's features to the teacher's, made from the shapes seen in a dry batch.

No projector ends in an activation: a ReLU cannot reach the negative half of a layer-normed target (DistilDoc's
published projectors do, and half of their targets are out of reach).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from docstill.errors import ModelError
from docstill.objectives.positions import as_tokens


def matched(features: Tensor, like: Tensor) -> Tensor:
    """``(B, T, C)`` with the positions of ``like``; maps of another grid are resized to it.

    Raises:
        ModelError: the token counts differ and cannot be brought together by resizing maps.
    """
    if features.dim() == like.dim() == 4 and features.shape[2:] != like.shape[2:]:
        features = functional.interpolate(features, size=like.shape[2:], mode="bilinear", align_corners=False)
    source, target = as_tokens(features), as_tokens(like)
    if source.shape[1] != target.shape[1]:
        raise ModelError(
            f"the student's features have {source.shape[1]} positions and the teacher's {target.shape[1]}; "
            "tap modules with the same grid, or feature maps (B, C, H, W) on both sides"
        )
    return source


def channel_projector(student: Tensor, teacher: Tensor) -> nn.Module:
    """From the student's channels to the teacher's, for tokens ``(B, T, C)``: linear, or nothing where they are as many."""
    ours, theirs = as_tokens(student).shape[-1], as_tokens(teacher).shape[-1]
    return nn.Identity() if ours == theirs else nn.Linear(ours, theirs)


def channel_variance(maps: Tensor) -> float:
    """The mean over channels of their variance in maps ``(B, C, H, W)``, at least 1e-6: what a squared error is divided by."""
    return max(float(maps.var((0, 2, 3), correction=0).mean()), 1e-6)


class TokenProjector(nn.Module):
    """Linear over channels; maps of another grid are resized to the teacher's first.

    With as many channels on both sides it begins as the identity: the features of a pruned copy are nearly the teacher's already, and a
    random map would teach them away from there first.

    Args:
        student: shape of the student's features, batch first.
        teacher: shape of the teacher's features.
        bias: whether the linear map has one.

    Raises:
        ModelError: the token counts differ and cannot be brought together by resizing maps.
    """

    def __init__(self, student: Tensor, teacher: Tensor, bias: bool = True) -> None:
        super().__init__()
        self.grid = tuple(teacher.shape[2:]) if student.dim() == teacher.dim() == 4 else None
        source, target = matched(student, teacher), as_tokens(teacher)
        self.linear = nn.Linear(source.shape[-1], target.shape[-1], bias=bias)
        if source.shape[-1] == target.shape[-1]:
            nn.init.eye_(self.linear.weight)
            if bias:
                nn.init.zeros_(self.linear.bias)

    def _resize(self, features: Tensor) -> Tensor:
        if self.grid is None or tuple(features.shape[2:]) == self.grid:
            return features
        return functional.interpolate(features, size=self.grid, mode="bilinear", align_corners=False)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, T, C_teacher)`` from the student's features."""
        projected: Tensor = self.linear(as_tokens(self._resize(features)))
        return projected
