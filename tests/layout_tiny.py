"""Tiny pages with regions, and detectors small enough to learn them in seconds."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

KINDS = ("text", "figure", "title")
TINY_RCNN: dict[str, Any] = {
    "new": "faster-rcnn-r18",
    "image_size": [96, 64],
    "config": {
        "pyramid_channels": 8,
        "head_channels": 16,
        "regions": 16,
        "anchor_sizes": [8, 16, 32, 64, 96],
        "anchor_ratios": [0.5, 1.0],
    },
}
TINY_DETR: dict[str, Any] = {
    "new": "rt-detrv2-r18",
    "image_size": [96, 64],
    "config": {
        "backbone_config": {"hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 1, 1], "embedding_size": 4},
        "encoder_in_channels": [8, 8, 8],
        "encoder_hidden_dim": 16,
        "encoder_ffn_dim": 16,
        "encoder_attention_heads": 2,
        "d_model": 16,
        "decoder_in_channels": [16, 16, 16],
        "decoder_ffn_dim": 16,
        "decoder_attention_heads": 2,
        "decoder_layers": 2,
        "num_queries": 12,
        "num_denoising": 6,
    },
}


TINY_D_FINE: dict[str, Any] = {
    "new": "d-fine-s",
    "image_size": [96, 64],
    "config": {
        **{key: value for key, value in TINY_DETR["config"].items() if "backbone" not in key},
        "encoder_in_channels": [8, 8, 8],
        "backbone_config": {
            "hidden_sizes": [4, 8, 8, 8],
            "stem_channels": [3, 4, 4],
            "stage_in_channels": [4, 4, 8, 8],
            "stage_mid_channels": [4, 4, 4, 4],
            "stage_out_channels": [4, 8, 8, 8],
        },
    },
}


def drawn_page(seed: int) -> tuple[Image.Image, list[tuple[int, tuple[int, int, int, int]]]]:
    """A page of 60 × 90 pixels, and the class and box of each of its two or three regions."""
    rng = random.Random(seed)
    image = Image.new("RGB", (60, 90), "white")
    draw = ImageDraw.Draw(image)
    regions, top = [], rng.randint(2, 8)
    for kind in rng.sample(range(3), rng.choice((2, 3))):
        height = {0: 22, 1: 18, 2: 7}[kind]
        left, width = rng.randint(3, 10), rng.randint(34, 46)
        box = (left, top, width, height)
        if kind == 0:
            for line in range(top, top + height, 4):
                draw.rectangle((left, line, left + width - 1, line + 1), fill="black")
        else:
            draw.rectangle((left, top, left + width - 1, top + height - 1), fill="gray" if kind == 1 else "black")
        regions.append((kind, box))
        top += height + rng.randint(3, 8)
    return image, regions


def coco_folder(root: Path, train: int = 6, validation: int = 4, names: tuple[str, ...] = KINDS) -> Path:
    """``root/{train,validation}/*.png`` and ``root/{train,validation}.json``; category ids have gaps."""
    for split, count, first in (("train", train, 0), ("validation", validation, 1000)):
        folder = root / split
        folder.mkdir(parents=True)
        images, annotations = [], []
        for index in range(count):
            image, regions = drawn_page(first + index)
            image.save(folder / f"{index}.png")
            images.append({"id": index, "file_name": f"{index}.png", "width": image.width, "height": image.height})
            for kind, box in regions:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": index,
                        "category_id": 5 + 10 * names.index(KINDS[kind]),
                        "bbox": list(box),
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        categories = [{"id": 5 + 10 * place, "name": name} for place, name in enumerate(names)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def layout_recipe(data: Path, model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A complete recipe that runs in seconds."""
    content: dict[str, Any] = {
        "task": "layout",
        "data": {"train": str(data / "train"), "validation": str(data / "validation")},
        "teacher": {"model": model, "train": {"epochs": 2, "batch_size": 3, "learning_rate": 0.001}},
        "student": model,
        "stages": [
            {
                "distill": {
                    "objectives": [{"kind": "labels"}],
                    "epochs": 1,
                    "batch_size": 3,
                    "learning_rate": 0.001,
                }
            }
        ],
        "controls": ["teacher", "no-kd"],
    }
    return {**content, **changes}
