"""Donuts from elsewhere that write keys in the order of the labels, and not sorted as ours do."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch

import docstill
import kie_tiny
from docstill.data.document import Document
from docstill.data.json_tokens import json_to_tokens
from docstill.decoding.schema import SCHEMA
from docstill.models.io import CARD
from docstill.run import read_metrics
from docstill.similarity.comparison import comparison
from docstill.synthesis.generator import Generator
from docstill.synthesis.stream import Stream
from docstill.tasks.base import Pages
from docstill.tasks.key_order import AS_LABELLED, KEY_ORDER, find_order, in_one_order, is_sorted
from docstill.tasks.kie import Kie


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Path]:
    """Models that learnt one order or the other, without a card; and the data."""
    root = tmp_path_factory.mktemp("orders")
    for split in ("train", "validation"):
        kie_tiny.tiny_folder(root / "data" / split)
    models = {}
    for order in ("sorted", AS_LABELLED):
        model = kie_tiny.tiny_donut()
        model.card[KEY_ORDER] = order
        begun = model.save(root / f"{order} begun")
        done = docstill.train(
            "kie", begun, root / "data", root / order, epochs=30, batch_size=4, learning_rate=0.003, evaluate_every=30
        )
        models[order] = Path(done["model"])
        assert json.loads((models[order] / CARD).read_text())[KEY_ORDER] == order
        (models[order] / CARD).unlink()
    return models, root / "data"


@pytest.mark.parametrize("order", ["sorted", AS_LABELLED])
def test_the_order_is_found_out_and_nothing_else_changes(order: str, learnt: tuple[dict[str, Path], Path]) -> None:
    models, data = learnt
    task = Kie()
    model = task.load_model(str(models[order]))
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    state = torch.get_rng_state()
    find_order(task, model, task.read(data / "train"))
    assert model.card.get(KEY_ORDER) == (AS_LABELLED if order == AS_LABELLED else None)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.network.state_dict().items())


def test_a_network_from_scratch_has_none(learnt: tuple[dict[str, Path], Path]) -> None:
    _, data = learnt
    model = kie_tiny.tiny_donut()
    find_order(Kie(), model, Kie().read(data / "train"))
    assert KEY_ORDER not in model.card


def test_it_is_found_out_on_pages_that_are_drawn_too(learnt: tuple[dict[str, Path], Path]) -> None:
    documents = [
        Document(Path(name), answer, (answer,), name, draw=partial(kie_tiny.page, answer))
        for name, answer in zip("abcd", kie_tiny.ANSWERS, strict=True)
    ]
    drawn = Pages(Path("drawn"), documents, stream=Stream(Generator("receipts", 0), 4))
    models, _ = learnt
    found = {name: Kie().load_model(str(folder)) for name, folder in models.items()} | {"new": kie_tiny.tiny_donut()}
    for model in found.values():
        Kie().before_learning(model, drawn)
    assert {name: model.card.get(KEY_ORDER) for name, model in found.items()} == {
        "sorted": None,
        AS_LABELLED: AS_LABELLED,
        "new": None,
    }


@pytest.mark.parametrize("order", ["sorted", AS_LABELLED])
def test_compared_models_are_shown_the_teachers_order(order: str, learnt: tuple[dict[str, Path], Path]) -> None:
    """The teacher's is found out, whatever the student's card says; and both cards stay as they were."""
    models, data = learnt
    task, pages = Kie(), Kie().read(data / "train")
    teacher = task.load_model(str(models[order]))
    for said in ("sorted", AS_LABELLED):
        student = task.load_model(str(models[order]))
        student.card[KEY_ORDER] = said
        same = comparison(task, teacher, student, pages)
        assert same["agreement"]["tokens"] == 1
        assert same["agreement"]["kl"] == pytest.approx(0, abs=1e-9)
        assert same["similarity"]["global"] == 1
        assert KEY_ORDER not in teacher.card
        assert student.card[KEY_ORDER] == said
        shown = in_one_order(task, teacher, student, pages)
        assert [is_sorted(model) for model in shown] == [order == "sorted"] * 2


def test_teacher_and_student_write_in_the_teachers_order(learnt: tuple[dict[str, Path], Path], tmp_path: Path) -> None:
    models, data = learnt
    teacher = models[AS_LABELLED]
    done = docstill.distill(teacher, teacher, data, tmp_path / "out", epochs=1, batch_size=4, learning_rate=1e-6)
    student = Kie().load_model(done["model"])
    assert student.card[KEY_ORDER] == AS_LABELLED
    assert SCHEMA in student.card
    task, pages = Kie(), Kie().read(data / "train")
    example = task.example(student, pages.documents[0], kie_tiny.page(kie_tiny.ANSWERS[0]), [], None)
    text = student.processor.tokenizer.decode(example["ids"][1:-1], skip_special_tokens=False)
    assert "".join(text.split()) == "".join(json_to_tokens(kie_tiny.ANSWERS[0], sort_keys=False).split())
    (right,) = [line["labels"] for line in read_metrics(tmp_path / "out" / "metrics.jsonl")]
    other = docstill.distill(
        models["sorted"], teacher, data, tmp_path / "other", epochs=1, batch_size=4, learning_rate=1e-6
    )
    assert KEY_ORDER not in Kie().load_model(other["model"]).card, "the teacher's order, whatever the student's was"
    (wrong,) = [line["labels"] for line in read_metrics(tmp_path / "other" / "metrics.jsonl")]
    assert right < wrong - 0.1
