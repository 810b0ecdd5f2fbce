"""Which learning rate suits a detector of `small.py` on generated pages: one epoch of them with each of three.

python benchmarks/layout/first_rates.py RUN NETWORK

RUN is that of `small.py`, where the pages lie. Told by the loss in training, of the last fifth of the steps; no page of a book is
looked at. Leaves small/first_rates.json.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import read_json, write_json

sys.path.insert(0, str(Path(__file__).parent))
from small import FIRST, HERE, PAIRS, new, own

RATES = (0.0005, 0.0015, 0.004)
LAST = 0.2


def main(run: Path, network: str) -> None:
    found = {}
    for rate in RATES:
        settings = {**own(FIRST, network, 0), "epochs": 1, "evaluate_every": 1, "learning_rate": rate}
        folder = run / "first-rates" / network / f"{rate:g}"
        docstill.train("layout", new(network), run / "generated", folder, **settings)
        found[f"{rate:g}"] = last_loss(folder / "metrics.jsonl")
    target = HERE / "first_rates.json"
    known = read_json(target) if target.is_file() else {}
    write_json(target, {**known, network: {"loss": found, "seed": 0, "hardware": hardware()}})


def last_loss(file: Path) -> float:
    """Mean of the loss over the last steps."""
    losses = [json.loads(line)["loss"] for line in file.read_text(encoding="utf-8").splitlines()]
    return statistics.fmean(losses[-round(LAST * len(losses)) :])


if __name__ == "__main__":
    networks = {name for pair in PAIRS.values() for name in pair[:2]}
    if len(sys.argv) != 3 or sys.argv[2] not in networks:
        sys.exit(f"{__doc__}\nNETWORK is one of {', '.join(sorted(networks))}")
    main(Path(sys.argv[1]), sys.argv[2])
