"""How long TED accuracy and field F1 of a thousand generated receipts take, read with a wrong character in ten and a key in twenty missing.

python benchmarks/receipt_scores/run.py

Seconds of one processor, the least of five rounds, for they depend on what else the machine does.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

from docstill.deploy.hardware import hardware
from docstill.files import write_json
from docstill.metrics.fields import document_f1
from docstill.metrics.tree import ted_accuracy
from docstill.synthesis.receipts import receipt

RECEIPTS, ROUNDS = 1000, 5


def misread(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: misread(rng, child) for key, child in value.items() if rng.random() > 0.05}
    if isinstance(value, list):
        return [misread(rng, child) for child in value]
    return "".join(character if rng.random() > 0.1 else "?" for character in value)


def characters(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(characters, value.values()))
    return sum(map(characters, value)) if isinstance(value, list) else len(value)


def main() -> None:
    rng = random.Random(0)
    truths = [receipt(rng).truth("nested") for _ in range(RECEIPTS)]
    readings = [misread(rng, truth) for truth in truths]
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        scores = [(ted_accuracy(*pair), document_f1(*pair)) for pair in zip(readings, truths, strict=True)]
        spent.append(time.process_time() - began)
    result = {
        "receipts": RECEIPTS,
        "characters_a_receipt": round(sum(map(characters, truths)) / RECEIPTS),
        "rounds": ROUNDS,
        "processor_s": round(min(spent), 2),
        "ted_accuracy": round(sum(accuracy for accuracy, _ in scores) / RECEIPTS, 3),
        "hardware": hardware(),
    }
    write_json(Path(__file__).with_name("results.json"), result)
    print(result)


if __name__ == "__main__":
    main()
