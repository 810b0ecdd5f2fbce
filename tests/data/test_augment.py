"""Augmentation: the same for the same chance, nothing at strength 0, a page of the same size and mode."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

import tiny
from docstill.data.augment import augment_page


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_deterministic_and_of_the_same_form(mode: str) -> None:
    page = tiny.page("bars", 0).convert(mode)
    views = [augment_page(page, random.Random(seed), 1.0) for seed in (0, 0, 1)]
    assert all(view.size == page.size and view.mode == mode for view in views)
    assert views[0].tobytes() == views[1].tobytes()
    assert views[0].tobytes() != views[2].tobytes()


def test_strength_zero_changes_nothing() -> None:
    page = tiny.page("grid", 1)
    assert augment_page(page, random.Random(0), 0.0) is page


def test_the_page_it_was_given_is_left_alone() -> None:
    page = tiny.page("dots", 1)
    before = page.tobytes()
    for seed in range(20):
        augment_page(page, random.Random(seed), 2.0)
    assert page.tobytes() == before


def test_what_comes_into_view_has_the_colour_of_the_edge() -> None:
    page = Image.new("L", (60, 60), 200)
    corners = [np.asarray(augment_page(page, random.Random(seed), 0.1))[0, 0] for seed in range(20)]
    assert min(corners) > 140
