"""The layers of a network that are compared, and their features: one row of numbers a document.

A layer is a block of the network (a residual block, a transformer layer), or any module that is asked for by its path, at
its output. Its tokens (places of a feature map, patches, positions of an answer) become one row in one of two ways:

- ``pooled``: the mean over tokens. Asks whether two models tell the same documents apart; any two layers can be compared.
- ``flattened``: all tokens side by side, as usual for feature maps (Kornblith et al. 2019). Asks, too, whether they do so
  at the same places of the page.

Positions behind the end of an answer are padding: they are left out of the mean, and are zero in the row of all tokens.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from docstill.errors import ModelError, UserError
from docstill.models.blocks import Block, blocks_of
from docstill.models.io import DocumentModel
from docstill.models.taps import tapped
from docstill.objectives.base import Outputs
from docstill.objectives.positions import written
from docstill.tasks.base import Task, on_device

TOKENS = ("pooled", "flattened")

Features = NDArray[np.floating[Any]]


def chosen(network: nn.Module, patterns: Sequence[str]) -> list[Block]:
    """The modules whose paths match one of the patterns, from the input to the output, each named by its path.

    Args:
        network: of either model.
        patterns: paths in which ``*`` stands for any part of a name between two dots: ``encoder.encoder.layers.*``.
    """
    wanted = [pattern.split(".") for pattern in patterns]
    return [
        Block(path, "decoder" if path.startswith("decoder.") else "encoder", path)
        for path, _ in network.named_modules()
        if any(_matches(path.split("."), names) for names in wanted)
    ]


def layers_of(teacher: nn.Module, student: nn.Module, patterns: Sequence[str] = ()) -> tuple[list[Block], list[Block]]:
    """The layers of both networks that are compared: those the patterns name, or all blocks.

    Raises:
        UserError: a pattern fits neither network, or no pattern fits one of them; the nearest paths are listed.
    """
    if not patterns:
        return blocks_of(teacher), blocks_of(student)
    for pattern in patterns:
        if not chosen(teacher, [pattern]) and not chosen(student, [pattern]):
            paths = {path: None for network in (teacher, student) for path, _ in network.named_modules() if path}
            near = difflib.get_close_matches(pattern, paths, n=3, cutoff=0.3)
            raise UserError(
                f"no module of teacher or student fits {pattern!r}; did you mean {', '.join(near) or 'another path'}?"
            )
    found = chosen(teacher, patterns), chosen(student, patterns)
    for name, network, blocks in zip(("teacher", "student"), (teacher, student), found, strict=True):
        if not blocks:
            raise UserError(
                f"no module of the {name} fits {', '.join(map(repr, patterns))}; "
                f"give a pattern for it too, its blocks are called like {blocks_of(network)[0].path}"
            )
    return found


def _matches(names: Sequence[str], wanted: Sequence[str]) -> bool:
    return len(names) == len(wanted) and all(fnmatchcase(*pair) for pair in zip(names, wanted, strict=True))


def look(
    task: Task, model: DocumentModel, blocks: Sequence[Block], batch: dict[str, Any], tokens: str
) -> tuple[Outputs, list[Features]]:
    """Runs a batch through a model in eval mode.

    Returns:
        What the task makes of it, and the features of each block, ``(B, p)``.

    Raises:
        ModelError: a layer that is not run, whose output is not tokens of documents, or not finite.
    """
    training = model.network.training
    model.network.eval()
    with torch.no_grad(), tapped(model.network, [block.path for block in blocks]) as kept:
        outputs = task.forward(model, on_device(batch, model.device))
    model.network.train(training)
    return outputs, [_sound(kept.pop(block.path, None), outputs, block, tokens) for block in blocks]


def _sound(output: Tensor | None, outputs: Outputs, block: Block, tokens: str) -> Features:
    if output is None:
        raise ModelError(f"{block.path} is not run when the network reads a page; choose other layers")
    most = 4 if outputs.answers is None or not block.path.startswith(outputs.answers[0]) else 3
    if not 2 <= output.ndim <= most or len(output) != outputs.documents:
        shape = " × ".join(map(str, output.shape))
        raise ModelError(
            f"the output of {block.path} is {shape}, not tokens of each of {outputs.documents} documents; choose other layers"
        )
    rows = rows_of(output, written(outputs, block.path, output.shape), tokens)
    if not np.isfinite(rows).all():
        raise ModelError(f"the features of {block.path} are not finite; evaluate the model first, it may be damaged")
    return rows


def rows_of(output: Tensor, counted: Tensor | None, tokens: str) -> Features:
    """A block's output as one row a document.

    Args:
        output: ``(B, C)``, ``(B, T, C)``, or a feature map ``(B, C, H, W)``.
        counted: ``(B, T)``, false at padding; None where there is none.
        tokens: ``pooled`` or ``flattened``.

    Returns:
        ``(B, C)`` float64 if pooled, ``(B, T · C)`` if flattened.
    """
    output = (
        output.flatten(2).transpose(1, 2) if output.ndim == 4 else output.reshape(len(output), -1, output.shape[-1])
    )
    if counted is not None:
        output = output.masked_fill(~counted[..., None], 0)
    if tokens == "flattened":
        return output.flatten(1).cpu().numpy()
    count = output.shape[1] if counted is None else counted.sum(1, keepdim=True)
    return (output.double().sum(1) / count).cpu().numpy()


def matched(teacher: Sequence[Block], student: Sequence[Block]) -> list[tuple[int, int]]:
    """For each layer of the teacher the student's layer at the same relative depth of the same part: ``(i, j)``."""
    pairs = []
    for part in dict.fromkeys(block.part for block in teacher):
        rows = [index for index, block in enumerate(teacher) if block.part == part]
        columns = [index for index, block in enumerate(student) if block.part == part]
        for place, row in enumerate(rows):
            if columns:
                share = place / (len(rows) - 1) if len(rows) > 1 else 1.0
                pairs.append((row, columns[int(share * (len(columns) - 1) + 0.5)]))
    return pairs
