"""Average precision: what pycocotools counts, to 1e-6, whatever the boxes; edge cases by hand."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from pycocotools.coco import COCO

import docstill
from boxes_made import LABELS, annotations, boxes_anywhere, drawn
from docstill.errors import MissingExtra
from docstill.metrics.detection import Detection, Truth, detection_metrics
from published_boxes import counted, of_files


def published(truths: list[Truth], detections: list[Detection], labels: list[str], pages: int, most: int) -> Any:
    """The figures of pycocotools; None for its -1."""
    head = {"images": [{"id": n} for n in range(pages)], "categories": [{"id": n} for n in range(len(labels))]}
    there, seen = COCO(), COCO()
    there.dataset = {**head, "annotations": annotations(truths)}
    seen.dataset = {
        **head,
        "annotations": [
            {"id": n, "image_id": d.page, "category_id": d.label, "bbox": list(d.box), "area": d.box[2] * d.box[3]}
            | {"score": d.score, "iscrowd": 0}
            for n, d in enumerate(detections, 1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        there.createIndex()
        seen.createIndex()
    return counted(there, seen, labels, most)


def agree(truths: list[Truth], detections: list[Detection], pages: int, labels: list[str] = LABELS) -> dict[str, Any]:
    """Asserts that both count the same; returns what was counted."""
    ours = detection_metrics(truths, detections, labels, pages)
    same(ours, *(published(truths, detections, labels, pages, most) for most in (100, 300)))
    for name in labels:
        assert ours["per_class"][name]["count"] == sum(labels[t.label] == name and not t.crowd for t in truths)
    json.dumps(ours, allow_nan=False)
    return ours


def same(ours: dict[str, Any], at_100: dict[str, Any], at_300: dict[str, Any]) -> None:
    """Asserts that figures are those of pycocotools."""
    for name, value in at_100.pop("per_class").items():
        assert ours["per_class"][name]["ap"] == pytest.approx(value["ap"], abs=1e-6)
        assert ours["per_class"][name]["ap50"] == pytest.approx(value["ap50"], abs=1e-6)
    for name, figure in at_100.items():
        assert ours[name] == pytest.approx(figure, abs=1e-6), name
    assert ours["ap_300"] == pytest.approx(at_300["ap"], abs=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_it_counts_what_pycocotools_counts(seed: int) -> None:
    found = agree(*drawn(seed, 12, 10), pages=14)
    assert 0.1 < found["ap"] < 0.9
    assert all(found[name] is not None for name in ("ap_small", "ap_medium", "ap_large"))


NUMBERS = (0, 1, 2, 3, 7, 10, 90, 99, 1000, 2**31, 2**40 + 1, 10**15)


def files(folder: Path, seed: int) -> tuple[Path, Path]:
    """Results and annotations: numbers of pages and classes in any order and with gaps, most detections as sure as others."""
    rng = random.Random(seed)
    pages, labels = rng.sample(NUMBERS, 6), rng.sample(NUMBERS, 3)
    truths, detections = drawn(seed, len(pages) - 1, 4)
    there = [
        {**entry, "image_id": pages[entry["image_id"]], "category_id": labels[entry["category_id"]]}
        for entry in annotations(rng.sample(truths, len(truths)))
    ]
    results = [
        {"image_id": pages[d.page], "category_id": labels[d.label], "bbox": list(d.box), "score": round(d.score / 3, 1)}
        for d in detections
    ]
    # a page without regions, on which something is seen all the same
    results += [{"image_id": pages[-1], "category_id": n, "bbox": [9, 9, 90, 60], "score": 0.2} for n in labels]
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 800, "height": 900} for n in pages],
        "categories": [{"id": n, "name": f"class {n}"} for n in labels],
        "annotations": there,
    }
    paths = folder / "results.json", folder / "annotations.json"
    for path, value in zip(paths, (results, content), strict=True):
        path.write_text(json.dumps(value), encoding="utf-8")
    return paths


@settings(max_examples=20, deadline=None)
@given(some.integers(0, 10**6))
def test_whatever_the_numbers_and_however_many_are_equally_sure(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Through files: the evaluator takes pages by their numbers, and of detections that are equally sure the first page's."""
    results, annotations = files(tmp_path_factory.mktemp("files"), seed)
    ours = docstill.score("layout", results, annotations)["metrics"]
    same(ours, *(of_files(results, annotations, most) for most in (100, 300)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(*boxes_anywhere)
def test_whatever_the_boxes(truths: list[Truth], detections: list[Detection]) -> None:
    agree(truths, detections, pages=4)


def test_a_page_of_more_than_100_boxes() -> None:
    """A table with its cells: only the surest 100 count at COCO's limit."""
    truths = [Truth(0, 0, (20.0 * (n % 20), 20.0 * (n // 20), 18.0, 18.0), 324.0) for n in range(200)]
    detections = [Detection(0, 0, truth.box, 1 - place / 1000) for place, truth in enumerate(truths)]
    found = agree(truths, detections, pages=1, labels=["cell"])
    assert found["ap"] == pytest.approx(51 / 101)  # recalls 0, 0.01 … 0.5
    assert found["ap_300"] == pytest.approx(1.0)


def test_no_predictions_no_truths_and_neither() -> None:
    truths, detections = drawn(0, 3, 5)
    missed = agree(truths, [], pages=3)
    assert missed["ap"] == missed["ap_300"] == missed["ar"] == 0.0
    for seen in (detections, []):
        nothing = agree([], seen, pages=3)
        assert nothing["ap"] is nothing["ap_small"] is nothing["ar"] is None
        assert nothing["per_class"] == {name: {"ap": None, "ap50": None, "count": 0} for name in LABELS}


def test_only_crowds_are_no_regions_to_be_found() -> None:
    box = (0.0, 0.0, 50.0, 50.0)
    found = agree([Truth(0, 0, box, 2500.0, True)], [Detection(0, 0, box, 0.9)], pages=1)
    assert found["ap"] is None
    assert found["per_class"]["text"]["count"] == 0


def test_all_right_is_1_and_a_class_without_regions_does_not_count() -> None:
    truths = [truth for truth in drawn(1, 5, 5, crowd=0)[0] if truth.label != 2]
    found = agree(truths, [Detection(*truth[:3], 0.5) for truth in truths], pages=5)
    assert found["ap"] == found["ap50"] == found["ap75"] == pytest.approx(1.0)
    assert found["per_class"]["figure"] == {"ap": None, "ap50": None, "count": 0}


def test_boxes_that_are_a_little_off_are_found_at_50_and_not_at_75() -> None:
    truths = [Truth(0, 0, (0.0, 0.0, 100.0, 100.0), 1e4)]
    found = agree(truths, [Detection(0, 0, (0.0, 0.0, 100.0, 62.0), 1.0)], pages=1)
    assert (found["ap50"], found["ap75"]) == (pytest.approx(1.0), 0.0)
    assert found["ap"] == pytest.approx(3 / 10)  # thresholds 0.50, 0.55, 0.60


def test_the_order_of_files_does_not_matter() -> None:
    truths, detections = drawn(3, 6, 8)
    sure = [d._replace(score=d.score + n * 1e-6) for n, d in enumerate(detections)]  # without ties
    backwards = detection_metrics(truths[::-1], sure[::-1], LABELS, 6)
    assert backwards["ap"] == pytest.approx(detection_metrics(truths, sure, LABELS, 6)["ap"])


def test_without_the_extra_one_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtra, match=r'pip install "docstill\[layout\]"'):
        detection_metrics(*drawn(0, 1, 5), LABELS, 1)
