"""Every task learns and teaches in bf16, which is usual on a GPU; on a GPU all of it runs there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import docstill
import kie_tiny
import layout_tiny
import tiny
from docstill.models.classifier import new_classifier
from docstill.models.detector import new_detector
from docstill.run import read_metrics

pytestmark = pytest.mark.usefixtures("one_thread", "no_onednn")

CASES = {
    "classification": [{"kind": "labels"}, {"kind": "kd"}, {"kind": "hint", "student_module": "vit.layers.0"}],
    "kie": [
        {"kind": "labels"},
        {"kind": "kd"},
        {"kind": "hint", "student_module": "decoder.model.decoder.layers.0"},
    ],
    "faster-rcnn": [{"kind": "labels"}, {"kind": "roi"}, {"kind": "graphkd"}],
    "rt-detr": [{"kind": "labels"}, {"kind": "query"}],
}


def made(case: str, folder: Path) -> tuple[Path, Path]:
    """A model, and data that it knows the classes of."""
    torch.manual_seed(0)
    if case == "kie":
        for split in ("train", "validation"):
            kie_tiny.tiny_folder(folder / "data" / split)
        return kie_tiny.tiny_donut().save(folder / "model"), folder / "data"
    if case == "classification":
        data = tiny.class_folders(folder / "data")
        model = new_classifier(tiny.TINY_VIT["new"], tiny.TINY_VIT["config"], tiny.KINDS, (32, 32))
        return model.save(folder / "model"), data
    kind: dict[str, Any] = layout_tiny.TINY_RCNN if case == "faster-rcnn" else layout_tiny.TINY_DETR
    data = layout_tiny.coco_folder(folder / "data")
    height, width = kind["image_size"]
    model = new_detector(kind["new"], kind["config"], layout_tiny.KINDS, (height, width))
    return model.save(folder / "model"), data


@pytest.mark.parametrize(
    "precision",
    ["bf16", pytest.param("auto", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="is for a GPU"))],
)
@pytest.mark.parametrize("case", CASES)
def test_a_student_learns(case: str, precision: str, tmp_path: Path) -> None:
    model, data = made(case, tmp_path)
    done = docstill.distill(
        model, model, data, tmp_path / "out", objectives=CASES[case], epochs=1, batch_size=2, precision=precision
    )
    lines = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines)
    scored = docstill.evaluate(done["model"], data)
    assert next(iter(scored["metrics"].values())) == pytest.approx(
        next(iter(lines[-1]["validation"].values())), abs=1e-6
    )
    weights = docstill.load(done["model"]).model.network.state_dict().values()
    assert {weight.dtype for weight in weights if weight.is_floating_point()} == {torch.float32}
