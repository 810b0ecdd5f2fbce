"""Writing token by token gives what transformers' own passes give, whatever else is in the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from docstill.decoding.steps import Steps
from docstill.decoding.writing import generate
from docstill.models.io import DocumentModel
from kie_tiny import tiny_donut

pytestmark = pytest.mark.usefixtures("one_thread")


def model_of(changes: dict[str, Any], seed: int = 0, positions: int = 160) -> DocumentModel:
    """Random weights large enough for answers to differ, and a head that is not the embedding's."""
    model = tiny_donut(seed, positions=positions, changes=changes)
    decoder = model.network.decoder
    with torch.no_grad():
        decoder.model.decoder.embed_positions.weight.mul_(40)
        decoder.lm_head.weight = torch.nn.Parameter(torch.randn_like(decoder.lm_head.weight))
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"decoder": {"d_model": 32, "decoder_layers": 3}},
        {"decoder": {"d_model": 32, "scale_embedding": False, "activation_function": "relu"}, "adaptor": "mlp"},
    ],
)
def test_scores_are_those_of_the_whole_pass(changes: dict[str, Any]) -> None:
    """Over more tokens than there is room for at first, while answers leave the batch."""
    model = model_of(changes)
    pixels = torch.rand(3, 3, *model.network.config.encoder.image_size)
    ids = torch.randint(4, model.network.config.decoder.vocab_size, (3, 150))
    with torch.no_grad():
        expected = model.network(pixel_values=pixels, decoder_input_ids=ids).logits
        steps = Steps(model.network, model.network.encoder(pixels).last_hidden_state)
        rows = torch.arange(3)
        for place in range(150):
            scores = steps.scores(ids[rows, place])
            torch.testing.assert_close(scores, expected[rows, place], rtol=1e-4, atol=1e-4)
            if place in (40, 90):
                staying = rows != (1 if place == 40 else 0)
                rows = rows[staying]
                steps.keep(staying)
    assert rows.tolist() == [2]


@pytest.mark.parametrize("seed", [1, 6, 7, 12, 18])
def test_a_free_model_writes_what_transformers_writes(seed: int) -> None:
    """Padding after the end, nothing unknown; answers of a batch end at different places."""
    model = model_of({"decoder": {"decoder_layers": 2}}, seed, positions=48)
    tokenizer = model.processor.tokenizer
    with torch.no_grad():  # so that the end comes now and then
        model.network.decoder.lm_head.weight[tokenizer.eos_token_id] *= 1.5
    pixels = torch.rand(4, 3, *model.network.config.encoder.image_size)
    with torch.inference_mode():
        ours, likely = generate(model, 47, pixels=pixels)
        theirs = model.network.generate(
            pixels, max_length=48, do_sample=False, num_beams=1, bad_words_ids=[[tokenizer.unk_token_id]]
        )
    assert torch.equal(ours, theirs)
    lengths = (ours != tokenizer.pad_token_id).sum(dim=1)
    assert len(set(lengths.tolist())) > 1
    assert likely.shape == (4, ours.shape[1] - 1)
    assert (likely <= 0).all()


def test_an_answer_ends_no_sooner_than_it_may() -> None:
    model = model_of({}, positions=32)
    end = model.processor.tokenizer.eos_token_id
    with torch.no_grad():
        seen = model.network.encoder(torch.rand(1, 3, *model.network.config.encoder.image_size)).last_hidden_state
        model.network.decoder.lm_head.weight[:] = 0  # everything alike: the first token, which is not the end, comes
        model.network.decoder.lm_head.weight[end] = 1e-3
        model.network.decoder.model.decoder.layer_norm.bias[:] = 1
        ids, _ = generate(model, 20, encoded=seen)
        late, _ = generate(model, 20, encoded=seen, least=12)
    assert ids.shape[1] == 2
    assert (late[0] == end).nonzero().flatten().tolist() == [13]


def test_steps_begin_again_on_the_same_page() -> None:
    model = model_of({"decoder": {"decoder_layers": 2}}, positions=48)
    with torch.inference_mode():
        seen = model.network.encoder(torch.rand(2, 3, *model.network.config.encoder.image_size)).last_hidden_state
        steps = Steps(model.network, seen)
        first, _ = generate(model, 20, steps=steps, least=20)
        steps.rewind()
        again, _ = generate(model, 20, steps=steps, least=20)
        fresh, _ = generate(model, 20, encoded=seen, least=20)
    assert torch.equal(first, again)
    assert torch.equal(first, fresh)
