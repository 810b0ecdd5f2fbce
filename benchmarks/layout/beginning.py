"""What it is worth to an RT-DETRv2 from scratch that its layers begin as its authors' do: an epoch of generated pages each way.

python benchmarks/layout/beginning.py RUN

RUN is that of `small.py`, where the pages lie. transformers' beginning is tried beside docstill's (`docstill.models.fresh`), with
the same pages in the same order. Told by the loss in training, of the last fifth of the steps. Leaves small/beginning.json.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import write_json
from docstill.models import detector

sys.path.insert(0, str(Path(__file__).parent))
from first_rates import last_loss
from small import FIRST, HERE, new, own

NETWORK = "rt-detrv2-r18"
RATE = 0.0015
"""One of those of `first_rates.py`."""


def main(run: Path) -> None:
    settings = {**own(FIRST, NETWORK, 0), "epochs": 1, "evaluate_every": 1, "learning_rate": RATE}
    found = {"docstill": learnt(run, "docstill", settings)}
    setattr(detector, "begin_anew", lambda network: None)  # noqa: B010
    found["transformers"] = learnt(run, "transformers", settings)
    write_json(
        HERE / "beginning.json", {"network": NETWORK, "rate": RATE, "loss": found, "seed": 0, "hardware": hardware()}
    )


def learnt(run: Path, name: str, settings: dict[str, Any]) -> float:
    folder = run / "beginning" / name
    docstill.train("layout", new(NETWORK), run / "generated", folder, **settings)
    return last_loss(folder / "metrics.jsonl")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
