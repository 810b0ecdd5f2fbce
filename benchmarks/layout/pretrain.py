"""Trains each network of the study on generated pages, and says what that is worth on generated pages it has not seen.

python benchmarks/layout/pretrain.py GENERATED OUT PRETRAINING.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.deploy.hardware import hardware

NETWORKS = ("r18", "r50", "mobilenet-v2", "efficientnet-b0", "r101", "r152")
SETTINGS: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 16,
    "learning_rate": 0.0005,
    "augment": 0.3,
    "evaluate_every": 2,
    "workers": 8,
}


def main(data: Path, out: Path, target: Path) -> None:
    found = {}
    for name in NETWORKS:
        model = docstill.NewModel(new=f"faster-rcnn-{name}", image_size=(512, 352))
        done = docstill.train("layout", model, data, out / name, **SETTINGS)
        found[name] = {key: done[key] for key in ("text", "best", "seconds")}
    content = {"settings": SETTINGS, "hardware": hardware(), "networks": found}
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
