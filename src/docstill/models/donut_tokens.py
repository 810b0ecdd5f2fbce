"""The vocabulary of a Donut: building one in-process, and the repairs that published ones need.

A new model reads character by character: every character is one token and every tag (``<s_total>``) is one token, so
nothing that was seen in training can fail to be spelt, and spaces come back exactly as they went in.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from docstill.data.json_tokens import SEPARATOR, SPECIAL

SAFE_ALPHABET = "".join(map(chr, range(32, 127)))
"""Printable ASCII; every new vocabulary has it, whatever the training texts hold."""

_TAG = rf"</?s_[^>]+>|{SEPARATOR}"
_TAGS = re.compile(rf"(?:{_TAG})+")

PRETRAINING_TASKS = {"<s_iitcdip>", "<s_synthdog>"}
"""Task tokens that published checkpoints carry along from their pretraining."""


def character_tokenizer(texts: Iterable[str], tags: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters and whole tags; ``decode(encode(text)) == text`` for every known character.

    Args:
        texts: whose characters must be known, besides `SAFE_ALPHABET`.
        tags: tokens such as ``<s_total>``; ``<sep/>`` is always one of them.
    """
    characters = sorted(set(SAFE_ALPHABET).union(*texts))
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *characters])}
    # byte-pair encoding without merges is plain characters, and needs no pre-tokenizer that could eat spaces
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", fuse_unk=False))
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([whole_token(token) for token in [*SPECIAL, *sorted({SEPARATOR, *tags})]])
    return wrap(backend)


def wrap(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """``backend`` as a transformers tokenizer with the special tokens every Donut has."""
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def add_missing(tokenizer: Any, tags: Iterable[str], characters: Iterable[str] = ()) -> tuple[Any, list[str]]:
    """Adds the tags that ``tokenizer`` lacks, the bare piece ``1``, and ``characters`` to a vocabulary of single ones.

    The SentencePiece vocabulary of published Donuts has ``▁1`` but no ``1``, so that ``A1`` is read as ``A<unk>``
    (huggingface/transformers#25099). An added token would split every number at its ones, therefore the piece goes
    into the model behind the tokenizer, as the least likely one: whatever could be spelt before is spelt as before.

    Returns:
        The tokenizer to use from now on, and the tokens that were added.
    """
    added = []
    if lacks_one(tokenizer):
        tokenizer = _with_piece(tokenizer, "1")
        added.append("1")
    if new := addable(tokenizer, characters):
        tokenizer = _with_characters(tokenizer, new)
        added += new
    missing = sorted(set(tags) - set(tokenizer.get_vocab()))
    tokenizer.add_tokens([whole_token(tag) for tag in missing], special_tokens=True)
    return tokenizer, added + missing


def _with_piece(tokenizer: Any, piece: str) -> PreTrainedTokenizerFast:
    specification = json.loads(tokenizer.backend_tokenizer.to_str())
    pieces = specification["model"]["vocab"]
    lowest = min(score for _, score in pieces)
    contents = {token["id"]: token["content"] for token in specification["added_tokens"]}
    while len(pieces) in contents:  # ids of a Unigram model are positions in its list, and these are taken
        pieces.append([contents[len(pieces)], lowest])
    pieces.append([piece, lowest])
    return wrap(Tokenizer.from_str(json.dumps(specification)))


def addable(tokenizer: Any, characters: Iterable[str]) -> list[str]:
    """Those of ``characters`` that a vocabulary of single ones lacks; none for others, whose pieces were learnt together."""
    new = sorted(set(characters) - tokenizer.get_vocab().keys())
    pieces = json.loads(tokenizer.backend_tokenizer.to_str())["model"] if new else {}
    return new if pieces.get("type") == "BPE" and not pieces["merges"] else []


def _with_characters(tokenizer: Any, characters: Sequence[str]) -> PreTrainedTokenizerFast:
    specification = json.loads(tokenizer.backend_tokenizer.to_str())
    # Tags get the first ids behind the vocabulary when a tokenizer is loaded, so a longer one must hold theirs, too.
    tags = {token["content"]: token["id"] for token in specification["added_tokens"]}
    specification["model"]["vocab"] |= tags | {one: place for place, one in enumerate(characters, len(tokenizer))}
    return wrap(Tokenizer.from_str(json.dumps(specification)))


def vocabulary(tokenizer: Any) -> Mapping[str, int]:
    """Ids by token. Kept until tokens are added: to get a large vocabulary out of a tokenizer takes tens of milliseconds."""
    return _vocabulary(tokenizer, len(tokenizer))


@functools.lru_cache(maxsize=4)
def _vocabulary(tokenizer: Any, tokens: int) -> Mapping[str, int]:
    found: dict[str, int] = tokenizer.get_vocab()
    return found


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of ``text`` alone, without ``<s>`` and ``</s>``."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def decode(tokenizer: Any, ids: Iterable[int]) -> str:
    """The text of generated ids up to the first ``</s>``, tags kept, padding dropped."""
    kept: list[int] = []
    for token in ids:
        if token == tokenizer.eos_token_id:
            break
        if token != tokenizer.pad_token_id:
            kept.append(token)
    text: str = tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def categories(tokenizer: Any) -> frozenset[str]:
    """Names that the vocabulary has one token ``<name/>`` for: kinds of documents, yes and no."""
    return _categories(tokenizer, len(tokenizer))


@functools.lru_cache(maxsize=4)
def _categories(tokenizer: Any, tokens: int) -> frozenset[str]:
    added = (re.fullmatch(r"<([^<>/]+)/>", token) for token in tokenizer.get_added_vocab() if token != SEPARATOR)
    return frozenset(found[1] for found in added if found)


def lacks_one(tokenizer: Any) -> bool:
    """Whether it is a SentencePiece vocabulary without the bare piece ``1``; see `add_missing`."""
    if "1" in vocabulary(tokenizer):
        return False
    return bool(json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"] == "Unigram")


def tags_in(token: str) -> tuple[str, ...]:
    """The tags and separators that a token stands for: one, several that were merged, none where it is text."""
    return tuple(re.findall(_TAG, token)) if _TAGS.fullmatch(token) else ()


def form_ids(tokenizer: Any) -> list[int]:
    """Ids of the tokens that give an answer its form and are no part of a value: tags, separator, end."""
    tags = {index for token, index in tokenizer.get_added_vocab().items() if tags_in(token)}
    return sorted(tags | {tokenizer.eos_token_id})


def unknown_characters(tokenizer: Any, text: str) -> set[str]:
    """Pieces of ``text`` that the tokenizer can only read as ``<unk>``."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    pairs = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return {text[start:end] for token, (start, end) in pairs if token == tokenizer.unk_token_id}


def start_token(tokenizer: Any) -> str:
    """The token an answer starts with, for a model folder that does not say.

    It is the vocabulary's one task token: a tag ``<s_NAME>`` without a closing ``</s_NAME>``, those of the
    pretraining (`PRETRAINING_TASKS`) aside. If there is none, or more than one, it is ``<s>``.
    """
    vocabulary = tokenizer.get_vocab()
    opening = {token for token in tokenizer.get_added_vocab() if re.fullmatch(r"<s_[^>]+>", token)}
    tasks = {token for token in opening if f"</{token[1:]}" not in vocabulary} - PRETRAINING_TASKS
    return tasks.pop() if len(tasks) == 1 else "<s>"


def whole_token(token: str) -> AddedToken:
    """A token that a text is never read without where it stands, such as a tag."""
    return AddedToken(token, special=True, normalized=False, lstrip=False, rstrip=False)
