"""Tiny Donuts and tiny pages with fields on them, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from docstill.models.donut import new_donut
from docstill.models.io import DocumentModel

ANSWERS: list[dict[str, Any]] = [
    {"shop": "Ash & Co", "total": "9.00"},
    {"shop": "Birch", "total": "12.50"},
    {"shop": "Cedar Ltd", "total": "7.25"},
    {"shop": "Dogwood", "total": "31.10"},
]
TAGS = ["<s_shop>", "</s_shop>", "<s_total>", "</s_total>"]


def tiny_donut(seed: int = 0, tags: list[str] = TAGS, **options: Any) -> DocumentModel:
    """A random Donut of some 150,000 parameters."""
    torch.manual_seed(seed)
    return new_donut("donut-tiny", options.pop("changes", {}), [], tags, **options)


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
