"""What a page's normalisation is worth to a ViT and a Swin from scratch: the usual one against the pages' own mean and spread.

python benchmarks/normalisation/run.py RUN

A ViT-tiny of six layers and a small Swin learn from 1,200 generated pages of six kinds for 10 epochs, 3 seeds, and are scored on 600 others. All that differs is
their image processor: black −1 and white 1, or mean 0 and standard deviation 1 over 64 of the training pages, which is what docstill
gives a classifier from scratch. Stopped, it goes on with the same command. Leaves results.json here.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.data.images import open_image
from docstill.deploy.hardware import hardware
from docstill.models.classifier import new_classifier
from docstill.optimiser import seed_everything
from docstill.tasks.base import drawn
from docstill.tasks.classification import SAMPLE, Classification

PAGES = {"train": (1200, 31), "validation": (600, 32)}
"""How many of each split, and the seed that they are drawn with."""
SIDE = (96, 96)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit-tiny", {"num_hidden_layers": 6}),
    "swin": (
        "swin-tiny",
        {"embed_dim": 32, "depths": [2, 2, 2], "num_heads": [2, 4, 8], "window_size": 6, "drop_path_rate": 0.0},
    ),
}
SETTINGS = {"epochs": 10, "batch_size": 32, "learning_rate": 0.0005, "evaluate_every": 10, "keep": "last"}
SEEDS = 3


def main(run: Path) -> None:
    for split, (count, seed) in PAGES.items():
        if not (run / "pages" / split).exists():
            docstill.synth("page-kinds", run / "pages" / split, count, seed=seed)
    pages = Classification().read(run / "pages" / "train")
    found: dict[str, dict[str, list[float]]] = {}
    for name, (size, config) in NETWORKS.items():
        for how in ("usual", "measured"):
            for seed in range(SEEDS):
                start, out = (run / f"{name}-{how}-{seed}-{part}" for part in ("start", "learnt"))
                if not start.exists():
                    seed_everything(seed)
                    sample = [open_image(document.file) for document in drawn(pages, SAMPLE).documents]
                    new_classifier(size, config, pages.labels, SIDE, sample if how == "measured" else ()).save(start)
                done = docstill.train("classification", str(start), run / "pages", out, seed=seed, **SETTINGS)
                found.setdefault(name, {}).setdefault(how, []).append(done["best"])
    content = {
        "pages": {split: count for split, (count, _) in PAGES.items()},
        "classes": len(pages.labels),
        "steps": done["steps"],
        "settings": SETTINGS,
        "accuracy": found,
        "hardware": hardware(),
    }
    target = Path(__file__).with_name("results.json")
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
