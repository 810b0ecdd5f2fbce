"""The relations along a graph's edges, as short vectors, and a distance between two models' that knows how they vary.

An edge is four numbers that any two networks have, whatever their widths. With x_a the pooled features of region a, nodes
averaged over their members by area, for the edge between nodes i and j:

    cosine of the regions' means over positions           averaged over the pairs of members, of a node with itself
    cosine of the regions' features, position by position     those of two different members
    difference of log ‖x‖                                 how strongly the regions are felt
    difference of log deviation over positions            how varied they are within

The distance is Mahalanobis': with Σ the covariance of the teacher's edges so far, shrunk by a tenth to its diagonal,

    d² = ( e_s − e_t )ᵀ ( Σ + 0.001 I )⁻¹ ( e_s − e_t ) / 4
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE = 4
SHRINK, RIDGE = 0.1, 1e-3
PRIOR, PRIOR_VARIANCE = 100.0, 0.1
"""Before anything is seen, as if so many edges of this variance had been: the first page alone would say too little."""


def relations(tokens: Tensor, shares: Tensor, edges: Sequence[tuple[int, int]]) -> Tensor:
    """``(E, 4)``: the numbers of each edge.

    Args:
        tokens: ``(N, S², C)`` pooled features of a page's regions.
        shares: ``(K, N)``, how much of a node each region is; rows sum up to 1.
        edges: pairs of nodes.
    """
    first, second = torch.tensor(edges, dtype=torch.int64, device=tokens.device).reshape(-1, 2).unbind(1)
    means = tokens.mean(1)
    cosines = [_cosines(part, shares)[first, second] for part in (means, tokens.flatten(1))]
    spread = (tokens - means[:, None]).square().mean((1, 2))
    levels = [shares @ (energy + 1e-6).log() / 2 for energy in (tokens.square().mean((1, 2)), spread)]
    return torch.stack([*cosines, *(level[first] - level[second] for level in levels)], dim=1)


def _cosines(rows: Tensor, shares: Tensor) -> Tensor:
    """``(K, K)``: mean cosines of the members of two nodes; on the diagonal, of two different members of one."""
    units = functional.normalize(rows, dim=1, eps=1e-6)
    products = units @ units.T
    means, squares = shares @ products @ shares.T, shares.square()
    # A region is no pair with itself; where nearly all of a node is one region, little is left, and it counts little.
    pairs = (means.diagonal() - squares @ products.diagonal()) / (1 - squares.sum(1)).clamp_min(1e-3)
    own = torch.eye(len(means), dtype=torch.bool, device=means.device)
    return torch.where(own, pairs[:, None], means)


class Spread(nn.Module):
    """How the teacher's edges vary, learned from those seen; saved with the objective."""

    count: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.tensor(PRIOR))
        self.register_buffer("mean", torch.zeros(SIZE))
        self.register_buffer("covariance", PRIOR_VARIANCE * torch.eye(SIZE))

    @torch.no_grad()
    def see(self, edges: Tensor) -> None:
        """Takes ``(E, 4)`` more edges into account, each as much as any before."""
        if not len(edges):
            return
        mean, share = edges.mean(0), len(edges) / (self.count + len(edges))
        gap = mean - self.mean
        inner = (edges - mean).T @ (edges - mean) / len(edges)
        self.covariance.copy_((1 - share) * self.covariance + share * inner + share * (1 - share) * gap.outer(gap))
        self.mean.add_(share * gap)
        self.count.add_(len(edges))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """``(E,)``: squared distances between ``(E, 4)`` edges, over 4."""
        diagonal = torch.diag(self.covariance.diagonal())
        ridge = RIDGE * torch.eye(SIZE, device=diagonal.device)
        gaps = student - teacher
        straight = torch.linalg.solve((1 - SHRINK) * self.covariance + SHRINK * diagonal + ridge, gaps.T).T
        squares: Tensor = (gaps * straight).sum(1)
        return squares / SIZE
