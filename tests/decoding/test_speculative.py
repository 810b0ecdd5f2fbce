"""A draft changes how often a model is asked, and nothing of what it writes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import docstill
import kie_tiny
from docstill.decoding.schema import SCHEMA
from docstill.decoding.speculative import FIRST, MOST, Draft, begun, drafted_by
from docstill.decoding.writing import generate
from docstill.errors import ModelError
from docstill.models.classifier import new_classifier
from docstill.models.io import DocumentModel
from kie_tiny import tiny_donut

pytestmark = pytest.mark.usefixtures("one_thread")


def model_of(seed: int = 0, positions: int = 64) -> DocumentModel:
    """Random weights large enough for answers to differ, which end now and then."""
    model = tiny_donut(seed, positions=positions, changes={"decoder": {"decoder_layers": 3}})
    decoder = model.network.decoder
    with torch.no_grad():
        decoder.model.decoder.embed_positions.weight.mul_(40)
        decoder.lm_head.weight = torch.nn.Parameter(torch.randn_like(decoder.lm_head.weight))
        decoder.lm_head.weight[model.processor.tokenizer.eos_token_id] *= 1.5
    model.network.eval()
    return model


def cut(model: DocumentModel, layers: int) -> DocumentModel:
    """The same model without its last decoder layers."""
    student = copy.deepcopy(model)
    decoder = student.network.decoder.model.decoder
    decoder.layers = decoder.layers[:layers]
    for config in (student.network.config.decoder, student.network.decoder.config):
        config.decoder_layers = config.num_hidden_layers = layers
    return student


def pages(model: DocumentModel, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, *model.network.config.encoder.image_size, generator=generator)


def written(
    model: DocumentModel, draft: Draft, pixels: Tensor, tokens: int, least: int = 0
) -> tuple[Tensor, Tensor, int]:
    """Ids, log-probabilities, and how often the model was asked."""
    with torch.inference_mode():
        steps = begun(model, pixels, draft, None if draft.same_eyes else pixels)
        ids, likely = generate(model, tokens, steps=steps, least=least)
    return ids, likely, steps.passes


@pytest.mark.parametrize("schema", [None, {"keys": {"shop": {"longest": 5}, "total": {"longest": 3}}}])
@pytest.mark.parametrize("seed", [1, 6, 12])
@pytest.mark.parametrize("drafted", ["whole", "two layers", "one layer", "another", "few places"])
def test_answers_are_those_of_the_model_alone(seed: int, drafted: str, schema: Any) -> None:
    """Of a batch in which some answers end before others, under a schema or free, up to the last place."""
    model = model_of(seed)
    if schema is not None:
        model.card[SCHEMA] = schema
    other = {
        "whole": lambda: model,
        "two layers": lambda: cut(model, 2),
        "one layer": lambda: cut(model, 1),
        "another": lambda: model_of(seed + 100),
        "few places": lambda: model_of(seed, positions=20),
    }[drafted]()
    draft = drafted_by(other, model)
    assert draft.same_eyes == (drafted != "another")
    pixels = pages(model)
    with torch.inference_mode():
        expected, probabilities = generate(model, 63, pixels=pixels)
    ids, likely, _ = written(model, draft, pixels, 63)
    assert torch.equal(ids, expected)
    torch.testing.assert_close(likely, probabilities, rtol=1e-4, atol=1e-4)


def test_the_better_the_draft_the_seldomer_the_model_is_asked() -> None:
    model, pixels = model_of(3, positions=160), pages(model_of(3), 1)
    with torch.no_grad():
        model.network.decoder.lm_head.weight[model.processor.tokenizer.eos_token_id] = 0  # some other token is likelier
    places = 120
    asked = {
        name: written(model, drafted_by(other, model), pixels, places, least=places)[2]
        for name, other in {"whole": model, "another": model_of(50, positions=160)}.items()
    }
    ahead, covered, passes = FIRST, 0, 0
    while covered < places:  # all guesses stand, and the model's own token after them
        covered, passes, ahead = covered + ahead + 1, passes + 1, min(ahead + 2, MOST)
    assert asked["whole"] == passes
    assert asked["another"] > places / 2


def test_it_begins_again_on_the_same_page() -> None:
    model = model_of(6)
    with torch.inference_mode():
        steps = begun(model, pages(model, 1), drafted_by(cut(model, 2), model), None)
        first, _ = generate(model, 20, steps=steps, least=20)
        steps.rewind()
        again, _ = generate(model, 20, steps=steps, least=20)
    assert torch.equal(first, again)


def test_a_draft_must_be_a_donut_with_the_same_tokens() -> None:
    model = model_of()
    with pytest.raises(ModelError, match="does not have the tokens of the model"):
        drafted_by(tiny_donut(tags=["<s_name>", "</s_name>"]), model)
    with pytest.raises(ModelError, match="a model for classification was given as the draft of one for kie"):
        drafted_by(new_classifier("resnet-10-quarter", {}, ["a", "b"], (32, 32)), model)


def test_a_model_folder_is_drafted_by_another(tmp_path: Path) -> None:
    """From pages to JSON, also by a draft that takes pages of another size."""
    model, folder = model_of(1), kie_tiny.tiny_folder(tmp_path / "pages")
    model.card |= {SCHEMA: {"keys": {"shop": {"longest": 5}, "total": {"longest": 3}}}, "blank_guard": False}
    source = str(model.save(tmp_path / "model"))
    files = sorted(folder.glob("*.png"))
    alone = docstill.load(source).predict(files)
    assert any(answer["fields"] for answer in alone)
    drafts = {"cut": cut(model, 2), "wider": tiny_donut(5, positions=64, image_size=(160, 320))}
    for name, other in drafts.items():
        drafted = docstill.load(source, draft=other.save(tmp_path / name))
        answers = drafted.predict(files)
        assert [answer["fields"] for answer in answers] == [answer["fields"] for answer in alone]
        for answer, expected in zip(answers, alone, strict=True):
            assert answer["document_confidence"] == pytest.approx(expected["document_confidence"], rel=1e-3)
        assert [drafted.predict(file)[0]["fields"] for file in files] == [answer["fields"] for answer in alone]


def test_the_verbs_take_a_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docstill.measure.measure_peak_memory", lambda *_: 1.0)
    model, folder = model_of(1), kie_tiny.tiny_folder(tmp_path / "pages")
    source, draft = (str(one.save(tmp_path / name)) for one, name in ((model, "model"), (cut(model, 1), "draft")))
    found = docstill.benchmark([source], folder, threads=1, rounds=2, draft=draft)
    assert list(found["models"]) == [source]
    assert list(found["drafted"]) == ["model", "draft", "latency_ms"]
    assert (found["drafted"]["model"], found["drafted"]["draft"]) == (source, draft)
    assert set(found["drafted"]["latency_ms"]) == {"p50", "p95", "n"}
