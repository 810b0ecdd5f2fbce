"""Trains a Donut on so that its decoder can lose layers: elastic depth.

python benchmarks/teacher/elastic.py MODEL DATA OUT ALL LEAST SETTING=VALUE …

At each step the decoder runs with all of its layers, with the fewest, or with a number between, evenly spaced as `docstill prune
--method depth` keeps them (Cai et al. 2020, Once-for-All, arXiv 1908.09791, section 3.3; largest and smallest in turn as in Yu and Huang
2019, arXiv 1903.05134, section 3.1). All share their weights. ALL and LEAST say how
often all layers run and how often the fewest; otherwise it is a number between. Stopped, it goes on with the same command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from docstill.data.splits import resolve_split
from docstill.files import write_text
from docstill.optimiser import seed_everything
from docstill.pruning.depth import evenly
from docstill.recipe import parse_stage
from docstill.run import locked
from docstill.stages import Bench, run_stage
from docstill.tasks.kie import Kie

FEWEST = 2


def main(source: str, data: Path, out: Path, whole: float, least: float, settings: list[str]) -> None:
    chosen = {key: yaml.safe_load(value) for key, _, value in (entry.partition("=") for entry in settings)}
    stage, task = parse_stage("train", chosen), Kie()
    pages = task.read(resolve_split(data, "train"))
    bench = Bench(task, pages, task.read(resolve_split(data, "validation"), pages))
    seed_everything(0)
    model = task.load_model(source)
    model.network.config.decoder.decoder_layerdrop = 0.0
    make_elastic(model.network.decoder.model.decoder, whole, least)
    write_text(
        out / "stage.yaml",
        yaml.safe_dump({"model": source, "shares": [whole, least], "train": stage.settings.model_dump(mode="json")}),
    )
    with locked(out):
        print(run_stage(bench, model, stage, out, 0, "train")["text"])
        model.save(out / "model")


def make_elastic(decoder: Any, whole: float, least: float) -> None:
    """Lets a decoder run with a depth of its own at every step of training; otherwise it runs whole."""
    decoder.layerdrop, count = 0.0, len(decoder.layers)
    running = set(range(count))

    def draw(module: nn.Module, _inputs: Any) -> None:
        chance = float(torch.rand([])) if module.training else 0.0
        depth = count
        if chance >= whole + least:
            depth = int(torch.randint(FEWEST + 1, count, []))
        elif chance >= whole:
            depth = FEWEST
        running.clear()
        running.update(evenly(count, depth))

    def passing(index: int, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(hidden: Tensor, *rest: Any, **more: Any) -> Tensor:
            return forward(hidden, *rest, **more) if index in running else hidden

        return run

    decoder.register_forward_pre_hook(draw)
    for index, layer in enumerate(decoder.layers):
        layer.forward = passing(index, layer.forward)


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit("give the model, the labels, where the trained one goes, two shares, and the settings of the stage")
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]), sys.argv[6:])
