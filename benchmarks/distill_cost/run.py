"""What a distil step costs, against teacher forward + student forward/backward/update measured apart.

python benchmarks/distill_cost/run.py

Interleaved rounds on the networks of the recipe `doctype`, random weights and pages, fp32; the ratio of medians counts.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from docstill.deploy.hardware import hardware
from docstill.engine import Trainee, optimise
from docstill.lesson import Lesson, make_objectives
from docstill.models.classifier import new_classifier
from docstill.optimiser import seed_everything
from docstill.tasks.classification import Classification

BATCH, SIZE, ROUNDS, WARM_UP = 32, 160, 20, 3
LABELS = [f"kind-{index}" for index in range(9)]


def main() -> None:
    seed_everything(0)
    teacher = new_classifier("resnet-18", {}, LABELS, (SIZE, SIZE))
    student = new_classifier("resnet-18-half", {}, LABELS, (SIZE, SIZE))
    lesson = Lesson(Classification(), student, teacher, make_objectives([{"kind": "labels"}, {"kind": "kd"}]))
    lesson.train()
    pixels, targets = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(9, (BATCH,))
    side = {"pixel_values": pixels, "targets": targets}
    batch: dict[str, Any] = {"files": [""] * BATCH, "student": side, "teacher": side}
    trainee = Trainee(lesson, student.network, lambda epoch, skip: iter(()), 1, lesson.counts, dict)
    optimizer = torch.optim.AdamW(lesson.parameters(), lr=1e-9)
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=False)

    def distil_step() -> None:
        optimise(trainee, optimizer, [batch], autocast, 1.0, False)

    def teacher_forward() -> None:
        with torch.no_grad():
            teacher.network(pixel_values=pixels)

    def student_step() -> None:
        functional.cross_entropy(student.network(pixel_values=pixels).logits, targets).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(lesson.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    works: dict[str, Callable[[], None]] = {
        "distil step": distil_step,
        "teacher forward": teacher_forward,
        "student step": student_step,
    }
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-WARM_UP, ROUNDS):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if turn >= 0:
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    pairs = zip(times["distil step"], times["teacher forward"], times["student step"], strict=True)
    ratios = [whole / (forward + step) for whole, forward, step in pairs]
    result = {
        "batch": BATCH,
        "image_size": SIZE,
        "precision": "fp32",
        "rounds": ROUNDS,
        "median_ms": {name: round(value, 1) for name, value in medians.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(value, 3) for value in statistics.quantiles(ratios, n=4)],
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1) + "\n"
    (Path(__file__).parent / "results.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
