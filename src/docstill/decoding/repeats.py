"""Answers that repeat themselves: the same tokens over and over, until there is no more room.

What a network has just written several times it finds ever likelier (Holtzman et al. 2020, arXiv 1904.09751, figure 4), so it does
not come out of such a loop by itself. Of what it repeats one copy stays. With a schema the value, or the list, is closed then, and
the answer goes on; without one the answer ends, and all that is open is closed. The model itself thought of neither, so what stays
of the loop, and what closes it, has a probability of 0.

An answer that only looks like a loop and is cut short loses what would have come; a loop that is noticed late costs time alone. So a
block is one only if it comes ten times and fills 64 tokens: twelve equal digits, or nine equal lines from a till, are none. An
answer that has used up all its room has not ended, and there less is enough.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from docstill.data.json_tokens import SEPARATOR
from docstill.decoding.grammar import Level, Walk
from docstill.models.donut_tokens import tags_in

EVERY = 16
"""Answers are looked at whenever so many more tokens have been written."""
LONGEST = 64
"""Tokens of the longest block that is noticed."""
TIMES, COVERED = 10, 64
"""How often a block must come, and how many tokens that must be."""
TIMES_AT_LAST, COVERED_AT_LAST = 3, 24
"""The same for an answer that has used up its room."""

Keys = tuple[str, ...]
"""The keys that are open, the innermost last."""


class Loop(NamedTuple):
    """A block over and over at the end of an answer: where it begins, and how many tokens the block has."""

    start: int
    block: int


@dataclass(frozen=True)
class Cut:
    """What is left out of an answer.

    Attributes:
        copy: the first token of the copy that stays.
        kept: the first token that is left out.
        until: the token behind the last that is left out; None: the one that closes the list is the last.
        closing: tokens that stand there instead.
        depth: how many keys are open around what repeats.
    """

    copy: int
    kept: int
    until: int | None
    closing: list[int]
    depth: int


def loop_at_end(tokens: Sequence[int], begin: int = 0, times: int = TIMES, covered: int = COVERED) -> Loop | None:
    """The shortest block that comes over and over at the end of ``tokens``, from where it began to; None if none does.

    Args:
        tokens: ids.
        begin: what stands before is not looked at.
        times: how often the block must come.
        covered: how many tokens that must be.
    """
    for block, token in enumerate(reversed(tokens[-1 - LONGEST : -1]), 1):
        if token != tokens[-1] or tokens[-block:] != tokens[-2 * block : -block]:
            continue  # nearly always
        span = block * max(times, math.ceil(covered / block))
        start = len(tokens) - span
        if start >= begin and tokens[start:-block] == tokens[start + block :]:
            while start > begin and tokens[start - 1] == tokens[start - 1 + block]:
                start -= 1
            return Loop(start, block)
    return None


class Repeats:
    """Watches a batch of answers while they are written.

    Args:
        tokenizer: of the model that writes.
        answers: their ids from the start token on, to which others add.
        walks: of the answers, if they are held to a schema.
    """

    def __init__(self, tokenizer: Any, answers: Sequence[list[int]], walks: Sequence[Walk]) -> None:
        self.tokenizer, self.answers, self.walks = tokenizer, answers, walks
        self.cuts: dict[int, list[Cut]] = defaultdict(list)
        self._begin = [1] * len(answers)
        self._open: dict[int, Level] = {}
        """Lists that are to be closed and are not yet."""

    def end(self, row: int, at_last: bool = False) -> bool:
        """Looks at an answer; whether it repeats itself and ends with that. With a schema, what repeats has to be closed now.

        Args:
            row: which.
            at_last: whether it has used up its room.
        """
        tokens, walk = self.answers[row], self.walks[row] if self.walks else None
        if walk is not None and row in self._open:
            if any(level is self._open[row] for level in walk.levels):
                return False
            del self._open[row]
            self._begin[row] = len(tokens)
        enough = (TIMES_AT_LAST, COVERED_AT_LAST) if at_last else (TIMES, COVERED)
        loop = loop_at_end(tokens, self._begin[row], *enough)
        if loop is None:
            return False
        self._begin[row] = len(tokens)
        tags = self._tags(tokens)
        kept, depth = _one_copy(tags, loop)
        around, copy = _opened(tags)[kept], max(loop.start, kept - loop.block)
        if walk is None or walk.done:
            closing = [*self._closing(around), self.tokenizer.eos_token_id]
            self.cuts[row].append(Cut(copy, kept, len(tokens), closing, depth))
            return True
        if any(tags[loop.start : loop.start + loop.block]):
            self.cuts[row].append(Cut(copy, kept, None, self._closing(around[max(depth - 1, 0) :]), depth))
            self._open[row] = walk.levels[depth]
            walk.end_list(depth)
        else:
            self.cuts[row].append(Cut(copy, kept, len(tokens), [], depth))
            walk.end_text()
        return False

    def mended(self, likely: Tensor) -> tuple[list[list[int]], Tensor]:
        """All answers without their loops.

        Args:
            likely: ``(B, T)``, the log-probability of each token after the start token.

        Returns:
            Their ids from the start token on, and ``(B, T)`` of what is left; the longest answer has T tokens after the start token.
        """
        answers, rows = [], []
        for row, found in enumerate(likely.tolist()):
            tokens, left = list(self.answers[row]), [0.0, *found[: len(self.answers[row]) - 1]]
            tags = self._tags(tokens) if row in self.cuts else []
            for cut in reversed(self.cuts.get(row, [])):
                until, closing = cut.until, cut.closing
                if until is None:
                    until, rest = self._list_end(tags, cut)
                    closing = closing + rest
                tokens[cut.kept : until] = closing
                first = min(cut.copy, cut.kept - 1)
                left[first:until] = [-math.inf] * (cut.kept - first + len(closing))
            answers.append(tokens)
            rows.append(likely.new_tensor(left[1:]))
        return answers, pad_sequence(rows, batch_first=True)

    def _list_end(self, tags: Sequence[Keys], cut: Cut) -> tuple[int, list[int]]:
        """The token behind the one that closes a list; and what a merged one, which closes it too, stands for beyond that."""
        opened = _opened(tags)
        for place in range(cut.kept, len(tags)):
            for index, keys in enumerate(itertools.accumulate(tags[place], _after, initial=opened[place])):
                if len(keys) < cut.depth:
                    return place + 1, self.tokenizer.convert_tokens_to_ids(list(tags[place][index:]))
        return len(tags) - 1, []  # at the top, where the end closes it

    def _tags(self, tokens: Sequence[int]) -> list[Keys]:
        """The tags that each token stands for; the start token of a published Donut looks like one and is none."""
        return [(), *(tags_in(piece or "") for piece in self.tokenizer.convert_ids_to_tokens(list(tokens[1:])))]

    def _closing(self, keys: Keys) -> list[int]:
        """The tags that close ``keys``, as far as there are any."""
        found = self.tokenizer.convert_tokens_to_ids([f"</s_{key}>" for key in reversed(keys)])
        return [token for token in found if token != self.tokenizer.unk_token_id]


def _one_copy(tags: Sequence[Keys], loop: Loop) -> tuple[int, int]:
    """The token behind the first whole copy, and how many keys are open around what repeats.

    A block may begin anywhere. A copy is whole where no more keys are open than around it, and of a list where a row ends.
    """
    opened, (start, block) = _opened(tags), loop
    depth = min(
        len(keys)
        for place in range(start + block, start + 2 * block)
        for keys in itertools.accumulate(tags[place], _after, initial=opened[place])
    )
    whole = [place for place in range(start + block - 1, start + 2 * block) if len(opened[place]) == depth]
    rows = [place for place in whole if tags[place] == (SEPARATOR,)]
    return next(iter(rows or [place for place in whole if place >= start + block]), start + block), depth


def _opened(tags: Sequence[Keys]) -> list[Keys]:
    """The keys that are open before each token, and behind the last."""
    opened: list[Keys] = [()]
    for parts in tags:
        opened.append(functools.reduce(_after, parts, opened[-1]))
    return opened


def _after(keys: Keys, tag: str) -> Keys:
    """The keys that are open after a tag; one that closes a key closes those within."""
    key = tag[tag.index("s_") + 2 : -1] if tag != SEPARATOR else ""
    if tag == SEPARATOR or (tag.startswith("</") and key not in keys):
        return keys
    if tag.startswith("</"):
        return keys[: len(keys) - 1 - keys[::-1].index(key)]
    return (*keys, key)
