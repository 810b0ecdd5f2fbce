"""Which layers are compared, and what one row of features is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import kie_tiny
import tiny
from docstill.errors import ModelError, UserError
from docstill.models.blocks import Block, blocks_of
from docstill.models.classifier import new_classifier
from docstill.objectives.base import Outputs
from docstill.similarity.layers import layers_of, look, matched, rows_of


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


def test_layers_are_matched_by_relative_depth_within_a_part() -> None:
    def blocks(part: str, count: int) -> list[Block]:
        return [Block(f"{part}.{index}", part, f"{part} {index}") for index in range(count)]

    pairs = matched(blocks("encoder", 4) + blocks("decoder", 2), blocks("encoder", 2) + blocks("decoder", 1))
    assert pairs == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]


def test_layers_by_path() -> None:
    vit = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32)).network
    resnet = new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (32, 32)).network
    first, second = layers_of(vit, resnet, ["resnet.encoder.stages.*", "vit.layers.*", "vit.layernorm"])
    assert [block.path for block in first] == ["vit.layers.0", "vit.layers.1", "vit.layernorm"]
    assert [block.path for block in second] == ["resnet.encoder.stages.0", "resnet.encoder.stages.1"]
    assert layers_of(vit, resnet) == (blocks_of(vit), blocks_of(resnet))


def test_layers_that_are_not_there_are_refused() -> None:
    vit = new_classifier("vit-tiny", tiny.TINY_VIT["config"], tiny.KINDS, (32, 32)).network
    resnet = new_classifier("resnet-18", tiny.TINY_RESNET["config"], tiny.KINDS, (32, 32)).network
    with pytest.raises(
        UserError, match=r"no module of teacher or student fits 'vit.layer.0'; did you mean vit.layers.0"
    ):
        layers_of(vit, resnet, ["resnet.*", "vit.layer.0"])
    with pytest.raises(UserError, match=r"no module of the student fits 'vit.layers.0'.*resnet.encoder.stages.0"):
        layers_of(vit, resnet, ["vit.layers.0"])


class Reader:
    """A task whose forward pass is the network itself, with padding behind the first answer."""

    def forward(self, model: object, batch: dict[str, torch.Tensor]) -> Outputs:
        model.network(batch["x"])  # type: ignore[attr-defined]
        written = torch.tensor([[True, False], [True, True]])
        return Outputs(torch.zeros(3, 2), torch.zeros(3), documents=2, answers=("decoder.", written))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.ModuleDict({"one": nn.Identity(), "heads": nn.Identity(), "asleep": nn.Linear(1, 1)})
        self.encoder = nn.Identity()

    def forward(self, x: torch.Tensor) -> None:
        self.encoder(x.flatten(0, 1))
        self.decoder["heads"](x[..., None])
        self.decoder["one"](x)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("decoder.asleep", "is not run"),
        ("decoder.heads", "is 2 × 2 × 3 × 1, not tokens of each of 2 documents"),
        ("encoder", "is 4 × 3, not tokens of each of 2 documents"),
        ("decoder.one", "are not finite"),
    ],
)
def test_layers_that_cannot_be_compared_are_refused(path: str, says: str) -> None:
    model = type("Model", (), {"network": Network(), "device": torch.device("cpu")})()
    numbers = torch.ones(2, 2, 3)
    numbers[1, 1, 1] = torch.nan
    with pytest.raises(ModelError, match=says):
        look(Reader(), model, [Block(path, "decoder", path)], {"x": numbers}, "pooled")  # type: ignore[arg-type]
    numbers[1, 1, 1], numbers[0, 1, 1] = 1, torch.nan  # padding may hold anything
    if path == "decoder.one":
        _, rows = look(Reader(), model, [Block(path, "decoder", path)], {"x": numbers}, "pooled")  # type: ignore[arg-type]
        assert np.array_equal(rows[0], np.ones((2, 3)))
