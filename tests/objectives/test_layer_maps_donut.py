"""Layer maps between a Donut and its depth-pruned copy: which layers are compared, in the part that looks and in the one that writes.

The teacher's blocks that are to go hand on what they are given. So each of the student's says what the block said that it was,
and the map that knows which one leaves nothing to learn; evenly spaced blocks do.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from docstill.batches import epoch_batches, page_set
from docstill.lesson import Lesson, make_objectives
from docstill.models.io import DocumentModel
from docstill.objectives.layered import Layered
from docstill.prune_settings import DepthPrune
from docstill.prune_stage import prune
from docstill.settings import Training
from docstill.tasks.base import Pages
from docstill.tasks.kie import Kie
from kie_tiny import tiny_donut, tiny_folder

KIE = Kie()
pytestmark = pytest.mark.usefixtures("one_thread")

WRITES, LOOKS = "decoder.model.decoder.layers", "encoder.encoder.layers.2.blocks"
IDLE = {WRITES: [0, 2], LOOKS: [0, 1]}
"""Of four blocks each. In the encoder a neighbour goes along, so that windows which are shifted stay so."""
PAIRS: dict[tuple[str, str], list[tuple[int, int]]] = {
    (WRITES, "kept"): [(0, 1), (1, 3)],
    (WRITES, "even"): [(0, 0), (1, 3)],
    (LOOKS, "kept"): [(0, 2), (1, 3)],
    (LOOKS, "even"): [(0, 0), (1, 3)],
}
"""By list and map: the student's layer and the teacher's."""
Couple = tuple[DocumentModel, DocumentModel, dict[str, Any]]


def empty(network: nn.Module, block: str) -> None:
    """Makes a block hand on what it is given."""
    for name, module in network.get_submodule(block).named_modules():
        if name.endswith(("out_proj", "fc2", "output.dense")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


@pytest.fixture(scope="module")
def couple(tmp_path_factory: pytest.TempPathFactory) -> Couple:
    """Teacher, student from its folder, and a batch of answers of one length, so that there is no padding."""
    root = tmp_path_factory.mktemp("couple")
    pages = KIE.read(tiny_folder(root / "pages", [{"shop": "Ash", "total": "1.00"}, {"shop": "Elm", "total": "2.50"}]))
    changes = {"encoder": {"depths": [1, 1, 4, 1]}, "decoder": {"decoder_layers": 4}}
    teacher, student = tiny_donut(changes=changes), tiny_donut(changes=changes)
    for model in (teacher, student):
        for path, places in IDLE.items():
            for place in places:
                empty(model.network, f"{path}.{place}")
    cut(student, pages, of="decoder", keep=2)
    cut(student, pages, of="encoder", keep=[1, 1, 2, 1])
    student = KIE.load_model(str(student.save(root / "student")))
    examples = page_set(KIE, pages, student, teacher, Training(), seed=0)
    return teacher, student, next(epoch_batches(examples, 0, 0, 2, 0))


def cut(student: DocumentModel, pages: Pages, **settings: Any) -> None:
    prune(KIE, student, DepthPrune(method="depth", by="influence", pages=2, **settings), pages)


def said_by(model: DocumentModel, batch: dict[str, Any], path: str) -> list[Tensor]:
    """What each layer of a list says of a batch, by hooks of the test's own."""
    layers, said = model.network.get_submodule(path), []
    handles = [
        layer.register_forward_hook(lambda *seen: said.append(seen[2][0] if isinstance(seen[2], tuple) else seen[2]))
        for layer in layers
    ]
    with torch.no_grad():
        KIE.forward(model, batch)
    for handle in handles:
        handle.remove()
    assert len(said) == len(layers)
    return said


def test_what_was_cut_is_what_was_idle(couple: Couple) -> None:
    _, student, _ = couple
    kept = [{path: {"of": 4, "kept": [n for n in range(4) if n not in IDLE[path]]}} for path in (WRITES, LOOKS)]
    assert student.card["kept_layers"] == kept


@pytest.mark.parametrize(("path", "how"), PAIRS)
def test_the_layers_that_are_compared_are_those_of_the_map(couple: Couple, path: str, how: str) -> None:
    teacher, student, batch = couple
    entry = {"kind": "hint", "student_module": path, "map": how, "normalise": False}
    lesson = Lesson(KIE, student, teacher, make_objectives([entry]))
    lesson.prepare(batch)  # as wide as the teacher: the projectors begin as the identity
    [loss] = lesson(batch)

    ours, theirs = said_by(student, batch["student"], path), said_by(teacher, batch["teacher"], path)
    by_hand = sum(float((ours[one] - theirs[other]).square().mean()) for one, other in PAIRS[path, how]) / 2
    assert loss.value.item() == pytest.approx(by_hand, rel=1e-5, abs=1e-9)
    assert (by_hand == pytest.approx(0, abs=1e-9)) == (how == "kept")
    [objective] = lesson.objectives
    assert isinstance(objective, Layered)
    assert objective.pairs == [(f"{path}.{one}", f"{path}.{other}") for one, other in PAIRS[path, how]]


def test_both_lists_are_followed_in_one_lesson(couple: Couple) -> None:
    teacher, student, batch = couple
    entries = [
        {"kind": "labels"},
        *({"kind": kind, "student_module": path, "map": "kept"} for kind in ("hint", "attention") for path in IDLE),
        {"kind": "hint", "student_module": WRITES, "map": "even"},
    ]
    lesson = Lesson(KIE, student, teacher, make_objectives(entries))
    lesson.prepare(batch)
    losses = {loss.name: loss.value.item() for loss in lesson(batch)}
    known = {"hint", "hint-2", "attention", "attention-2"}
    assert {name for name, value in losses.items() if value == pytest.approx(0, abs=1e-9)} == known
    assert losses.keys() - known == {"labels", "hint-3"}
