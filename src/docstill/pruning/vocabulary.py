"""Vocabulary trimming: the tokens that a data set needs, and an alphabet to spell all else; tokenizer and embedding together.

A published Donut has 57,525 tokens, a third of its parameters; receipts in one language use some hundreds of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from tokenizers import Tokenizer

from docstill.data.json_tokens import SEPARATOR, SPECIAL
from docstill.errors import ModelError, UserError
from docstill.models.donut_tokens import SAFE_ALPHABET, categories, encode, tags_in, unknown_characters, wrap
from docstill.pruning.masks import Masks
from docstill.pruning.rebuild import rebuilt, smaller_config

_EMBEDDING, _HEAD = "decoder.model.decoder.embed_tokens.weight", "decoder.lm_head.weight"
_SPACE = "▁"
"""How a SentencePiece vocabulary writes a space."""


def needed_tokens(tokenizer: Any, texts: Iterable[str], start: int, characters: str = "") -> list[int]:
    """Ids to keep, in ascending order.

    These are the special tokens, the start token, every token that ``texts`` are read with, and the one-character tokens of
    `SAFE_ALPHABET`, of all texts and of ``characters``: with them, what was not seen can still be spelt. Of a Unigram vocabulary
    a piece of the lowest score stays, too, since ``<unk>`` is scored ten below it.

    Args:
        tokenizer: as `character_tokenizer` makes it, or SentencePiece's (Unigram), as published Donuts have it.
        texts: answers as they are written, tags and all.
        start: id of the token an answer starts with.
        characters: to be kept besides.

    Raises:
        UserError: a character of ``characters`` is no token of this vocabulary; all of them are listed.
    """
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    seen, alphabet = {start}, set(SAFE_ALPHABET)
    for text in texts:
        seen.update(encode(tokenizer, text))
        alphabet |= set(text)
    merged = tokenizer.convert_ids_to_tokens(sorted(seen))
    seen.update(vocabulary[tag] for token in merged for tag in tags_in(token) if tag in vocabulary)
    lacking = sorted(
        character
        for character in set(characters)
        if not character.isspace() and _token_of(character, vocabulary) not in vocabulary
    )
    if lacking:
        raise UserError(
            f"the vocabulary has no token for {', '.join(map(repr, lacking))}; leave them out of characters, or use a model "
            "that can write them"
        )
    for token in (
        *SPECIAL,
        SEPARATOR,
        _SPACE,
        *(f"<{name}/>" for name in categories(tokenizer)),
        *(_token_of(character, vocabulary) for character in alphabet | set(characters)),
    ):
        if token in vocabulary:
            seen.add(vocabulary[token])
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        if min(scores) not in {scores[index] for index in seen if index < len(scores)}:
            seen.add(scores.index(min(scores)))
    return sorted(seen)


def _token_of(character: str, vocabulary: Mapping[str, int]) -> str:
    """The token of a single character; published vocabularies have some only after a space."""
    return character if character in vocabulary else _SPACE + character


def unspellable(tokenizer: Any, texts: Iterable[str]) -> set[str]:
    """Characters of ``texts`` that the tokenizer can only read as ``<unk>`` where they stand."""
    return {character for text in texts for piece in unknown_characters(tokenizer, text) for character in piece}


def check_spelling(before: Any, after: Any, texts: Iterable[str]) -> None:
    """Makes sure that a trimmed tokenizer reads ``texts`` as it did before.

    Raises:
        UserError: a text is read as other tokens; the first three are shown.
    """
    changed = [text for text in texts if _tokens(before, text) != _tokens(after, text)]
    if changed:
        shown = ", ".join(map(repr, changed[:3])) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise UserError(
            f"trimmed, the vocabulary would spell answers with other tokens than before ({shown}); leave this stage out"
        )


def check_kept(before: Any, after: Any, texts: Iterable[str], where: str, characters: str) -> None:
    """Makes sure that a trimmed tokenizer can still spell ``texts``, which it was not trimmed for.

    Args:
        before: the tokenizer as it was.
        after: the trimmed one.
        texts: answers that were not asked for what to keep.
        where: what the error calls them.
        characters: those that were to be kept besides.

    Raises:
        UserError: characters could be spelt before and cannot now; all are listed, with the setting that keeps them.
    """
    lost = sorted(set().union(*(unspellable(after, [text]) - unspellable(before, [text]) for text in texts)))
    if not lost:
        return
    vocabulary = before.get_vocab()
    own = [character for character in lost if _token_of(character, vocabulary) in vocabulary]
    others = [character for character in lost if character not in own]
    ways = []
    if own:
        ways.append(f"say characters: {json.dumps(characters + ''.join(own), ensure_ascii=False)} to keep them")
    if others:
        ways.append(
            f"{', '.join(map(repr, others))} can only be spelt in longer tokens, so add pages that have them to the training data, or "
            "leave this stage out"
        )
    raise UserError(
        f"{where} hold {', '.join(map(repr, lost))}, which the model can spell now, and could not with the tokens of the "
        f"training answers alone; {'; '.join(ways)}"
    )


def lost_tags(before: Any, after: Any, texts: Iterable[str]) -> list[str]:
    """Tags of ``texts`` that were single tokens before and are none now."""
    used = {token for text in texts for token in _tokens(before, text)}
    return sorted((used & before.get_added_vocab().keys()) - after.get_vocab().keys())


def _tokens(tokenizer: Any, text: str) -> list[str]:
    tokens: list[str] = tokenizer.convert_ids_to_tokens(encode(tokenizer, text))
    return tokens


def trimmed_tokenizer(tokenizer: Any, kept: list[int]) -> Any:
    """The tokenizer with the tokens ``kept`` alone, renumbered in their old order.

    Unigram picks the likeliest spelling; as long as the pieces of a text's spelling are kept, and one of the lowest score, the
    text is spelt as before.

    Raises:
        ModelError: a vocabulary of another kind, whose longer tokens cannot be taken out one by one.
    """
    specification = json.loads(tokenizer.backend_tokenizer.to_str())
    model, stay = specification["model"], set(kept)
    if model["type"] == "Unigram":
        pieces = [piece for index, piece in enumerate(model["vocab"]) if index in stay]
        unknown = model["vocab"][model["unk_id"]][0]
        model["vocab"] = pieces
        names = [name for name, _ in pieces]
        model["unk_id"] = names.index(unknown)
    elif model["type"] == "BPE" and not model["merges"]:
        names = [name for name, index in sorted(model["vocab"].items(), key=lambda pair: pair[1]) if index in stay]
        model["vocab"] = {name: index for index, name in enumerate(names)}
    else:
        raise ModelError(
            f"a {model['type']} vocabulary with merges cannot be trimmed; it is for SentencePiece (Unigram), as Donut has it, "
            "and for single characters"
        )
    ids = {name: index for index, name in enumerate(names)}
    added = [
        token for token in sorted(specification["added_tokens"], key=lambda token: token["id"]) if token["id"] in stay
    ]
    for token in added:
        token["id"] = ids.setdefault(token["content"], len(ids))
    specification["added_tokens"] = added
    specification["post_processor"] = None  # answers are never framed by the tokenizer, and its ids were the old ones
    return wrap(Tokenizer.from_str(json.dumps(specification)))


def prune_vocabulary(network: Any, tokenizer: Any, masks: Masks, kept: list[int]) -> tuple[Any, Any, Masks]:
    """Cuts embedding and tokenizer down to ``kept``.

    Args:
        network: a Donut; it is not changed.
        tokenizer: its tokenizer; it is not changed.
        masks: its zeros, which follow their tensors.
        kept: ids from `needed_tokens`.

    Returns:
        The network with as many rows as there are tokens, the tokenizer, and the masks.

    Raises:
        UserError: there is nothing to take away.
        ModelError: see `trimmed_tokenizer`.
    """
    trimmed, old, new = tokenizer_and_ids(tokenizer, kept)
    if len(old) == network.config.decoder.vocab_size:
        raise UserError(
            "the data need every token of this vocabulary, so there is nothing to trim; leave this stage out"
        )
    config = smaller_config(network)
    config.decoder.vocab_size = len(old)
    for part in (config, config.decoder):
        for name in ("bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id", "forced_eos_token_id"):
            if (value := getattr(part, name, None)) is not None:
                setattr(part, name, new.get(value))
    rows = {0: torch.tensor(old)}
    smaller, left = rebuilt(network, config, masks, {_EMBEDDING: rows, _HEAD: rows}, {}, {})
    generation = smaller.generation_config
    generation.bos_token_id, generation.forced_eos_token_id = config.decoder.bos_token_id, None
    generation.pad_token_id, generation.eos_token_id = trimmed.pad_token_id, trimmed.eos_token_id
    generation.decoder_start_token_id, generation.bad_words_ids = config.decoder_start_token_id, None
    return smaller, trimmed, left


def tokenizer_and_ids(tokenizer: Any, kept: list[int]) -> tuple[Any, list[int], dict[int, int]]:
    """The trimmed tokenizer, the old id of each of its tokens in order, and new ids by old ones."""
    trimmed, vocabulary = trimmed_tokenizer(tokenizer, kept), tokenizer.get_vocab()
    old = [vocabulary[token] for token, _ in sorted(trimmed.get_vocab().items(), key=lambda pair: pair[1])]
    return trimmed, old, {before: after for after, before in enumerate(old)}
