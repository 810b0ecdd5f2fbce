"""How many documents a second `docstill synth` draws and writes, worn as they are by default, by all cores.

python benchmarks/synth/run.py

Starting the processes counts.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import docstill
from docstill.deploy.hardware import hardware
from docstill.synthesis.generator import KINDS, Generator

DOCUMENTS, ROUNDS = 600, 3


def main() -> None:
    workers = os.cpu_count() or 1
    spent: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            for kind in KINDS:
                begun = time.perf_counter()
                docstill.synth(kind, Path(folder) / f"{kind}-{number}", DOCUMENTS, seed=number, workers=workers)
                spent[kind].append(time.perf_counter() - begun)
    kinds = {}
    for kind in KINDS:
        sizes = [Generator(kind).document(index)[0].size for index in range(40)]
        kinds[kind] = {
            "documents_a_second": round(DOCUMENTS / statistics.median(spent[kind]), 1),
            "median_size": [round(statistics.median(sides)) for sides in zip(*sizes, strict=True)],
        }
    result = {
        "documents": DOCUMENTS,
        "rounds": ROUNDS,
        "workers": workers,
        "kinds": kinds,
        "versions": {name: importlib.metadata.version(name) for name in ("pillow", "faker", "numpy")},
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1) + "\n"
    (Path(__file__).parent / "results.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
