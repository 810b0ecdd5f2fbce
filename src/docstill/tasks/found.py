"""What a detector finds on pages, kept small: arrays, of which the dicts that are written and drawn are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from docstill.metrics.detection import Seen

Entry = TypeVar("Entry", covariant=True)


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """The regions of one page, surest first: 24 bytes each, for a validation split has millions; going through it makes dicts.

    Attributes:
        names: the model's classes.
        classes: ``(n,)`` int32, indices into them.
        corners: ``(n, 4)`` float32: left, top, right, bottom in pixels of the page.
        scores: ``(n,)`` float32.
    """

    names: Sequence[str]
    classes: NDArray[np.int32]
    corners: NDArray[np.float32]
    scores: NDArray[np.float32]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.regions())

    def rounded(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Boxes (left, top, width, height) and scores to the digits that are written, so that a file scores what was scored."""
        boxes = self.corners.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        return boxes.round(2), self.scores.astype(np.float64).round(5)

    def regions(self, least: float = 0.0) -> list[dict[str, Any]]:
        """``{"label", "box", "score"}`` of those with at least this score."""
        boxes, scores = self.rounded()
        return [
            {"label": self.names[label], "box": box, "score": score}
            for label, box, score in zip(self.classes.tolist(), boxes.tolist(), scores.tolist(), strict=True)
            if score >= least
        ]

    def seen(self, labels: Sequence[str]) -> Seen:
        """Those of the classes ``labels``, to be scored."""
        places = {label: place for place, label in enumerate(labels)}
        classes = np.array([places.get(name, -1) for name in self.names])[self.classes]
        known = classes >= 0
        boxes, scores = self.rounded()
        return Seen(classes[known], boxes[known], scores[known])


class WhenAsked(Sequence[Entry]):
    """So many entries, each made when it is asked for, and every time anew."""

    def __init__(self, count: int, make: Callable[[int], Entry]) -> None:
        self.places, self.make = range(count), make

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, place: int) -> Entry: ...

    @overload
    def __getitem__(self, place: slice) -> list[Entry]: ...

    def __getitem__(self, place: int | slice) -> Entry | list[Entry]:
        if isinstance(place, slice):
            return [self.make(one) for one in self.places[place]]
        return self.make(self.places[place])
