"""Real receipts (SROIE's four fields): what reading generated pages and receipts first is worth, and what compression then costs.

python benchmarks/kie/receipts.py RECEIPTS RUN [try]

RECEIPTS holds {train,validation} with metadata.jsonl. The same network is fine-tuned on them three times: from scratch; after it has
read generated pages; after generated receipts, too. The last of the three teaches a student that keeps two of its decoder layers and
loses weights as in the recipe `donut-hole`, beside its no-KD twin. For a GPU, and the processor cores that draw its
documents. With `try` all of it runs in minutes on two cores and nothing is kept. Stopped, it goes on with the same command. Leaves
receipts.json here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import write_json
from docstill.run import step

SIZE: dict[str, Any] = {"new": "donut-base-mini", "image_size": (960, 480)}
"""Receipts are twice as high as wide."""
DOCUMENTS = {"pages": 100_000, "receipts": 60_000}
"""Of each kind, how many are drawn; each is seen once."""
FIRST: dict[str, Any] = {"epochs": 1, "batch_size": 32, "learning_rate": 0.001, "reading": 20, "evaluate_every": 0.25}
TUNING: dict[str, Any] = {"epochs": 40, "batch_size": 8, "learning_rate": 0.0003, "evaluate_every": 40, "keep": "last"}
STUDENT: dict[str, Any] = {
    **TUNING,
    "prune": {"sparsity": 0.62, "scope": "lamp", "of": "non-embedding", "end": 0.4},
}
OBJECTIVES = [{"kind": "labels", "weight": 0.5}, {"kind": "kd", "temperature": 2.0, "weight": 0.5}]
SEEDS = range(3)
TRIED: dict[str, Any] = {"new": "donut-tiny", "image_size": (320, 160), "config": {"decoder": {"decoder_layers": 2}}}
TRY: dict[str, Any] = {"epochs": 0.05, "batch_size": 2, "evaluate_every": 0.05}


def main(receipts: Path, run: Path, trying: bool) -> None:
    small: dict[str, Any] = TRY if trying else {}
    new = docstill.NewModel(**(TRIED if trying else SIZE))
    workers = os.cpu_count() or 1
    shared: dict[str, Any] = {"weight_decay": 0.01, "workers": workers}
    begins: dict[str, str | docstill.NewModel] = {"scratch": new}
    model: str | docstill.NewModel = new
    for kind, count in DOCUMENTS.items():
        seen = run / "generated" / kind
        form: dict[str, Any] = {"form": "flat"} if kind == "receipts" else {}
        if not seen.exists():
            docstill.synth(kind, seen, 4 if trying else 200, seed=1, workers=workers, **form)
        drawn = {"train": {"synth": kind, "n": 40 if trying else count, **form}, "validation": str(seen)}
        model = str(docstill.train("kie", model, drawn, run / f"read-{kind}", **(FIRST | shared | small))["model"])
        begins[kind] = model
    found: dict[str, Any] = {"teachers": {}, "student": [], "no-kd": []}
    tuned = {
        name: docstill.train("kie", begin, receipts, run / f"tuned-{name}", **(TUNING | shared | small))["model"]
        for name, begin in begins.items()
    }
    found["teachers"] = {name: scored(folder, receipts, run / f"tuned-{name}") for name, folder in tuned.items()}
    teacher = tuned["receipts"]
    shallow = docstill.prune(teacher, run / "shallow", method="depth", of="decoder", keep=1 if trying else 2)["model"]
    for seed in SEEDS:
        for name, objectives in (("student", OBJECTIVES), ("no-kd", [{"kind": "labels"}])):
            folder, settings = run / name / f"seed-{seed}", STUDENT | shared | small
            done = docstill.distill(teacher, shallow, receipts, folder, seed=seed, objectives=objectives, **settings)
            found[name].append(scored(done["model"], receipts, folder))
    timed = docstill.benchmark([str(teacher), str(run / "student" / "seed-0" / "model")], receipts / "validation")
    found |= {"benchmark": list(timed["models"].values()), "hardware": hardware(), "documents": DOCUMENTS}
    found |= {"size": SIZE, "reading": FIRST, "tuning": TUNING, "training": STUDENT, "objectives": OBJECTIVES}
    if not trying:
        write_json(Path(__file__).with_suffix(".json"), found)


def scored(model: str | Path, receipts: Path, folder: Path) -> dict[str, Any]:
    """What a model scores on the validation receipts, field by field."""
    return dict(step(folder / "evaluation", lambda: docstill.evaluate(model, receipts / "validation"))["metrics"])


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["try"]):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] == ["try"])
