"""The graph of a page: its regions, those of text that are alike and side by side merged, and which see each other.

After GraphKD (Banerjee et al. 2024, arXiv 2402.11401), whose published code has no such graph; the rules are our own:

- Two regions are neighbours if they overlap, or if one sees the other straight across or straight up and down: their shadows
  on one side of the page overlap, and no third region reaches into the strip between them.
- Neighbouring text is merged, the most similar pair first. It is merged if it is more similar than 0.9; and while there are more
  nodes of text than others (or than 2), the threshold falls to the most similar pair there is, but not below 0.5.
- A merged node has the neighbours of all its members, and an edge to itself. What is not text is never merged.

Nothing here has gradients. All of it runs on the CPU, on one page at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SURE, UNSURE = 0.9, 0.5
"""Cosines from which text is merged: in any case, and where there is too much of it."""
FEWEST = 2
"""So many nodes of text are never too many."""
SAME = 0.7
"""Regions that overlap by more (intersection over union) are taken to be one."""

Matrix = NDArray[Any]


@dataclass(frozen=True)
class RegionGraph:
    """A page as a graph.

    Attributes:
        members: the regions of each of the K nodes, by index; every region is in one node.
        text: ``(K,)`` bool.
        boxes: ``(K, 4)`` around the members, in the units of theirs.
        shares: ``(K, N)`` float32, how much of a node's area each region is; rows sum up to 1.
        edges: pairs of nodes, the smaller index first, each pair once; ``(i, i)`` for a merged node.
    """

    members: list[list[int]]
    text: Tensor
    boxes: Tensor
    shares: Tensor
    edges: list[tuple[int, int]]


def region_graph(boxes: Tensor, text: Tensor, features: Tensor) -> RegionGraph:
    """Builds the graph of one page.

    Args:
        boxes: ``(N, 4)`` left, top, right, bottom of its regions.
        text: ``(N,)`` bool, which of them are text.
        features: ``(N, F)``, by whose cosine regions are alike.
    """
    corners = boxes.detach().double().cpu().numpy()
    areas = _areas(corners).clip(1e-9)
    is_text = text.cpu().numpy()
    near = neighbours(corners)
    products = (features.detach() @ features.detach().T).double().cpu().numpy()
    members = _merged(near, is_text, products * areas[:, None] * areas)
    shares = np.zeros((len(members), len(corners)))
    for node, regions in enumerate(members):
        shares[node, regions] = areas[regions] / areas[regions].sum()
    return RegionGraph(
        members,
        torch.tensor([bool(is_text[regions[0]]) for regions in members], dtype=torch.bool),
        torch.tensor([_around(corners[regions]) for regions in members]).reshape(-1, 4).float(),
        torch.from_numpy(shares).float(),
        _edges(members, near),
    )


def neighbours(corners: Matrix) -> Matrix:
    """``(N, N)`` bool, symmetric: which of the ``(N, 4)`` boxes overlap or see each other."""
    low = np.maximum(corners[:, None, :2], corners[None, :, :2])
    high = np.minimum(corners[:, None, 2:], corners[None, :, 2:])
    across, down = np.moveaxis(high > low, 2, 0)  # whether their shadows on two sides of the page overlap
    near: Matrix = across & down
    np.fill_diagonal(near, False)
    pairs = np.triu(across ^ down, k=1).nonzero()
    # What lies between: the common part of a shadow in one direction, the gap in the other.
    x_from, y_from = np.minimum(low, high)[pairs].T
    x_to, y_to = np.maximum(low, high)[pairs].T
    hidden = np.zeros(len(x_from), dtype=bool)
    for left, top, right, bottom in corners[_areas(corners) > 0]:
        hidden |= (x_to > left) & (x_from < right) & (y_to > top) & (y_from < bottom)
    apart = (x_to > x_from) & (y_to > y_from)  # nothing is between boxes that touch
    near[pairs] = ~(hidden & apart)
    return near | near.T


def distinct(boxes: Tensor, scores: Tensor) -> Tensor:
    """Indices, in order, of the ``(N, 4)`` boxes that no box of a higher score covers."""
    corners = boxes.detach().double().cpu().numpy()
    areas = _areas(corners)
    taken: list[int] = []
    for index in torch.argsort(scores.detach().cpu(), descending=True, stable=True).tolist():
        others = corners[taken].reshape(-1, 4)
        low, high = np.maximum(others[:, :2], corners[index, :2]), np.minimum(others[:, 2:], corners[index, 2:])
        common = _areas(np.concatenate([low, high], axis=1))
        if not (common > SAME * (areas[taken] + areas[index] - common)).any():
            taken.append(index)
    return torch.tensor(sorted(taken), dtype=torch.int64, device=boxes.device)


def text_by_covariance(tokens: Tensor) -> Tensor:
    """Which regions of a page are text, by the covariance of their features alone: ``(N,)`` bool.

    A region's measure is the trace of the covariance of its channels over its positions, over the mean square of its features:
    0 where it looks the same everywhere. Regions are parted in two where the variance between the parts is largest
    (Otsu 1979); those with the smaller measure are taken to be text, and all of them if there is nothing to part.

    Args:
        tokens: ``(N, S², C)`` pooled features.
    """
    energy = tokens.square().mean((1, 2)).clamp_min(1e-12)
    spread = (tokens - tokens.mean(1, keepdim=True)).square().mean((1, 2))
    measure = (spread / energy).double().cpu()
    ordered = measure.sort().values
    if len(ordered) < 2 or ordered[-1] - ordered[0] < 1e-6:
        return torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    below = torch.arange(1, len(ordered), dtype=ordered.dtype)
    above, sums = len(ordered) - below, ordered.cumsum(0)
    between = below * above * ((sums[-1] - sums[:-1]) / above - sums[:-1] / below).square()
    return (measure <= ordered[between.argmax()]).to(tokens.device)


def _merged(near: Matrix, text: Matrix, products: Matrix) -> list[list[int]]:
    """The members of each node; products are the areas' times the features' inner products, so that sums are means."""
    near, products = near & text[:, None] & text, products.copy()
    groups: dict[int, list[int]] = {index: [index] for index in range(len(near))}
    texts, most = int(text.sum()), max(int((~text).sum()), FEWEST)
    while near.any():
        lengths = np.sqrt(products.diagonal().clip(1e-24))
        cosines = np.where(near, products / np.outer(lengths, lengths), -2.0)
        first, second = sorted(divmod(int(cosines.argmax()), len(near)))
        if cosines[first, second] <= (UNSURE if texts > most else SURE):
            break
        groups[first] += groups.pop(second)
        texts -= 1
        products[first] += products[second]
        products[:, first] += products[:, second]
        near[first] |= near[second]
        near[:, first] |= near[:, second]
        near[second] = near[:, second] = False
        near[first, first] = False
    return [sorted(regions) for regions in groups.values()]


def _edges(members: list[list[int]], near: Matrix) -> list[tuple[int, int]]:
    belongs = np.zeros((len(members), len(near)), dtype=np.float32)
    for node, regions in enumerate(members):
        belongs[node, regions] = 1
    joined = np.triu(belongs @ near @ belongs.T > 0, k=1)
    np.fill_diagonal(joined, belongs.sum(1) > 1)
    return [(int(first), int(second)) for first, second in zip(*joined.nonzero(), strict=True)]


def _areas(corners: Matrix) -> Matrix:
    areas: Matrix = (corners[:, 2:] - corners[:, :2]).clip(0).prod(1)
    return areas


def _around(corners: Matrix) -> list[float]:
    return [*corners[:, :2].min(0).tolist(), *corners[:, 2:].max(0).tolist()]
