"""Measures a trained teacher on unseen labels, writes results.json, and leaves the model in half precision with its card.

python benchmarks/teacher/ship.py RUN UNSEEN OUT

Beside its scores stands what a model scores that sees a blank page: what it writes then, held against every answer. That is what
can be known of labels without reading them.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import docstill
from docstill.decoding.reading import reading
from docstill.decoding.writing import generate
from docstill.deploy.hardware import hardware
from docstill.metrics.fields import field_scores
from docstill.models.donut_page import canvas_size, page_to_pixels
from docstill.models.io import DocumentModel
from docstill.models.size import count_parameters
from docstill.synthesis.small_labels import HEIGHT, WIDTH
from docstill.tasks.kie import Kie

WEIGHTS = "model.safetensors"
STAGES = ("four", "six", "half", "elastic", "shallow")
"""Runs of `run.sh`: with four decoder layers; with six, a quarter of them left out at random; half of them; with elastic depth; and with
elastic depth that is mostly the fewest layers."""
CUTS, CUT_LABELS = (3, 2), 200
"""How many of its decoder layers are kept when a cut is tried, without training afterwards, and on how many labels."""


def main(run: Path, unseen: Path, out: Path) -> None:
    halve(run / STAGES[-1] / "model", out)
    task = Kie()
    model, pages = task.load_model(str(out)), task.read(unseen)
    metrics = docstill.evaluate(out, unseen)["metrics"]
    blank = blank_answer(model)
    prior = field_scores([blank] * len(pages.documents), [document.target for document in pages.documents])
    result: dict[str, Any] = {
        "n": len(pages.documents),
        "metrics": metrics,
        "blank_page": {"answer": blank, "field_f1": float(prior.f1), "per_field": prior.per_field},
        "params": {"total": count_parameters(model.network).total},
        "bytes": (out / WEIGHTS).stat().st_size,
        "training": {stage: looks(run / stage) for stage in STAGES},
        "settings": {stage: settings(run / stage) for stage in STAGES},
        "cuts": {stage: {keep: cut(run / stage / "model", keep, unseen) for keep in CUTS} for stage in STAGES},
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    (Path(__file__).parent / "results.json").write_text(text, encoding="utf-8")
    (out / "README.md").write_text(card(result), encoding="utf-8")
    print(f"field F1 {metrics['field_f1']:.4f}, of a blank page {prior.f1:.4f}, {result['bytes'] / 1e6:.1f} MB")


def cut(source: Path, keep: int, unseen: Path) -> float:
    """Field F1 of a model that has lost all but ``keep`` decoder layers, evenly spaced, and learnt nothing since."""
    with tempfile.TemporaryDirectory() as scratch:
        docstill.prune(source, Path(scratch) / "cut", method="depth", of="decoder", keep=keep)
        f1: float = docstill.evaluate(Path(scratch) / "cut" / "model", unseen, limit=CUT_LABELS)["metrics"]["field_f1"]
    return f1


def looks(stage: Path) -> list[dict[str, Any]]:
    """What was seen of a stage each time it looked at the validation labels."""
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = ("step", "labels", "validation")
    return [{key: line[key] for key in keys} for line in lines if "validation" in line]


def settings(stage: Path) -> dict[str, Any]:
    """What a stage was trained with."""
    trained: dict[str, Any] = yaml.safe_load((stage / "stage.yaml").read_text(encoding="utf-8"))["train"]
    return trained


def halve(source: Path, out: Path) -> None:
    """Copies a model folder, its weights in half precision; LayerDrop was for its own training, not for its students'."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(source, out)
    weights = {name: tensor.half().contiguous() for name, tensor in load_file(source / WEIGHTS).items()}
    save_file(weights, out / WEIGHTS, {"format": "pt"})
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config |= {"dtype": "float16", "decoder": config["decoder"] | {"decoder_layerdrop": 0.0}}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def blank_answer(model: DocumentModel) -> Any:
    """What the model writes on a white page, which `predict` would not have shown it."""
    height, width = canvas_size(model.processor.image_processor)
    white = page_to_pixels(Image.new("RGB", (width, height), "white"), model.processor.image_processor, None)
    with torch.inference_mode():
        room = model.network.config.decoder.max_position_embeddings
        rows, likely = generate(model, room, pixels=torch.from_numpy(white)[None])
    return reading(model.processor.tokenizer, rows[0, 1:].tolist(), likely[0].tolist()).fields


def card(result: dict[str, Any]) -> str:
    """The model card."""
    metrics, blank = result["metrics"], result["blank_page"]
    fields = "\n".join(
        f"| {name} | {scores['f1']:.3f} | {blank['per_field'].get(name, {'f1': 0.0})['f1']:.3f} |"
        for name, scores in metrics["per_field"].items()
    )
    hardware = result["hardware"]
    return f"""# A small Donut that reads labels of small packets

Made from scratch by docstill, for its demo and its tests: `bash benchmarks/teacher/run.sh` is the whole recipe. It reads what
`docstill synth small-labels` draws and nothing else; it has never seen a real label.

- **In**: a label, shown on {WIDTH} × {HEIGHT} pixels. **Out**: JSON with `service`, `tracking_code` and `recipient`.
- **Size**: {result["params"]["total"]:,} parameters, {result["bytes"] / 1e6:.1f} MB in half precision.
- **Data**: generated labels alone, names and addresses by Faker; nobody is real.
- **Made to be cut**: in the last part of its training the decoder ran with two to six of its layers, so that it bears to lose
  them. A model that was not trained so loses much more.
- **Licence**: MIT, as docstill.

On {result["n"]} labels of another seed: field F1 {metrics["field_f1"]:.3f}, TED accuracy {metrics["ted_accuracy"]:.3f}, reading
(1 − normalised edit distance) {metrics["reading"]:.3f}. A model that sees a blank page scores {blank["field_f1"]:.3f}.

| field | F1 | of a blank page |
|---|---|---|
{fields}

Measured on {hardware["cpu"]}, {hardware["cores"]} cores, {hardware["gpu"] or "no GPU"}; torch {hardware["torch"]}, transformers
{hardware["transformers"]}.
"""


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("give the run, the folder of unseen labels, and where the model goes")
    main(*map(Path, sys.argv[1:]))
