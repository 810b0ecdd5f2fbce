"""GraphKD: the regions of a page as a graph of text and other things (Banerjee et al. 2024, arXiv 2402.11401).

A re-derivation: the paper's published code is DSIG's, and has no graph of this kind. Regions are the given ones where something
is, of those that overlap by more than 0.7 the one the teacher is surest of. `region_graph` makes nodes and edges of them by the
teacher's features; both models' features are then averaged over the same regions. With x̂ a region's pooled features after
LayerNorm over channels (the student's after a linear projector, if it is of another width), and n a node:

    d_n   = 1 − cos( x̂_s , x̂_t ),   x̂ the mean over the node's members, by area
    nodes = mean over what is no text of d_n + w · mean over text of d_n,   w = text_weight · min(1, max(1, N_other) / N_text)
    edges = mean over edges, a merged node's to itself too, of Mahalanobis( e_s , e_t )²,   see `region_edges`
    loss  = mean over pages of nodes + edge_weight · edges

Text, of which a page has most, so weighs at most half as much as the rest. Zero when the student equals the teacher.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from docstill.errors import ModelError
from docstill.objectives.base import Looks, Objective, Outputs
from docstill.objectives.looks import both, foreground, pooled, probabilities
from docstill.objectives.positions import as_tokens
from docstill.objectives.projectors import channel_projector, matched
from docstill.objectives.region_edges import Spread, relations
from docstill.objectives.region_graph import RegionGraph, distinct, region_graph, text_by_covariance
from docstill.progress import say

NON_TEXT = tuple(
    "advert barcode chart chemistry diagram drawing equation figure formula graphic illustration image line-drawing logo map "
    "math maths music photo photograph picture plot qr-code rule seal separator signature stamp table".split()
)


class Graphkd(Objective):
    """Nodes and edges of the teacher's graph.

    Args:
        split: what tells text from the rest: the ``labels`` (the teacher's opinion where there are none), or the
            ``covariance`` of the teacher's features.
        non_text: names of the classes that are no text, for ``labels``; case, spaces and hyphens do not count. Default:
            names that such classes usually have.
        text_weight: how much text counts at most, the rest being 1.
        edge_weight: how much the edges count, the nodes being 1.
    """

    average: ClassVar[Literal["decisions", "labelled", "documents"]] = "documents"
    tasks: ClassVar[tuple[str, ...]] = ("layout",)
    looks: ClassVar[bool] = True
    pools: ClassVar[bool] = True

    def __init__(
        self,
        split: Literal["labels", "covariance"] = "labels",
        non_text: tuple[str, ...] | None = None,
        text_weight: Annotated[float, Field(ge=0)] = 0.5,
        edge_weight: Annotated[float, Field(ge=0)] = 1.0,
    ) -> None:
        super().__init__()
        if non_text is not None and split == "covariance":
            raise ValueError("non_text: names are given, but split covariance looks at no names; leave one of them out")
        self.split, self.non_text = split, non_text
        self.text_weight, self.edge_weight = text_weight, edge_weight
        self.projector: nn.Module = nn.Identity()
        self.spread = Spread()

    def prepare(self, student: Outputs, teacher: Outputs | None) -> None:
        """Makes the projector from the two widths.

        Raises:
            ModelError: classes have no names, or one of `non_text` is none of them.
        """
        ours, theirs = both("graphkd", student, teacher)
        self.projector = channel_projector(pooled("graphkd", ours), pooled("graphkd", theirs))
        if self.split == "labels" and not any(self._others(theirs)):
            say(
                f"warning: graphkd takes all classes for text, as none of {', '.join(theirs.names)} is called what classes usually are that "
                "are not; name those by non_text, or use split: covariance"
            )

    def forward(self, student: Outputs, teacher: Outputs | None) -> Tensor:
        """Mean over the pages."""
        ours, theirs = both("graphkd", student, teacher)
        its = as_tokens(pooled("graphkd", theirs))
        mine = matched(pooled("graphkd", ours), pooled("graphkd", theirs))
        said, meant = (_normed(tokens).flatten(1) for tokens in (self.projector(mine), its))
        graphs = [(regions, graph, graph.shares.to(its.device)) for regions, graph in self.graphs(theirs)]
        targets = [relations(its[regions], shares, graph.edges) for regions, graph, shares in graphs]
        if self.training and targets:
            self.spread.see(torch.cat(targets))
        loss = said.sum() * 0
        for (regions, graph, shares), target in zip(graphs, targets, strict=True):
            text = graph.text.to(its.device)
            off = 1 - functional.cosine_similarity(shares @ said[regions], shares @ meant[regions], dim=1, eps=1e-6)
            texts, others = max(1, int(graph.text.sum())), max(1, int((~graph.text).sum()))
            weight = self.text_weight * min(1.0, others / texts)
            loss = loss + (off * ~text).sum() / others + weight * (off * text).sum() / texts
            if graph.edges:
                gaps = self.spread(relations(mine[regions], shares, graph.edges), target)
                loss = loss + self.edge_weight * gaps.mean()
        mean: Tensor = loss / student.documents
        return mean

    def graphs(self, teacher: Looks) -> list[tuple[Tensor, RegionGraph]]:
        """Of each page where something is: the indices of the regions that count, and the graph of these."""
        tokens = as_tokens(pooled("graphkd", teacher))
        there, sure = foreground(teacher.truths, teacher), probabilities(teacher).amax(1)
        found = []
        for page in sorted(set(teacher.pages[there].tolist())):
            regions = torch.nonzero(there & (teacher.pages == page)).squeeze(1)
            regions = regions[distinct(teacher.given[regions], sure[regions])]
            text = text_by_covariance(tokens[regions]) if self.split == "covariance" else self._text(teacher, regions)
            found.append((regions, region_graph(teacher.given[regions], text, _normed(tokens[regions]).flatten(1))))
        return found

    def _text(self, teacher: Looks, regions: Tensor) -> Tensor:
        truths, opinion = teacher.truths[regions], teacher.classes[regions].argmax(1)
        others = torch.tensor(self._others(teacher), device=regions.device)
        return ~others[torch.where(truths >= 0, truths, opinion)]

    def _others(self, looks: Looks) -> list[bool]:
        """Which classes are no text, in their order."""
        if not looks.names:
            raise ModelError(
                "graphkd tells text by the names of classes, this detector has none; use split: covariance"
            )
        wanted = {_plain(name) for name in (NON_TEXT if self.non_text is None else self.non_text)}
        names = [_plain(name) for name in looks.names]
        missing = [name for name in self.non_text or () if _plain(name) not in names]
        if missing:
            raise ModelError(
                f"graphkd: non_text names {', '.join(missing)}, the classes are {', '.join(looks.names)}; name some of these"
            )
        return [name in wanted for name in names]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _normed(tokens: Tensor) -> Tensor:
    return functional.layer_norm(tokens, tokens.shape[-1:])
