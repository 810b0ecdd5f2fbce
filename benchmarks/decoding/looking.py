"""What it saves to look at a page in the order of windows (`docstill.decoding.looking`), beside the network's own pass.

python benchmarks/decoding/looking.py

One thread, interleaved rounds, random weights: encoders of three sizes, the largest that of the published Donut, on pages of half its sides.
Nothing else should run. Leaves looking.json here.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import DonutSwinConfig, DonutSwinModel

from docstill.decoding.looking import seen
from docstill.deploy.benchmark import Contender, time_interleaved
from docstill.deploy.hardware import hardware
from docstill.files import write_json
from docstill.models.donut import DONUT_SIZES

SIZES: dict[str, tuple[int, int]] = {"donut-micro": (1, 40), "donut-mini": (1, 20), "donut-base": (2, 3)}
"""By what the sides of the page are divided, and rounds."""


def main() -> None:
    found = {}
    for name, (divided, rounds) in SIZES.items():
        torch.manual_seed(0)
        size = [side // divided for side in DONUT_SIZES[name]["image_size"]]
        encoder = DonutSwinModel(DonutSwinConfig(**DONUT_SIZES[name]["encoder"])).eval()
        network, pixels = SimpleNamespace(encoder=encoder), torch.randn(1, 3, *size)

        def own(network: Any = network, pixels: torch.Tensor = pixels) -> int:
            with torch.inference_mode():
                network.encoder(pixels)
            return 1

        def ours(network: Any = network, pixels: torch.Tensor = pixels) -> int:
            with torch.inference_mode():
                seen(network, pixels)
            return 1

        contenders = [Contender("network", {"page": own}), Contender("looking", {"page": ours})]
        timed = time_interleaved(contenders, rounds=rounds, threads=1)
        found[name] = {"size": size, "ms": {who: timed[who]["page"] for who in timed}}
    write_json(Path(__file__).with_suffix(".json"), {"encoders": found, "hardware": hardware()})


if __name__ == "__main__":
    main()
