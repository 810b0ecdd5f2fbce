"""DSIG: a graph of the regions of a page (Chen et al. 2021, arXiv 2109.12862, and its code).

Nodes are the pooled features F of the given regions, edges the cosines E of all pairs of nodes. For each page:

    foreground = mean over its regions of mean ( F_s − F_t )²
    background = α N_fg / N_bg · the same over the regions where nothing is
    edges      = ½ · mean over all pairs of ( E_s − E_t )²,  among the foreground and the mined background

Mined is a region of the background that the teacher doubts: −log p_t(background) ≥ `mining`. The loss is the mean over pages
(the published code sums) of the three parts with their weights. A student of another width gets a linear projector over
channels.

Where labels are not known, the teacher's opinion takes their place. A detector without a logit for the background (RT-DETR)
holds a region to be background if all its classes are less than 1/2 likely, and p(background) is 1 − p of the likeliest class:
the default threshold then is a class of 1 − exp(−0.6) = 0.45. Zero when the student equals the teacher.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from docstill.objectives.base import Objective, Outputs
from docstill.objectives.looks import both, foreground, page_counts, page_mean, pooled, surprise
from docstill.objectives.positions import as_tokens
from docstill.objectives.projectors import channel_projector, matched


class Dsig(Objective):
    """Regions and their relations; defaults as published for a ResNet-18 that learns from a ResNet-50.

    Args:
        foreground_weight: weight of the regions where something is.
        background_weight: weight of the others, before α N_fg / N_bg.
        edge_weight: weight of the relations.
        alpha: α.
        mining: nats of the teacher's doubt from which a region of the background takes part in relations.
    """

    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = ("layout",)
    looks: ClassVar[bool] = True
    pools: ClassVar[bool] = True

    def __init__(
        self,
        foreground_weight: Annotated[float, Field(ge=0)] = 0.5,
        background_weight: Annotated[float, Field(ge=0)] = 0.5,
        edge_weight: Annotated[float, Field(ge=0)] = 2.0,
        alpha: Annotated[float, Field(ge=0)] = 7.5,
        mining: Annotated[float, Field(ge=0)] = 0.6,
    ) -> None:
        super().__init__()
        self.foreground_weight, self.background_weight = foreground_weight, background_weight
        self.edge_weight, self.alpha, self.mining = edge_weight, alpha, mining
        self.projector: nn.Module = nn.Identity()

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes the projector from the two widths."""
        ours, theirs = both("dsig", student, teacher)
        self.projector = channel_projector(pooled("dsig", ours), pooled("dsig", theirs))

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the pages."""
        ours, theirs = both("dsig", student, teacher)
        pages, documents, target = ours.pages, student.documents, pooled("dsig", theirs)
        mine = self.projector(matched(pooled("dsig", ours), target)).flatten(1)
        its = as_tokens(target).flatten(1)
        there = foreground(ours.truths, theirs)
        off = (mine - its).square().mean(1)
        # The published GraphKD divides by α N_bg here, which makes the background weigh 56 times less.
        balance = page_counts(there, pages, documents) / page_counts(~there, pages, documents).clamp_min(1)
        front = page_mean(off, pages, documents, there)
        back = page_mean(self.alpha * balance[pages] * off, pages, documents, ~there)
        loss = self.foreground_weight * front + self.background_weight * back
        joins = there | (surprise(theirs) >= self.mining)
        for page in sorted(set(pages[joins].tolist())):
            nodes = torch.nonzero(joins & (pages == page)).squeeze(1)
            if len(nodes) > 1:
                edges = functional.mse_loss(_cosines(mine[nodes]), _cosines(its[nodes])) / 2
                loss = loss + self.edge_weight * edges / documents
        return loss


def _cosines(nodes: Tensor) -> Tensor:
    rows = functional.normalize(nodes, dim=1, eps=1e-6)
    return rows @ rows.T
