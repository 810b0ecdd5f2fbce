"""The kie task under a schema: from training to card, to a loaded model, to what it writes and how sure it is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

import docstill
from docstill.data.images import open_image
from docstill.models.io import DocumentModel
from docstill.prune_settings import MagnitudePrune
from docstill.settings import Stage, TrainStage
from docstill.stages import Bench, run_stage
from docstill.tasks.base import Pages
from docstill.tasks.kie import Kie
from kie_tiny import ANSWERS, TAGS, page, tiny_donut, tiny_folder
from tiny import write_recipe

KIE = Kie()
pytestmark = pytest.mark.usefixtures("one_thread")
LETTERS = "abcdefgh0123456789"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    return KIE.read(tiny_folder(tmp_path_factory.mktemp("pages")))


def restless(seed: int, positions: int = 24) -> DocumentModel:
    """An untrained model that writes another token at each place: its last layer is not that of its embedding."""
    model = tiny_donut(seed)
    model.network.config.decoder.max_position_embeddings = positions
    decoder = model.network.decoder
    with torch.no_grad():
        decoder.model.decoder.embed_positions.weight.mul_(40)
        head = torch.randn_like(decoder.lm_head.weight)
        head[[model.processor.tokenizer.get_vocab()[tag] for tag in TAGS]] *= 1.5
    decoder.lm_head.weight = torch.nn.Parameter(head)
    return model


def test_an_untrained_model_writes_broken_answers_only_without_a_schema(pages: Pages) -> None:
    images = [page({"x": LETTERS[index:]}) for index in range(3)]
    broken = {True: 0, False: 0}
    for seed in range(3):
        model = restless(seed)
        for held in (False, True):
            if held:
                KIE.before_learning(model, pages)
            for answer in KIE.predict(model, images):
                text = answer["text"]
                broken[held] += any(text.count(f"<s_{key}>") != text.count(f"</s_{key}>") for key in ("shop", "total"))
                if held:
                    assert set(answer["fields"]) <= {"shop", "total"}
                    assert answer["confidence"].keys() == answer["fields"].keys()
    assert broken[False] > 0
    assert broken[True] == 0


@pytest.mark.parametrize("held", [False, True])
def test_a_batch_reads_what_each_page_alone_reads(pages: Pages, held: bool) -> None:
    """Pages whose answers end early do not disturb the others."""
    model = restless(1)
    if held:
        KIE.before_learning(model, pages)
    images = [page({"x": "".join(random.Random(index).sample(LETTERS, 9))}) for index in range(4)]
    together = KIE.predict(model, images)
    for image, answer in zip(images, together, strict=True):
        (alone,) = KIE.predict(model, [image])
        assert (alone["fields"], alone["text"]) == (answer["fields"], answer["text"])
        assert alone["document_confidence"] == pytest.approx(answer["document_confidence"], rel=1e-3)


def test_a_pruned_model_without_a_schema_is_given_that_of_the_pages(pages: Pages, tmp_path: Path) -> None:
    """As its twins that learn are; one that has a schema keeps it."""
    known = {"keys": {"name": {"longest": 3}}}
    for card, expected in (({}, ["shop", "total"]), ({"schema": known}, ["name"])):
        model = restless(0)
        model.card = dict(card)
        stage = Stage(prune=MagnitudePrune(sparsity=0.9))
        run_stage(Bench(KIE, pages, pages), model, stage, tmp_path / "work", 0, "prune")
        assert list(model.card["schema"]["keys"]) == expected


def test_a_teacher_without_a_schema_is_compared_under_that_of_its_students(tmp_path: Path) -> None:
    """Else its row would count broken tags, and theirs could not."""
    folder = tiny_folder(tmp_path / "pages")
    restless(0, positions=128).save(tmp_path / "teacher")
    recipe = {
        "task": "kie",
        "data": {"train": str(folder), "validation": str(folder)},
        "teacher": str(tmp_path / "teacher"),
        "stages": [{"prune": {"method": "magnitude", "sparsity": 0.1}}],
        "compare": False,
    }
    docstill.compress(write_recipe(tmp_path / "recipe.yaml", recipe), tmp_path / "run")
    for part in ("teacher", "seed-0/student"):
        answers = json.loads((tmp_path / "run" / part / "evaluation" / "documents.json").read_text(encoding="utf-8"))
        assert all(set(answer["predicted"]) <= {"shop", "total"} for answer in answers), part
    assert "schema" not in json.loads((tmp_path / "teacher" / "docstill.json").read_text(encoding="utf-8"))


def test_training_leaves_schema_and_confidence_on_the_card(pages: Pages, tmp_path: Path) -> None:
    """And a loaded model goes by them; pruning it drops the confidence, which was that of another network."""
    model = tiny_donut(positions=40)
    stage = Stage(train=TrainStage(epochs=1, batch_size=4))
    run_stage(Bench(KIE, pages, pages), model, stage, tmp_path / "work", 0, "train")
    assert model.card["schema"] == {"keys": {"shop": {"longest": 9}, "total": {"longest": 5}}}
    assert set(model.card["confidence"]) <= {"fields", "documents"}
    assert model.card["confidence"]["documents"]["n"] == 4
    model.save(tmp_path / "model")
    loaded = docstill.load(tmp_path / "model")
    files = [document.file for document in pages.documents]
    answers = loaded.predict(files)
    assert answers == KIE.predict(model, [open_image(file) for file in files])
    assert all(set(answer["fields"]) <= {"shop", "total"} for answer in answers)
    metrics = docstill.evaluate(tmp_path / "model", pages.folder)["metrics"]["confidence"]
    assert metrics["calibrated"]
    assert metrics["documents"]["n"] == 4
    assert set(metrics["documents"]["accepted"]) == {"0.01", "0.02", "0.05"}
    docstill.prune(str(tmp_path / "model"), tmp_path / "pruned", sparsity=0.5)
    pruned = KIE.load_model(str(tmp_path / "pruned" / "model"))
    assert pruned.card["schema"] == model.card["schema"]
    assert "confidence" not in pruned.card


def test_the_schema_stays_when_a_model_is_saved_under_a_card_of_its_own(pages: Pages) -> None:
    """A tag added later is known to the grammar, too: the tokenizer's size is part of what it is kept by."""
    model = restless(2)
    KIE.before_learning(model, pages)
    first = KIE.predict(model, [page(ANSWERS[0])])
    other = KIE.read(tiny_folder(pages.folder.parent / "others", [{"date": "1.1.26"}]))
    KIE.adapt(model, other)
    KIE.before_learning(model, other)
    (answer,) = KIE.predict(model, [page(ANSWERS[0])])
    assert set(answer["fields"]) <= {"date"}
    assert first[0]["text"] != answer["text"]
