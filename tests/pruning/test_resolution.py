"""A Donut on smaller pages is an ordinary Donut: plain transformers prepares the page, and answers, as docstill does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import docstill
from docstill.data.images import open_image
from docstill.models.donut_page import canvas_size
from docstill.tasks.kie import Kie
from kie_tiny import ANSWERS, tiny_donut, tiny_folder

KIE = Kie()
pytestmark = pytest.mark.usefixtures("one_thread")

GRAY = 1.01 / 255 / 0.224
"""One gray level of 255, as the network sees it."""

ALONE = """
import sys
sys.modules["docstill"] = None  # an import of it would fail
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import DonutProcessor, VisionEncoderDecoderModel
page, *folders = sys.argv[1:]
for folder in folders:
    network, info = VisionEncoderDecoderModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), (folder, info)
    processor = DonutProcessor.from_pretrained(folder)
    size = processor.image_processor.size
    assert list(network.config.encoder.image_size) == [size["height"], size["width"]]
    pixels = processor(Image.open(page).convert("RGB"), return_tensors="pt").pixel_values
    with torch.no_grad():
        logits = network(pixel_values=pixels, decoder_input_ids=torch.tensor([[0, 5, 6, 7]])).logits
        ids = network.generate(pixel_values=pixels, max_length=8)
    processor.tokenizer.batch_decode(ids)
    save_file({"pixels": pixels, "logits": logits, "ids": ids}, folder + "/said.safetensors")
"""


def prunings(root: Path) -> dict[str, Path]:
    """Smaller pages alone; and with other cuts, before and behind."""
    changes: dict[str, Any] = {"encoder": {"depths": [1, 1, 2, 1], "window_size": 2}, "decoder": {"decoder_layers": 2}}
    whole = tiny_donut(changes=changes, image_size=(160, 192)).save(root / "whole")
    smaller = {"method": "resolution", "keep": 0.6}
    shallower = {"method": "depth", "keep": 0.5}
    chains = {"alone": [smaller], "then depth": [smaller, shallower], "after depth": [shallower, smaller]}
    found = {}
    for name, chain in chains.items():
        model = whole
        for step, settings in enumerate(chain):
            model = Path(docstill.prune(model, root / f"{name} {step}", **settings)["model"])
        found[name] = model
    return found


def test_plain_transformers_answers_the_same_on_smaller_pages(tmp_path: Path) -> None:
    page = tiny_folder(tmp_path / "pages", ANSWERS[:1]) / "0.png"
    folders = prunings(tmp_path)
    words = [sys.executable, "-c", ALONE, str(page), *map(str, folders.values())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, folder in folders.items():
        theirs = load_file(folder / "said.safetensors")
        model = KIE.load_model(str(folder))
        assert canvas_size(model.processor.image_processor) == (96, 128), name
        [document] = KIE.read(page.parent).documents
        pixels, placed = theirs["pixels"], KIE.example(model, document, open_image(page), [], None)["pixel_values"]
        # the same page at the same place; torchvision, where it is there, rounds some pixels to the neighbouring gray
        gap = (pixels[0] - placed).abs()
        assert gap.max() < GRAY, name
        assert gap.mean() < GRAY / 100, name
        model.network.eval()
        with torch.no_grad():
            logits = model.network(pixel_values=pixels, decoder_input_ids=torch.tensor([[0, 5, 6, 7]])).logits
            ids = model.network.generate(pixel_values=pixels, max_length=8)
            blank = model.network(pixel_values=0 * pixels, decoder_input_ids=torch.tensor([[0, 5, 6, 7]])).logits
        torch.testing.assert_close(theirs["logits"], logits, atol=1e-4, rtol=1e-4)
        assert torch.equal(theirs["ids"], ids), name
        assert not torch.allclose(logits, blank, atol=0.01), "what it says depends on what it sees"
