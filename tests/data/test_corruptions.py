"""Corruptions: repeatable, of the page's size and mode, worse with each severity, and the same on small and large scans."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from docstill.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from docstill.errors import UserError


def page(mode: str = "L", size: tuple[int, int] = (380, 500)) -> Image.Image:
    """Lines of words on white paper."""
    image = Image.new("L", size, 250)
    draw = ImageDraw.Draw(image)
    unit = max(1, size[1] // 50)
    source = random.Random(0)
    for line in range(4, 46, 2):
        x = 4 * unit
        while x < size[0] - 8 * unit:
            length = source.randint(2, 6) * unit
            draw.rectangle((x, line * unit, x + length, line * unit + unit // 2), fill=20)
            x += length + unit
    return image.convert(mode)


def change(one: Image.Image, other: Image.Image) -> float:
    small = [
        np.asarray(image.convert("L").resize((190, 250), Image.Resampling.BOX), dtype=float) for image in (one, other)
    ]
    return float(np.abs(small[0] - small[1]).mean())


def mean_change(kind: str, severity: int, image: Image.Image) -> float:
    return float(np.mean([change(image, corrupt(image, kind, severity, random.Random(seed))) for seed in range(8)]))


@pytest.mark.parametrize("kind", [kind for kind in CORRUPTIONS if kind != "skew"])
def test_each_severity_is_worse(kind: str) -> None:
    changes = [mean_change(kind, severity, page()) for severity in SEVERITIES]
    assert changes == sorted(changes)
    assert changes[0] > 0.05
    assert changes[-1] > 1.5 * changes[0]


def test_each_skew_turns_the_page_further() -> None:
    """Turned text differs from straight text as much at any angle; a mark at the edge moves further."""
    image = Image.new("L", (400, 400), "white")
    image.paste(0, (360, 190, 380, 210))
    moved = []
    for severity in SEVERITIES:
        dark = np.argwhere(np.asarray(corrupt(image, "skew", severity, random.Random(0))) < 128)
        moved.append(abs(dark[:, 0].mean() - 199.5))
    assert moved == sorted(moved)
    assert moved[0] > 3


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_repeatable_and_of_the_same_size_and_mode(kind: str, mode: str) -> None:
    image = page(mode)
    before = image.tobytes()
    views = [corrupt(image, kind, 3, random.Random(5)) for _ in range(2)]
    assert views[0].tobytes() == views[1].tobytes()
    assert (views[0].size, views[0].mode) == (image.size, image.mode)
    assert image.tobytes() == before


@given(
    st.sampled_from(list(CORRUPTIONS)),
    st.sampled_from(SEVERITIES),
    st.integers(1, 90),
    st.integers(1, 90),
    st.booleans(),
)
@settings(deadline=None, max_examples=50)
def test_any_size_survives(kind: str, severity: int, width: int, height: int, colour: bool) -> None:
    image = Image.new("RGB" if colour else "L", (width, height), "white")
    assert corrupt(image, kind, severity, random.Random(0)).size == (width, height)


@pytest.mark.parametrize("kind", [kind for kind in CORRUPTIONS if kind not in {"jpeg", "low-resolution"}])
def test_a_large_scan_suffers_like_a_small_one(kind: str) -> None:
    """Both seen at one size afterwards. JPEG and resolution bite a little harder on the small one, as they do in life."""
    small, large = (mean_change(kind, 4, page(size=size)) for size in ((760, 1000), (1520, 2000)))
    assert large == pytest.approx(small, rel=0.35)


def test_unknown_kinds_and_severities_are_refused() -> None:
    with pytest.raises(UserError, match="there is no corruption 'rain'; choose among blur"):
        corrupt(page(), "rain", 1, random.Random(0))
    with pytest.raises(UserError, match="from 1 to 5, 6 given"):
        corrupt(page(), "blur", 6, random.Random(0))
