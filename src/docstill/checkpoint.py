"""Checkpoints of the training loop: one file, written atomically, from which training goes on bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from docstill.errors import UserError
from docstill.files import atomic


@dataclass
class Progress:
    """Where training stands; all of it is in the checkpoint."""

    step: int = 0
    best: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
    """Time spent on the steps so far, over all calls; what was lost to a kill is not in it."""
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Extra:
    """State beside network and optimiser that a checkpoint must hold, and how to put it back."""

    state: Callable[[], dict[str, Any]] = dict
    restore: Callable[[dict[str, Any]], None] = lambda state: None


def save_weights(path: Path, module: nn.Module) -> None:
    """Writes a module's weights and buffers."""
    with atomic(path) as file:
        torch.save(module.state_dict(), file)


def load_weights(path: Path, module: nn.Module) -> None:
    """Puts back what `save_weights` wrote."""
    module.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))


def save_checkpoint(path: Path, lesson: nn.Module, optimizer: Any, progress: Progress, extra: Extra) -> None:
    """Writes everything that the next step depends on."""
    with atomic(path) as file:
        torch.save(
            {
                "lesson": lesson.state_dict(),
                "optimizer": optimizer.state_dict(),
                "progress": vars(progress),
                "extra": extra.state(),
                "random": torch.get_rng_state(),
                # of the one GPU that this process learns on: others may be there now and not later
                "random_cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
            },
            file,
        )


def load_checkpoint(path: Path, lesson: nn.Module, optimizer: Any, extra: Extra) -> Progress:
    """Puts everything back and returns where training stood; a fresh `Progress` if there is no checkpoint.

    Raises:
        UserError: the file cannot be read.
    """
    if not path.is_file():
        return Progress()
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, OSError, EOFError, KeyError, UnpicklingError) as error:
        raise UserError(f"the checkpoint {path} cannot be read; delete it to begin this stage again") from error
    lesson.load_state_dict(saved["lesson"])
    optimizer.load_state_dict(saved["optimizer"])
    extra.restore(saved["extra"])
    torch.set_rng_state(saved["random"])
    if saved["random_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["random_cuda"][0])
    return Progress(**saved["progress"])
