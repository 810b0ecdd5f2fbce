"""`docstill check`: a data set by itself, or beside the model that is to learn from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docstill.data import validator
from docstill.data.donut_folder import scan_donut_folder
from docstill.data.json_tokens import json_to_tokens, tag_tokens
from docstill.errors import DataError, MissingExtra, UserError
from docstill.shipped import located


def check(data: str | Path, task: str | None = None, model: str | Path | None = None) -> dict[str, Any]:
    """Reads every split, every line and every picture; see `docstill.data.validator.check` for what it returns.

    Args:
        data: a split's folder, or the folder that holds the splits.
        task: ``kie``, ``layout`` or ``classification``; default: by the files that are there.
        model: for kie, a model folder or hub id: the warnings also name the documents whose answers do not fit its decoder, or
            that its vocabulary cannot spell.

    Raises:
        UserError: there is no such folder, no such task, or a model where the task is not kie.
        ModelError: the model cannot be loaded whole, or is no Donut.
        MissingExtra: a model, and the extra ``train`` is not installed.
    """
    if model is None:
        return validator.check(data, task)
    splits = validator.splits_of(Path(data))
    chosen = task or validator.guessed(splits)
    if chosen != "kie":
        raise UserError(f"a model is for answers that are written (kie), {data} is for {chosen}; leave the model out")
    unfit = _unfit(splits, str(model))
    found = validator.check(data, chosen)
    return {**found, "warnings": found["warnings"] + unfit}


def _unfit(splits: dict[str, Path], source: str) -> list[str]:
    """The documents of all splits that a model cannot write, with the tags that training would add; a line each."""
    try:
        from docstill.doubts import respelt
        from docstill.models.donut import add_tags
        from docstill.models.donut_tokens import addable, lacks_one
        from docstill.tasks.base import Pages
        from docstill.tasks.kie import Kie
    except ModuleNotFoundError as error:
        raise MissingExtra("docstill check with a model", "train") from error
    task, model = Kie(), Kie().load_model(located(source))
    pages = [Pages(folder, scan_donut_folder(folder)[0]) for folder in splits.values()]  # training first
    learnt = [variant for document in pages[0].documents for variant in document.variants]
    tags = set().union(*map(tag_tokens, learnt))
    tokenizer, warnings = model.processor.tokenizer, []
    characters = addable(tokenizer, set().union(*map(json_to_tokens, learnt)))
    for what, lacking in (
        ("tag", sorted(tags - tokenizer.get_vocab().keys())),
        ("character", list(map(repr, characters))),
        ("bare piece", ["'1'"] if lacks_one(tokenizer) else []),
    ):
        if lacking:
            warnings.append(
                f"the vocabulary of {source} has no {what} {', '.join(lacking)}; `docstill train` adds them"
            )
    if warnings:
        add_tags(model, tags, characters)
    for split in pages:
        try:
            task.check_model(model, split)
        except DataError as error:
            warnings += [f"{split.folder}: {line}" for line in error.problems]
        spelt = respelt(model.processor.tokenizer, split.documents)
        warnings += [f"{split.folder}: {line}, as the tokenizer of {source} spells it" for line in spelt]
    return warnings
