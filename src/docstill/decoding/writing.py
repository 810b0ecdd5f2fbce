"""A Donut writes: the likeliest token each time, or tokens drawn by their probability, held to the model's schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from docstill.decoding.grammar import Grammar, Writer, grammar_for
from docstill.decoding.schema import SCHEMA
from docstill.models.io import DocumentModel


def generate(model: DocumentModel, tokens: int, sample: bool = False, **settings: Any) -> tuple[Tensor, Tensor]:
    """The start token and at most ``tokens`` more, never ``<unk>``, and how likely each was.

    Each is the likeliest or, with ``sample``, drawn by its probability. A model with a schema on its card is held to it; see
    `docs/decoding.md`. ``settings`` are those of transformers' ``generate``; gradients and mode are the caller's.
    """
    writer = Writer(_grammar(model), tokens + 1)
    ids: Tensor = model.network.generate(
        do_sample=sample,
        num_beams=1,
        **({"top_k": 0, "top_p": 1.0, "temperature": 1.0} if sample else {}),
        max_length=tokens + 1,
        bad_words_ids=[[model.processor.tokenizer.unk_token_id]],
        logits_processor=[writer],
        **settings,
    )
    return ids, writer.log_probabilities()


def drawn_answers(model: DocumentModel, pixels: Tensor, longest: int) -> list[Tensor]:
    """What the model writes on pages, each token drawn by its probability: ids from the start token to the end.

    Args:
        model: in whatever mode, which it keeps.
        pixels: ``(B, 3, H, W)``.
        longest: tokens after which an answer breaks off.
    """
    tokens = min(longest, model.network.config.decoder.max_position_embeddings)
    with asleep(model.network), torch.autocast(pixels.device.type, enabled=False):
        found, _ = generate(model, tokens, sample=True, pixel_values=pixels)
    ends = found[:, 1:] == model.processor.tokenizer.eos_token_id
    lengths = torch.where(ends.any(1), ends.int().argmax(1) + 2, found.shape[1])
    return [row[:length].cpu() for row, length in zip(found, lengths.tolist(), strict=True)]


@contextmanager
def asleep(network: Any) -> Iterator[None]:
    """Eval mode without gradients; afterwards the network is in the mode it was in."""
    training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(training)


def _grammar(model: DocumentModel) -> Grammar | None:
    """The grammar of the schema on the model's card; None without one."""
    if SCHEMA not in model.card:
        return None
    tokenizer, width = model.processor.tokenizer, model.network.config.decoder.vocab_size
    return grammar_for(json.dumps(model.card[SCHEMA]), tokenizer, len(tokenizer), width, model.device)
