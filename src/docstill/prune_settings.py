"""The settings of each method of pruning, as recipes write them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from docstill.strict import Strict

Scope = Literal["global", "layer", "lamp"]
"""Where magnitudes are compared; see `docstill.pruning.magnitude`."""


class PruneStage(Strict):
    """What all methods of pruning share: how they are told apart."""

    method: str

    def without_pages(self) -> PruneStage:
        """The same, but for what would take a look at pages."""
        return self


class MagnitudePrune(PruneStage):
    """Set the smallest weights to zero, at once."""

    method: Literal["magnitude"] = "magnitude"
    sparsity: Annotated[float, Field(gt=0, lt=1)]
    scope: Scope = "global"
    of: str = "non-embedding"
    """`all`, `non-embedding`, or a glob over parameter names."""


class PatternPrune(PruneStage):
    """Keep the N largest of every M weights."""

    method: Literal["pattern"]
    pattern: str = "2:4"
    """`N:M`, in quotes: YAML reads a bare 2:4 as the number 124."""
    of: str = "non-embedding"
    """As for magnitude."""

    @field_validator("pattern", mode="before")
    @classmethod
    def _pattern_holds(cls, value: Any) -> Any:
        found = re.fullmatch(r"(\d+):(\d+)", value) if isinstance(value, str) else None
        if found is None or not 0 < int(found[1]) < int(found[2]):
            raise ValueError(f'{value!r} given; write N:M in quotes with N below M, such as "2:4"')
        return value

    @property
    def counts(self) -> tuple[int, int]:
        """(N, M)."""
        kept, _, every = self.pattern.partition(":")
        return int(kept), int(every)


Pages = Annotated[int, Field(gt=0)]


class DepthPrune(PruneStage):
    """Take whole blocks out."""

    method: Literal["depth"]
    keep: float | int | list[int]
    """A share of each stage's blocks, or how many: of a network without stages, or of each stage."""
    of: Literal["all", "encoder", "decoder"] = "all"
    by: Literal["even", "influence"] = "even"
    """Evenly spaced blocks stay, or those that change most what passes through them."""
    pages: Pages = 64
    """How many training pages `influence` looks at."""

    def without_pages(self) -> PruneStage:
        """The same with evenly spaced blocks."""
        return self.model_copy(update={"by": "even"})

    @field_validator("keep", mode="before")
    @classmethod
    def _keep_holds(cls, value: Any) -> Any:
        numbers = value if isinstance(value, list) and value else [value]
        whole = all(isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in numbers)
        if whole or (isinstance(value, float) and 0 < value < 1):
            return value
        raise ValueError(f"{value!r} given; a share between 0 and 1, a number of blocks, or a list of numbers expected")


class FfnPrune(PruneStage):
    """Make the feed-forward layers narrower."""

    method: Literal["ffn"]
    keep: Annotated[float, Field(gt=0, lt=1)]
    """Share of the hidden units that stay, in every block."""
    of: Literal["all", "encoder", "decoder"] = "all"
    by: Literal["activation", "magnitude"] = "activation"
    pages: Pages = 64
    """How many training pages `activation` looks at."""

    def without_pages(self) -> PruneStage:
        """The same by magnitude."""
        return self.model_copy(update={"by": "magnitude"})


class ChannelPrune(PruneStage):
    """Make every stage of a ResNet narrower."""

    method: Literal["channels"]
    keep: Annotated[float, Field(gt=0, lt=1)]
    """Share of each stage's channels that stay."""


class VocabularyPrune(PruneStage):
    """Drop the tokens that the training answers do not need."""

    method: Literal["vocabulary"]
    characters: str = ""
    """Characters that must stay, besides printable ASCII and those of the training answers."""


class MergesPrune(PruneStage):
    """Make one token of strings that the training answers often hold, so that an answer takes fewer steps."""

    method: Literal["merges"]
    count: Annotated[int, Field(gt=0)]
    """How many pairs of tokens are merged at most."""
    common: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Only within values (with SentencePiece: words) that there are at least so many of per training answer; so are tags in a row."""


class BackbonePrune(PruneStage):
    """Put a smaller backbone in the place of a detector's; layout only."""

    method: Literal["backbone"]
    to: str
    """The size of detector whose backbone it is to be, such as `faster-rcnn-r18`."""


class ResolutionPrune(PruneStage):
    """Take pages at a smaller size; for Donuts and layout detectors."""

    method: Literal["resolution"]
    keep: Annotated[float, Field(gt=0, lt=1)]
    """Share of each side of the input that stays, rounded to whole multiples of 32 pixels."""


PRUNING: dict[str, type[PruneStage]] = {
    "magnitude": MagnitudePrune,
    "pattern": PatternPrune,
    "depth": DepthPrune,
    "ffn": FfnPrune,
    "channels": ChannelPrune,
    "vocabulary": VocabularyPrune,
    "merges": MergesPrune,
    "backbone": BackbonePrune,
    "resolution": ResolutionPrune,
}
"""Settings of each method of pruning, by its name."""


PRUNED_TASKS = {
    "vocabulary": ("kie",),
    "merges": ("kie",),
    "backbone": ("layout",),
    "resolution": ("kie", "layout"),
}
"""Methods that are not for every task, and what they are for."""


def _prune_class(value: Any) -> str:
    """The name of the class that reads these settings; magnitude where no method is named."""
    method = value.get("method", "magnitude") if isinstance(value, dict) else getattr(value, "method", "magnitude")
    return PRUNING[method].__name__ if method in PRUNING else str(method)


AnyPrune = Annotated[
    Annotated[MagnitudePrune, Tag("MagnitudePrune")]
    | Annotated[PatternPrune, Tag("PatternPrune")]
    | Annotated[DepthPrune, Tag("DepthPrune")]
    | Annotated[FfnPrune, Tag("FfnPrune")]
    | Annotated[ChannelPrune, Tag("ChannelPrune")]
    | Annotated[VocabularyPrune, Tag("VocabularyPrune")]
    | Annotated[MergesPrune, Tag("MergesPrune")]
    | Annotated[BackbonePrune, Tag("BackbonePrune")]
    | Annotated[ResolutionPrune, Tag("ResolutionPrune")],
    Discriminator(_prune_class),
]
