"""How long `docstill score --task layout` takes on 5,000 pages of 100 boxes each, and that it counts what pycocotools counts.

python benchmarks/coco_eval/run.py

Files are read too. On 500 of the pages pycocotools is timed beside it. Seconds of the processor stand beside those on the
clock, which depend on what else the machine does.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import docstill
from docstill.deploy.hardware import hardware

PAGES, BOXES, CLASSES, ROUNDS = 5000, 100, 11, 2
BESIDE = 500
"""Pages on which both are timed; pycocotools would take too long on all of them."""
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def write(folder: Path, pages: int) -> tuple[Path, Path]:
    """As many regions as detections on each page: most are seen about right, some as another class, some twice or not."""
    rng = random.Random(0)
    truths: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for page in range(pages):
        regions = []
        for _ in range(BOXES):
            box = [rng.uniform(0, 900), rng.uniform(0, 1200), rng.uniform(8, 300), rng.uniform(8, 120)]
            regions.append((rng.randint(1, CLASSES), [round(side, 2) for side in box]))
        for label, box in regions:
            entry = {"id": len(truths) + 1, "image_id": page, "category_id": label, "bbox": box}
            truths.append(entry | {"area": box[2] * box[3], "iscrowd": 0})
        for label, box in rng.choices(regions, k=BOXES):
            near = [round(side + rng.gauss(0, 0.04) * box[2 + place % 2], 2) for place, side in enumerate(box)]
            seen = label if rng.random() < 0.9 else rng.randint(1, CLASSES)
            near[2:] = [abs(side) for side in near[2:]]
            results.append({"image_id": page, "category_id": seen, "bbox": near, "score": round(rng.random(), 4)})
    annotations = {
        "images": [{"id": page, "file_name": f"{page}.png", "width": 1200, "height": 1320} for page in range(pages)],
        "categories": [{"id": label, "name": f"class-{label}"} for label in range(1, CLASSES + 1)],
        "annotations": truths,
    }
    paths = (folder / f"results-{pages}.json", folder / f"annotations-{pages}.json")
    for path, value in zip(paths, (results, annotations), strict=True):
        path.write_text(json.dumps(value), encoding="utf-8")
    return paths


def ours(results: Path, annotations: Path) -> dict[str, float]:
    metrics = docstill.score("layout", results, annotations)["metrics"]
    return {name: metrics[name] for name in NAMES}


def published(results: Path, annotations: Path) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluator = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return dict(zip(NAMES, map(float, evaluator.stats[:6]), strict=True))


def timed(work: Callable[[], dict[str, float]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """What came, and the least seconds of so many rounds."""
    spent = []
    for _ in range(rounds):
        processor, wall = time.process_time(), time.perf_counter()
        found = work()
        spent.append((time.process_time() - processor, time.perf_counter() - wall))
    return found, {"processor_s": round(min(spent)[0], 2), "wall_s": round(min(wall for _, wall in spent), 2)}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files, few = write(Path(folder), PAGES), write(Path(folder), BESIDE)
        _, whole = timed(lambda: ours(*files), ROUNDS)
        found, mine = timed(lambda: ours(*few), ROUNDS)
        expected, theirs = timed(lambda: published(*few), ROUNDS)
    result = {
        "pages": PAGES,
        "boxes_a_page": BOXES,
        "classes": CLASSES,
        "rounds": ROUNDS,
        "docstill": whole,
        "beside": {"pages": BESIDE, "docstill": mine, "pycocotools": theirs},
        "figures": found,
        "largest_difference": max(abs(found[name] - expected[name]) for name in NAMES),
        "versions": {name: importlib.metadata.version(name) for name in ("faster-coco-eval", "pycocotools", "numpy")},
        "hardware": hardware(),
    }
    text = json.dumps(result, indent=1) + "\n"
    (Path(__file__).parent / "results.json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
