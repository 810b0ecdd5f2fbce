"""Answers held to a schema while they are written: tags are well-formed, keys stand where they stood in training.

A `Grammar` knows which tokens may come next, a `Walk` is one answer on its way through it, and a `Writer` takes all other
tokens away from a batch of answers. What may follow depends on little (the tag that closes, the keys that are left, whether
text may stand here), so masks are made once for each such state and kept. A token that stands for several tags (see
`docstill.pruning.merges`) may come where they may come one after another.

Beside the schema there are two guards. A text, or a list, that has become longer than `most` of the longest one of its kind
in training can only be closed. And near the last token there is room for, only what still leaves room to close all that is
open may be written.
"""

from __future__ import annotations

import functools
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from docstill.data.json_tokens import SEPARATOR, SPELT_TAGS
from docstill.decoding.schema import Place, from_card
from docstill.models.donut_tokens import tags_in

MOST_TIMES, MOST_MORE = 2, 8
MOST_MASKS = 256
"""Kept for choices that come again, of as many bytes each as there are tokens; forms of many optional keys have no end of them."""
ENDLESS = 1 << 30
_WAITING = 1 << 20
"""Scores of tokens that are kept at most."""


def most(longest: int) -> int:
    """How long a text (in tokens) or a list (in rows) may become, where the longest in training was ``longest``."""
    return MOST_TIMES * longest + MOST_MORE


class Choice(NamedTuple):
    """What may come next: the token that closes, keys that may open, a separator, text, merged tags; ``tail`` as in `Level`."""

    closing: int
    keys: frozenset[str]
    separator: bool
    text: bool
    tail: str
    merged: frozenset[int] = frozenset()


@dataclass
class Level:
    """One key that is open, or the top.

    Attributes:
        place: what the schema says of it.
        closing: id of the token that closes it; at the top, the end token.
        keys: all keys that may open here.
        left: those that have not been written in this row.
        rows: rows begun so far.
        length: tokens of text in this row.
        tail: the end of the text, as far as it could begin to spell a tag.
    """

    place: Place
    closing: int
    keys: frozenset[str]
    left: frozenset[str]
    rows: int = 1
    length: int = 0
    tail: str = ""


class Grammar:
    """Which tokens may follow which, for one schema and one tokenizer.

    Args:
        schema: keys whose tags the vocabulary lacks are left out.
        tokenizer: of the model that writes.
        width: columns of the model's scores; there may be more of them than tokens.
        device: where the scores are.
    """

    def __init__(self, schema: Place, tokenizer: Any, width: int, device: torch.device) -> None:
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        self.schema, self.device = schema, device
        self.end, self.separator = int(tokenizer.eos_token_id), vocabulary.get(SEPARATOR)
        self.opening = {
            key: vocabulary[f"<s_{key}>"]
            for key in _keys(schema)
            if f"<s_{key}>" in vocabulary and f"</s_{key}>" in vocabulary
        }
        self.closing = {key: vocabulary[f"</s_{key}>"] for key in self.opening}
        self.key_of = {token: key for key, token in self.opening.items()}
        special = {
            tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id,
            tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id,
        }  # fmt: skip
        self.pieces = {
            token: piece.lower()
            for piece, token in vocabulary.items()
            if token not in special and token < width and not tags_in(piece)
        }
        ids = {name: vocabulary[name] for key in self.opening for name in (f"<s_{key}>", f"</s_{key}>")}
        if self.separator is not None:
            ids[SEPARATOR] = self.separator
        self.tags = {
            token: [ids[tag] for tag in tags]
            for piece, token in vocabulary.items()
            if len(tags := tags_in(piece)) > 1 and token < width and ids.keys() >= {*tags}
        }
        """Ids of the tags that a merged token stands for."""
        self.begun: dict[int, list[int]] = defaultdict(list)
        """Merged tokens by the tag that they begin with."""
        for token, parts in self.tags.items():
            self.begun[parts[0]].append(token)
        self._width = width
        self._texts: dict[str, Tensor] = {}
        self._masks: dict[Choice, Tensor] = {}

    def forbidden(self, choice: Choice) -> Tensor:
        """``(width,)`` bool: the tokens that may not come next."""
        if (known := self._masks.pop(choice, None)) is not None:
            self._masks[choice] = known  # the last to be used are the last to go
            return known
        if len(self._masks) == MOST_MASKS:
            del self._masks[next(iter(self._masks))]
        mask = self._no_text(choice.tail).clone() if choice.text else torch.ones(self._width, dtype=torch.bool)
        tokens = [choice.closing, *(self.opening[key] for key in choice.keys), *choice.merged]
        if choice.separator and self.separator is not None:
            tokens.append(self.separator)
        mask[tokens] = False
        self._masks[choice] = mask.to(self.device)
        return self._masks[choice]

    def _no_text(self, tail: str) -> Tensor:
        """``(width,)`` bool: all but the tokens that may go on a text that ends with ``tail``."""
        if tail not in self._texts:
            mask = torch.ones(self._width, dtype=torch.bool)
            mask[[token for token, piece in self.pieces.items() if not _spells(tail + piece)]] = False
            self._texts[tail] = mask
        return self._texts[tail]

    def level(self, place: Place, closing: int) -> Level:
        """A level just opened."""
        keys = frozenset(key for key in place.keys if key in self.opening)
        return Level(place, closing, keys, keys)


@functools.lru_cache(maxsize=4)
def grammar_for(schema: str, tokenizer: Any, tokens: int, width: int, device: torch.device) -> Grammar:
    """The grammar of a card's schema, as JSON text. The last few are kept: over a large vocabulary they take a while to make.

    Args:
        schema: what `docstill.decoding.schema.to_card` gave.
        tokenizer: see `Grammar`.
        tokens: how many tokens it has; tells it from what it was before tags were added.
        width: see `Grammar`.
        device: see `Grammar`.
    """
    return Grammar(from_card(json.loads(schema)), tokenizer, width, device)


class Walk:
    """One answer on its way: what is open, and what may come next."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.levels = [grammar.level(grammar.schema, grammar.end)]
        self.done = False
        """The end was written, or a token that the grammar does not know here: nothing is held to anything any more."""
        self._merged: dict[bool, dict[int, int]] = {}

    def choice(self, left: int = ENDLESS, guarded: bool = True) -> Choice:
        """What may come next.

        Args:
            left: how many tokens may still be written, the next one included.
            guarded: whether texts and lists that became too long must close; without it, as the schema alone says.
        """
        single = self._single(left, guarded)
        if not self.grammar.tags:
            return single
        if guarded not in self._merged:
            self._merged[guarded] = self._passable(guarded)
        # Each of what is open takes a token to be closed.
        merged = frozenset(token for token, open_then in self._merged[guarded].items() if open_then < left)
        return single._replace(merged=merged)

    def _passable(self, guarded: bool) -> dict[int, int]:
        """The merged tokens whose tags may come next one after another, and how much is open then."""
        found, grammar, choice = {}, self.grammar, self._single(guarded=guarded)
        for first in (choice.closing, grammar.separator, *(grammar.opening[key] for key in choice.keys)):
            for token in grammar.begun.get(first, ()) if first is not None else ():
                ahead = Walk(grammar)
                ahead.levels = [replace(level) for level in self.levels]
                if all(ahead._passes(tag, guarded) for tag in grammar.tags[token]):
                    found[token] = len(ahead.levels)
        return found

    def _passes(self, tag: int, guarded: bool) -> bool:
        """Takes a tag if it may come next; whether it did."""
        choice, grammar = self._single(guarded=guarded), self.grammar
        may = (
            tag == choice.closing
            or (choice.separator and tag == grammar.separator)
            or grammar.key_of.get(tag) in choice.keys
        )
        if may:
            self.step(tag)
        return may

    def _single(self, left: int = ENDLESS, guarded: bool = True) -> Choice:
        """What may come next but for merged tokens; see `choice`."""
        level = self.levels[-1]
        spare = left - len(self.levels)  # what is left when all that is open, and the answer, has been closed
        row_is_fresh = level.length == 0
        longest, rows = level.place.longest, level.place.rows
        return Choice(
            level.closing,
            level.left if row_is_fresh and spare >= 2 else frozenset(),
            separator=rows > 1 and spare >= 1 and not (guarded and level.rows >= most(rows)),
            text=longest is not None
            and spare >= 1
            and len(level.left) == len(level.keys)
            and not (guarded and level.length >= most(longest)),
            tail=level.tail,
        )

    def step(self, token: int) -> None:
        """Takes the token that was written."""
        if self.done:
            return
        level, grammar = self.levels[-1], self.grammar
        if token not in grammar.pieces or not level.length:  # within a text, tags that may follow stay the same
            self._merged.clear()
        if token in grammar.tags and token in self.choice(guarded=False).merged:
            for tag in grammar.tags[token]:
                self.step(tag)
        elif token == level.closing:
            self.done = len(self.levels) == 1
            self.levels.pop()
        elif token in grammar.pieces:
            level.length += 1
            level.tail = _tail(level.tail + grammar.pieces[token])
        elif token == grammar.separator:
            level.rows, level.length, level.tail, level.left = level.rows + 1, 0, "", level.keys
        elif (key := grammar.key_of.get(token)) in level.left:
            level.left -= {key}
            self.levels.append(grammar.level(level.place.keys[key], grammar.closing[key]))
        else:
            self.done = True

    def end_text(self) -> None:
        """No more text in this row, as where it has become too long."""
        level = self.levels[-1]
        level.length = max(level.length, most(level.place.longest or 0))

    def end_list(self, depth: int) -> None:
        """No more rows in the list within which so many keys are open, as where it has become too long."""
        level = self.levels[depth]
        level.rows = max(level.rows, most(level.place.rows))
        self._merged.clear()


class Writer:
    """Keeps a batch of answers to a grammar, and notes how likely each written token was.

    Likely under the schema alone: a token that a guard or the lack of room left over counts as what the model thought of it.
    What is noted is the likeliness of the likeliest token, so that is what must be written (no sampling, one beam).

    Args:
        grammar: None lets the model write what it likes.
        length: tokens of the longest answer, start token included.
        answers: how many there are.
    """

    def __init__(self, grammar: Grammar | None, length: int, answers: int) -> None:
        self.grammar, self.length, self.answers = grammar, length, answers
        self.walks = [] if grammar is None else [Walk(grammar) for _ in range(answers)]
        self._rows: list[list[int]] = []
        self._likely: list[Tensor] = []
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def hold(self, scores: Tensor, rows: list[int], written: int) -> Tensor:
        """Minus infinity where a token may not come next.

        Args:
            scores: ``(A, V)`` of the next token of some of the answers.
            rows: which they are.
            written: how many tokens each has, start token included.
        """
        if self.grammar is None:
            self._note(rows, scores, scores)
            return scores
        walks = [self.walks[row] for row in rows]
        free = [None if walk.done else walk.choice(guarded=False) for walk in walks]
        held = [None if walk.done else walk.choice(self.length - written) for walk in walks]
        likely = self._masked(scores, free)
        masked = likely if held == free else self._masked(scores, held)
        self._note(rows, masked, likely)
        return masked

    def take(self, rows: list[int], tokens: list[int]) -> None:
        """Takes the token that was written in each of ``rows``."""
        if self.grammar is not None:
            for row, token in zip(rows, tokens, strict=True):
                self.walks[row].step(token)

    def _masked(self, scores: Tensor, choices: Sequence[Choice | None]) -> Tensor:
        assert self.grammar is not None
        masks = [
            torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
            if choice is None
            else self.grammar.forbidden(choice)
            for choice in choices
        ]
        return scores.masked_fill(masks[0][None] if len(masks) == 1 else torch.stack(masks), -torch.inf)

    def log_probabilities(self) -> Tensor:
        """``(B, T)`` float32: of each token after the start token; 0 after an answer's end."""
        if not self._rows:
            return torch.zeros(self.answers, 0)
        self._reckon()
        likely = torch.cat(self._likely)
        rows = [row for together in self._rows for row in together]
        places = [place for place, together in enumerate(self._rows) for _ in together]
        found = torch.zeros(self.answers, len(self._rows), device=likely.device)
        found[rows, places] = likely
        return found

    def _note(self, rows: list[int], written: Tensor, likely: Tensor) -> None:
        """Keeps the scores of a token for `_log_probability`; those of many are reckoned at once, if there is room for them."""
        self._rows.append(rows)
        self._waiting.append((written, likely))
        if len(self._waiting) * likely.numel() > _WAITING:
            self._reckon()

    def _reckon(self) -> None:
        if self._waiting:
            written, likely = (torch.cat(scores) for scores in zip(*self._waiting, strict=True))
            self._likely.append(_log_probability(written, likely))
            self._waiting = []


def _log_probability(written: Tensor, likely: Tensor) -> Tensor:
    """``(B,)``: of the largest of ``written`` under ``likely``; exact near 0, where a softmax would have rounded."""
    best = written.amax(dim=1, keepdim=True)
    behind = (likely.float() - best.float()).clamp_(
        min=-80.0
    )  # exp is several times slower where its result underflows
    return -torch.log(behind.exp_().sum(dim=1))


def _keys(place: Place) -> set[str]:
    return set(place.keys).union(*(_keys(child) for child in place.keys.values()))


def _spells(text: str) -> bool:
    return "<" in text and any(tag in text for tag in SPELT_TAGS)


def _tail(text: str) -> str:
    """The longest end of ``text`` with which a tag could begin."""
    start = text.rfind("<")
    end = text[start:] if start >= 0 else ""
    return end if any(tag.startswith(end) for tag in SPELT_TAGS) else ""
