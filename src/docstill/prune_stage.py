"""The stage `prune`: makes the student smaller at once, by one of the methods in `docstill.pruning`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from docstill.data.images import open_image
from docstill.errors import UserError
from docstill.models.io import DocumentModel
from docstill.models.size import count_parameters
from docstill.progress import counter
from docstill.pruning.channels import prune_channels
from docstill.pruning.depth import prune_depth
from docstill.pruning.ffn import prune_ffn
from docstill.pruning.magnitude import magnitude_masks
from docstill.pruning.masks import apply_masks
from docstill.pruning.pattern import pattern_masks
from docstill.pruning.rebuild import Look
from docstill.settings import ChannelPrune, DepthPrune, FfnPrune, MagnitudePrune, PatternPrune, PruneStage
from docstill.tasks.base import Pages, Task, drawn

LookAt = Callable[[int], Look]
"""Makes, from a number of training pages, what runs them through the student."""


def prune(task: Task, student: DocumentModel, settings: PruneStage, pages: Pages | None) -> dict[str, Any]:
    """Prunes ``student`` in place.

    Args:
        task: how the student reads pages.
        student: its network is changed, or replaced by a smaller one.
        settings: the method and its numbers.
        pages: the training split, for methods that measure what passes through the network.

    Returns:
        ``text``: what was done, in a sentence; and the figures in it.

    Raises:
        UserError: the method does not fit the student, or needs pages and there are none.
    """

    def look_at(count: int) -> Look:
        if pages is None:
            raise UserError(f"pruning by {settings.by} looks at training pages; give --data, or another `by`")  # type: ignore[attr-defined]
        return lambda: _run(task, student, pages, count)

    before = count_parameters(student.network)
    text = METHODS[type(settings)](student, settings, look_at)
    after = count_parameters(student.network)
    figures: dict[str, Any] = {
        "zero_non_embedding": after.non_embedding - after.nonzero_non_embedding,
        "non_embedding": after.non_embedding,
    }
    if after.total != before.total:
        text += f" {after.total:,} of {before.total:,} parameters are left."
        figures |= {"total": after.total, "total_before": before.total}
    else:
        text += f" {figures['zero_non_embedding']:,} of {after.non_embedding:,} non-embedding weights are now zero."
    return {"text": text, **figures}


def _magnitude(student: DocumentModel, settings: MagnitudePrune, _: LookAt) -> str:
    within = student.masks or None
    student.masks = magnitude_masks(
        student.network, settings.sparsity, scope=settings.scope, of=settings.of, within=within
    )
    apply_masks(student.network, student.masks)
    return (
        f"Set {settings.sparsity:.1%} of the weights ({settings.of}, {settings.scope} threshold) to zero by magnitude."
    )


def _pattern(student: DocumentModel, settings: PatternPrune, _: LookAt) -> str:
    kept, every = settings.counts
    student.masks = pattern_masks(student.network, kept, every, of=settings.of, within=student.masks or None)
    apply_masks(student.network, student.masks)
    return f"Kept the {kept} largest of every {every} weights ({settings.of})."


def _depth(student: DocumentModel, settings: DepthPrune, look_at: LookAt) -> str:
    look = look_at(settings.pages) if settings.by == "influence" else None
    student.network, student.masks, gone = prune_depth(
        student.network, student.masks, settings.keep, of=settings.of, look=look
    )
    return f"Took {len(gone)} block{'s' if len(gone) > 1 else ''} out ({', '.join(gone)})."


def _ffn(student: DocumentModel, settings: FfnPrune, look_at: LookAt) -> str:
    look = look_at(settings.pages) if settings.by == "activation" else None
    student.network, student.masks = prune_ffn(student.network, student.masks, settings.keep, of=settings.of, look=look)
    return f"Kept {settings.keep:.1%} of the hidden units of each feed-forward layer ({settings.of}), by {settings.by}."


def _channels(student: DocumentModel, settings: ChannelPrune, _: LookAt) -> str:
    student.network, student.masks = prune_channels(student.network, student.masks, settings.keep)
    return f"Kept {settings.keep:.1%} of each stage's channels, by the norms of their filters."


METHODS: dict[type[PruneStage], Callable[[DocumentModel, Any, LookAt], str]] = {
    MagnitudePrune: _magnitude,
    PatternPrune: _pattern,
    DepthPrune: _depth,
    FfnPrune: _ffn,
    ChannelPrune: _channels,
}
"""What each method does to a student; returns a sentence."""


def _run(task: Task, student: DocumentModel, pages: Pages, count: int) -> None:
    """Runs ``count`` documents, drawn from the split, through the student one by one: alone, nothing is padded."""
    chosen = drawn(pages, count).documents
    training = student.network.training
    student.network.eval()
    with torch.inference_mode(), counter("looking at what passes through the student", len(chosen)) as advance:
        for document in chosen:
            example = task.example(student, document, open_image(document.file), pages.labels, None)
            batch = task.collate(student, [example])
            task.forward(student, {name: value.to(student.device) for name, value in batch.items()})
            advance(1)
    student.network.train(training)
