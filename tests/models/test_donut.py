"""Donuts: sizes, vocabulary, guards against transformers' traps, save and load."""

from __future__ import annotations

import copy
import json
import random
import string
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    DonutImageProcessorPil,
    DonutProcessor,
    DonutSwinConfig,
    MBartConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)

from docstill.data.json_tokens import SPECIAL
from docstill.errors import ModelError, UserError
from docstill.models.donut import (
    DONUT_SIZES,
    add_tags,
    donut_config,
    load_donut,
    new_donut,
    new_donut_like,
    resize_positions,
)
from docstill.models.donut_page import page_to_pixels, placement
from docstill.models.donut_tokens import (
    addable,
    character_tokenizer,
    decode,
    encode,
    start_token,
    unknown_characters,
    wrap,
)
from docstill.models.io import DocumentModel
from kie_tiny import TAGS, page, tiny_donut


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def embedding_parameters(network: VisionEncoderDecoderModel) -> int:
    decoder = network.decoder.model.decoder
    return decoder.embed_tokens.weight.numel() + decoder.embed_positions.weight.numel()


@pytest.mark.parametrize(
    ("size", "vocabulary", "low", "high"),
    [
        ("donut-base", 57525, 141.365e6, 141.375e6),
        ("donut-small", 57525, 36e6, 37e6),
        ("donut-mini", 200, 7e6, 10e6),
        ("donut-base-mini", 200, 8e6, 10e6),
        ("donut-small-mini", 200, 2e6, 3e6),
        ("donut-micro", 200, 4e6, 6e6),
        ("donut-tiny", 110, 0.05e6, 0.2e6),
    ],
)
def test_sizes_have_the_parameters_they_promise(size: str, vocabulary: int, low: float, high: float) -> None:
    with torch.device("meta"):
        network = VisionEncoderDecoderModel(donut_config(size, {}, vocabulary))
    assert low <= parameters(network) - embedding_parameters(network) <= high


def test_donut_base_is_the_published_one_to_the_parameter() -> None:
    with torch.device("meta"):
        network = VisionEncoderDecoderModel(donut_config("donut-base", {}, 57525))
    assert round(parameters(network) / 1e6, 2) == 201.85


def test_the_mini_scale_keeps_the_proportions() -> None:
    """The small one's share of the base one's weights, embeddings apart, is the same at both scales."""
    shares = []
    for ending in ("", "-mini"):
        with torch.device("meta"):
            base, small = (
                VisionEncoderDecoderModel(donut_config(f"donut-{size}{ending}", {}, 200)) for size in ("base", "small")
            )
        shares.append(
            (parameters(small) - embedding_parameters(small)) / (parameters(base) - embedding_parameters(base))
        )
    assert shares[1] == pytest.approx(shares[0], rel=0.05)
    assert parameters(base) < 10e6


def test_a_narrow_decoder_gets_its_adaptor() -> None:
    network = tiny_donut(changes={"decoder": {"d_model": 32}}).network
    assert tuple(network.enc_to_dec_proj.weight.shape) == (32, 64)
    assert network.decoder.config.decoder_layers == network.decoder.config.num_hidden_layers == 1


def test_an_adaptor_of_two_layers_is_saved_and_loaded(tmp_path: Path) -> None:
    made = tiny_donut(changes={"decoder": {"d_model": 32}, "adaptor": "mlp"})
    shapes = [tuple(layer.weight.shape) for layer in made.network.enc_to_dec_proj if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(32, 64), (32, 32)]
    again = load_donut(str(made.save(tmp_path / "model")))
    pixels, ids = torch.rand(1, 3, *made.network.config.encoder.image_size), torch.tensor([[0, 5, 6]])
    with torch.no_grad():
        first, second = (model.network(pixel_values=pixels, decoder_input_ids=ids).logits for model in (made, again))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encodr": {}}, "encoder"),
        ({"decoder": {"d_model": 32}, "adaptor": "conv"}, "linear or mlp"),
        ({"adaptor": "mlp"}, "both 64 wide and need no adaptor"),
        ({"encoder": {"embed_dims": 16}}, "embed_dim"),
        ({"decoder": {"decoder_layer": 3}}, "decoder_layers"),
        ({"decoder": {"vocab_size": 3}}, "vocab_size"),
    ],
)
def test_unknown_configuration_keys_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        donut_config("donut-tiny", changes, 100)


def test_unknown_size_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean donut-mini"):
        new_donut("donut-min", {}, [], [])


def test_an_image_smaller_than_a_window_is_refused() -> None:
    """A side below 32 × window breaks DonutSwin, or changes it for good."""
    with pytest.raises(ModelError, match="at least 160"):
        tiny_donut(image_size=(320, 128))
    tiny_donut(image_size=(160, 320))
    tiny_donut(image_size=(96, 128), changes={"encoder": {"window_size": 3}})


@given(st.text(st.sampled_from(string.printable + "é€ß漢"), max_size=40))
@settings(deadline=None, max_examples=50)
def test_text_comes_back_exactly(text: str) -> None:
    tokenizer = _printable()
    # which tags are spelt with is no text; strings of the source, these among them, are tried as examples
    assume(not any(token in text for token in tokenizer.get_vocab() if len(token) > 1))
    assert tokenizer.decode(encode(tokenizer, text)) == text
    assert decode(tokenizer, encode(tokenizer, text)) == text
    assert len(encode(tokenizer, text)) == len(text)
    assert not unknown_characters(tokenizer, text)


def _printable() -> object:
    return character_tokenizer([string.printable, "é€ß漢"], TAGS)


def test_tags_are_one_token_and_unknown_characters_are_named() -> None:
    tokenizer = character_tokenizer(["x"], TAGS)
    assert encode(tokenizer, "<s_total> 1 </s_total>")[0] == tokenizer.get_vocab()["<s_total>"]
    assert len(encode(tokenizer, "<s_total> 1 </s_total><sep/>")) == 6
    assert unknown_characters(tokenizer, "naïve 1€") == {"ï", "€"}
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL] == [0, 1, 2, 3]


def test_decode_stops_at_the_end_and_drops_padding() -> None:
    tokenizer = character_tokenizer([], TAGS)
    text = "<s_total>1  2</s_total>"
    assert decode(tokenizer, [1, *encode(tokenizer, text), 2, 1, *encode(tokenizer, "x")]) == text


def test_start_token_is_the_only_task_token() -> None:
    assert start_token(character_tokenizer([], [*TAGS, "<s_iitcdip>", "<s_cord>"])) == "<s_cord>"
    assert start_token(character_tokenizer([], [*TAGS, "<s_cord>", "<s_docvqa>"])) == "<s>"
    assert start_token(character_tokenizer([], TAGS)) == "<s>"


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_other_encoders_and_decoders_are_refused(part: str, tmp_path: Path) -> None:
    """A page and an answer are put through these two kinds of network part by part."""
    encoder = DonutSwinConfig(**donut_config("donut-tiny", {}, 50).encoder.to_dict())
    decoder = MBartConfig(**donut_config("donut-tiny", {}, 50).decoder.to_dict())
    other = {
        "encoder": (ViTConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=4), decoder),
        "decoder": (encoder, BertConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=4, vocab_size=50)),
    }[part]
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(*other)
    VisionEncoderDecoderModel(config).save_pretrained(tmp_path / "model")
    with pytest.raises(ModelError, match=rf"the {part} of .* is (vit|bert), not (donut-swin|mbart); give a Donut"):
        load_donut(str(tmp_path / "model"))


def test_ids_survive_save_and_load(tmp_path: Path) -> None:
    """transformers 5 has no default start and padding ids, and `generate` would guess."""
    model = load_donut(str(tiny_donut().save(tmp_path / "model")))
    for part in (model.network.config, model.network.generation_config):
        assert (part.decoder_start_token_id, part.pad_token_id, part.eos_token_id) == (0, 1, 2)


def test_missing_ids_are_filled_in(tmp_path: Path) -> None:
    folder = tiny_donut(tags=[*TAGS, "<s_receipts>"]).save(tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        content = json.loads((folder / name).read_text())
        for key in ("pad_token_id", "decoder_start_token_id", "eos_token_id"):
            content.pop(key, None)
        (folder / name).write_text(json.dumps(content))
    model = load_donut(str(folder))
    expected = model.processor.tokenizer.convert_tokens_to_ids("<s_receipts>")
    assert (
        model.network.config.decoder_start_token_id
        == model.network.generation_config.decoder_start_token_id
        == expected
    )
    assert model.network.config.pad_token_id == 1


def test_other_models_are_refused(tmp_path: Path) -> None:
    folder = tiny_donut().save(tmp_path / "model")
    (folder / "docstill.json").write_text('{"task": "classification"}')
    with pytest.raises(ModelError, match="classification"):
        load_donut(str(folder))


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tiny_donut().save(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_donut(str(folder))


PLAIN = """
import sys
sys.modules["docstill"] = None
import torch
from transformers import DonutProcessor, VisionEncoderDecoderModel
model = VisionEncoderDecoderModel.from_pretrained(sys.argv[1], local_files_only=True).eval()
processor = DonutProcessor.from_pretrained(sys.argv[1], local_files_only=True)
ids = processor.tokenizer("<s_total>1 2", add_special_tokens=False, return_tensors="pt").input_ids
with torch.no_grad():
    logits = model(pixel_values=torch.load(sys.argv[2]), decoder_input_ids=ids).logits
    written = model.generate(torch.load(sys.argv[2]), max_new_tokens=5)
torch.save((ids, logits, written), sys.argv[3])
"""


def test_plain_transformers_loads_what_we_save(tmp_path: Path) -> None:
    model = tiny_donut()
    folder = model.save(tmp_path / "model")
    pixels = torch.from_numpy(page_to_pixels(page({"total": "1"}), model.processor.image_processor, None))[None]
    torch.save(pixels, tmp_path / "pixels.pt")
    command = [sys.executable, "-I", "-c", PLAIN, folder, tmp_path / "pixels.pt", tmp_path / "out.pt"]
    subprocess.run([str(part) for part in command], check=True, cwd=tmp_path)
    ids, logits, written = torch.load(tmp_path / "out.pt")
    assert ids[0].tolist() == encode(model.processor.tokenizer, "<s_total>1 2")
    with torch.no_grad():
        ours = model.network(pixel_values=pixels, decoder_input_ids=ids).logits
        assert torch.allclose(ours, logits, atol=1e-5)
        assert torch.equal(model.network.generate(pixels, max_new_tokens=5), written)


def test_an_answer_longer_than_the_position_table_needs_a_longer_table() -> None:
    model = tiny_donut()
    ids, pixels = torch.zeros(1, 200, dtype=torch.long), torch.zeros(1, 3, 160, 160)
    with pytest.raises(IndexError), torch.no_grad():
        model.network(pixel_values=pixels, decoder_input_ids=ids)
    resize_positions(model, 200)
    with torch.no_grad():
        assert model.network(pixel_values=pixels, decoder_input_ids=ids).logits.shape[1] == 200
    assert model.network.config.decoder.max_position_embeddings == 200


def test_resized_positions_keep_ends_or_beginning(tmp_path: Path) -> None:
    model = tiny_donut()
    table = model.network.decoder.model.decoder.embed_positions
    before = table.weight.detach().clone()
    resize_positions(model, 255)
    stretched = table.weight.detach()
    assert torch.equal(stretched[:3], before[:3])
    assert torch.allclose(stretched[-1], before[-1])
    resize_positions(model, 10)
    assert torch.equal(table.weight.detach(), stretched[:12])
    again = load_donut(str(model.save(tmp_path / "model")))
    assert again.network.config.decoder.max_position_embeddings == 10


def _like_sentencepiece() -> object:
    """What published Donuts have: ``▁1`` but no bare ``1``."""
    pieces = [(token, 0.0) for token in SPECIAL]
    pieces += [("▁", -2.0), ("▁1", -3.0), ("▁100", -4.0), ("00", -4.5), *((character, -5.0) for character in "ABC02.")]
    backend = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    backend.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in [*SPECIAL, "<sep/>", "<s_synthdog>"]]
    )
    return wrap(backend)


def test_the_missing_one_is_added_and_nothing_else_is_spelt_differently(tmp_path: Path) -> None:
    model = tiny_donut()
    model.processor = DonutProcessor(model.processor.image_processor, _like_sentencepiece())
    model.network.decoder.resize_token_embeddings(len(model.processor.tokenizer))
    before = encode(model.processor.tokenizer, "B 100 1 2")
    assert unknown_characters(model.processor.tokenizer, "A1") == {"1"}

    added = add_tags(model, ["<s_total>", "</s_total>"])

    assert added == ["1", "</s_total>", "<s_total>"]
    tokenizer = model.processor.tokenizer
    assert encode(tokenizer, "B 100 1 2") == before
    assert not unknown_characters(tokenizer, "A1 11")
    assert tokenizer.decode(encode(tokenizer, "A1 100")) == "A1 100"
    assert tokenizer.convert_tokens_to_ids("<s_synthdog>") == _like_sentencepiece().convert_tokens_to_ids(
        "<s_synthdog>"
    )  # type: ignore[attr-defined]
    loaded = load_donut(str(model.save(tmp_path / "model"))).processor.tokenizer
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert encode(loaded, "<s_total>A1 100</s_total>") == encode(tokenizer, "<s_total>A1 100</s_total>")


def test_characters_are_added_to_a_vocabulary_of_single_ones_alone(tmp_path: Path) -> None:
    model = tiny_donut(tags=["<s_total>", "</s_total>"])
    before = model.processor.tokenizer.get_vocab()
    rows = model.network.decoder.lm_head.weight.detach().clone()
    assert add_tags(model, ["<s_date>"], "aéñ€") == ["é", "ñ", "€", "<s_date>"]
    tokenizer = model.processor.tokenizer
    assert {token: place for token, place in tokenizer.get_vocab().items() if token in before} == before
    text = "<s_date>aé€</s_total>ñ"
    assert tokenizer.decode(encode(tokenizer, text)) == text
    assert len(encode(tokenizer, text)) == 6
    assert torch.equal(model.network.decoder.lm_head.weight[: len(rows)], rows)
    loaded = load_donut(str(model.save(tmp_path / "model"))).processor.tokenizer
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert encode(loaded, text) == encode(tokenizer, text)
    pieces = _like_sentencepiece()
    assert addable(pieces, "é") == []
    assert addable(tokenizer, "é ü") == ["ü"]


def test_added_tags_grow_the_embedding_and_keep_the_tie(tmp_path: Path) -> None:
    model = tiny_donut()
    rows = model.network.config.decoder.vocab_size
    embedding = "decoder.model.decoder.embed_tokens.weight"
    model.masks = {embedding: torch.zeros(rows, 64, dtype=torch.bool)}
    assert add_tags(model, ["<s_total>", "<s_date>", "</s_date>"]) == ["</s_date>", "<s_date>"]
    assert add_tags(model, ["<s_date>"]) == []
    decoder = model.network.decoder
    assert decoder.lm_head.weight is decoder.model.decoder.embed_tokens.weight
    assert (
        decoder.lm_head.weight.shape[0]
        == model.network.config.decoder.vocab_size
        == len(model.processor.tokenizer)
        == rows + 2
    )
    assert model.masks[embedding].sum() == 2 * 64
    assert model.masks[embedding].shape == decoder.lm_head.weight.shape
    again = load_donut(str(model.save(tmp_path / "model")))
    assert torch.equal(again.network.decoder.lm_head.weight, decoder.lm_head.weight)


def test_a_student_like_its_teacher_shares_words_and_canvas() -> None:
    teacher = tiny_donut(image_size=(160, 192))
    student = new_donut_like(teacher, "donut-tiny", {"decoder": {"d_model": 32}}, positions=96)
    assert student.processor.tokenizer.get_vocab() == teacher.processor.tokenizer.get_vocab()
    assert tuple(student.network.config.encoder.image_size) == (160, 192)
    assert student.network.config.decoder.max_position_embeddings == 96
    smaller = new_donut_like(teacher, "donut-tiny", {}, image_size=(160, 160))
    assert dict(smaller.processor.image_processor.size)["width"] == 160
    assert dict(teacher.processor.image_processor.size)["width"] == 192


def processor(**options: object) -> DonutImageProcessorPil:
    return DonutImageProcessorPil(size={"height": 192, "width": 160}, resample=3, **options)


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(
    "size", [(160, 192), (90, 50), (50, 90), (400, 300), (300, 401), (1000, 130), (131, 900), (7, 3)]
)
def test_pages_look_as_transformers_would_have_them(size: tuple[int, int], align: bool) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    image_processor = processor(do_align_long_axis=align)
    theirs = image_processor(images=image, return_tensors="np")["pixel_values"][0]
    assert np.abs(page_to_pixels(image, image_processor, None) - theirs).max() < 1e-5


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "1"])
@pytest.mark.parametrize(("height", "width"), [(32, 48), (192, 160), (333, 127)])
def test_pages_are_normalised_to_the_last_bit(mode: str, height: int, width: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)).convert(mode)
    image_processor = DonutImageProcessorPil(
        size={"height": height, "width": width},
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    found, where = page_to_pixels(image, image_processor, None), placement(image.size, image_processor, None)
    canvas = Image.new("RGB", (width, height))
    page = image.convert("RGB")
    for size in where.sizes:
        page = page.resize(size, Image.Resampling.BICUBIC)
    canvas.paste(page, (where.left, where.top))
    mean, deviation = (
        np.asarray(figure, dtype=np.float32).reshape(3, 1, 1)
        for figure in (image_processor.image_mean, image_processor.image_std)
    )
    scaled = np.asarray(canvas, dtype=np.float32).transpose(2, 0, 1) * np.float32(image_processor.rescale_factor)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, (scaled - mean) / deviation)
    image_processor.image_mean = image_processor.image_std = 0.5  # one number for all channels
    assert np.array_equal(page_to_pixels(image, image_processor, None), (scaled - np.float32(0.5)) / np.float32(0.5))


def test_a_page_is_normalised_in_place() -> None:
    """Of a canvas of 2560 × 1920 pixels each whole copy is 59 MB; writing them took most of the time that a page took."""
    image, image_processor = Image.new("RGB", (640, 480), "white"), processor()
    image_processor.size = {"height": 480, "width": 640}
    page_to_pixels(image, image_processor, None)
    tracemalloc.start()
    try:
        pixels = page_to_pixels(image, image_processor, None)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pixels.nbytes <= most < 1.5 * pixels.nbytes


def test_every_mode_and_shape_of_picture_fits() -> None:
    for image in (
        Image.new("L", (30, 20)),
        Image.new("RGBA", (9000, 2)),
        Image.new("1", (2, 9000)),
        Image.new("P", (1, 1)),
    ):
        assert page_to_pixels(image, processor(), None).shape == (3, 192, 160)


def test_the_page_moves_only_in_training_and_by_its_generator() -> None:
    image, image_processor = page({"total": "1"}, (300, 150)), processor()
    still = page_to_pixels(image, image_processor, None)
    assert np.array_equal(still, page_to_pixels(image, image_processor, None))
    moved = [page_to_pixels(image, image_processor, random.Random(seed)) for seed in (1, 1, 2)]
    assert np.array_equal(moved[0], moved[1])
    assert not np.array_equal(moved[0], still)
    assert not np.array_equal(moved[0], moved[2])
    assert np.isclose(moved[0].sum(), still.sum(), rtol=1e-3)


def test_small_and_large_canvas_show_the_page_at_the_same_place() -> None:
    image = Image.new("RGB", (300, 100), "white")
    large = DonutImageProcessorPil(size={"height": 384, "width": 320}, resample=3)
    tops = [np.argwhere(page_to_pixels(image, p, random.Random(5))[0] > 0)[0][0] for p in (processor(), large)]
    assert abs(tops[1] - 2 * tops[0]) <= 2


def test_copies_are_not_shared() -> None:
    model: DocumentModel = tiny_donut()
    twin = new_donut_like(model, "donut-tiny", {})
    before = copy.deepcopy(model.processor.tokenizer.get_vocab())
    add_tags(twin, ["<s_new>"])
    assert model.processor.tokenizer.get_vocab() == before


def test_sizes_name_only_known_keys() -> None:
    for size in DONUT_SIZES:
        donut_config(size, {part: DONUT_SIZES[size][part] for part in ("encoder", "decoder")}, 100)
