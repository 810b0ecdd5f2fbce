"""Which layers are compared, and what one row of features is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import kie_tiny
import tiny
from docstill.errors import ModelError
from docstill.models.classifier import new_classifier
from docstill.similarity.layers import Block, blocks_of, joined, matched, rows_of


def test_blocks_of_the_families() -> None:
    vit = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32))
    assert [block.name for block in blocks_of(vit.network)] == ["encoder 1", "encoder 2"]
    resnet = new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (32, 32))
    assert [block.name for block in blocks_of(resnet.network)] == ["encoder 1.1", "encoder 2.1"]
    donut = kie_tiny.tiny_donut()
    parts = {block.part for block in blocks_of(donut.network)}
    assert parts == {"encoder", "decoder"}
    for model in (vit, resnet, donut):
        modules = dict(model.network.named_modules())
        assert all(block.path in modules for block in blocks_of(model.network))


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(ModelError, match="no list of layers"):
        blocks_of(nn.Sequential(nn.Linear(2, 2)))


def test_rows_by_hand() -> None:
    maps = torch.arange(16.0).reshape(1, 2, 2, 4)
    assert rows_of(maps, None, "pooled").tolist() == [[3.5, 11.5]]
    assert rows_of(maps, None, "flattened").shape == (1, 16)
    tokens = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    written = torch.tensor([[True, True, False]])
    assert rows_of(tokens, written, "pooled").tolist() == [[2.0, 3.0]]
    assert rows_of(tokens, written, "flattened").tolist() == [[1.0, 2.0, 3.0, 4.0, 0.0, 0.0]]


def test_shorter_batches_are_filled_up_with_noughts() -> None:
    rows = joined([np.ones((2, 3)), np.ones((1, 5))])
    assert rows.sum(1).tolist() == [3, 3, 5]


def test_layers_are_matched_by_relative_depth_within_a_part() -> None:
    def blocks(part: str, count: int) -> list[Block]:
        return [Block(f"{part}.{index}", part, f"{part} {index}") for index in range(count)]

    pairs = matched(blocks("encoder", 4) + blocks("decoder", 2), blocks("encoder", 2) + blocks("decoder", 1))
    assert pairs == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]
