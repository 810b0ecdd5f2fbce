"""A Donut's decoder, one token after another, for a batch of answers of which some end before others.

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

    def add(self, place: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Takes the token at ``place``; all keys and values up to it."""
        if place == self.keys.shape[2]:
            self.keys, self.values = (
                torch.cat([old, torch.empty_like(old)], dim=2) for old in (self.keys, self.values)
            )
        self.keys[:, :, place : place + 1], self.values[:, :, place : place + 1] = key, value
        return self.keys[:, :, : place + 1], self.values[:, :, : place + 1]

    def keep(self, rows: Tensor) -> None:
        """Drops all answers but those of ``rows`` ``(B,)`` bool."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        self.page_keys, self.page_values = self.page_keys[rows], self.page_values[rows]


class _Layer:
    """One layer of the decoder, and what it remembers."""

    def __init__(self, layer: Any, seen: Tensor) -> None:
        own, over = layer.self_attn, layer.encoder_attn
        self.heads, self.activation = over.num_heads, layer.activation_fn
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

    def step(self, states: Tensor, place: int) -> Tensor:
        """What comes out for the token at ``place``; in and out ``(B, D)``."""
        asked = linear(layer_norm(states, *self.before_own), *self.asked)
        query, key, value = asked.view(len(states), 3, self.heads, 1, -1).unbind(1)
        states = states + _found(query, *self.memory.add(place, key, value), self.answered)
        asked = linear(layer_norm(states, *self.before_page), *self.page_asked)
        query = asked.view(len(states), self.heads, 1, -1)
        states = states + _found(query, self.memory.page_keys, self.memory.page_values, self.page_answered)
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

    def scores(self, tokens: Tensor) -> Tensor:
        """Scores ``(B, vocabulary)`` float32 of what follows ``tokens`` ``(B,)``, the last of each answer."""
        states = layer_norm(embedding(tokens, self.words) * self.scale + self.places[self.length], *self.first)
        for layer in self.layers:
            states = layer.step(states, self.length)
        self.length += 1
        return linear(layer_norm(states, *self.last), *self.head).float()

    def rewind(self) -> None:
        """Begins again on the same pages, if no answer was dropped; what was made of the pages stays."""
        self.length = 0

    def keep(self, rows: Tensor) -> None:
        """Goes on with the answers of ``rows`` ``(B,)`` bool alone."""
        for layer in self.layers:
            layer.memory.keep(rows)


def _norm(norm: Any) -> tuple[Any, ...]:
    """What `layer_norm` takes of such a module."""
    return norm.normalized_shape, norm.weight, norm.bias, norm.eps


def _found(query: Tensor, keys: Tensor, values: Tensor, answered: tuple[Tensor, Tensor]) -> Tensor:
    """What one query ``(B, heads, 1, width)`` finds among ``keys``, ``(B, D)``."""
    return linear(scaled_dot_product_attention(query, keys, values).flatten(1), *answered)
