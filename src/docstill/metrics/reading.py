"""Reading: how far a text is from the right one, in characters."""

from __future__ import annotations

import re

from rapidfuzz.distance import Levenshtein

_GAP = re.compile(r"(?<=>) +| +(?=<)")


def without_gaps(text: str) -> str:
    """A text of tags without the spaces beside them, which a SentencePiece tokenizer puts behind each and no value begins or ends with."""
    return _GAP.sub("", text)


def normalised_edit_distance(prediction: str, truth: str) -> float:
    """Edit distance over the longer length, in [0, 1]; 0 for two empty texts (Donut's validation metric, "N-TED")."""
    longest = max(len(prediction), len(truth))
    return Levenshtein.distance(prediction, truth) / longest if longest else 0.0


def reading_similarity(prediction: str, truth: str) -> float:
    """1 − `normalised_edit_distance`."""
    return 1.0 - normalised_edit_distance(prediction, truth)
