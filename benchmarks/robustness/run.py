"""Does the distilled student break sooner than its no-KD control on worse pages?

python benchmarks/robustness/run.py RUN PAGES [LIMIT]

RUN is the folder of the doctype run, PAGES that of its pages, LIMIT how many of the validation pages are taken, drawn from all
classes. Teacher, students and controls of all seeds see the same pages, damaged the same way: ten corruptions at five
severities. Leaves results.json beside this script.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.deploy.hardware import hardware

METRIC = "accuracy"


def main(run: Path, pages: str, limit: int | None) -> None:
    """Scores all models in one go, and sums up over seeds."""
    places = {"teacher": run / "teacher" / "model"}
    for place in sorted(run.glob("seed-*/*/*-distill/model")):
        places["-".join(place.relative_to(run).parts[:2])] = place
    first, *others = map(str, places.values())
    found = docstill.evaluate(first, pages, limit=limit, shift="corruptions", against=others)
    models = dict(zip(places, found["shift"]["models"].values(), strict=True))
    groups = {name: [label for label in models if label.endswith(name)] for name in ("teacher", "student", "no-kd")}
    results = {
        "n": found["n"],
        "hardware": hardware(),
        "metric": METRIC,
        "groups": {name: group([models[label] for label in labels]) for name, labels in groups.items()},
        "models": {
            label: {"clean": model["clean"], "mean": model["mean"], "drop": model["drop"]}
            for label, model in models.items()
        },
    }
    text = json.dumps(results, indent=1) + "\n"
    (Path(__file__).parent / "results.json").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


def group(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Clean figure, drop, and drop by corruption, over seeds: mean and, of more than one, standard deviation."""
    kinds = dict.fromkeys(row["corruption"] for row in models[0]["rows"])
    return {
        "clean": summary([model["clean"][METRIC] for model in models]),
        "drop": summary([model["drop"] for model in models]),
        "drop_by_corruption": {
            kind: summary(
                [
                    model["clean"][METRIC]
                    - statistics.fmean(row[METRIC] for row in model["rows"] if row["corruption"] == kind)
                    for model in models
                ]
            )
            for kind in kinds
        },
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Mean and sample standard deviation."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": spread, "values": values}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else None)
