"""Layer maps: what feature objectives share that compare several layers in one line; the loss is the mean over the pairs.

A student with fewer layers than its teacher has, layer by layer, one of the teacher's beside it: those that depth pruning kept,
or evenly spaced ones.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from docstill.errors import ModelError
from docstill.models.taps import module_at
from docstill.objectives.paired import Paired
from docstill.pruning.depth import KEPT_LAYERS, evenly

LayerMap = Literal["even", "kept"]


class Layered(Paired):
    """Compares two modules, or every layer of a list with one of the teacher's.

    Args:
        student_module: path of the student's module whose output is compared, e.g. ``resnet.encoder.stages.2``; with ``map``
            that of a list of layers, e.g. ``decoder.model.decoder.layers``.
        teacher_module: path in the teacher; default: the same path.
        map: ``kept`` sets each layer of the student beside the one that it was before depth pruning, ``even`` beside evenly
            spaced ones, the first and (if there are two) the last among them; default: no lists but two modules.
    """

    def __init__(self, student_module: str, teacher_module: str | None = None, map: LayerMap | None = None) -> None:
        super().__init__(student_module, teacher_module)
        self.map = map
        self._records: Sequence[Mapping[str, Any]] = ()

    def know(self, card: Mapping[str, Any]) -> None:
        """Takes what depth pruning kept from the student's card."""
        self._records = card.get(KEPT_LAYERS, ())

    def attach(self, student: nn.Module, teacher: nn.Module | None) -> None:
        """Pairs the layers of the two lists.

        Raises:
            ModelError: a path names no list of layers; the student has more layers than the teacher; it is not known which
                layers were kept.
        """
        if self.map is None:
            return
        assert teacher is not None
        ours = _layers(student, self.student_module, "student")
        theirs = _layers(teacher, self.teacher_module, "teacher")
        if len(ours) > len(theirs):
            raise ModelError(
                f"map: {self.map} gives each layer of the student one of the teacher's, and {self.student_module} has "
                f"{len(ours)} for the {len(theirs)} of the teacher's {self.teacher_module}; name pairs of modules without map"
            )
        if self.map == "even":
            places = evenly(len(theirs), len(ours))
        else:
            places = kept_places(self._records, self.student_module, len(ours), len(theirs))
        self.student_modules = tuple(f"{self.student_module}.{name}" for name in ours)
        self.teacher_modules = tuple(f"{self.teacher_module}.{theirs[place]}" for place in places)


def kept_places(records: Sequence[Mapping[str, Any]], path: str, ours: int, theirs: int) -> list[int]:
    """Where each layer of a list stood in the teacher's, through as many depth prunings as lie between the two.

    Args:
        records: of the student's card, the first pruning first; see `docstill.pruning.depth.kept_layers`.
        path: of the student's list.
        ours: layers of the student's list.
        theirs: layers of the teacher's.

    Raises:
        ModelError: the records do not lead from the one number to the other.
    """
    places, size = list(range(ours)), ours
    for record in reversed(records):
        if path in record and size < theirs and len(record[path]["kept"]) == size:
            places, size = [record[path]["kept"][place] for place in places], record[path]["of"]
    if size != theirs:
        raise ModelError(
            f"map: kept needs to know which of the teacher's {theirs} layers the {ours} of the student's {path} were, and the "
            "student's card does not say; prune it from this teacher by depth, or use map: even"
        )
    return places


def _layers(network: nn.Module, path: str, whose: str) -> list[str]:
    """Names of the layers in a list."""
    module = module_at(network, path, whose)
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        lists = [name for name, inner in network.named_modules() if isinstance(inner, nn.ModuleList)]
        near = difflib.get_close_matches(path, lists, n=3, cutoff=0.3)
        raise ModelError(
            f"map pairs the layers of two lists, and the {whose}'s {path} is a {type(module).__name__}; "
            f"did you mean {', '.join(near) or 'another path'}?"
        )
    return [name for name, _ in module.named_children()]
