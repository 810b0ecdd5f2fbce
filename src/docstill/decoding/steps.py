"""A Donut's decoder, one token after another, for a batch of answers of which some end before others.

The numbers are those of the network's own forward pass (tested). What is left out is what transformers prepares anew for each token:
masks that hide nothing, since answers grow side by side from one start token; the adaptor, which is the same for all tokens;
caches and outputs of every kind of model. For a small decoder that is half of the time: see docs/decoding.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

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


class Steps:
    """Answers being written, in step.

    Args:
        network: a Donut, in eval mode.
        seen: ``(B, S, D)``: what its encoder says of each page.
    """

    def __init__(self, network: Any, seen: Tensor) -> None:
        self.decoder, self.head = network.decoder.model.decoder, network.decoder.lm_head
        if network.config.encoder.hidden_size != network.config.decoder.hidden_size:
            seen = network.enc_to_dec_proj(seen)
        self.length = 0
        self.memories = []
        for layer in self.decoder.layers:
            over = layer.encoder_attn
            page = _heads(over, over.k_proj(seen)), _heads(over, over.v_proj(seen))
            empty = [page[0].new_empty(*page[0].shape[:2], _ROOM, page[0].shape[3]) for _ in range(2)]
            self.memories.append(Memory(empty[0], empty[1], *page))

    def scores(self, tokens: Tensor) -> Tensor:
        """Scores ``(B, vocabulary)`` float32 of what follows ``tokens`` ``(B,)``, the last of each answer."""
        decoder = self.decoder
        place = decoder.embed_positions.weight[self.length + decoder.embed_positions.offset]
        states = decoder.layernorm_embedding(decoder.embed_tokens(tokens[:, None]) + place)
        for layer, memory in zip(decoder.layers, self.memories, strict=True):
            over, given = layer.self_attn, layer.self_attn_layer_norm(states)
            known = memory.add(self.length, _heads(over, over.k_proj(given)), _heads(over, over.v_proj(given)))
            states = states + _attend(over, given, *known)
            given = layer.encoder_attn_layer_norm(states)
            states = states + _attend(layer.encoder_attn, given, memory.page_keys, memory.page_values)
            states = states + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(states))))
        self.length += 1
        scores: Tensor = self.head(decoder.layer_norm(states))[:, 0].float()
        return scores

    def keep(self, rows: Tensor) -> None:
        """Goes on with the answers of ``rows`` ``(B,)`` bool alone."""
        for memory in self.memories:
            memory.keep(rows)


def _heads(over: Any, states: Tensor) -> Tensor:
    """``(B, T, D)`` as ``(B, heads, T, width)``."""
    return states.view(*states.shape[:2], -1, over.head_dim).transpose(1, 2)


def _attend(over: Any, given: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What one query finds among ``keys``."""
    found = scaled_dot_product_attention(_heads(over, over.q_proj(given)), keys, values)
    result: Tensor = over.out_proj(found.transpose(1, 2).reshape(given.shape))
    return result
