"""From the tokens that a model wrote to fields, and how sure it was of each.

The confidence of a value is the probability of writing just this value here: the product over its opening tag, its tokens
and the token that ends it. A value is right only if it is right to the letter, and that is the event whose probability this
is; a mean over tokens would forgive one wrong digit among many safe ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from docstill.data.json_tokens import SEPARATOR, from_categories, tokens_to_json
from docstill.models.donut_tokens import categories, decode, tags_in

_MARKER = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True)
class Reading:
    """What was read from a page.

    Attributes:
        text: as the model wrote it.
        fields: the JSON of it.
        confidence: of the shape of ``fields``, a probability for each value.
        whole: the probability of the whole answer, fields that are not there included.
        blank: there is no writing on the page, and the model was not asked.
    """

    text: str
    fields: Any
    confidence: Any
    whole: float
    blank: bool = False


def nothing() -> Reading:
    """What is read from a blank page."""
    return Reading("", {}, {}, 0.0, blank=True)


def reading(tokenizer: Any, ids: Sequence[int], log_probabilities: Sequence[float]) -> Reading:
    """Reads one answer.

    Args:
        tokenizer: of the model that wrote it.
        ids: the tokens after the start token; what follows the first ``</s>`` is left aside.
        log_probabilities: natural logarithm of the probability of each.
    """
    length = next((place for place, token in enumerate(ids) if token == tokenizer.eos_token_id), len(ids))
    text = decode(tokenizer, ids[:length])
    # A network may have more ids than its tokenizer has tokens; such an id writes nothing.
    pieces = [piece or "" for piece in tokenizer.convert_ids_to_tokens(list(ids[:length]))]
    marked, values = _marked(pieces, log_probabilities)
    fields = from_categories(parse(text), categories(tokenizer))
    return Reading(text, fields, _like(fields, parse(marked), values), math.exp(sum(log_probabilities[: length + 1])))


def parse(text: str) -> Any:
    """The JSON of a text of tags; a model may write anything, and nothing is an answer without fields."""
    if not text.strip():
        return {}
    try:
        return tokens_to_json(text)
    except (RecursionError, ValueError):
        return {"text_sequence": text}


def _marked(pieces: Sequence[str], log_probabilities: Sequence[float]) -> tuple[str, list[float]]:
    """The answer with a marker in place of each value, and what the markers stand for.

    A token of several tags counts for the value that it ends and for the one that begins behind it. Parsed like the answer itself, it
    puts each value's confidence where the value is.
    """
    text, values = "", list[set[int]]()
    begun, fresh = set[int](), False  # place of the tag just opened; whether a value may begin, if an empty one
    inside = False
    for place, piece in enumerate(pieces):
        if not piece and not inside:
            continue
        for part in tags_in(piece) or (piece,):
            tag, ends = bool(tags_in(part)), part == SEPARATOR or part.startswith("</")
            if not inside and (not tag or (fresh and ends)):
                text += f"\ue000{len(values)}\ue001"
                values.append(begun)
                inside = True
            if inside:
                values[-1].add(place)
            if tag:
                text, inside, begun = text + part, False, set() if ends else {place}
                fresh = not ends or part == SEPARATOR
    if inside:
        values[-1].add(len(pieces))
    likely = dict(enumerate(log_probabilities))
    return text, [math.exp(sum(likely.get(place, 0.0) for place in sorted(value))) for value in values]


def _like(fields: Any, marked: Any, values: Sequence[float]) -> Any:
    """The confidences behind the markers, in the shape of ``fields``; 0 where an answer is too broken to tell."""
    if isinstance(fields, dict):
        return {
            key: _like(value, marked.get(key) if isinstance(marked, dict) else None, values)
            for key, value in fields.items()
        }
    if isinstance(fields, list):
        others = marked if isinstance(marked, list) and len(marked) == len(fields) else [None] * len(fields)
        return [_like(value, other, values) for value, other in zip(fields, others, strict=True)]
    found = _MARKER.findall(marked) if isinstance(marked, str) else []
    return math.prod(values[int(index)] for index in found) if found else 0.0
