from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk import edit_distance

from docstill.metrics.reading import normalised_edit_distance, reading_similarity, without_gaps


@pytest.mark.parametrize(
    ("prediction", "truth", "distance"),
    [
        ("", "", 0),
        ("a", "", 1),
        ("", "ab", 1),
        ("tea", "tea", 0),
        ("tea", "team", 1 / 4),
        ("ab", "ba", 1),
        ("é€", "é$", 1 / 2),
        ("teas", "t", 3 / 4),
    ],
)
def test_distance_is_over_the_longer_text(prediction: str, truth: str, distance: float) -> None:
    assert normalised_edit_distance(prediction, truth) == distance
    assert reading_similarity(prediction, truth) == 1 - distance


@settings(deadline=None, max_examples=50)
@given(st.text("abc ", max_size=12), st.text("abc ", min_size=1, max_size=12))
def test_distance_counts_single_characters(prediction: str, truth: str) -> None:
    wanted = edit_distance(prediction, truth) / max(len(prediction), len(truth))
    assert normalised_edit_distance(prediction, truth) == pytest.approx(wanted)


def test_spaces_beside_tags_are_the_tokenizers() -> None:
    read = "<s_total> 9.00</s_total><s_shop> Ash Birch </s_shop> <s_a>x"
    assert without_gaps(read) == "<s_total>9.00</s_total><s_shop>Ash Birch</s_shop><s_a>x"
