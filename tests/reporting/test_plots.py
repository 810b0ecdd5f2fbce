"""Plots: ticks, labels that stay apart, broken lines, hostile names."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.reporting.markup import escape
from docstill.reporting.plots import Box, Line, Point, curves, log_ticks, place_labels, smooth, ticks, trade_off

ROLES = st.sampled_from(["teacher", "student", "control"])
POINTS = st.builds(
    Point,
    st.floats(0.001, 1e6),
    st.floats(0, 1),
    st.none() | st.floats(0, 0.3),
    st.text(max_size=60),
    ROLES,
)


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 20) == [0, 5, 10, 15, 20]
    assert ticks(91.3, 95.4) == [92, 93, 94, 95]
    assert ticks(1, 1) == [1]
    assert log_ticks(0.9, 120) == [1, 2, 5, 10, 20, 50, 100]
    assert log_ticks(500, 3200) == [500, 700, 1000, 1500, 2000, 3000]
    assert len(log_ticks(101, 107)) >= 2
    assert log_ticks(0.01, 100000) == [0.01, 0.1, 1, 10, 100, 1000, 10000, 100000]


def test_labels_of_crowded_points_stay_apart_and_visible() -> None:
    wanted = [(300 + 3 * (i % 3), 180 + 2 * i, f"a model, number {i}") for i in range(8)]
    taken = [Box(x - 8, y - 8, x + 8, y + 8) for x, y, _ in wanted]
    inside = Box(56, 14, 742, 336)
    placed = place_labels(wanted, taken, inside)
    for index, box in enumerate(placed):
        assert (box.left, box.top) >= (inside.left, inside.top)
        assert box.right <= inside.right
        assert box.bottom <= inside.bottom
        assert all(box.overlap(other) == 0 for other in (*placed[:index], *taken))


@settings(deadline=None, max_examples=50)
@given(st.lists(POINTS, max_size=6))
def test_any_points_make_a_drawing_inside_its_frame(points: list[Point]) -> None:
    svg = trade_off(points, "x", "y")
    assert bool(svg) == bool(points)
    if svg:
        root = ElementTree.fromstring(svg)
        for circle in root.iter("circle"):
            assert 56 <= float(circle.get("cx", "nan")) <= 742
            assert 14 <= float(circle.get("cy", "nan")) <= 336
        assert len([text for text in root.iter("text") if text.get("class") == "name"]) == len(points)


def test_points_that_cannot_be_drawn_are_left_out() -> None:
    assert (
        trade_off([Point(math.nan, 0.5, None, "a", "student"), Point(0.0, 0.5, None, "b", "student")], "x", "y") == ""
    )
    svg = trade_off([Point(5.0, 0.5, None, "a", "student"), Point(5.0, math.nan, None, "b", "teacher")], "x", "y")
    assert ">a, 50.0 %<" in svg
    assert ">b," not in svg


def test_names_are_escaped() -> None:
    svg = trade_off([Point(5.0, 0.5, 0.1, "<script>", "student")], "<x>", '"y"')
    line = curves([Line("<b>", "student", [(0, 1), (1, 2)])], "x", "y")
    for drawing in (svg, line):
        ElementTree.fromstring(drawing)
        assert "<script>" not in drawing
        assert "<b>" not in drawing


def test_a_point_that_is_not_finite_breaks_the_line() -> None:
    svg = curves([Line("a", "student", [(0, 1), (1, 2), (2, math.nan), (3, 1), (4, 2)])], "epoch", "loss")
    (path,) = re.findall(r'<path class="curve student" d="([^"]+)"', svg)
    assert path.count("M") == 2
    assert "nan" not in svg


def test_single_points_are_seen_and_no_points_draw_nothing() -> None:
    assert "<circle" in curves([Line("a", "student", [(1, 0.5)])], "epoch", "accuracy", percent=True)
    assert curves([Line("a", "student", []), Line("b", "teacher", [(0, math.nan)])], "epoch", "loss") == ""


def test_smoothing_keeps_the_mean_and_the_ends() -> None:
    points = [(float(i), float(i)) for i in range(1000)]
    short = smooth(points)
    assert len(short) == 150
    assert short[-1][0] == 999
    assert abs(sum(y for _, y in short) / 150 - 499.5) < 1
    assert smooth(points[:7]) == points[:7]
    assert smooth([]) == []


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=20))
def test_any_name_is_xml_and_a_proper_one_is_kept(name: str) -> None:
    read = ElementTree.fromstring(f"<a b='{escape(name)}'>{escape(name)}</a>").text or ""
    assert len(read) == len(name.replace("\r\n", "\n"))
    if name.isprintable():
        assert read == name


def test_every_character_xml_refuses_is_replaced() -> None:
    refused = "\x00\x08\x0b\x1f\ud800\udfff\ufffe\uffff"
    assert escape(refused) == "\ufffd" * len(refused)
