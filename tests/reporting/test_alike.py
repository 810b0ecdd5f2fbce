"""The report's similarity section: figures over seeds, and the heatmap as SVG."""

from __future__ import annotations

import re
from typing import Any

import pytest

from docstill.reporting.alike import alike_view, heatmap, over_seeds


@pytest.mark.parametrize(
    ("values", "text"),
    [([0.5], "0.500"), ([0.4, 0.6], "0.500 ± 0.141"), ([0.4, None], "–"), ([], "–"), ([float("nan")], "–")],
)
def test_over_seeds(values: list[Any], text: str) -> None:
    assert over_seeds(values) == text


def test_the_map_has_a_cell_a_pair_with_its_figure() -> None:
    svg = heatmap([[1.0, 0.25], [None, -0.01], [0.996, 0.6]], ["a", "b", "c"], ["d", "e"], "student", {(0, 0)})
    assert re.findall(r'fill-opacity="([^"]*)"', svg) == ["1.000", "0.250", "0.000", "0.000", "0.996", "0.600"]
    assert re.findall(r'<text class="middle (\w+)"[^>]*>([^<]*)<', svg) == [
        ("on", "1"), ("off", ".25"), ("off", "–"), ("off", ".00"), ("on", ".99"), ("on", ".60"),
    ]  # fmt: skip
    assert svg.count('class="frame on"') == 1
    width, height = map(int, re.findall(r' width="(\d+)" height="(\d+)" role', svg)[0])
    boxes = re.findall(r'class="cell" x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', svg)
    assert len(boxes) == 6
    assert all(int(x) + int(w) <= width and int(y) + int(h) <= height for x, y, w, h in boxes)


def test_names_are_escaped() -> None:
    svg = heatmap([[0.5]], ["<b>"], ["&"], '"x"')
    assert "<b>" not in svg
    assert "&lt;b&gt;" in svg
    assert '""' not in svg


def test_rows_of_a_run() -> None:
    layers = {
        "matrix": [[0.5]], "teacher_names": ["encoder 1"], "student_names": ["encoder 1"],
        "matched": [{"teacher": 0, "student": 0, "cka": 0.5}],
    }  # fmt: skip
    row = {
        "name": "student", "n": 256, "seeds": [3, 4], "tokens": "pooled", "global": [0.8, 0.9], "chance": [0.0, 0.01],
        "biased_global": [None, None], "biased_chance": [None, None], "parts": {"encoder": [0.7, 0.7]},
        "same_answers": [0.5, 1.0], "layers": layers,
    }  # fmt: skip
    [view] = alike_view([row])
    assert view["figures"] == ["0.850 ± 0.071", "0.005 ± 0.007", "–", "–"]
    assert view["parts"] == {"encoder": "0.700 ± 0.000"}
    assert view["same"] == "75.0 ± 35.4"
    assert view["seed"] == 3
    assert 'class="frame' in view["map"]
