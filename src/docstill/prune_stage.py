"""The stage `prune`: makes the student smaller at once, by one of the methods in `docstill.pruning`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from docstill.errors import UserError
from docstill.models.blocks import TWO_STAGE_DETECTOR
from docstill.models.detector import backbones
from docstill.models.donut import check_window
from docstill.models.donut_tokens import encode
from docstill.models.io import DocumentModel, fastest_device
from docstill.models.size import count_parameters
from docstill.progress import counter, say
from docstill.prune_settings import (
    PRUNED_TASKS,
    BackbonePrune,
    ChannelPrune,
    DepthPrune,
    FfnPrune,
    MagnitudePrune,
    MergesPrune,
    PatternPrune,
    PruneStage,
    ResolutionPrune,
    VocabularyPrune,
)
from docstill.pruning.backbone import BACKBONES, swap_backbone
from docstill.pruning.channels import prune_channels
from docstill.pruning.depth import KEPT_LAYERS, kept_layers, prune_depth
from docstill.pruning.ffn import prune_ffn
from docstill.pruning.magnitude import magnitude_masks
from docstill.pruning.masks import apply_masks
from docstill.pruning.merges import merge_tokens
from docstill.pruning.pattern import pattern_masks
from docstill.pruning.rebuild import Look
from docstill.pruning.resolution import at_share, on_canvas, with_smaller_anchors
from docstill.pruning.vocabulary import (
    check_kept,
    check_spelling,
    lost_tags,
    needed_tokens,
    prune_vocabulary,
    unspellable,
)
from docstill.tasks.base import Pages, Task, drawn, example_in_use, on_device


class Splits(NamedTuple):
    """The pages that a method may look at, where there are any."""

    training: Pages | None
    validation: Pages | None


def prune(
    task: Task, student: DocumentModel, settings: PruneStage, pages: Pages | None, validation: Pages | None = None
) -> dict[str, Any]:
    """Prunes ``student`` in place.

    Args:
        task: how the student reads pages.
        student: its network is changed, or replaced by a smaller one.
        settings: the method and its numbers.
        pages: the training split, for methods that measure what passes through the network.
        validation: the validation split; nothing is measured on it, but what it needs is not taken away unsaid.

    Returns:
        ``text``: what was done, in a sentence; and the figures in it.

    Raises:
        UserError: the method does not fit the student, or needs pages and there are none.
    """
    fitting = PRUNED_TASKS.get(settings.method, (task.name,))
    if task.name not in fitting:
        raise UserError(
            f"method: {settings.method} is for {' and '.join(fitting)}, this is a model for {task.name}; use another method"
        )
    before = count_parameters(student.network)
    text = METHODS[type(settings)](task, student, settings, Splits(pages, validation))
    after = count_parameters(student.network)
    figures: dict[str, Any] = {
        "zero_non_embedding": after.non_embedding - after.nonzero_non_embedding,
        "non_embedding": after.non_embedding,
    }
    if after.total != before.total:
        more = after.total - before.total
        text += (
            f" {after.total:,} of {before.total:,} parameters are left."
            if more < 0
            else f" That is {more:,} parameters more."
        )
        figures |= {"total": after.total, "total_before": before.total}
    elif settings.method in ("magnitude", "pattern"):
        text += f" {figures['zero_non_embedding']:,} of {after.non_embedding:,} non-embedding weights are now zero."
    return {"text": text, **figures}


def _magnitude(task: Task, student: DocumentModel, settings: MagnitudePrune, splits: Splits) -> str:
    within = student.masks or None
    student.masks = magnitude_masks(
        student.network, settings.sparsity, scope=settings.scope, of=settings.of, within=within
    )
    apply_masks(student.network, student.masks)
    return f"Set {settings.sparsity:.1%} of the weights ({settings.of}) to zero, {_SCOPES[settings.scope]}."


_SCOPES = {
    "global": "the smallest of all",
    "layer": "the smallest of each tensor",
    "lamp": "the smallest of all by LAMP, which weighs each against the larger ones of its tensor",
}


def _pattern(task: Task, student: DocumentModel, settings: PatternPrune, splits: Splits) -> str:
    kept, every = settings.counts
    student.masks = pattern_masks(student.network, kept, every, of=settings.of, within=student.masks or None)
    apply_masks(student.network, student.masks)
    return f"Kept the {kept} largest of every {every} weights ({settings.of})."


def _depth(task: Task, student: DocumentModel, settings: DepthPrune, splits: Splits) -> str:
    _not_of_faster_rcnn(student, settings)
    look = _look(task, student, settings, splits.training) if settings.by == "influence" else None
    smaller, student.masks, gone = prune_depth(student.network, student.masks, settings.keep, of=settings.of, look=look)
    student.card.setdefault(KEPT_LAYERS, []).append(kept_layers(student.network, gone))
    student.network = smaller
    return f"Took {len(gone)} block{'s' if len(gone) > 1 else ''} out ({', '.join(gone)})."


def _ffn(task: Task, student: DocumentModel, settings: FfnPrune, splits: Splits) -> str:
    _not_of_faster_rcnn(student, settings)
    look = _look(task, student, settings, splits.training) if settings.by == "activation" else None
    student.network, student.masks = prune_ffn(student.network, student.masks, settings.keep, of=settings.of, look=look)
    return f"Kept {settings.keep:.1%} of the hidden units of each feed-forward layer ({settings.of}), by {settings.by}."


def _channels(task: Task, student: DocumentModel, settings: ChannelPrune, splits: Splits) -> str:
    student.network, student.masks = prune_channels(student.network, student.masks, settings.keep)
    return f"Kept {settings.keep:.1%} of each stage's channels, by the norms of their filters."


def _vocabulary(task: Task, student: DocumentModel, settings: VocabularyPrune, splits: Splits) -> str:
    pages, validation = splits
    if pages is None:
        raise UserError("trimming the vocabulary reads the training answers; give --data")
    tokenizer, network = student.processor.tokenizer, student.network
    before = network.config.decoder.vocab_size
    texts = task.texts(student, pages)
    kept = needed_tokens(tokenizer, texts, network.config.decoder_start_token_id, settings.characters)
    smaller, trimmed, masks = prune_vocabulary(network, tokenizer, student.masks, kept)
    check_spelling(tokenizer, trimmed, texts)
    _say_unspellable(tokenizer, texts, pages)
    if validation is not None:
        others = task.texts(student, validation)
        check_kept(tokenizer, trimmed, others, f"the answers in {validation.folder}", settings.characters)
        _say_unspellable(tokenizer, others, validation)
        if tags := lost_tags(tokenizer, trimmed, others):
            say(
                f"the answers in {validation.folder} hold {', '.join(tags)}, which no training answer has; they are dropped"
            )
    student.network, student.processor.tokenizer, student.masks = smaller, trimmed, masks
    return f"Kept {len(kept):,} of {before:,} tokens: those of the training answers, and single characters."


def _merges(task: Task, student: DocumentModel, settings: MergesPrune, splits: Splits) -> str:
    if splits.training is None:
        raise UserError("merging tokens reads the training answers; give --data")
    tokenizer, texts = student.processor.tokenizer, task.texts(student, splits.training)
    added = merge_tokens(student, texts, settings.count, settings.common)
    if not added:
        raise UserError(
            f"no two tokens stand side by side twice in {'values that are common enough in ' * (settings.common > 0)}the answers in "
            f"{splits.training.folder}, so there is nothing to merge; {'make common smaller, or ' * (settings.common > 0)}leave this stage out"
        )
    before, after = (sum(len(encode(one, text)) for text in texts) for one in (tokenizer, student.processor.tokenizer))
    return (
        f"Added {added:,} tokens, each of two others; a training answer takes {after / len(texts):.1f} tokens instead of "
        f"{before / len(texts):.1f}."
    )


def _say_unspellable(tokenizer: Any, texts: list[str], pages: Pages) -> None:
    if unknown := sorted(unspellable(tokenizer, texts)):
        say(
            f"the answers in {pages.folder} hold {', '.join(map(repr, unknown))}, for which the vocabulary has no token, trimmed or "
            "not; the model cannot write them"
        )


def _backbone(task: Task, student: DocumentModel, settings: BackbonePrune, splits: Splits) -> str:
    student.network, kept, behind = swap_backbone(student.network, settings.to, backbones())
    shapes = {name: parameter.shape for name, parameter in student.network.named_parameters()}
    student.masks = {
        name: mask
        for name, mask in student.masks.items()
        if not name.startswith(BACKBONES) and shapes.get(name) == mask.shape
    }
    return (
        f"Put a new backbone, that of {settings.to}, in the place of the old one; {kept} of the {behind} tensors behind it "
        "were kept."
    )


def _resolution(task: Task, student: DocumentModel, settings: ResolutionPrune, splits: Splits) -> str:
    width, height = task.page_size(student)
    if student.task == "kie":
        processor = copy.deepcopy(student.processor)
        processor.image_processor = at_share(processor.image_processor, settings.keep)
    else:
        processor = at_share(student.processor, settings.keep)
    across, down = task.page_size(replace(student, processor=processor))
    if (across, down) == (width, height):
        raise UserError(f"keep: {settings.keep} leaves pages at {height} × {width} pixels; give a smaller share")
    if student.task == "kie":
        check_window(student.network.config.encoder, (down, across))
        student.network, student.masks = on_canvas(student.network, student.masks, (down, across))
    elif student.network.config.model_type == TWO_STAGE_DETECTOR:
        student.network, student.masks = with_smaller_anchors(student.network, student.masks, down / height)
    student.processor = processor
    return f"Pages are taken at {down} × {across} pixels instead of {height} × {width}."


def _not_of_faster_rcnn(student: DocumentModel, settings: PruneStage) -> None:
    if student.network.config.model_type == TWO_STAGE_DETECTOR:
        raise UserError(
            f"method: {settings.method} was given, a Faster R-CNN cannot be made smaller in this way; use channels, backbone or resolution"
        )


METHODS: dict[type[PruneStage], Callable[[Task, DocumentModel, Any, Splits], str]] = {
    MagnitudePrune: _magnitude,
    PatternPrune: _pattern,
    DepthPrune: _depth,
    FfnPrune: _ffn,
    ChannelPrune: _channels,
    VocabularyPrune: _vocabulary,
    MergesPrune: _merges,
    BackbonePrune: _backbone,
    ResolutionPrune: _resolution,
}
"""What each method does to a student; returns a sentence."""


def _look(task: Task, student: DocumentModel, settings: DepthPrune | FfnPrune, pages: Pages | None) -> Look:
    if pages is None:
        raise UserError(f"pruning by {settings.by} looks at training pages; give --data, or another `by`")
    return lambda: _run(task, student, pages, settings.pages)


def _run(task: Task, student: DocumentModel, pages: Pages, count: int) -> None:
    """Runs ``count`` documents, drawn from the split, through the student one by one: alone, nothing is padded."""
    chosen = drawn(pages, count).documents
    training, home = student.network.training, student.device
    student.network.eval().to(fastest_device())
    with torch.no_grad(), counter("looking at what passes through the student", len(chosen)) as advance:
        for document in chosen:
            example = example_in_use(task, student, document, pages.labels)
            batch = task.collate(student, [example])
            task.forward(student, on_device(batch, student.device))
            advance(1)
    student.network.train(training).to(home)
