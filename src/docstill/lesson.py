"""A lesson: student and, where an objective asks for it, teacher look at the same batch; the objectives compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from docstill.engine import Loss
from docstill.errors import ModelError, UserError
from docstill.models.io import DocumentModel
from docstill.models.taps import module_at, tapped
from docstill.objectives import OBJECTIVES
from docstill.objectives.base import UNLABELLED, Objective, Outputs
from docstill.on_policy import OWN, unlabelled, with_own_answers
from docstill.sharing import Pairs, in_common, taken_over
from docstill.tasks.base import Task, on_device


@dataclass(frozen=True)
class Weighted:
    """An objective of a recipe, under a name that is unique in it, with its weight."""

    name: str
    weight: float
    objective: Objective


def make_objectives(entries: Sequence[dict[str, Any]]) -> list[Weighted]:
    """Objectives from a recipe's list; the second `hint` is called `hint-2`."""
    made: list[Weighted] = []
    kinds: Counter[str] = Counter()
    for entry in entries:
        options = dict(entry)
        kind, weight = str(options.pop("kind")), float(options.pop("weight", 1.0))
        kinds[kind] += 1
        again = kinds[kind]
        made.append(Weighted(kind if again == 1 else f"{kind}-{again}", weight, OBJECTIVES[kind](**options)))
    return made


class Lesson(nn.Module):
    """Student and objectives as one module, so that they are trained and checkpointed together.

    The teacher is held outside the module tree: it is never trained, moved into train mode, or checkpointed.

    Attributes:
        frozen: the modules at the paths ``freeze``, by path, which stay as they are until `finish`.
        shared: which of these are the teacher's too, once that was seen by `prepare`; they run once a batch.
        wanted: what the objectives compare besides decisions, as keys of the batches that the networks look at.
        recall: what the teacher said of documents, by index, where that is known; it is then not asked again.
    """

    def __init__(
        self,
        task: Task,
        student: DocumentModel,
        teacher: DocumentModel | None,
        objectives: Sequence[Weighted],
        freeze: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.network = student.network
        self.objectives = nn.ModuleList([weighted.objective for weighted in objectives])
        self.names = [weighted.name for weighted in objectives]
        self.weights = [weighted.weight for weighted in objectives]
        asked = [weighted.objective for weighted in objectives if weighted.objective.needs_teacher]
        if asked and teacher is None:
            raise ModelError(
                f"{', '.join(type(objective).__name__.lower() for objective in asked)} needs a teacher, none was given"
            )
        kinds = [weighted.objective for weighted in objectives]
        self.wanted = {name: True for name in ("looks", "pools") if any(getattr(kind, name) for kind in kinds)}
        self.recall: Callable[[Sequence[int], torch.device], Outputs] | None = None
        self._outside = (task, student, teacher if asked else None)
        if self.teacher is not None:
            self.teacher.network.requires_grad_(False).eval()
        for weighted in objectives:
            weighted.objective.know(student.card)
            weighted.objective.attach(student.network, None if self.teacher is None else self.teacher.network)
        gone = set(student.masks) - {name for name, _ in student.network.named_parameters()}
        if gone:
            raise ModelError(
                f"an objective replaces the student's classifier, and the pruned weights of that classifier ({', '.join(gone)}) "
                "would come back; prune with an `of` that leaves it out, or use another objective"
            )

        held = sorted(
            name
            for name, weights in student.network.named_parameters()
            if name in student.masks and not weights.requires_grad
        )
        if held:
            raise ModelError(
                f"an objective hands on weights of the teacher that are to stay as they are, and the student's were pruned there ({', '.join(held[:3])} "
                f"and so on, {len(held)} tensors); prune with an `of` that leaves these out, or give heads frozen: false"
            )
        # in a dictionary, not as submodules: they are the network's already
        self.frozen = {path: module_at(self.network, path, "student") for path in freeze}
        self.shared: Pairs = ()
        self._thawed = [
            weights for module in self.frozen.values() for weights in module.parameters() if weights.requires_grad
        ]
        for weights in self._thawed:
            weights.requires_grad_(False)
        if self._thawed and not any(weights.requires_grad for weights in self.network.parameters()):
            raise UserError(
                f"freeze names {', '.join(freeze)}, which is all of the student, and nothing is left that could learn; name fewer modules"
            )

    def train(self, mode: bool = True) -> Self:
        """As of every module; what is frozen stays in eval mode, for batch norms would move and dropout blur what is handed on."""
        super().train(mode)
        for module in self.frozen.values():
            module.eval()
        return self

    def finish(self) -> None:
        """To be called once when training has ended: the student is an ordinary network again."""
        for objective in self.objectives:
            assert isinstance(objective, Objective)
            objective.detach()
        for weights in self._thawed:
            weights.requires_grad_(True)

    @property
    def teacher(self) -> DocumentModel | None:
        """The teacher, if an objective asks for it."""
        return self._outside[2]

    def prepare(self, batch: dict[str, Any]) -> None:
        """Shows the objectives one dry batch, so that they can make projectors from its shapes; finds out what is ``shared``."""
        training = self.network.training
        self.network.eval()  # a dry batch must not move batch-norm statistics
        with torch.no_grad():
            student, teacher = self.outputs(batch)
            self._share(batch, teacher)
        self.network.train(training)  # frozen modules with it: `train` comes before each step
        for objective in self.objectives:
            assert isinstance(objective, Objective)
            objective.prepare(student, teacher)

    def _share(self, batch: dict[str, Any], alone: Outputs | None) -> None:
        """Fills ``shared``, if what the teacher says is then the same to the bit as what it said ``alone``."""
        teacher = self.teacher
        if alone is None or teacher is None or self.recall is not None:
            return
        self.shared = in_common(self.frozen, teacher.network, self._paths("teacher_modules"))
        if self.shared:
            _, again = self.outputs(batch)
            assert again is not None
            same = torch.equal(alone.logits, again.logits)
            same = same and all(torch.equal(value, again.features[path]) for path, value in alone.features.items())
            self.shared = self.shared if same else ()

    def outputs(self, batch: dict[str, Any]) -> tuple[Outputs, Outputs | None]:
        """What student and teacher make of a batch, with the features the objectives asked for."""
        task, student, teacher = self._outside
        own = OWN in batch
        if own:
            batch = with_own_answers(task, student, teacher, batch)
        with taken_over(self.shared):
            result, answer = self._looked(batch)
        if teacher is None or answer is None:
            return result, None
        answer = task.aligned(teacher, student, answer, result)
        return (unlabelled(result), unlabelled(answer)) if own else (result, answer)

    def _looked(self, batch: dict[str, Any]) -> tuple[Outputs, Outputs | None]:
        task, student, teacher = self._outside
        device = student.device
        result = _look(
            task, student, {**batch["student"], **self.wanted}, self._paths("student_modules"), device, "student"
        )
        if teacher is None:
            return result, None
        if self.recall is not None:
            return result, self.recall(batch["indices"], device)
        shown = {**batch["teacher"], **self.wanted, **task.shown(teacher, student, batch["student"], result)}
        return result, ask(task, teacher, shown, self._paths("teacher_modules"), device, batch["files"])

    def forward(self, batch: dict[str, Any]) -> list[Loss]:
        """The losses of one batch, one for each objective."""
        student, teacher = self.outputs(batch)
        counts = self.counts(batch)
        # Losses are small differences of large sums: whatever precision the networks run in, these take float32.
        with torch.autocast(student.logits.device.type, enabled=False):
            return [
                Loss(name, objective(student, teacher), weight, counts[name])
                for name, weight, objective in zip(self.names, self.weights, self.objectives, strict=True)
            ]

    def counts(self, batch: dict[str, Any]) -> dict[str, int]:
        """How many things each objective's mean runs over in this batch."""
        targets = batch["student"]["targets"]
        labelled = int((targets != UNLABELLED).sum())
        sizes = {"documents": len(batch["files"]), "decisions": len(targets), "labelled": labelled}
        return {
            name: sizes[str(objective.average)] for name, objective in zip(self.names, self.objectives, strict=True)
        }

    def _paths(self, attribute: str) -> list[str]:
        return sorted({path for objective in self.objectives for path in getattr(objective, attribute)})


def ask(
    task: Task,
    teacher: DocumentModel,
    batch: dict[str, Any],
    paths: Sequence[str],
    device: torch.device,
    files: Sequence[str],
) -> Outputs:
    """What a teacher makes of a batch, without gradients.

    Raises:
        ModelError: it is not finite; ``files`` are named.
    """
    if teacher.device != device:
        teacher.network.to(device)
    with torch.no_grad():
        answer = _look(task, teacher, batch, paths, device, "teacher")
    if not torch.isfinite(answer.logits).all():
        raise ModelError(
            f"the teacher's outputs are not finite on the batch of {', '.join(files[:8])}; look at the teacher and these files"
        )
    return answer


def _look(
    task: Task, model: DocumentModel, batch: dict[str, Any], paths: Sequence[str], device: torch.device, whose: str
) -> Outputs:
    with tapped(model.network, paths, whose) as features:
        outputs = task.forward(model, on_device(batch, device))
    if not_run := [path for path in paths if path not in features]:
        raise ModelError(
            f"the {whose}'s {', '.join(not_run)} is not run by itself when a page is looked at, so that there is nothing to compare; "
            "name a module that is, such as one of the layers in a list"
        )
    outputs.features = {path: value.float() for path, value in features.items()}
    return outputs
