"""Donut (Kim et al. 2022, https://arxiv.org/abs/2111.15664): a Swin encoder sees the page, an mBART decoder writes the answer.

Models are plain `VisionEncoderDecoderModel` and `DonutProcessor` of transformers; what is here are sizes to make from
scratch, and guards for what transformers leaves to its callers: missing token ids, position tables, window sizes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    DonutImageProcessorPil,
    DonutProcessor,
    DonutSwinConfig,
    GenerationConfig,
    MBartConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)

from docstill.errors import ModelError, UserError, nearest
from docstill.models.adaptor import donut_class, mark_adaptor
from docstill.models.donut_page import canvas_size
from docstill.models.donut_tokens import add_missing, character_tokenizer, start_token
from docstill.models.io import DocumentModel, check_kind, load_masks_into, load_whole, local_folder, read_card

DONUT_SIZES: dict[str, dict[str, Any]] = {
    "donut-base": {
        "image_size": (2560, 1920),
        "encoder": {"embed_dim": 128, "depths": [2, 2, 14, 2], "num_heads": [4, 8, 16, 32], "window_size": 10},
        "decoder": {
            "d_model": 1024,
            "decoder_layers": 4,
            "decoder_attention_heads": 16,
            "decoder_ffn_dim": 4096,
            "max_position_embeddings": 1536,
        },
    },
    "donut-small": {
        "image_size": (1280, 960),
        "encoder": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 10},
        "decoder": {
            "d_model": 512,
            "decoder_layers": 2,
            "decoder_attention_heads": 8,
            "decoder_ffn_dim": 2048,
            "max_position_embeddings": 768,
        },
    },
    "donut-mini": {
        "image_size": (480, 320),
        "encoder": {
            "embed_dim": 48,
            "depths": [2, 2, 4, 2],
            "num_heads": [3, 6, 12, 24],
            "window_size": 5,
            "drop_path_rate": 0.0,
        },
        "decoder": {
            "d_model": 256,
            "decoder_layers": 3,
            "decoder_attention_heads": 8,
            "decoder_ffn_dim": 1024,
            "max_position_embeddings": 384,
            "dropout": 0.0,
        },
    },
    "donut-micro": {
        "image_size": (128, 384),
        "encoder": {
            "patch_size": 8,  # a first stage of 4 × 4 pixels is dear on a CPU
            "embed_dim": 64,
            "depths": [2, 6, 2],
            "num_heads": [2, 4, 8],
            "window_size": 4,
            "drop_path_rate": 0.0,
        },
        "decoder": {
            "d_model": 192,
            "decoder_layers": 4,
            "decoder_attention_heads": 6,
            "decoder_ffn_dim": 512,
            "max_position_embeddings": 160,
            "dropout": 0.0,
        },
    },
    "donut-tiny": {
        "image_size": (160, 160),
        "encoder": {
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 2, 4, 8],
            "window_size": 5,
            "mlp_ratio": 2.0,
            "drop_path_rate": 0.0,
            "initializer_range": 0.2,  # at this width the usual 0.02 lets next to nothing of the page through
        },
        "decoder": {
            "d_model": 64,
            "decoder_layers": 1,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 128,
            "max_position_embeddings": 128,
            "dropout": 0.0,
            "init_std": 0.2,
        },
    },
}
"""Sizes by name; what is not named is transformers' default. ``image_size`` is (height, width) in pixels."""

MINI = 0.25
"""The dial of the mini scale: how wide it is, against the full one."""


def scaled(size: Mapping[str, Any], dial: float) -> dict[str, Any]:
    """A size with all widths and both sides of the canvas times ``dial``; depths and proportions stay.

    The heads become fewer, so that their width stays near what it was.
    """
    encoder, decoder = dict(size["encoder"]), dict(size["decoder"])
    encoder["embed_dim"] = round(encoder["embed_dim"] * dial)
    widths = [encoder["embed_dim"] * 2**stage for stage in range(len(encoder["depths"]))]
    encoder["num_heads"] = [
        _heads(width, heads * dial) for width, heads in zip(widths, encoder["num_heads"], strict=True)
    ]
    encoder |= {"window_size": 5, "drop_path_rate": 0.0}  # 10 patches of 32 pixels are more than such a canvas has
    for width in ("d_model", "decoder_ffn_dim"):
        decoder[width] = round(decoder[width] * dial)
    decoder["decoder_attention_heads"] = _heads(decoder["d_model"], decoder["decoder_attention_heads"] * dial)
    decoder["dropout"] = 0.0
    height, width = size["image_size"]
    return {"image_size": (round(height * dial), round(width * dial)), "encoder": encoder, "decoder": decoder}


def _heads(width: int, wanted: float) -> int:
    """The largest number of heads not above ``wanted`` that divides ``width``; at least one."""
    return next(heads for heads in range(max(1, round(wanted)), 0, -1) if width % heads == 0)


DONUT_SIZES |= {
    "donut-base-mini": scaled(DONUT_SIZES["donut-base"], MINI),
    # the same canvas as its teacher's, as in the study
    "donut-small-mini": scaled(DONUT_SIZES["donut-small"], MINI) | {"image_size": (640, 480)},
}

_DECIDED_ELSEWHERE = {
    "vocab_size",
    "image_size",
    "is_decoder",
    "is_encoder_decoder",
    "add_cross_attention",
    "model_type",
    "transformers_version",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
    "forced_eos_token_id",
}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def donut_config(
    size: str,
    changes: Mapping[str, Any],
    vocab_size: int,
    image_size: tuple[int, int] | None = None,
    positions: int | None = None,
) -> VisionEncoderDecoderConfig:
    """The transformers configuration of a named size.

    Args:
        size: a name of `DONUT_SIZES`.
        changes: ``{"encoder": {...}, "decoder": {...}}``, keys of `DonutSwinConfig` and `MBartConfig`; ``adaptor`` between
            them ``linear`` or ``mlp``.
        vocab_size: rows of the embedding; ids 0 to 3 are ``<s> <pad> </s> <unk>``.
        image_size: (height, width) in pixels; default as the size says.
        positions: how many tokens the decoder may read; default as the size says. ``changes`` win over it.

    Raises:
        UserError: no such size, or no such configuration key.
        ModelError: the image is smaller than a window of the encoder's last stage.
    """
    if size not in DONUT_SIZES:
        raise UserError(
            f"there is no kie model size {size!r}; choose one of {', '.join(DONUT_SIZES)}{nearest(size, DONUT_SIZES)}"
        )
    known = DONUT_SIZES[size]
    _check_keys(changes, {"encoder": None, "decoder": None, "adaptor": None}, "a kie model")
    encoder_changes, decoder_changes = changes.get("encoder") or {}, changes.get("decoder") or {}
    _check_keys(encoder_changes, DonutSwinConfig().to_dict(), "encoder (donut-swin)")
    _check_keys(decoder_changes, MBartConfig().to_dict(), "decoder (mbart)")
    encoder = DonutSwinConfig(
        **{**known["encoder"], **encoder_changes, "image_size": list(image_size or known["image_size"])}
    )
    asked = {"max_position_embeddings": positions} if positions else {}
    decoder = MBartConfig(
        **{"scale_embedding": True, **known["decoder"], **asked, **decoder_changes},
        vocab_size=vocab_size, is_decoder=True, is_encoder_decoder=False, add_cross_attention=True,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, decoder_start_token_id=0, forced_eos_token_id=None,
    )  # fmt: skip
    # never built, but transformers sizes caches by num_hidden_layers, which is the number of *encoder* layers
    decoder.encoder_layers = decoder.num_hidden_layers = decoder.decoder_layers
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.pad_token_id, config.decoder_start_token_id, config.eos_token_id = 1, 0, 2
    mark_adaptor(config, changes.get("adaptor", "linear"))
    check_window(encoder, tuple(encoder.image_size))
    return config


def new_donut(
    size: str,
    changes: Mapping[str, Any],
    texts: Iterable[str],
    tags: Iterable[str],
    image_size: tuple[int, int] | None = None,
    positions: int | None = None,
) -> DocumentModel:
    """A Donut with random weights and a character vocabulary made from ``texts`` and ``tags``; see `donut_config`."""
    tokenizer = character_tokenizer(texts, tags)
    config = donut_config(size, changes, len(tokenizer), image_size, positions)
    height, width = config.encoder.image_size
    image_processor = DonutImageProcessorPil(
        size={"height": height, "width": width},
        resample=3,
        image_mean=list(_IMAGENET_MEAN),
        image_std=list(_IMAGENET_STD),
    )  # bicubic and ImageNet's figures, as in the original code; the defaults of transformers differ
    return _assemble(config, DonutProcessor(image_processor, tokenizer))


def new_donut_like(
    teacher: DocumentModel,
    size: str,
    changes: Mapping[str, Any],
    image_size: tuple[int, int] | None = None,
    positions: int | None = None,
) -> DocumentModel:
    """A Donut with random weights that shares the teacher's vocabulary, normalisation and, by default, canvas."""
    processor = copy.deepcopy(teacher.processor)
    given = teacher.network.config
    height, width = image_size or canvas_size(processor.image_processor)
    config = donut_config(size, changes, given.decoder.vocab_size, (height, width), positions)
    for part in (config, config.decoder):
        part.pad_token_id, part.eos_token_id = processor.tokenizer.pad_token_id, processor.tokenizer.eos_token_id
        part.decoder_start_token_id = given.decoder_start_token_id
    config.decoder.bos_token_id = processor.tokenizer.bos_token_id
    processor.image_processor.size = type(processor.image_processor)(size={"height": height, "width": width}).size
    return _assemble(config, processor)


def _assemble(config: VisionEncoderDecoderConfig, processor: Any) -> DocumentModel:
    network = donut_class(config)(config)
    network.eval()
    network.generation_config = GenerationConfig(bos_token_id=config.decoder.bos_token_id)
    model = DocumentModel("kie", network, processor)
    _say_ids(model)
    return model


def load_donut(source: str) -> DocumentModel:
    """Loads a Donut, its processor, its masks and its card.

    The start and padding ids that older model folders leave out are filled in: padding from the tokenizer, the start
    from the generation settings, else by the rule of `docstill.models.donut_tokens.start_token`.

    Raises:
        ModelError: not a folder or hub id, not whole, not a Donut, no processor, or a canvas smaller than a window.
    """
    folder = local_folder(source)
    card = {} if folder is None else read_card(folder)
    if card.get("task", "kie") != "kie":
        raise ModelError(f"{source} is a model for {card['task']}, not for kie; give a Donut")
    check_kind(source, "kie")
    network = load_whole(_class_of(source, folder), source)
    for part, wanted in (("encoder", "donut-swin"), ("decoder", "mbart")):
        found = getattr(network.config, part).model_type
        if found != wanted:
            raise ModelError(f"the {part} of {source} is {found}, not {wanted}; give a Donut")
    try:
        processor = DonutProcessor.from_pretrained(source, local_files_only=folder is not None)
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{source} has no Donut processor and tokenizer; save them beside the model") from error
    image_processor = processor.image_processor
    switches = ("do_resize", "do_thumbnail", "do_pad", "do_rescale", "do_normalize")
    off = [name for name in switches if not getattr(image_processor, name)]
    if off:
        raise ModelError(
            f"the image processor of {source} switches off {', '.join(off)}; a Donut needs all of {', '.join(switches)}"
        )
    check_window(network.config.encoder, canvas_size(image_processor))
    model = DocumentModel("kie", network, processor, masks=load_masks_into(network, source), card=card)
    _say_ids(model)
    return model


def _class_of(source: str, folder: Path | None) -> Any:
    """The class of the network in a folder or under a hub id; the usual one where that cannot be told."""
    try:
        return donut_class(VisionEncoderDecoderConfig.from_pretrained(source, local_files_only=folder is not None))
    except (OSError, ValueError):
        return VisionEncoderDecoderModel  # loading it says what is wrong


def _say_ids(model: DocumentModel) -> None:
    """Writes padding, start and end ids wherever transformers looks for them; without them it fails, or guesses."""
    config, generation, tokenizer = model.network.config, model.network.generation_config, model.processor.tokenizer
    start = getattr(config, "decoder_start_token_id", None)
    if start is None:
        start = generation.decoder_start_token_id
    if start is None:
        start = tokenizer.convert_tokens_to_ids(start_token(tokenizer))
    for part in (config, generation):
        part.decoder_start_token_id = start
        part.pad_token_id, part.eos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id
    generation.max_length = config.decoder.max_position_embeddings


def check_window(encoder: Any, image_size: tuple[int, ...]) -> None:
    """Raises ModelError if a side of the image is smaller than one window of the encoder's last stage.

    transformers would fail with an obscure shape error, or change the network for good while it runs.
    """
    smallest = encoder.patch_size * 2 ** (len(encoder.depths) - 1) * encoder.window_size
    if min(image_size) < smallest:
        raise ModelError(
            f"an image of {image_size[0]} × {image_size[1]} pixels is too small for window_size {encoder.window_size}; "
            f"make both sides at least {smallest}, or the window smaller"
        )


def add_tags(model: DocumentModel, tags: Iterable[str], characters: Iterable[str] = ()) -> list[str]:
    """Adds the tags that the vocabulary lacks, and others that `add_missing` adds; the decoder's embedding grows with it.

    Returns:
        The tokens that were added.
    """
    model.processor.tokenizer, added = add_missing(model.processor.tokenizer, tags, characters)
    decoder, wanted = model.network.decoder, len(model.processor.tokenizer)
    if wanted > decoder.config.vocab_size:
        decoder.resize_token_embeddings(wanted)  # the whole model's own method is not implemented; this keeps the tie
    fit_masks(model)
    return added


def resize_positions(model: DocumentModel, length: int) -> None:
    """Makes the decoder read up to ``length`` tokens: the position table is cut, or stretched linearly."""
    table = model.network.decoder.model.decoder.embed_positions
    old = table.weight.detach()
    unused, used = old[: table.offset], old[table.offset :]
    if length > len(used):
        used = nn.functional.interpolate(used.T[None], size=length, mode="linear", align_corners=False)[0].T
    table.weight = nn.Parameter(torch.cat([unused, used[:length]]))
    table.num_embeddings = length + table.offset
    model.network.config.decoder.max_position_embeddings = length
    model.network.generation_config.max_length = length
    fit_masks(model)


def fit_masks(model: DocumentModel) -> None:
    """Masks of tensors that changed their shape: kept where rows were added or cut, new rows are free."""
    for name, parameter in model.network.named_parameters():
        mask = model.masks.get(name)
        if mask is not None and mask.shape != parameter.shape:
            fitted = torch.ones(parameter.shape, dtype=torch.bool, device=mask.device)
            rows = min(len(mask), len(fitted))
            fitted[:rows] = mask[:rows]
            model.masks[name] = fitted


def _check_keys(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    allowed = set(known) - _DECIDED_ELSEWHERE
    for key in given:
        if key not in allowed:
            raise UserError(f"{where} has no configuration key {key!r} that may be changed{nearest(key, allowed)}")
