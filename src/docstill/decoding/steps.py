"""A Donut's decoder, one token after another or a few at once, for a batch of answers of which some end before others.

The numbers are those of the network's own forward pass (tested). What is left out is what transformers prepares anew for each token:
masks that hide nothing, since answers grow side by side from one start token; the adaptor, which is the same for all tokens;
caches and outputs of every kind of model. Weights are at hand, not looked up in their modules, and queries, keys and values of a
token come from one product: a small layer takes as long to be called as to compute. See docs/decoding.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, layer_norm, linear, scaled_dot_product_attention

_ROOM = 64


@dataclass
class Memory:
    """Keys and values ``(B, heads, T, width)`` of one layer: of the tokens so far, with room for more, and of the page."""

    keys: Tensor
    values: Tensor
    page_keys: Tensor
    page_values: Tensor

    def add(self, place: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the tokens from ``place`` on; all keys and values up to them."""
        end = place + keys.shape[2]
        while end > self.keys.shape[2]:
            self.keys, self.values = (
                torch.cat([old, torch.empty_like(old)], dim=2) for old in (self.keys, self.values)
            )
        self.keys[:, :, place:end], self.values[:, :, place:end] = keys, values
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drops all answers but those of ``rows`` ``(B,)`` bool."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        self.page_keys, self.page_values = self.page_keys[rows], self.page_values[rows]


class _Layer:
    """One layer of the decoder, and what it remembers."""

    def __init__(self, layer: Any, seen: Tensor) -> None:
        own, over = layer.self_attn, layer.encoder_attn
        self.heads, self.width, self.activation = over.num_heads, over.head_dim, layer.activation_fn
        self.before_own, self.before_page, self.before_last = map(
            _norm, (layer.self_attn_layer_norm, layer.encoder_attn_layer_norm, layer.final_layer_norm)
        )
        joined = own.q_proj, own.k_proj, own.v_proj
        self.asked = torch.cat([part.weight for part in joined]), torch.cat([part.bias for part in joined])
        self.answered, self.page_asked, self.page_answered, self.wide, self.narrow = (
            (part.weight, part.bias) for part in (own.out_proj, over.q_proj, over.out_proj, layer.fc1, layer.fc2)
        )
        page = [part(seen).view(*seen.shape[:2], self.heads, -1).transpose(1, 2) for part in (over.k_proj, over.v_proj)]
        empty = [page[0].new_empty(*page[0].shape[:2], _ROOM, page[0].shape[3]) for _ in range(2)]
        self.memory = Memory(empty[0], empty[1], *page)

    def step(self, states: Tensor, answers: int, place: int, hidden: Tensor | None) -> Tensor:
        """What comes out for the tokens from ``place`` on, T of each answer.

        Args:
            states: ``(B × T, D)``, answer by answer; so is what comes out.
            answers: B.
            place: of the first of them.
            hidden: ``(T, place + T)`` bool, False where a token comes after the one that asks; None where there is one alone.
        """
        asked = linear(layer_norm(states, *self.before_own), *self.asked)
        queries, keys, values = asked.view(answers, -1, 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
        states = states + _found(queries, *self.memory.add(place, keys, values), self.answered, hidden)
        asked = linear(layer_norm(states, *self.before_page), *self.page_asked)
        queries = asked.view(answers, -1, self.heads, self.width).transpose(1, 2)
        states = states + _found(queries, self.memory.page_keys, self.memory.page_values, self.page_answered)
        inner = self.activation(linear(layer_norm(states, *self.before_last), *self.wide))
        return states + linear(inner, *self.narrow)


class Steps:
    """Answers being written, in step.

    Args:
        network: a Donut, in eval mode; its weights must not change meanwhile.
        seen: ``(B, S, D)``: what its encoder says of each page.
    """

    def __init__(self, network: Any, seen: Tensor) -> None:
        decoder, head = network.decoder.model.decoder, network.decoder.lm_head
        places, words = decoder.embed_positions, decoder.embed_tokens
        self.words, self.scale, self.places = words.weight, words.embed_scale, places.weight[places.offset :]
        self.first, self.last, self.head = (
            _norm(decoder.layernorm_embedding),
            _norm(decoder.layer_norm),
            (head.weight, head.bias),
        )
        self.answers, self.device = len(seen), seen.device
        if network.config.encoder.hidden_size != network.config.decoder.hidden_size:
            seen = network.enc_to_dec_proj(seen)
        self.length = 0
        self.layers = [_Layer(layer, seen) for layer in decoder.layers]

    @property
    def room(self) -> int:
        """How many tokens an answer may have, the start token included."""
        return len(self.places)

    def scores(self, tokens: Tensor) -> Tensor:
        """Scores ``(B, vocabulary)`` float32 of what follows ``tokens`` ``(B,)``, the last of each answer."""
        return self.scores_of(tokens[:, None])[:, 0]

    def scores_of(self, tokens: Tensor) -> Tensor:
        """Scores ``(B, T, vocabulary)`` float32 of what follows each of ``tokens`` ``(B, T)``, the last ones of each answer."""
        count, start, end = tokens.shape[1], self.length, self.length + tokens.shape[1]
        words = embedding(tokens, self.words) * self.scale + self.places[start:end]
        states = layer_norm(words, *self.first).flatten(0, 1)
        hidden = None if count == 1 else torch.ones(count, end, dtype=torch.bool, device=self.device).tril(start)
        for layer in self.layers:
            states = layer.step(states, len(tokens), start, hidden)
        self.length = end
        return linear(layer_norm(states, *self.last), *self.head).float().view(*tokens.shape, -1)

    def rewind(self, length: int = 0) -> None:
        """Takes back all tokens but the first ``length``, of answers that are still there; what was made of the pages stays."""
        self.length = length

    def keep(self, rows: Tensor) -> None:
        """Goes on with the answers of ``rows`` ``(B,)`` bool alone."""
        for layer in self.layers:
            layer.memory.keep(rows)


def _norm(norm: Any) -> tuple[Any, ...]:
    """What `layer_norm` takes of such a module."""
    return norm.normalized_shape, norm.weight, norm.bias, norm.eps


def _found(
    queries: Tensor, keys: Tensor, values: Tensor, answered: tuple[Tensor, Tensor], hidden: Tensor | None = None
) -> Tensor:
    """What queries ``(B, heads, T, width)`` find among ``keys``, ``(B × T, D)``."""
    found = scaled_dot_product_attention(queries, keys, values, attn_mask=hidden)
    return linear(found.transpose(1, 2).flatten(2).flatten(0, 1), *answered)
