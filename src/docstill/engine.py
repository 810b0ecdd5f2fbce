"""The training loop: one visible loop, with checkpoints from which it resumes bit for bit on a CPU.

One optimisation step is a *window* of ``gradient_accumulation_steps`` small batches. Every loss is a mean over
something (decisions or documents); it is weighted by its share of the window, so that 8 accumulated batches of 1 give
the same gradient as one batch of 8.

What is random at a step depends on (seed, epoch, document) alone, or on the generator whose state is in the
checkpoint; so a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from docstill.board import Board
from docstill.checkpoint import Extra, Progress, load_checkpoint, load_weights, save_checkpoint, save_weights
from docstill.errors import DocstillError, UserError
from docstill.gradients import gradient_ratios, unbalanced
from docstill.models.batch_norm import average_batches
from docstill.models.io import fastest_device
from docstill.optimiser import choose_precision, learning_rate_factor, make_optimizer, quick_attention, seed_everything
from docstill.progress import say
from docstill.run import CHECKPOINT, MetricsLog
from docstill.settings import Training

BEST, METRICS = "best.pt", "metrics.jsonl"
LOOKS = 3
"""So many looks at how hard objectives pull tell whether one drowns the labels or hardly counts: early enough to stop, later than a chance."""


@dataclass(frozen=True)
class Loss:
    """One objective's value on one small batch: a mean over ``count`` things, and its weight in the sum."""

    name: str
    value: Tensor
    weight: float
    count: int


@dataclass(frozen=True)
class Trainee:
    """What `fit` needs to know of the thing that learns.

    Attributes:
        lesson: called with a batch, returns its losses; its parameters are trained and checkpointed.
        student: the part of ``lesson`` that is handed on.
        batches: the small batches of an epoch, in a fixed order: (epoch, how many batches to skip).
        batches_per_epoch: how many small batches an epoch has.
        counts: of a batch, how many things each loss is a mean over, by loss name.
        validate: figures on the validation split; the first decides which weights are best.
        after_step: called with (step, steps) after each optimisation step; keeps pruned weights at zero.
        eligible: whether the weights at (step, steps) may be handed on; not while pruning is still under way.
        extra: what else must be in a checkpoint.
    """

    lesson: nn.Module
    student: nn.Module
    batches: Callable[[int, int], Iterator[Any]]
    batches_per_epoch: int
    counts: Callable[[Any], dict[str, int]]
    validate: Callable[[], dict[str, float]]
    after_step: Callable[[int, int], None] = lambda step, steps: None
    eligible: Callable[[int, int], bool] = lambda step, steps: True
    extra: Extra = Extra()


def fit(
    trainee: Trainee, settings: Training, folder: Path, seed: int, advance: Callable[[int, int, str], None]
) -> Progress:
    """Trains, and leaves the chosen weights (``settings.keep``) in ``trainee.student``.

    Args:
        trainee: what learns, from what.
        settings: epochs, rates, precision.
        folder: holds `last.pt`, `best.pt` and `metrics.jsonl`; a second call continues there.
        seed: of everything random.
        advance: called with (steps done, steps in all, a short text) for the progress bar.

    Returns:
        Where training stands at its end, with the best validation figure and its step.

    Raises:
        UserError: started as one of several processes that are to share the training.
    """
    if (processes := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise UserError(
            f"{processes} processes were started to train one network, docstill trains in one; start it without torchrun or accelerate (the "
            "cells of a study may be shared by several processes, each with its GPU in CUDA_VISIBLE_DEVICES)"
        )
    device = fastest_device()
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=choose_precision(settings.precision) == "bf16")
    window = settings.gradient_accumulation_steps
    steps_per_epoch = math.ceil(trainee.batches_per_epoch / window)
    steps = max(1, round(settings.epochs * steps_per_epoch))
    check_every = max(1, round(settings.evaluate_every * steps_per_epoch))

    seed_everything(seed)
    average_batches(trainee.student)
    lesson = trainee.lesson.to(device)
    optimizer = make_optimizer(lesson, settings.learning_rate, settings.weight_decay)
    progress = load_checkpoint(folder / CHECKPOINT, lesson, optimizer, trainee.extra)
    log = MetricsLog(folder / METRICS, progress.step)
    board = Board(folder, progress.step) if settings.tensorboard else None
    began, saved_at = time.monotonic() - progress.seconds, time.monotonic()
    looks: list[dict[str, Any]] = []
    advance(progress.step, steps, "")

    while progress.step < steps:
        epoch, within = divmod(progress.step, steps_per_epoch)
        for group in _windows(trainee.batches(epoch, within * window), window):
            rate = settings.learning_rate * learning_rate_factor(progress.step, steps, settings.warmup_ratio)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate
            lesson.train()
            look = progress.step % steps_per_epoch == 0  # at how hard each objective pulls: once an epoch
            values = optimise(trainee, optimizer, group, autocast, settings.max_grad_norm, look)
            progress.step += 1
            trainee.after_step(progress.step, steps)
            if look:
                looks.append(values)
                if len(looks) == LOOKS:  # the results say it again, of the whole training
                    for warning in unbalanced(looks, f"after {progress.step:,} of {steps:,} steps"):
                        say(f"warning: {warning}")

            line: dict[str, Any] = {
                "step": progress.step,
                "epoch": progress.step / steps_per_epoch,
                **values,
                "learning_rate": rate,
            }
            best_before = progress.best_step
            if progress.step % check_every == 0 or progress.step == steps:
                advance(progress.step, steps, "scoring the validation split")
                progress.figures = line["validation"] = trainee.validate()
                figure = next(iter(progress.figures.values()))
                better = figure > progress.best or figure == progress.best == 0  # nothing right yet: the latest
                if better and trainee.eligible(progress.step, steps):
                    progress.best, progress.best_step = figure, progress.step
                    save_weights(folder / BEST, trainee.student)
            log.add(**line)
            if board is not None:
                board.add(line)
            advance(progress.step, steps, f"loss {values['loss']:.3f}")
            progress.seconds = time.monotonic() - began
            late = time.monotonic() - saved_at > settings.checkpoint_minutes * 60
            # Never a best one without its checkpoint: on a GPU the same steps again need not come to the same.
            if (
                late
                or progress.best_step != best_before
                or progress.step % steps_per_epoch == 0
                or progress.step == steps
            ):
                save_checkpoint(folder / CHECKPOINT, lesson, optimizer, progress, trainee.extra)
                saved_at = time.monotonic()
            if progress.step == steps:
                break

    if settings.keep == "best" and progress.best_step:
        load_weights(folder / BEST, trainee.student)
    if board is not None:
        board.close()
    trainee.student.eval()
    return progress


def optimise(
    trainee: Trainee,
    optimizer: torch.optim.Optimizer,
    group: Sequence[Any],
    autocast: torch.autocast,
    max_grad_norm: float,
    look: bool,
) -> dict[str, Any]:
    """One step over a window of small batches: the losses as means over the window; with ``look`` also ``gradients``.

    Raises:
        DocstillError: the loss, or its gradient, is not finite; the weights are then as they were.
    """
    totals: dict[str, float] = {}
    for batch in group:
        for name, count in trainee.counts(batch).items():
            totals[name] = totals.get(name, 0) + count
    values: dict[str, Any] = {"loss": 0.0}
    found: list[tuple[list[str], Tensor]] = []
    for index, batch in enumerate(group):
        with autocast, quick_attention(torch.device(autocast.device)):
            losses = _compared(trainee.lesson, batch)
        parts = [loss.value * (loss.count / (totals[loss.name] or 1)) for loss in losses]
        total = torch.stack([loss.weight * part for loss, part in zip(losses, parts, strict=True)]).sum()
        if look and index == 0 and len(parts) > 1:
            weighted = {loss.name: loss.weight * part for loss, part in zip(losses, parts, strict=True)}
            values["gradients"] = gradient_ratios(weighted, trainee.student)
        torch.autograd.backward(total)
        found.append((["loss", *(loss.name for loss in losses)], torch.stack([total, *parts]).detach()))
    # only now, for to read a number is to wait for the GPU
    for batch, (names, numbers) in zip(group, found, strict=True):
        read = numbers.tolist()
        if not math.isfinite(read[0]):
            optimizer.zero_grad()
            files = ", ".join(batch["files"][:8])
            raise DocstillError(
                f"the loss is {read[0]} on the batch of {files}; look at these files, or lower learning_rate"
            )
        for name, number in zip(names, read, strict=True):
            values[name] = values.get(name, 0.0) + number
    norm = nn.utils.clip_grad_norm_(trainee.lesson.parameters(), max_grad_norm)
    if not torch.isfinite(
        norm
    ):  # the losses may be finite all the same, and one step would leave no weight that is a number
        optimizer.zero_grad()
        files = ", ".join(file for batch in group for file in batch["files"])
        raise DocstillError(f"the gradient is {norm.item()} on {files}; look at these files, or lower learning_rate")
    optimizer.step()
    optimizer.zero_grad()
    return values


def _compared(lesson: nn.Module, batch: Any) -> list[Loss]:
    """The losses of a batch.

    Raises:
        UserError: batch norm has one number a channel to average over; torch says so in words of its own.
    """
    try:
        losses: list[Loss] = lesson(batch)
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        count = len(batch["files"])
        raise UserError(
            f"a batch of {count} page{'s' if count > 1 else ''} of this size leaves one number a channel at the end of the network, and batch norm learns "
            "from no fewer than two; give a batch_size that leaves no page over, or a larger image_size"
        ) from error
    return losses


def _windows(batches: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while group := list(islice(batches, size)):
        yield group
