"""A model is shown a page in use as it was shown one when it learnt, if it learnt here; else as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import docstill
import kie_tiny
import tiny
from docstill.batches import page_set
from docstill.data.images import open_image
from docstill.models.io import DocumentModel
from docstill.settings import NewModel, TrainStage
from docstill.tasks import task_named
from docstill.tasks.base import BROUGHT_TO
from layout_tiny import TINY_RCNN, coco_folder

ENLARGED = 6
"""Times; a page is then far larger than the network's input, as scans are."""


def enlarged(root: Path) -> None:
    for file in root.rglob("*.png"):
        image = Image.open(file).convert("RGB")
        image.resize((image.width * ENLARGED, image.height * ENLARGED), Image.Resampling.LANCZOS).save(file)


def classes(root: Path) -> tuple[Path, Any]:
    data = tiny.class_folders(root / "data")
    enlarged(data)
    return data, NewModel.model_validate(tiny.TINY_VIT)


def regions(root: Path) -> tuple[Path, Any]:
    data = coco_folder(root / "data", train=3, validation=2)
    enlarged(data)
    for file in data.glob("*.json"):
        known = json.loads(file.read_text(encoding="utf-8"))
        for image in known["images"]:
            image["width"], image["height"] = image["width"] * ENLARGED, image["height"] * ENLARGED
        for region in known["annotations"]:
            region["bbox"] = [side * ENLARGED for side in region["bbox"]]
        file.write_text(json.dumps(known), encoding="utf-8")
    return data, NewModel.model_validate(TINY_RCNN)


def fields(root: Path) -> tuple[Path, Any]:
    for split in ("train", "validation"):
        folder = root / "data" / split
        folder.mkdir(parents=True)
        with open(folder / "metadata.jsonl", "w", encoding="utf-8") as lines:
            for index, answer in enumerate(kie_tiny.ANSWERS):
                kie_tiny.page(answer, (1100, 1300)).save(folder / f"{index}.png")
                truth = json.dumps({"gt_parse": answer})
                lines.write(json.dumps({"file_name": f"{index}.png", "ground_truth": truth}) + "\n")
    return root / "data", str(kie_tiny.tiny_donut().save(root / "donut"))


@pytest.mark.parametrize(
    ("task_name", "made"),
    [("classification", classes), ("layout", regions), ("kie", fields)],
    ids=lambda value: str(value)[:9],
)
def test_a_scan_reaches_the_network_as_in_training(
    task_name: str, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    data, begin = made(tmp_path)
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 3, "precision": "fp32"}
    done = docstill.train(task_name, begin, data, tmp_path / "out", **settings)
    task, model = task_named(task_name), docstill.load(done["model"]).model
    pages = task.read(data / "train")
    examples = page_set(task, pages, model, None, TrainStage(**settings), seed=0)
    learnt = examples[0]["student"]["pixel_values"]
    if task_name == "kie":  # in training a page lies anywhere on the canvas
        learnt = task.example(model, pages.documents[0], examples.cache.get(pages, 0), [], None)["pixel_values"]
    page = open_image(pages.documents[0].file)
    assert torch.equal(shown(model, page, monkeypatch), learnt)
    del model.card[BROUGHT_TO]
    assert not torch.equal(shown(model, page, monkeypatch), learnt)


def shown(model: DocumentModel, page: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the network's first layer gets of a page in use."""
    seen: list[Tensor] = []
    whole = torch.nn.Conv2d.forward

    def noted(self: torch.nn.Conv2d, given: Tensor) -> Tensor:
        seen.append(given)
        return whole(self, given)

    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.Conv2d, "forward", noted)
        task_named(model.task).predict(model, [page])
    return seen[0][0]
