"""A Donut writes: the likeliest token each time, or tokens drawn by their probability, held to the model's schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from docstill.decoding.grammar import Grammar, Writer, grammar_for
from docstill.decoding.looking import seen
from docstill.decoding.repeats import EVERY, Repeats
from docstill.decoding.schema import SCHEMA
from docstill.decoding.speculative import Speculative
from docstill.decoding.steps import Steps
from docstill.models.io import DocumentModel


def generate(
    model: DocumentModel,
    tokens: int,
    *,
    pixels: Tensor | None = None,
    encoded: Tensor | None = None,
    steps: Steps | Speculative | None = None,
    sample: bool = False,
    least: int = 0,
) -> tuple[Tensor, Tensor]:
    """What a model in eval mode writes on pages, never ``<unk>``, and how likely each token was.

    Each token is the likeliest or drawn by its probability. A model with a schema on its card is held to it; see
    `docs/decoding.md`. An answer that repeats itself is cut short (`docstill.decoding.repeats`), but for those that are drawn or of which
    ``least`` is asked. An answer that has ended costs nothing more. Gradients are the caller's.

    Args:
        model: a Donut.
        tokens: the most that an answer may have, without the start token.
        pixels: ``(B, 3, H, W)``, the pages; or
        encoded: ``(B, S, D)``, what the encoder says of them; or
        steps: a decoder at its beginning that has been told so, with a draft or without.
        sample: draw.
        least: how many tokens come before an answer may end.

    Returns:
        Ids ``(B, T + 1)`` from the start token on, padded after the end; log-probabilities ``(B, T)``, which mean nothing there.
    """
    network, tokenizer = model.network, model.processor.tokenizer
    unknown, end, pad = tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    if steps is None:
        if encoded is None:
            assert pixels is not None
            encoded = seen(network, pixels)
        steps = Steps(network, encoded)
    count, device = steps.answers, steps.device
    writer, start = Writer(_grammar(model), tokens + 1, count), network.config.decoder_start_token_id
    answers = [[start] for _ in range(count)]
    repeats = None if sample or least else Repeats(tokenizer, answers, writer.walks)
    active, last = list(range(count)), torch.full((count,), start, device=device)
    for place in range(1, tokens + 1):
        scores = steps.scores(last)
        scores[:, unknown] = -torch.inf
        if place <= least:
            scores[:, end] = -torch.inf
        held = writer.hold(scores, active, place)
        last = torch.multinomial(held.softmax(dim=1), 1)[:, 0] if sample else held.argmax(dim=1)
        written = last.tolist()
        for row, token in zip(active, written, strict=True):
            answers[row].append(token)
        writer.take(active, written)
        going = [token != end for token in written]
        if repeats is not None and (place % EVERY == 0 or place == tokens):
            going = [
                goes and not repeats.end(row, at_last=place == tokens) for row, goes in zip(active, going, strict=True)
            ]
        if not any(going):
            break
        if not all(going):
            staying = torch.tensor(going, device=device)
            active, last = list(compress(active, going)), last[staying]
            steps.keep(staying)
    likely = writer.log_probabilities()
    if repeats is not None and repeats.cuts:
        answers, likely = repeats.mended(likely)
    longest = max(map(len, answers))
    ids = [answer + [pad] * (longest - len(answer)) for answer in answers]
    return torch.tensor(ids, device=device), likely


def drawn_answers(model: DocumentModel, pixels: Tensor, longest: int) -> list[Tensor]:
    """What the model writes on pages, each token drawn by its probability: ids from the start token to the end.

    Args:
        model: in whatever mode, which it keeps.
        pixels: ``(B, 3, H, W)``.
        longest: tokens after which an answer breaks off.
    """
    tokens = min(longest, model.network.config.decoder.max_position_embeddings)
    with asleep(model.network), torch.autocast(pixels.device.type, enabled=False):
        found, _ = generate(model, tokens, pixels=pixels, sample=True)
    ends = found[:, 1:] == model.processor.tokenizer.eos_token_id
    lengths = torch.where(ends.any(1), ends.int().argmax(1) + 2, found.shape[1])
    return [row[:length].cpu() for row, length in zip(found, lengths.tolist(), strict=True)]


@contextmanager
def asleep(network: Any) -> Iterator[None]:
    """Eval mode without gradients; afterwards the network is in the mode it was in."""
    training = network.training
    if training:  # to tell each of its modules takes milliseconds
        network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            network.train()


def _grammar(model: DocumentModel) -> Grammar | None:
    """The grammar of the schema on the model's card; None without one."""
    if SCHEMA not in model.card:
        return None
    tokenizer, width = model.processor.tokenizer, model.network.config.decoder.vocab_size
    return grammar_for(json.dumps(model.card[SCHEMA]), tokenizer, len(tokenizer), width, model.device)
