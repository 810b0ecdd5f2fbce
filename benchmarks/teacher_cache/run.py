"""What a distil step costs when the teacher is asked every time, and when its answers are recalled from disk.

python benchmarks/teacher_cache/run.py

Two Donuts from scratch on generated pages, fp32, one thread. A step is everything: pages prepared, networks, update. Rounds
are interleaved and CPU seconds counted, so that other work on the machine matters little; the median of the ratios counts.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from docstill.batches import PageSet, epoch_batches, page_set
from docstill.data.json_tokens import json_to_tokens, tag_tokens
from docstill.deploy.hardware import hardware
from docstill.engine import Trainee, optimise
from docstill.lesson import Lesson, ask, make_objectives
from docstill.models.donut import new_donut, new_donut_like
from docstill.optimiser import seed_everything
from docstill.settings import DistillStage
from docstill.tasks.kie import Kie
from docstill.teacher_cache import ask_once

DOCUMENTS, BATCH, ROUNDS, KEPT = 6, 2, 10, 64
TEACHER, STUDENT = ("donut-small", (320, 320)), ("donut-mini", (240, 240))
OBJECTIVES: list[dict[str, Any]] = [{"kind": "labels"}, {"kind": "kd", "temperature": 2.0}]


def main() -> None:
    torch.set_num_threads(1)
    seed_everything(0)
    task, cpu = Kie(), torch.device("cpu")
    with tempfile.TemporaryDirectory() as scratch:
        pages = task.read(write_pages(Path(scratch) / "pages"))
        answers = [document.target for document in pages.documents]
        texts, tags = [json_to_tokens(answer) for answer in answers], set().union(*map(tag_tokens, answers))
        teacher = new_donut(TEACHER[0], {}, texts, tags, TEACHER[1])
        student = new_donut_like(teacher, STUDENT[0], {}, STUDENT[1])
        settings = DistillStage(objectives=OBJECTIVES, cache_logits=KEPT, batch_size=BATCH, precision="fp32")
        asked = page_set(task, pages, student, teacher, settings, seed=0)
        cache = ask_once(asked, Path(scratch) / "kept", KEPT, 2.0, cpu)
        lesson = Lesson(task, student, teacher, make_objectives(OBJECTIVES))
        lesson.train()
        trainee = Trainee(lesson, student.network, lambda epoch, skip: iter(()), 1, lesson.counts, dict)
        optimizer = torch.optim.AdamW(lesson.parameters(), lr=1e-9)
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=False)

        def step(examples: PageSet, recall: Any) -> None:
            lesson.recall = recall
            batch = next(epoch_batches(examples, 0, 0, BATCH, 0))
            optimise(trainee, optimizer, [batch], autocast, 1.0, False)

        recalled = replace(asked, teacher=None)
        alone = next(epoch_batches(asked, 0, 0, BATCH, 0))

        def teacher_alone() -> None:
            ask(task, teacher, alone["teacher"], (), cpu, alone["files"])

        works: dict[str, Callable[[], None]] = {
            "teacher asked": lambda: step(asked, None),
            "teacher recalled": lambda: step(recalled, cache.outputs),
            "teacher forward alone": teacher_alone,
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(-1, ROUNDS):
            for name, work in works.items():
                began = time.process_time()
                work()
                if turn >= 0:
                    times[name].append(time.process_time() - began)
        decisions = len(cache.outputs(range(DOCUMENTS), cpu).targets)
        medians = {name: statistics.median(values) for name, values in times.items()}
        pairs = zip(times["teacher recalled"], times["teacher asked"], strict=True)
        ratios = [short / long for short, long in pairs]
        result = {
            "teacher": {"size": TEACHER[0], "canvas": TEACHER[1]},
            "student": {"size": STUDENT[0], "canvas": STUDENT[1]},
            "batch": BATCH,
            "precision": "fp32",
            "rounds": ROUNDS,
            "median_cpu_seconds": {name: round(value, 3) for name, value in medians.items()},
            "ratio": round(statistics.median(ratios), 3),
            "ratio_quartiles": [round(value, 3) for value in statistics.quantiles(ratios, n=4)],
            "logits_kept": KEPT,
            "logits": cache.classes,
            "probability_held": round(cache.held(), 4),
            "bytes_a_token": round(cache.bytes() / decisions, 1),
            "tokens_a_document": round(decisions / DOCUMENTS, 1),
            "hardware": hardware(),
        }
    text = json.dumps(result, indent=1) + "\n"
    (Path(__file__).parent / "results.json").write_text(text, encoding="utf-8")
    print(text)


def write_pages(folder: Path) -> Path:
    folder.mkdir()
    lines = []
    for index in range(DOCUMENTS):
        answer = {
            "shop": f"Shop number {index}",
            "total": f"{index}.50",
            "date": f"2024-01-{index + 1:02}",
            "city": "Utrecht",
        }
        image = Image.new("RGB", (600, 800), "white")
        draw = ImageDraw.Draw(image)
        for row, (name, value) in enumerate(answer.items()):
            draw.text((40, 60 + 120 * row), f"{name}: {value}", fill="black", font_size=36)
        image.save(folder / f"{index}.png")
        lines.append(json.dumps({"file_name": f"{index}.png", "ground_truth": {"gt_parse": answer}}))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
