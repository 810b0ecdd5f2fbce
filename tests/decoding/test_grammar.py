"""The grammar: it accepts every answer that obeys the schema, and whatever is written under it obeys the schema."""

from __future__ import annotations

import copy
import functools
import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from docstill.data.json_tokens import canonical, json_to_tokens, tokens_to_json
from docstill.decoding.grammar import MOST_MASKS, Choice, Grammar, Walk, Writer, most
from docstill.decoding.schema import Place, schema_of
from docstill.models.donut_tokens import character_tokenizer, decode, encode, tags_in
from docstill.pruning.merges import merged_tokenizer

KEYS = ("a", "b", "c", "d")
TAGS = [f"<{slash}s_{key}>" for key in KEYS for slash in ("", "/")]
TOKENIZER = character_tokenizer([], TAGS)
ROW = ("</s_b>", "<sep/><s_b>")
MERGED = merged_tokenizer(TOKENIZER, [*itertools.product([*TAGS, "<sep/>"], repeat=2), ROW, ("</s_a><s_b>", "<s_c>")])
"""With every pair of tags as a token, and two of three of them."""
EITHER = pytest.mark.parametrize("tokenizer", [TOKENIZER, MERGED], ids=["single tags", "merged tags"])
WIDTH = len(MERGED) + 3
TEXT = st.text("ab</s_9 ", min_size=1, max_size=6)  # no >: a value that reads <s> is the tokenizer's own


def answers_over(keys: tuple[str, ...]) -> st.SearchStrategy[Any]:
    """Documents that the format can carry, over ``keys``; no key stands inside itself."""
    values: st.SearchStrategy[Any] = TEXT | st.lists(TEXT, min_size=2, max_size=4)
    if len(keys) > 1:
        inner = st.deferred(lambda: answers_over(keys[1:]))
        values |= inner | st.lists(inner, min_size=2, max_size=3)
    return st.dictionaries(st.sampled_from(keys[:1] if len(keys) == 1 else keys[:2]), values, min_size=1)


def keys_apart(value: Any, above: tuple[str, ...] = ()) -> bool:
    if isinstance(value, dict):
        return all(key not in above and keys_apart(child, (*above, key)) for key, child in value.items())
    return all(keys_apart(item, above) for item in value) if isinstance(value, list) else True


DOCUMENTS = answers_over(KEYS).filter(keys_apart)


def grammar_of(answers: list[Any], tokenizer: Any = TOKENIZER) -> Grammar:
    schema = schema_of(answers, lambda text: len(encode(TOKENIZER, text)))
    return Grammar(schema, tokenizer, WIDTH, torch.device("cpu"))


def allowed(walk: Walk, left: int = 10**6) -> set[int]:
    return set((~walk.grammar.forbidden(walk.choice(left))).nonzero().flatten().tolist())


def test_masks_of_the_last_choices_alone_are_kept_and_stay_the_same() -> None:
    grammar = grammar_of([{KEYS[0]: "x"}])
    choices = [
        Choice(closing, frozenset(), False, False, "", frozenset({other}))
        for closing in range(20)
        for other in range(20)
    ]
    first = [grammar.forbidden(choice).clone() for choice in choices]
    assert len(grammar._masks) == MOST_MASKS < len(choices)
    assert all(torch.equal(grammar.forbidden(choice), mask) for choice, mask in zip(choices, first, strict=True))
    grammar.forbidden(choices[0])
    for choice in choices[1:MOST_MASKS]:
        grammar.forbidden(choice)
    assert choices[0] in grammar._masks


def spells_a_tag(value: Any) -> bool:
    if isinstance(value, dict):
        return any(spells_a_tag(child) for child in value.values())
    if isinstance(value, list):
        return any(spells_a_tag(child) for child in value)
    return any(tag in value for tag in ("<s_", "</s_", "<sep/>"))


def inside(value: Any, schema: Place) -> bool:
    """Whether all keys of ``value`` stand where ``schema`` has them."""
    if isinstance(value, dict):
        return all(key in schema.keys and inside(child, schema.keys[key]) for key, child in value.items())
    return all(inside(item, schema) for item in value) if isinstance(value, list) else True


def written(
    grammar: Grammar | None, length: int, seed: int, likes: dict[int, float] | None = None, rows: int = 2
) -> list[list[int]]:
    """What random scores write, as `generate` would: the likeliest token each time, until the end."""
    writer, rng = Writer(grammar, length, rows), np.random.default_rng(seed)
    answers: list[list[int]] = [[] for _ in range(rows)]
    active = list(range(rows))
    for place in range(1, length):
        scores = torch.from_numpy(rng.normal(size=(len(active), WIDTH)).astype(np.float32))
        for token, more in (likes or {}).items():
            scores[:, token] += more
        chosen = writer.hold(scores, active, place).argmax(dim=1).tolist()
        writer.take(active, chosen)
        for row, token in zip(active, chosen, strict=True):
            answers[row].append(token)
        active = [row for row in active if answers[row][-1] != TOKENIZER.eos_token_id]
        if not active:
            break
    return answers


@EITHER
@settings(max_examples=40, deadline=None, derandomize=True)
@given(answers=st.lists(DOCUMENTS, min_size=1, max_size=3))
def test_every_training_answer_can_be_written_token_by_token(tokenizer: Any, answers: list[Any]) -> None:
    grammar = grammar_of(answers, tokenizer)
    for answer in answers:
        if spells_a_tag(answer):
            continue
        walk = Walk(grammar)
        ids = [*encode(tokenizer, json_to_tokens(answer)), tokenizer.eos_token_id]
        for place, token in enumerate(ids):
            # what is open is kept room for in single tags
            left = len(ids) - place + (len(KEYS) if tokenizer is MERGED else 0)
            assert token in allowed(walk, left), (json_to_tokens(answer), place)
            walk.step(token)
        assert walk.done


@EITHER
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    answers=st.lists(DOCUMENTS, min_size=1, max_size=3),
    length=st.integers(2, 60),
    seed=st.integers(0, 10**6),
    fond_of_tags=st.booleans(),
)
def test_whatever_scores_write_parses_and_stays_in_the_schema(
    tokenizer: Any, answers: list[Any], length: int, seed: int, fond_of_tags: bool
) -> None:
    """Short answers too: what is open when room runs out is closed in time."""
    grammar = grammar_of(answers, tokenizer)
    likes = dict.fromkeys([*grammar.key_of, *grammar.tags], 2.0) | {
        TOKENIZER.get_vocab()[letter]: 3.0 for letter in "<s_/ep>"
    }
    for row in written(grammar, length, seed, likes if fond_of_tags else {TOKENIZER.eos_token_id: -9.0}):
        assert TOKENIZER.eos_token_id in row
        text = decode(tokenizer, row)
        read = tokens_to_json(text)
        if text:
            assert inside(read, grammar.schema), text
            assert canonical(tokens_to_json(json_to_tokens(read))) == canonical(read)
        for key in KEYS:
            assert text.count(f"<s_{key}>") == text.count(f"</s_{key}>")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(DOCUMENTS, min_size=1, max_size=3), st.integers(0, 10**6), st.integers(4, 10**6))
def test_merged_tags_may_come_where_they_may_come_one_by_one(answers: list[Any], seed: int, room: int) -> None:
    """A walk by merged tokens and one by single tags, side by side."""
    merged, single = Walk(grammar_of(answers, MERGED)), Walk(grammar_of(answers))
    rng, taken = random.Random(seed), 0
    while not merged.done and room:
        may = allowed(merged, room)
        for token, tags in merged.grammar.tags.items():
            ahead = copy.deepcopy(single)
            can = all(tag in allowed(ahead) and ahead.step(tag) is None for tag in tags)
            assert (token in may) == (can and len(ahead.levels) < room), MERGED.convert_ids_to_tokens(token)
        assert may.difference(merged.grammar.tags) == allowed(single, room)
        written = rng.choice(sorted(may & merged.grammar.tags.keys()) or sorted(may))
        merged.step(written)
        for tag in merged.grammar.tags.get(written, [written]):
            single.step(tag)
        assert [(level.closing, level.left, level.rows) for level in merged.levels] == [
            (level.closing, level.left, level.rows) for level in single.levels
        ]
        room, taken = room - 1, taken + 1
    assert merged.done == single.done


def test_merged_tags_of_keys_that_the_schema_lacks_are_never_written() -> None:
    grammar = grammar_of([{"a": "9"}], MERGED)
    assert {MERGED.convert_ids_to_tokens(token) for token in grammar.tags} == {
        first + second for first, second in itertools.product(["<s_a>", "</s_a>", "<sep/>"], repeat=2)
    }
    assert all(len(tags_in(MERGED.convert_ids_to_tokens(token))) == 2 for token in grammar.tags)


def test_a_freely_written_answer_is_not_that_good() -> None:
    """The test above can fail: without a grammar the same scores write broken answers."""
    text = decode(TOKENIZER, written(None, 40, 0, {TOKENIZER.eos_token_id: -9.0})[0])
    assert text.count("<s_a>") != text.count("</s_a>") or text.count("<s_b>") != text.count("</s_b>")


FLAT = [{"a": "999", "b": {"c": "x"}}]


@functools.cache
def ids_of(text: str) -> list[int]:
    return encode(TOKENIZER, text)


def after(grammar: Grammar, text: str) -> Walk:
    walk = Walk(grammar)
    for token in ids_of(text):
        assert token in allowed(walk)
        walk.step(token)
    return walk


@pytest.mark.parametrize(
    ("text", "may", "may_not"),
    [
        ("", ["<s_a>", "<s_b>", "</s>"], ["<s_c>", "</s_a>", "x", "<sep/>", "<unk>", "<pad>", "<s>"]),
        ("<s_a>", ["9", "</s_a>"], ["</s_b>", "<s_b>", "</s>", "<sep/>"]),
        ("<s_b>", ["<s_c>", "</s_b>"], ["<s_a>", "x", "</s>"]),
        ("<s_a>9</s_a>", ["<s_b>", "</s>"], ["<s_a>", "9"]),
        ("<s_b><s_c>x", ["x", "</s_c>"], ["</s_b>", "</s>"]),
        ("<s_a><s", ["9", "<", "</s_a>"], ["_"]),
        ("<s_a></s", ["9", "<", "</s_a>"], ["_"]),
        ("<s_a><sep/", ["9", "</s_a>"], [">"]),
    ],
)
def test_what_may_follow(text: str, may: list[str], may_not: list[str]) -> None:
    # letters that spell a tag are given one by one: the tokenizer itself would take them for the tag
    grammar = grammar_of([{"a": "999999", "b": {"c": "x"}}])
    walk = Walk(grammar)
    head, spelt = (text[:5], text[5:]) if text.startswith("<s_a><") else (text, "")
    vocabulary = TOKENIZER.get_vocab()
    for token in [*ids_of(head), *(vocabulary[letter] for letter in spelt)]:
        walk.step(token)
    tokens = allowed(walk)
    assert {token for token in may if vocabulary[token] not in tokens} == set()
    assert {token for token in may_not if vocabulary[token] in tokens} == set()


def test_a_value_that_grew_too_long_is_closed() -> None:
    grammar = grammar_of(FLAT)
    row = written(grammar, 400, 0, {ids_of("<s_a>")[0]: 50.0, ids_of("9")[0]: 40.0})[0]
    assert decode(TOKENIZER, row).startswith("<s_a>" + "9" * most(3) + "</s_a>")


def test_a_list_that_grew_too_long_is_closed() -> None:
    grammar = grammar_of([{"a": ["x", "y", "z"]}])
    row = written(grammar, 400, 0, {ids_of("<s_a>")[0]: 50.0, ids_of("<sep/>")[0]: 40.0})[0]
    assert decode(TOKENIZER, row).count("<sep/>") == most(3) - 1


def test_ordinary_answers_are_far_from_the_guards() -> None:
    """Half as long again as anything seen, and twice: the guards leave it alone."""
    walk = Walk(grammar_of([{"a": "9" * 20}, {"b": ["x"] * 10}]))
    for token in ids_of("<s_a>" + "9" * 40 + "</s_a><s_b>" + "<sep/>".join("x" * 20) + "</s_b>"):
        assert token in allowed(walk)
        walk.step(token)


def test_a_model_that_ends_by_itself_is_not_touched() -> None:
    """Where the likeliest token is allowed, it is the one that is written."""
    grammar, text = grammar_of(FLAT), "<s_b><s_c>x</s_c></s_b><s_a>12</s_a>"
    writer = Writer(grammar, 100, 1)
    for place, token in enumerate([*ids_of(text), TOKENIZER.eos_token_id], 1):
        scores = torch.zeros(1, WIDTH)
        scores[0, token] = 1.0
        assert writer.hold(scores, [0], place).argmax() == token
        writer.take([0], [token])


def test_probabilities_are_those_under_the_schema() -> None:
    """Over what the schema allows; a token that only a guard left over is as likely as it was."""
    grammar = grammar_of(FLAT)
    writer = Writer(grammar, 100, 1)
    writer.hold(torch.zeros(1, WIDTH), [0], 1)
    assert writer.log_probabilities().exp().item() == pytest.approx(1 / 3)  # a, b, or the end
    tight = Writer(grammar, 2, 1)
    masked = tight.hold(torch.zeros(1, WIDTH), [0], 1)
    assert masked.argmax() == TOKENIZER.eos_token_id
    assert masked.isfinite().sum() == 1
    assert tight.log_probabilities().exp().item() == pytest.approx(1 / 3)
    free = Writer(None, 100, 1)
    free.hold(torch.zeros(1, WIDTH), [0], 1)
    assert free.log_probabilities().exp().item() == pytest.approx(1 / WIDTH)


def test_keys_without_tags_in_the_vocabulary_are_left_out() -> None:
    grammar = Grammar(Place({"a": Place(longest=1), "zz": Place(longest=1)}), TOKENIZER, WIDTH, torch.device("cpu"))
    assert allowed(Walk(grammar)) == {TOKENIZER.get_vocab()["<s_a>"], TOKENIZER.eos_token_id}
