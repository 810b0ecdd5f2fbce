"""Masks: applied, packed, read back, refused when they do not fit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from torch import nn
from transformers import MBartConfig, MBartForCausalLM

from docstill.errors import ModelError
from docstill.pruning import masks as module
from docstill.pruning.magnitude import magnitude_masks
from docstill.pruning.masks import FILE, Masks, apply_masks, load_masks, save_masks, sparsity_report

SHAPES = st.dictionaries(st.text("ab.é0", min_size=1, max_size=6), st.lists(st.integers(1, 9), max_size=4), max_size=4)


def random_masks(shapes: dict[str, list[int]]) -> Masks:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.rand(shape, generator=generator) > 0.5 for name, shape in shapes.items()}


@given(SHAPES)
@settings(deadline=None, max_examples=50)
def test_round_trip_of_any_shape(shapes: dict[str, list[int]]) -> None:
    masks = random_masks(shapes)
    with tempfile.TemporaryDirectory() as folder:
        save_masks(masks, Path(folder))
        again = load_masks(Path(folder))
    assert again is not None
    assert again.keys() == masks.keys()
    for name, mask in masks.items():
        assert again[name].dtype == torch.bool
        assert torch.equal(again[name], mask)


def test_a_weight_takes_a_bit(tmp_path: Path) -> None:
    save_masks(random_masks({"weight": [1000, 800]}), tmp_path)
    assert 100_000 <= (tmp_path / FILE).stat().st_size < 101_000


def test_a_mask_that_is_a_transposed_view(tmp_path: Path) -> None:
    mask = random_masks({"": [3, 5]})[""].T
    save_masks({"weight": mask}, tmp_path)
    assert torch.equal((load_masks(tmp_path) or {})["weight"], mask)


def test_a_folder_without_masks(tmp_path: Path) -> None:
    assert load_masks(tmp_path) is None


def test_a_failed_write_leaves_the_old_masks_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = random_masks({"weight": [3, 3]})
    save_masks(old, tmp_path)

    def fail(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        save_masks(random_masks({"weight": [4, 4]}), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert torch.equal((load_masks(tmp_path) or {})["weight"], old["weight"])


def test_a_folder_that_cannot_be_written_is_an_oserror(tmp_path: Path) -> None:
    # DocumentModel.save turns an OSError into a sentence; safetensors' own error is not one
    with pytest.raises(OSError, match="No such file"):
        save_masks(random_masks({"weight": [3, 3]}), tmp_path / "missing")


@pytest.mark.parametrize("keep", [0, 4, 30, -1])
def test_a_truncated_file(tmp_path: Path, keep: int) -> None:
    path = save_masks(random_masks({"weight": [9, 9]}), tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelError, match="is damaged"):
        load_masks(tmp_path)


@pytest.mark.parametrize("shape", ["9,10", "9,7", "9,x", "-9,-9"])
def test_a_shape_that_does_not_fit_its_bits(tmp_path: Path, shape: str) -> None:
    save_file({"weight": np.packbits(np.ones(81, bool))}, tmp_path / FILE, metadata={"weight": shape})
    with pytest.raises(ModelError, match="is damaged"):
        load_masks(tmp_path)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    save_file({"weight": np.ones(11, np.float32)}, tmp_path / FILE, metadata={"weight": "9,9"})
    with pytest.raises(ModelError, match="is damaged"):
        load_masks(tmp_path)
    save_file({"weight": np.ones(11, np.uint8)}, tmp_path / FILE)
    with pytest.raises(ModelError, match="is damaged"):
        load_masks(tmp_path)


def test_apply_zeroes_the_masked_weights_and_no_other() -> None:
    model = nn.Linear(2, 2)
    model.weight.data = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    bias = model.bias.detach().clone()
    apply_masks(model, {"weight": torch.tensor([[True, False], [False, True]])})
    assert model.weight.tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert torch.equal(model.bias, bias)
    assert model.weight.requires_grad


@pytest.mark.parametrize("masks", [{"weigth": [2, 2]}, {"weight": [2, 3]}])
def test_masks_of_another_model_are_named(masks: dict[str, list[int]]) -> None:
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    with pytest.raises(ModelError, match=next(iter(masks))):
        apply_masks(model, random_masks({"bias": [2], **masks}))
    assert torch.equal(model.weight, before)


def test_the_report_gives_every_count_its_denominator() -> None:
    config = MBartConfig(
        vocab_size=40, d_model=16, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=32, max_position_embeddings=14,
        is_decoder=True,
    )  # fmt: skip
    model = MBartForCausalLM(config)
    for parameter in model.parameters():
        parameter.data.fill_(1.0)  # biases begin at zero, and are zeros too
    masks = magnitude_masks(model, 0.25, of="*fc*")
    apply_masks(model, masks)
    embedding = 16 * 40 + 16 * (14 + 2)
    everything = sum(parameter.numel() for parameter in model.parameters())
    assert sparsity_report(model, masks) == [
        {"of": "pruned tensors", "zero": 256, "total": 2 * 16 * 32},
        {"of": "non-embedding", "zero": 256, "total": everything - embedding},
        {"of": "all", "zero": 256, "total": everything},
    ]
