"""Vocabulary transfer: strings that answers often hold become one token, so that an answer is written in fewer steps.

What a Donut's decoder costs goes by tokens and layers, on a processor hardly by its width. Tokens are merged as in byte-pair encoding
(Sennrich et al. 2016, arXiv 1508.07909, section 3.2): the pair that stands side by side most often becomes one, again and again. The
new token's embedding begins as the mean of those of its two parts (fast vocabulary transfer; Gee et al. 2022, arXiv 2402.09977,
section 2). Nothing is taken away: what was not seen can still be spelt in the old tokens.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer

from docstill.errors import ModelError
from docstill.models.donut import fit_masks
from docstill.models.donut_tokens import encode, tags_in, whole_token, wrap
from docstill.models.io import DocumentModel

MERGES = "merges"
"""The key of the model card that says how many tokens were merged."""

Pair = tuple[str, str]

_SPACE = "▁"
_MORE_LIKELY = 1e-4
"""What a merged piece of a Unigram vocabulary scores above its parts, so that it is taken wherever both would be, and nowhere else."""


def frequent_pairs(
    rows: Iterable[Sequence[str]], count: int, apart: Collection[str] = (), least: float = 0.0
) -> list[Pair]:
    """The pairs to merge, in order.

    Args:
        rows: tokens of each text.
        count: how many pairs at most; there are fewer where no pair is left that stands side by side twice.
        apart: tokens that are merged with none. Tags are merged with tags, text with text.
        least: how often a stretch of text (a value, or a SentencePiece word), or of tags, must come for what it holds to count.
    """
    texts = Counter(run for row in rows for run in _runs(row, apart))
    lines, often = [list(text) for text in texts if texts[text] >= least], [n for n in texts.values() if n >= least]
    held: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for place, line in enumerate(lines):
        for pair in pairwise(line):
            held[pair] += often[place]
            where[pair].add(place)
    chosen: list[Pair] = []
    while len(chosen) < count and held:
        best = max(held, key=lambda pair: (held[pair], pair))
        if held[best] < 2:
            break
        chosen.append(best)
        for place in where.pop(best):
            for pair in pairwise(lines[place]):
                held[pair] -= often[place]
            lines[place] = _merged(lines[place], best)
            for pair in pairwise(lines[place]):
                held[pair] += often[place]
                where[pair].add(place)
    return chosen


def _runs(row: Sequence[str], apart: Collection[str]) -> Iterable[tuple[str, ...]]:
    """The stretches of a text that may be merged; a piece with a space in front begins a word, which is read by itself."""
    run: list[str] = []
    for token in row:
        if run and (token in apart or token.startswith(_SPACE) or bool(tags_in(token)) != bool(tags_in(run[0]))):
            yield tuple(run)
            run = []
        if token not in apart:
            run.append(token)
    if run:
        yield tuple(run)


def _merged(line: Sequence[str], pair: Pair) -> list[str]:
    found: list[str] = []
    for token in line:
        if found and (found[-1], token) == pair:
            found[-1] += token
        else:
            found.append(token)
    return found


def merged_tokenizer(tokenizer: Any, pairs: Sequence[Pair]) -> Any:
    """The tokenizer with a token more for each of ``pairs``, the old ones keeping their ids.

    Raises:
        ModelError: a vocabulary of another kind, or one that has merges of its own.
    """
    specification = json.loads(tokenizer.backend_tokenizer.to_str())
    model, ids = specification["model"], {token["content"]: token["id"] for token in specification["added_tokens"]}
    tags = [first + second for first, second in pairs if tags_in(first)]
    pairs = [pair for pair in pairs if not tags_in(pair[0])]
    if model["type"] == "Unigram":
        _more_pieces(model["vocab"], ids, pairs)
    elif model["type"] == "BPE" and not model["merges"]:
        # Tags get the first ids behind the vocabulary when a tokenizer is loaded, so a longer one must hold theirs, too.
        model["vocab"] |= ids
        for first, second in pairs:
            model["vocab"].setdefault(first + second, len(model["vocab"]))
        model["merges"] = [list(pair) for pair in pairs]
    else:
        raise ModelError(
            f"a {model['type']} vocabulary with merges of its own cannot be given others; it is for SentencePiece (Unigram), as Donut "
            "has it, and for single characters"
        )
    grown = wrap(Tokenizer.from_str(json.dumps(specification)))
    grown.add_tokens([whole_token(tag) for tag in tags], special_tokens=True)
    return grown


def _more_pieces(pieces: list[list[Any]], added: dict[str, int], pairs: Sequence[Pair]) -> None:
    """Merged pieces at the end of a Unigram model's list, whose places are the ids."""
    names = {place: name for name, place in added.items()}
    lowest = min(score for _, score in pieces)
    while len(pieces) in names:
        pieces.append([names[len(pieces)], lowest])
    reached = dict(reversed(pieces))
    """Of each text the score of its likeliest spelling: a piece that was there before may be less likely than the two it could be made of."""
    for first, second in pairs:
        name, score = first + second, reached[first] + reached[second] + _MORE_LIKELY
        if name not in reached:
            pieces.append([name, score])
        reached[name] = max(score, reached.get(name, score))


def merge_tokens(model: DocumentModel, texts: Sequence[str], count: int, common: float = 0.0) -> int:
    """Merges the tokens that stand side by side most often in ``texts``; tokenizer and embedding grow together.

    Args:
        model: a Donut, changed in place.
        texts: answers as they are written, tags and all.
        count: how many pairs at most.
        common: how many there must be of a value, or a SentencePiece word, per text, for its tokens to be merged.

    Returns:
        How many tokens were added; if none, the model stays as it was.

    Raises:
        ModelError: see `merged_tokenizer`.
    """
    tokenizer = model.processor.tokenizer
    apart = {tokenizer.unk_token, *(token for token in tokenizer.get_added_vocab() if not tags_in(token))}
    rows = (tokenizer.convert_ids_to_tokens(encode(tokenizer, text)) for text in texts)
    pairs = frequent_pairs(rows, count, apart, common * len(texts))
    grown = merged_tokenizer(tokenizer, pairs) if pairs else tokenizer
    added = len(grown) - len(tokenizer)
    if not added:
        return 0
    old, ids, decoder = tokenizer.get_vocab(), grown.get_vocab(), model.network.decoder
    decoder.resize_token_embeddings(max(ids.values()) + 1, mean_resizing=False)
    ends = (decoder.get_input_embeddings().weight, decoder.get_output_embeddings().weight)
    with torch.no_grad():
        for rows in ends[: 1 if ends[0] is ends[1] else 2]:
            for first, second in pairs:
                if first + second not in old:
                    rows[ids[first + second]] = (rows[ids[first]] + rows[ids[second]]) / 2
    model.processor.tokenizer = grown
    model.card[MERGES] = model.card.get(MERGES, 0) + added
    fit_masks(model)
    return added
