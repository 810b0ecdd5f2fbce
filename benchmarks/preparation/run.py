"""What it is worth that a scan is brought near to the network's size in use as it was in training.

python benchmarks/preparation/run.py DATA MODEL …

DATA is a labelled validation split, the models are folders that learnt here with docstill. Each is scored twice: on pages that its
processor shrinks in one step, as plain transformers would, and on pages that are shrunk in two steps, as in training. The figures are
added to results.json under the name of the folder that holds the split; run it once for each data set.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import read_json, write_json
from docstill.metrics.seeds import summary
from docstill.tasks.base import BROUGHT_TO

HERE = Path(__file__).parent


def main(data: Path, sources: list[str]) -> None:
    rows: list[dict[str, Any]] = []
    for source in sources:
        loaded = docstill.load(source)
        task, model = loaded.task, loaded.model
        pages = task.read(data)
        row: dict[str, Any] = {}
        for way in ("one step", "as in training"):
            model.card.pop(BROUGHT_TO, None)
            if way == "as in training":
                model.card[BROUGHT_TO] = task.page_size(model)
            metrics = task.evaluate(model, pages).metrics
            row[way] = {name: metrics[name] for name in (task.primary_metric, "nll", "ap75") if name in metrics}
        rows.append(row)
    gains = {
        name: [row["as in training"][name] - row["one step"][name] for row in rows] for name in rows[0]["one step"]
    }
    found = {
        "pages": len(pages.documents),
        "models": rows,
        "gain": {name: summary(each) for name, each in gains.items()},
        "hardware": hardware(),
    }
    target = HERE / "results.json"
    known = read_json(target) if target.is_file() else {}
    write_json(target, {**known, data.resolve().parent.name: found})


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
