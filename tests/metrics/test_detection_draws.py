"""Average precision over drawn pages: that of the evaluator on as many copies of them; intervals and differences of detectors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

import docstill
from boxes_made import LABELS, annotations, boxes_anywhere, drawn
from docstill.errors import UserError
from docstill.metrics.detection import Detection, Truth, detection_metrics
from docstill.metrics.detection_draws import figures_over_pages

PAGES = 7


def copied(
    truths: list[Truth], detections: list[Detection], chosen: list[int]
) -> tuple[list[Truth], list[Detection], int]:
    """The same as if each page that was chosen were one of its own."""
    pairs = list(enumerate(chosen))
    return (
        [truth._replace(page=new) for new, page in pairs for truth in truths if truth.page == page],
        [detection._replace(page=new) for new, page in pairs for detection in detections if detection.page == page],
        len(pairs),
    )


def agree(truths: list[Truth], detections: list[Detection], pages: int, chosen: list[int]) -> None:
    """Asserts that the figures over pages are the evaluator's of their copies."""
    found = figures_over_pages(truths, detections, len(LABELS), pages)(np.array(chosen))
    there, seen, count = copied(truths, detections, chosen)
    expected = detection_metrics(there, seen, LABELS, count)
    for name in ("ap", "ap50", "ap75"):
        assert found[name] == pytest.approx(expected[name] or 0.0, abs=1e-9), name


@settings(max_examples=30, deadline=None)
@given(some.integers(0, 10**6), some.lists(some.integers(0, PAGES - 1), min_size=1, max_size=12))
def test_a_draw_is_scored_as_copies_of_its_pages(seed: int, chosen: list[int]) -> None:
    truths, detections = drawn(seed, PAGES - 1, 5, crowd=0.15)  # the last page is empty
    truths.append(Truth(0, 0, (0.0, 0.0, 50.0, 50.0), 2500.0))
    # Copies of a page are equally sure of their boxes, and the evaluator takes these page by page: not so if pages tie with others.
    apart = [detection._replace(score=float(place)) for place, detection in enumerate(detections)]
    agree(truths, apart, PAGES, chosen)


@settings(max_examples=40, deadline=None)
@given(*boxes_anywhere)
def test_all_pages_once_are_the_metrics_whatever_the_boxes(truths: list[Truth], detections: list[Detection]) -> None:
    truths = [*truths, Truth(3, 1, (5.0, 5.0, 20.0, 20.0), 400.0)]
    agree(truths, detections, 4, list(range(4)))


def test_more_than_100_boxes_on_a_page() -> None:
    truths = [Truth(0, 0, (20.0 * (n % 20), 20.0 * (n // 20), 18.0, 18.0), 324.0) for n in range(200)]
    agree(truths, [Detection(0, 0, truth.box, 1 - place / 1000) for place, truth in enumerate(truths)], 1, [0, 0])


def test_a_draw_without_regions_finds_nothing() -> None:
    truth = Truth(0, 0, (0.0, 0.0, 9.0, 9.0), 81.0)
    figures = figures_over_pages([truth], [Detection(0, 0, truth.box, 0.5)], len(LABELS), 2)
    assert figures(np.array([0, 1]))["ap"] == pytest.approx(1.0)
    assert figures(np.array([1, 1])) == {"ap": 0.0, "ap50": 0.0, "ap75": 0.0}


def test_pages_without_regions_have_no_intervals() -> None:
    with pytest.raises(UserError, match="no page has a region"):
        figures_over_pages([Truth(0, 0, (0.0, 0.0, 9.0, 9.0), 81.0, True)], [], len(LABELS), 1)


def test_intervals_and_the_difference_of_two_detectors(tmp_path: Path) -> None:
    truths, detections = drawn(3, 30, 4)
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 800, "height": 900} for n in range(30)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(LABELS)],
        "annotations": annotations(truths),
    }
    names = ("image_id", "category_id", "bbox", "score")
    for name, value in (
        ("annotations", content),
        ("good", [dict(zip(names, detection, strict=True)) for detection in detections]),
        ("bad", [dict(zip(names, detection, strict=True)) for detection in detections[::2]]),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    good, bad, right = (tmp_path / f"{name}.json" for name in ("good", "bad", "annotations"))
    found = docstill.score("layout", good, right, intervals=True, against=bad)
    less = docstill.score("layout", bad, right)["metrics"]
    assert list(found) == ["n", "metrics", "intervals", "difference"]
    assert found["intervals"].keys() == found["difference"].keys() == {"ap", "ap50", "ap75"}
    for name, (low, high) in found["intervals"].items():
        assert low < found["metrics"][name] < high
        assert found["difference"][name]["value"] == pytest.approx(found["metrics"][name] - less[name], abs=1e-9)
    assert found["difference"]["ap"]["interval"][0] > 0
    itself = docstill.score("layout", good, right, against=good)["difference"]
    assert all(entry == {"value": 0.0, "interval": [0.0, 0.0]} for entry in itself.values())
