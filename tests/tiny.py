"""Tiny data and recipes that the tests share; made in the process, the same every time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw

KINDS = ("bars", "dots", "grid")
TINY_VIT = {
    "new": "vit-tiny",
    "image_size": [32, 32],
    "config": {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "patch_size": 8,
    },
}
SMALLER_VIT = {**TINY_VIT, "config": {**TINY_VIT["config"], "hidden_size": 8, "intermediate_size": 16}}
TINY_RESNET = {
    "new": "resnet-18",
    "image_size": [32, 32],
    "config": {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]},
}


def page(kind: str, index: int) -> Image.Image:
    """A small page of one of three kinds."""
    image = Image.new("RGB", (40, 48), "white")
    draw = ImageDraw.Draw(image)
    shift = index % 5
    if kind == "bars":
        for top in range(shift, 48, 8):
            draw.rectangle((4, top, 36, top + 3), fill="black")
    elif kind == "dots":
        for left in range(shift, 40, 10):
            draw.ellipse((left, 10 + shift, left + 6, 16 + shift), fill="black")
    else:
        for left in range(shift, 40, 6):
            draw.line((left, 0, left, 48), fill="black", width=2)
    return image


def class_folders(root: Path, train: int = 4, validation: int = 2) -> Path:
    """``root/{train,validation}/KIND/*.png``."""
    for split, count in (("train", train), ("validation", validation)):
        for kind in KINDS:
            folder = root / split / kind
            folder.mkdir(parents=True)
            for index in range(count):
                page(kind, index + (100 if split == "validation" else 0)).save(folder / f"{index}.png")
    return root


def recipe(data: Path, **changes: Any) -> dict[str, Any]:
    """A complete recipe that runs in seconds: train a teacher, prune, distil with a hint."""
    training = {"epochs": 2, "batch_size": 4, "learning_rate": 0.003, "precision": "fp32", "checkpoint_minutes": 0}
    return {
        "task": "classification",
        "data": {"train": str(data / "train"), "validation": str(data / "validation")},
        "teacher": {"model": TINY_VIT, "train": training},
        "student": SMALLER_VIT,
        "stages": [
            {"prune": {"sparsity": 0.3}},
            {
                "distill": {
                    **training,
                    "augment": 0.5,
                    "objectives": [
                        {"kind": "labels", "weight": 0.5},
                        {"kind": "kd", "temperature": 3.0, "weight": 0.5},
                        {"kind": "hint", "student_module": "vit.layers.0", "weight": 0.1},
                    ],
                }
            },
        ],
        "controls": ["teacher", "no-kd"],
        "repeats": 1,
        **changes,
    }


def write_recipe(path: Path, content: dict[str, Any]) -> Path:
    """Writes a recipe as YAML."""
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
