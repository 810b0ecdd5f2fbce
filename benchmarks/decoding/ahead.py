"""What it saves that a smaller Donut writes ahead (`docstill.decoding.speculative`): layers of the teacher that ships, ahead of it.

python benchmarks/decoding/ahead.py

Nothing is trained: a draft is the teacher without some of its decoder layers. Generated labels of a seed of their own; one thread, one
document at a time in interleaved rounds, and once all in batches. Nothing else should run. Leaves ahead.json here.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import docstill
from docstill.data.images import open_image
from docstill.decoding.speculative import begun
from docstill.decoding.writing import asleep, generate
from docstill.deploy.benchmark import Contender, time_interleaved
from docstill.deploy.hardware import hardware
from docstill.files import write_json
from docstill.loaded import Model, load
from docstill.tasks.base import example_in_use
from docstill.tasks.kie_reading import whole_document

LABELS, SEED = 60, 4001
LAYERS = (1, 2, 3)
"""Decoder layers of the drafts; the teacher has six."""


def main() -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        docstill.synth("small-labels", folder / "labels", LABELS, seed=SEED)
        teacher = load("shipped:small-labels")
        files = sorted((folder / "labels").glob("*.jpg"))
        images = [open_image(file) for file in files]
        alone = teacher.predict(files)
        contenders, found = [Contender("alone", {"document": whole_document(teacher.model, images)})], dict[str, Any]()
        batch = {"alone": seconds(teacher, files)}
        for layers in LAYERS:
            name = f"{layers} of 6 layers ahead"
            cut = docstill.prune(
                "shipped:small-labels", folder / str(layers), method="depth", of="decoder", keep=layers
            )
            drafted = load("shipped:small-labels", draft=cut["model"])
            contenders.append(Contender(name, {"document": whole_document(drafted.model, images, drafted.draft)}))
            one_by_one = [drafted.predict(file)[0] for file in files]
            found[name] = {
                "same": sum(one["fields"] == other["fields"] for one, other in zip(one_by_one, alone, strict=True)),
                "tokens_a_pass": tokens_a_pass(drafted, folder / "labels"),
            }
            batch[name] = seconds(drafted, files)
        timed = time_interleaved(contenders, rounds=LABELS, threads=1)
    for name, row in found.items():
        row |= {
            "document_ms": timed[name]["document"],
            "faster": timed["alone"]["document"]["p50"] / timed[name]["document"]["p50"],
            "faster_in_batches": batch["alone"] / batch[name],
        }
    write_json(
        Path(__file__).with_suffix(".json"),
        {"labels": LABELS, "alone_ms": timed["alone"]["document"], "drafts": found, "hardware": hardware()},
    )


def tokens_a_pass(drafted: Model, folder: Path) -> float:
    """Tokens that come out of one pass of the model, in the mean."""
    model, draft, tokens, passes = drafted.model, drafted.draft, 0, 0
    assert draft is not None
    pages = drafted.task.read(folder)
    for document in pages.documents:
        pixels = example_in_use(drafted.task, model, document, pages.labels)["pixel_values"][None]
        with asleep(model.network), asleep(draft.model.network):
            steps = begun(model, pixels, draft, pixels)
            ids, _ = generate(model, model.network.config.decoder.max_position_embeddings, steps=steps)
        tokens, passes = tokens + ids.shape[1] - 1, passes + steps.passes
    return tokens / passes


def seconds(model: Model, files: list[Path]) -> float:
    """Processor time for all pages in batches, the best of three."""
    found = []
    for _ in range(3):
        began = time.process_time()
        model.predict(files)
        found.append(time.process_time() - began)
    return min(found)


if __name__ == "__main__":
    main()
