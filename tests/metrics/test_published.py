"""Agreement with the published Donut evaluator, rebuilt here from its rules on `zss` and `nltk`."""

from __future__ import annotations

import random
import string
import time
from collections import Counter
from typing import Any, NamedTuple

import pytest
import zss
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nltk import edit_distance
from rapidfuzz.distance import Levenshtein

from docstill.metrics.fields import document_f1, field_scores
from docstill.metrics.tree import ted_accuracy


class Label(NamedTuple):
    text: str
    is_value: bool


def tidy(data: Any) -> Any:
    """The normal form: falsy things vanish, keys go by (length, name), what hangs on a key is a list."""
    if not data:
        return {}
    match data:
        case dict():
            pairs = [(key, tidy(data[key])) for key in sorted(data, key=lambda key: (len(key), key))]
            return {key: value if type(value) is list else [value] for key, value in pairs if value}
        case list():
            if {type(item) for item in data} == {dict}:
                return [item for item in map(tidy, data) if item]
            texts = [str(item).strip() for item in data if type(item) in (str, int, float)]
            return [text for text in texts if text]
    return [str(data).strip()]


def grow(name: str, data: Any) -> zss.Node:
    if type(data) is dict:
        kids = [grow(key, value) for key, value in data.items()]
    else:
        kids = [grow("<subtree>", item) if type(item) is dict else zss.Node(Label(item, True)) for item in data]
    return zss.Node(Label(name, False), kids)


def size(node: zss.Node) -> int:
    return len(node.label.text) if node.label.is_value else 1


def change(one: zss.Node, other: zss.Node) -> int:
    a, b = one.label, other.label
    if a.is_value and b.is_value:
        return int(edit_distance(a.text, b.text))
    if a.is_value or b.is_value:
        return 1 + len(a.text if a.is_value else b.text)
    return int(a.text != b.text)


def tree_distance(a: Any, b: Any) -> float:
    return float(
        zss.distance(grow("<root>", tidy(a)), grow("<root>", tidy(b)), zss.Node.get_children, size, size, change)
    )


def published_accuracy(prediction: Any, truth: Any) -> float:
    return max(0.0, 1 - tree_distance(prediction, truth) / tree_distance({}, truth))


def flat(data: Any, path: str = "") -> list[tuple[str, str]]:
    if type(data) is dict:
        return [pair for key, value in data.items() for pair in flat(value, f"{path}.{key}" if path else key)]
    if type(data) is list:
        return [pair for value in data for pair in flat(value, path)]
    return [(path, data)]


def published_f1(predictions: list[Any], truths: list[Any]) -> float:
    hits = misses = 0
    for prediction, truth in zip(predictions, truths, strict=True):
        left = flat(tidy(truth))
        for pair in flat(tidy(prediction)):
            if pair in left:
                left.remove(pair)
                hits += 1
            else:
                misses += 1
        misses += len(left)
    return hits / (hits + misses / 2)


TRUTH = {
    "menu": [{"nm": "Tea", "price": "3.00"}, {"nm": "Pie", "price": "4.00"}],
    "total": {"price": "7.00"},
}
PROBES = {
    "exact": (TRUTH, 1.0, 1.0),
    "keys in another order": (
        {"total": {"price": "7.00"}, "menu": [{"price": "3.00", "nm": "Tea"}, {"price": "4.00", "nm": "Pie"}]},
        1.0,
        1.0,
    ),
    "rows in another order": ({**TRUTH, "menu": TRUTH["menu"][::-1]}, 20 / 28, 1.0),
    "rows merged": ({**TRUTH, "menu": {"nm": ["Tea", "Pie"], "price": ["3.00", "4.00"]}}, 15 / 28, 1.0),
    "wrong grouping": ({**TRUTH, "menu": [{"nm": ["Tea", "Pie"]}, {"price": ["3.00", "4.00"]}]}, 14 / 28, 1.0),
    "one wrong character": ({**TRUTH, "total": {"price": "7.08"}}, 27 / 28, 0.8),
    "wrapped in a list": ([TRUTH], 27 / 28, 1.0),
    "missing field": ({"menu": TRUTH["menu"]}, 21 / 28, 8 / 9),
    "extra field": ({**TRUTH, "date": "today"}, 22 / 28, 10 / 11),
    "numbers as numbers": (
        {"menu": [{"nm": "Tea", "price": 3.0}, {"nm": "Pie", "price": 4.0}], "total": {"price": 7}},
        23 / 28,
        0.4,
    ),
    "unparsable": ({"text_sequence": "<s_menu><s_nm>Tea"}, 0.0, 0.0),
    "empty": ({}, 0.0, 0.0),
    "null": (None, 0.0, 0.0),
    "a string": ("Tea", 3 / 28, 0.0),
    "a list of strings": (["Tea", "Pie"], 6 / 28, 0.0),
}


@pytest.mark.parametrize("name", PROBES)
def test_probes_are_as_published(name: str) -> None:
    prediction, accuracy, f1 = PROBES[name]
    assert ted_accuracy(prediction, TRUTH) == pytest.approx(published_accuracy(prediction, TRUTH), abs=1e-9)
    assert document_f1(prediction, TRUTH) == pytest.approx(published_f1([prediction], [TRUTH]), abs=1e-9)
    assert ted_accuracy(prediction, TRUTH) == pytest.approx(accuracy, abs=1e-9)
    assert document_f1(prediction, TRUTH) == pytest.approx(f1, abs=1e-9)


# Few letters and keys, so that predictions and truths often agree in part; blanks, falsy values and mixed lists occur.
TEXTS = st.text("ab 1<", max_size=5)
SCALARS = st.none() | st.booleans() | st.integers(-20, 20) | st.floats(-9, 9).map(lambda x: round(x, 1)) | TEXTS
KEYS = st.sampled_from(["a", "b", "nm", "price", "<root>", "<subtree>", ""])
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
ROWS = st.lists(st.dictionaries(KEYS, TEXTS, max_size=3), max_size=4)
RECEIPTS = st.dictionaries(
    KEYS, ROWS | TEXTS | st.lists(TEXTS, max_size=3) | st.dictionaries(KEYS, TEXTS, max_size=3), max_size=4
)


@settings(deadline=None, max_examples=50)
@given(JSON, JSON)
def test_any_json_is_scored_as_published(prediction: Any, truth: Any) -> None:
    assume(tree_distance({}, truth) > 0)
    assert ted_accuracy(prediction, truth) == pytest.approx(published_accuracy(prediction, truth), abs=1e-6)
    assume(flat(tidy(prediction)) or flat(tidy(truth)))
    assert document_f1(prediction, truth) == pytest.approx(published_f1([prediction], [truth]), abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(RECEIPTS, RECEIPTS)
def test_receipts_are_scored_as_published(prediction: Any, truth: Any) -> None:
    assume(tree_distance({}, truth) > 0)
    assert ted_accuracy(prediction, truth) == pytest.approx(published_accuracy(prediction, truth), abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(RECEIPTS, RECEIPTS), min_size=1, max_size=5))
def test_field_f1_of_many_documents_is_micro_averaged_as_published(documents: list[tuple[Any, Any]]) -> None:
    predictions, truths = [one for one, _ in documents], [other for _, other in documents]
    assume(any(flat(tidy(value)) for value in predictions + truths))
    scores = field_scores(predictions, truths)
    assert scores.f1 == pytest.approx(published_f1(predictions, truths), abs=1e-6)
    given_, wanted = (Counter(pair for value in side for pair in flat(tidy(value))) for side in (predictions, truths))
    assert sum(field["support"] for field in scores.per_field.values()) == wanted.total()
    assert set(scores.per_field) == {path for path, _ in given_ | wanted}


def _receipt(rng: random.Random) -> dict[str, Any]:
    """About 200 characters of values."""

    def word(n: int) -> str:
        return "".join(rng.choices(string.ascii_uppercase, k=n))

    rows = [{"nm": word(18), "cnt": word(1), "price": word(6)} for _ in range(6)]
    return {
        "menu": rows,
        "sub_total": {"tax": word(6), "service": word(6)},
        "total": {"total": word(8), "cash": word(8)},
        "store": word(22),
    }


def _misread(rng: random.Random, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _misread(rng, child) for key, child in value.items() if rng.random() > 0.05}
    if isinstance(value, list):
        return [_misread(rng, child) for child in value]
    return "".join(character if rng.random() > 0.1 else "?" for character in value)


def test_receipts_are_scored_many_times_faster_than_by_the_plain_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ratio, for seconds depend on the machine; those of a thousand receipts are in ``benchmarks/receipt_scores``."""
    monkeypatch.setattr(f"{__name__}.edit_distance", Levenshtein.distance)  # leaves alike: only the trees are compared
    rng = random.Random(0)
    truths = [_receipt(rng) for _ in range(10)]
    pairs = [(_misread(rng, truth), truth) for truth in truths]
    ours, plain, ratios = [], [], []
    for _ in range(3):
        begun = time.process_time()
        ours = [ted_accuracy(*pair) for pair in pairs]
        between = time.process_time()
        plain = [published_accuracy(*pair) for pair in pairs]
        ratios.append((time.process_time() - between) / (between - begun))
    assert ours == pytest.approx(plain)
    assert 0.5 < sum(ours) / len(ours) < 0.95
    assert max(ratios) > 25  # about 60, and without the guess that keeps far pairs apart about 12
