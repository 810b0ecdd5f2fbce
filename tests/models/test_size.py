"""Size: parameters with their denominators, bytes, floating point operations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForImageClassification,
    MBartConfig,
    MBartForCausalLM,
    PretrainedConfig,
    ResNetConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)
from transformers.models.donut.modeling_donut_swin import DonutSwinConfig

from docstill.errors import ModelError
from docstill.models.size import bytes_on_disk, count_flops, count_parameters


def mbart(**changes: int) -> MBartConfig:
    sizes = {"vocab_size": 50, "d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
    return MBartConfig(**{**sizes, "max_position_embeddings": 20, **changes}, is_decoder=True, add_cross_attention=True)


def donut(encoder: DonutSwinConfig, decoder: MBartConfig) -> VisionEncoderDecoderModel:
    with torch.device("meta"):
        return VisionEncoderDecoderModel(VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder))


def test_the_published_donut() -> None:
    encoder = DonutSwinConfig(
        image_size=[2560, 1920], embed_dim=128, depths=[2, 2, 14, 2], num_heads=[4, 8, 16, 32], window_size=10
    )
    decoder = mbart(
        vocab_size=57525,
        d_model=1024,
        decoder_layers=4,
        decoder_attention_heads=16,
        decoder_ffn_dim=4096,
        max_position_embeddings=1536,
    )
    decoder.scale_embedding = decoder.add_final_layer_norm = True
    params = count_parameters(donut(encoder, decoder))
    assert params.embedding == 1024 * (57525 + 1536 + 2)
    assert params.total == pytest.approx(201.85e6, abs=5e3)
    assert params.non_embedding == pytest.approx(141.37e6, abs=5e3)
    assert params.total == params.embedding + params.non_embedding


def test_the_small_donut_with_its_adaptor() -> None:
    encoder = DonutSwinConfig(
        image_size=[1280, 960], embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=10
    )
    decoder = mbart(
        vocab_size=57525,
        d_model=512,
        decoder_layers=2,
        decoder_attention_heads=8,
        decoder_ffn_dim=2048,
        max_position_embeddings=1536,
    )
    assert count_parameters(donut(encoder, decoder)).non_embedding == pytest.approx(36.35e6, abs=5e4)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (ResNetConfig(num_labels=16), 23.54),
        (ResNetConfig(depths=[3, 4, 23, 3], num_labels=16), 42.53),
        (ViTConfig(num_labels=16), 85.81),
        (ViTConfig(hidden_size=192, intermediate_size=768, num_attention_heads=3, num_labels=16), 5.53),
    ],
)
def test_classifiers(config: PretrainedConfig, millions: float) -> None:
    with torch.device("meta"):
        params = count_parameters(AutoModelForImageClassification.from_config(config))
    assert params.total == pytest.approx(millions * 1e6, abs=6e3)
    assert params.embedding == 0


def test_what_is_tied_to_an_embedding_is_counted_once_and_as_embedding() -> None:
    model = MBartForCausalLM(mbart())
    params = count_parameters(model)
    assert params.embedding == 16 * (50 + 20 + 2)
    assert params.total == sum(parameter.numel() for parameter in model.parameters())


def test_nonzero_counts() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    for parameter in model.parameters():
        parameter.data.fill_(1.0)
    model[0].weight.data[0] = 0
    model[1].weight.data[0] = -0.0
    params = count_parameters(model)
    assert (params.total, params.embedding, params.non_embedding) == (35, 20, 15)
    assert (params.nonzero, params.nonzero_non_embedding) == (35 - 8, 15 - 4)


def write(folder: Path, **sizes: int) -> None:
    for name, size in sizes.items():
        (folder / name.replace("__", ".").replace("_of_", "-00001-of-0000")).write_bytes(bytes(size))


def test_bytes_are_of_the_weights_that_are_loaded(tmp_path: Path) -> None:
    write(
        tmp_path,
        model__safetensors=1000,
        masks__safetensors=100,
        config__json=10,
        pytorch_model__bin=1001,
        training_args__bin=7,
    )
    assert bytes_on_disk(tmp_path) == 1000


def test_bytes_of_shards(tmp_path: Path) -> None:
    for shard in (1, 2):
        (tmp_path / f"model-0000{shard}-of-00002.safetensors").write_bytes(bytes(500))
    (tmp_path / "model.fp16.safetensors").write_bytes(bytes(9))
    assert bytes_on_disk(tmp_path) == 1000


def test_a_folder_without_weights_has_no_size(tmp_path: Path) -> None:
    write(tmp_path, config__json=10, masks__safetensors=100)
    with pytest.raises(ModelError, match="holds no weights"):
        bytes_on_disk(tmp_path)


def test_bytes_of_a_model_that_was_saved(tmp_path: Path) -> None:
    MBartForCausalLM(mbart()).save_pretrained(tmp_path)
    assert bytes_on_disk(tmp_path) == (tmp_path / "model.safetensors").stat().st_size > 0


def test_a_multiply_add_counts_as_two() -> None:
    layer, batch = nn.Linear(8, 4, bias=False), torch.ones(3, 8)
    assert count_flops(lambda: layer(batch)) == 2 * 3 * 8 * 4


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_flops_include_attention_whatever_computes_it(attention: str) -> None:
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=16
    )
    model = AutoModelForImageClassification.from_config(config, attn_implementation=attention).eval()
    tokens, patches = 5, 4
    linear = 4 * tokens * 32 * 32 + 2 * tokens * 32 * 64
    products = 2 * tokens * tokens * 32
    ends = patches * 32 * 3 * 16 * 16 + 32 * 2
    with torch.inference_mode():
        assert count_flops(lambda: model(pixel_values=torch.ones(1, 3, 32, 32))) == 2 * (linear + products + ends)
