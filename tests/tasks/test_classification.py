"""Classification: matched by name, adapted to new classes, scored whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from docstill.data.class_folders import read_class_folders
from docstill.errors import DataError, ModelError, UserError
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from docstill.optimiser import seed_everything
from docstill.tasks.base import ModelSpec, Pages
from docstill.tasks.classification import Classification

TASK = Classification()


def _model(*labels: str) -> DocumentModel:
    seed_everything(0)
    return new_classifier("vit-tiny", tiny.TINY_VIT["config"], labels, (32, 32))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.class_folders(tmp_path_factory.mktemp("classification"))


def test_adapting_makes_a_new_head_and_keeps_the_rest(data: Path) -> None:
    model = _model("cat", "dog")
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    TASK.adapt(model, TASK.read(data / "train"))
    assert model.labels == list(tiny.KINDS)
    after = model.network.state_dict()
    changed = {name for name in after if before[name].shape != after[name].shape}
    assert changed == {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(before[name], after[name]) for name in after if name not in changed)


def test_adapting_leaves_a_fitting_model_alone(data: Path) -> None:
    model = _model(*reversed(tiny.KINDS))
    network = model.network
    TASK.adapt(model, TASK.read(data / "train"))
    assert model.network is network


def test_scores_do_not_depend_on_the_order_of_the_models_classes(data: Path) -> None:
    pages = TASK.read(data / "validation", TASK.read(data / "train"))
    model, turned = _model(*tiny.KINDS), _model(*reversed(tiny.KINDS))
    with torch.no_grad():
        for ours, theirs in zip(
            model.network.classifier.parameters(), turned.network.classifier.parameters(), strict=True
        ):
            theirs.copy_(ours.flip(0))
    assert TASK.evaluate(model, pages).metrics["nll"] == pytest.approx(TASK.evaluate(turned, pages).metrics["nll"])


def test_evaluation_names_every_document_and_keeps_the_training_mode(data: Path) -> None:
    pages = TASK.read(data / "validation", TASK.read(data / "train"))
    model = _model(*tiny.KINDS)
    model.network.train()
    evaluation = TASK.evaluate(model, pages)
    assert model.network.training
    assert [judged.file for judged in evaluation.documents] == [document.where for document in pages.documents]
    assert set(evaluation.metrics["per_class"]) == set(tiny.KINDS)


def test_a_label_that_training_lacks_is_refused(data: Path) -> None:
    training = TASK.read(data / "train")
    with pytest.raises(DataError, match="a label that the training split does not have"):
        TASK.read(data / "validation", Pages(data, training.documents, ["bars", "dots"]))
    assert read_class_folders(data / "validation", training.labels).labels == training.labels


def test_pages_of_classes_the_model_does_not_know_are_refused(data: Path) -> None:
    with pytest.raises(ModelError, match="do not have the same classes"):
        TASK.check_model(_model("cat", "dog"), TASK.read(data / "train"))


def test_answers_that_are_no_numbers_are_refused_with_their_files(data: Path) -> None:
    pages = TASK.read(data / "validation", TASK.read(data / "train"))
    model = _model(*tiny.KINDS)
    with torch.no_grad():
        model.network.classifier.bias[1] = float("nan")
    with pytest.raises(ModelError, match=r"outputs are not finite on bars/0\.png, bars/1\.png, dots/0\.png"):
        TASK.evaluate(model, pages)
    with pytest.raises(ModelError, match="outputs are not finite on page 1"):
        TASK.predict(model, [tiny.page("bars", 0)])


def test_a_classifier_from_scratch_sees_pages_with_mean_0_and_spread_1(data: Path) -> None:
    pages = TASK.read(data / "train")
    model = TASK.new_model(ModelSpec("vit-tiny", tiny.TINY_VIT["config"], (32, 32)), pages)
    shown = [
        TASK.example(model, document, Image.open(document.file), pages.labels, None) for document in pages.documents
    ]
    values = np.stack([one["pixel_values"].numpy() for one in shown])
    assert values.mean() == pytest.approx(0, abs=1e-3)
    assert values.std() == pytest.approx(1, abs=1e-3)
    processor = model.processor
    assert len(set(processor.image_mean)) == 1  # the pages are black on white
    assert processor.image_mean[0] > 0.5  # and mostly paper


def test_blank_pages_are_not_stretched_without_end(tmp_path: Path) -> None:
    for kind in ("a", "b"):
        (tmp_path / kind).mkdir()
        Image.new("RGB", (40, 48), "white").save(tmp_path / kind / "0.png")
    model = TASK.new_model(ModelSpec("vit-tiny", tiny.TINY_VIT["config"], (32, 32)), TASK.read(tmp_path))
    assert model.processor.image_std == [0.02] * 3
    assert model.processor.image_mean == [1.0] * 3


def test_a_damaged_page_of_the_sample_is_named_and_no_size_blamed(tmp_path: Path) -> None:
    pages = TASK.read(tiny.class_folders(tmp_path / "data") / "train")
    bad = pages.documents[3].file
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(UserError) as error:
        TASK.new_model(ModelSpec("vit-tiny", tiny.TINY_VIT["config"], (32, 32)), pages)
    assert str(error.value).startswith(f"{bad}: is damaged")


def test_two_models_are_shown_the_same_where_page_and_classes_are_the_same() -> None:
    model = _model(*tiny.KINDS)
    assert TASK.shown_alike(model, _model(*reversed(tiny.KINDS)))
    assert not TASK.shown_alike(model, _model("cat", "dog"))
    darker = _model(*tiny.KINDS)
    darker.processor.image_mean = [0.9] * 3
    assert not TASK.shown_alike(model, darker)


def test_a_beit_learns_after_it_was_scored(data: Path) -> None:
    """transformers keeps where the positions of a window stand, for all BEiTs, from whichever pass was the first."""
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    pages = TASK.read(data / "validation", TASK.read(data / "train"))
    model = new_classifier("dit-base", shape, tiny.KINDS, (32, 32))
    model.network.config.image_size = 112  # a window that nothing has looked through yet
    model.network = type(model.network)(model.network.config)
    model.processor.size = {"height": 112, "width": 112}
    TASK.evaluate(model, pages)
    model.network.train()
    pixels = torch.rand(2, 3, 112, 112)
    TASK.forward(model, {"pixel_values": pixels, "targets": torch.tensor([0, 1])}).logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.network.parameters() if parameter.requires_grad)
