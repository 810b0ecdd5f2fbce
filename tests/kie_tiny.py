"""Tiny Donuts and tiny pages with fields on them, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import DonutProcessor

from docstill.data.json_tokens import SPECIAL
from docstill.models.donut import new_donut
from docstill.models.donut_tokens import wrap
from docstill.models.io import DocumentModel

ANSWERS: list[dict[str, Any]] = [
    {"shop": "Ash & Co", "total": "9.00"},
    {"shop": "Birch", "total": "12.50"},
    {"shop": "Cedar Ltd", "total": "7.25"},
    {"shop": "Dogwood", "total": "31.10"},
]
WORDS = ("total", "Ash", "Birch", "Ce", "dar", "Ltd", "wood", "Dog", "zebra", "receipt", "9.00", "00")
TAGS = ["<s_shop>", "</s_shop>", "<s_total>", "</s_total>"]


def tiny_donut(seed: int = 0, tags: list[str] = TAGS, **options: Any) -> DocumentModel:
    """A random Donut of some 150,000 parameters."""
    torch.manual_seed(seed)
    return new_donut("donut-tiny", options.pop("changes", {}), [], tags, **options)


def like_published(bare_one: bool = True, **options: Any) -> DocumentModel:
    """A Donut with a SentencePiece vocabulary: words, single characters, tags, and a task token; as published without the bare 1."""
    model = tiny_donut(seed=1, **options)
    pieces = [(token, 0.0) for token in SPECIAL] + [("▁", -2.0)]
    pieces += [(prefix + word, -3.0 - index / 10) for index, word in enumerate(WORDS) for prefix in ("", "▁")]
    pieces += [(character, -8.0) for character in map(chr, range(33, 127)) if bare_one or character != "1"]
    pieces += [("▁1", -8.0), ("é", -9.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tags = [*SPECIAL, "<sep/>", "<s_iitcdip>", "<s_shops>", *TAGS, "<s_menu>", "</s_menu>"]
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tags])
    model.processor = DonutProcessor(model.processor.image_processor, wrap(backend))
    model.network.decoder.resize_token_embeddings(len(model.processor.tokenizer))
    start = model.processor.tokenizer.convert_tokens_to_ids("<s_shops>")
    for part in (model.network.config, model.network.generation_config):
        part.decoder_start_token_id = start
    return model


def page(answer: dict[str, Any], size: tuple[int, int] = (150, 150)) -> Image.Image:
    """A white page with a field on each line; lines grow, so that pages differ at a glance."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for line, (name, value) in enumerate(answer.items()):
        draw.text((10, 10 + 60 * line), f"{name}:\n{value}", fill="black", font_size=22)
    return image


def tiny_folder(folder: Path, answers: list[dict[str, Any]] = ANSWERS) -> Path:
    """Writes one page an answer and ``metadata.jsonl``; returns ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, answer in enumerate(answers):
        page(answer).save(folder / f"{index}.png")
        lines.append(json.dumps({"file_name": f"{index}.png", "ground_truth": json.dumps({"gt_parse": answer})}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def glyph_folder(folder: Path) -> Path:
    """Tiny pages that say where two characters stand; the last one does not."""
    tiny_folder(folder)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for line in lines[:-1]:
        line["glyphs"] = [["A", 0.2, 0.2], ["€", 0.5, 0.5], ["9", 0.9, 0.9]]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def loads_without_docstill(folder: Path) -> None:
    """Asserts that plain transformers loads a Donut of 160 × 160 pixels and writes with it."""
    alone = (
        "import sys; sys.modules['docstill'] = None\n"
        "import torch\nfrom transformers import DonutProcessor, VisionEncoderDecoderModel\n"
        "network, info = VisionEncoderDecoderModel.from_pretrained(sys.argv[1], output_loading_info=True)\n"
        "assert not any(info.values()), info\n"
        "ids = network.generate(pixel_values=torch.ones(1, 3, 160, 160), max_length=8)\n"
        "processor = DonutProcessor.from_pretrained(sys.argv[1])\n"
        "processor.tokenizer.batch_decode(ids)\n"
        "assert len(processor.tokenizer) == network.config.decoder.vocab_size\n"
    )
    done = subprocess.run([sys.executable, "-c", alone, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
