"""The teacher's answers, asked for once and kept on disk, so that training never runs the teacher.

Of each decision the k largest logits are kept, as float32; the other C − k share evenly what is left:

    z_j = T · log( Σ_rest exp(z_i / T) / (C − k) )      for every j that is not among the k largest

T is the highest temperature of the stage's objectives. At T the rest has exactly its mass R in the teacher's softmax, at a
lower temperature at most its mass there (power means), so the probabilities that objectives see are off by no more than R
in total variation. With k ≥ C every logit is kept, and nothing is off.

Answers lie in one file for every `SHARD` documents, each written whole or not at all, in a folder named after everything that
they depend on: teacher, pages, the way the pages reach the teacher, k, T. So an interrupted look goes on where it was, students
of all seeds share one look, and no answer of another teacher or another page is ever taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from docstill.batches import PageSet, loaded
from docstill.errors import ModelError, UserError
from docstill.files import atomic
from docstill.fingerprints import add_model, add_page
from docstill.lesson import ask
from docstill.models.io import DocumentModel
from docstill.objectives.base import Outputs
from docstill.optimiser import choose_precision
from docstill.progress import counter

FORMAT = 1
"""To be raised whenever a file written earlier would be read differently."""

SHARD = 64
FOLDER = "teacher-logits"
"""Name of the folder, in a run's or a stage's own, that holds what is kept."""


@dataclass
class TeacherCache:
    """What a teacher said of the documents of one split.

    Attributes:
        folder: holds the files.
        classes: C, how many logits a decision has.
        temperature: T, at which the rest keeps its mass.
        documents: how many there are.
        largest: k; at least C if all logits are kept.
    """

    folder: Path
    classes: int
    temperature: float
    documents: int
    largest: int
    _opened: dict[int, Any] = field(default_factory=dict)
    _starts: dict[int, list[int]] = field(default_factory=dict)

    def outputs(self, indices: Sequence[int], device: torch.device) -> Outputs:
        """The teacher's outputs on these documents, in this order: logits ``(N, C)`` and its own targets ``(N,)``."""
        parts = [self._document(index) for index in indices]
        kept = {name: torch.cat([part[name] for part in parts]).to(device) for name in parts[0]}
        logits = kept["values"]
        if self.largest < self.classes:  # spread out on the device: C is large, k is small
            logits = kept["rest"].unsqueeze(-1).repeat(1, self.classes).scatter_(1, kept["places"].long(), logits)
        return Outputs(logits, kept["targets"].long(), len(indices))

    def held(self) -> float:
        """Mean share, over all decisions, of the teacher's probability at T that the logits kept account for."""
        if self.largest >= self.classes:
            return 1.0
        total, count = 0.0, 0
        for shard in range(0, self.documents, SHARD):
            values, rest = (self._open(shard).get_tensor(name) for name in ("values", "rest"))
            kept = (values / self.temperature).logsumexp(-1)
            left = rest / self.temperature + torch.tensor(float(self.classes - self.largest)).log()
            total, count = total + (kept - torch.logaddexp(kept, left)).exp().sum().item(), count + len(rest)
        return total / count

    def bytes(self) -> int:
        """Room taken on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))

    def _document(self, index: int) -> dict[str, Tensor]:
        shard, within = index - index % SHARD, index % SHARD
        file = self._open(shard)
        rows = slice(*self._starts[shard][within : within + 2])
        names = ("values", "targets") if self.largest >= self.classes else ("values", "targets", "places", "rest")
        return {name: file.get_slice(name)[rows] for name in names}

    def _open(self, shard: int) -> Any:
        if shard not in self._opened:
            path = _file(self.folder, shard)
            try:
                file: Any = safe_open(path, framework="pt")
                self._opened[shard] = file
                self._starts[shard] = [0, *file.get_tensor("counts").cumsum(0).tolist()]
            except (OSError, SafetensorError) as error:
                raise UserError(
                    f"{path} cannot be read ({error}); delete it, and the teacher is asked again"
                ) from error
        return self._opened[shard]


def ask_once(
    examples: PageSet, folder: Path, largest: int, temperature: float, device: torch.device, whole: Sequence[str] = ()
) -> TeacherCache:
    """Asks the teacher of ``examples`` about every document that is not in ``folder`` yet.

    Args:
        examples: the pages and the teacher; each page must look the same in every epoch (``examples.still``).
        folder: where answers are kept, those of other teachers and pages among them.
        largest: k, how many logits are kept of each decision.
        temperature: T of the rest; see the module's text.
        device: where the teacher is to run.
        whole: objectives that compare every logit, and cannot do with a few.

    Raises:
        ModelError: there are more than ``largest`` logits, and ``whole`` names objectives that need them.
    """
    teacher, count = examples.teacher, len(examples.pages.documents)
    assert teacher is not None
    assert examples.still
    precision = choose_precision(examples.training.precision)
    about = [FORMAT, SHARD, largest, temperature, precision, examples.cache.size]
    folder = folder / _key(about, teacher, examples)
    looked = replace(examples, student=teacher, teacher=None)  # the pages as the teacher sees them
    classes = 0
    with counter("asking the teacher", count) as advance:
        for shard in range(0, count, SHARD):
            indices = range(shard, min(shard + SHARD, count))
            path = _file(folder, shard)
            if not path.is_file():
                kept = [_kept(part, largest, temperature) for part in _answers(looked, indices, precision, device)]
                with atomic(path) as file:
                    file.write(save({name: torch.cat([part[name] for part in kept]) for name in kept[0]}))
            with safe_open(path, framework="pt") as written:
                classes = int(written.get_slice("classes")[:1])
            if whole and largest < classes:
                raise ModelError(
                    f"{whole[0]} compares every logit of the teacher with the student's, but cache_logits keeps {largest} of "
                    f"{classes:,}; set it to {classes}, or use another objective"
                )
            advance(len(indices))
    return TeacherCache(folder, classes, temperature, count, largest)


def _answers(
    examples: PageSet, indices: Sequence[int], precision: str, device: torch.device
) -> Iterator[tuple[Outputs, Tensor]]:
    """The teacher's outputs in small batches, each with the number of decisions of each of its documents."""
    size, training = examples.training.batch_size, examples.training
    batches = [list(indices[start : start + size]) for start in range(0, len(indices), size)]
    # Its own chance: how much of the teacher was asked before must not show in what begins at random afterwards.
    for batch in loaded(examples, batches, training.workers, torch.Generator().manual_seed(0)):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs = ask(examples.task, examples.student, batch["student"], (), device, batch["files"])
        if outputs.answers is None:
            counts = torch.full((outputs.documents,), len(outputs.logits) // outputs.documents)
        else:
            counts = outputs.answers[1].sum(-1)
        yield outputs, counts


def _kept(answer: tuple[Outputs, Tensor], largest: int, temperature: float) -> dict[str, Tensor]:
    """What is written of one batch."""
    outputs, counts = answer
    logits, classes = outputs.logits, outputs.logits.shape[-1]
    kept = {
        "targets": outputs.targets.to(torch.int32).cpu(),
        "counts": counts.cpu(),
        "classes": torch.tensor([classes]),
    }
    if largest >= classes:
        return {**kept, "values": logits.cpu()}
    values, places = logits.topk(largest, dim=-1)
    others = (logits / temperature).scatter(1, places, -torch.inf)
    rest = temperature * (others.logsumexp(-1) - torch.tensor(float(classes - largest)).log())
    return {**kept, "values": values.cpu(), "places": places.to(torch.int32).cpu(), "rest": rest.cpu()}


def _file(folder: Path, shard: int) -> Path:
    return folder / f"{shard:07d}.safetensors"


def _key(about: Sequence[Any], teacher: DocumentModel, examples: PageSet) -> str:
    """A name that changes with anything that the teacher's answers depend on."""
    found = hashlib.blake2b(json.dumps([*about, examples.pages.labels]).encode(), digest_size=16)
    add_model(found, teacher)
    for document in examples.pages.documents:
        add_page(found, document)
    return found.hexdigest()
