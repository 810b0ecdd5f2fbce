"""TensorBoard, for those who watch a training there; `metrics.jsonl` holds the same and is always written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from docstill.errors import UserError


class Board:
    """Writes the lines of `metrics.jsonl` as TensorBoard events below ``folder``; of an earlier call those up to ``resume_step`` count.

    Raises:
        UserError: the package tensorboard is missing.
    """

    def __init__(self, folder: Path, resume_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("tensorboard: true needs the package tensorboard; run: pip install tensorboard") from error
        # Typed in some releases of torch and not in others.
        make: Any = SummaryWriter
        self._writer = make(folder / "tensorboard", purge_step=resume_step + 1)

    def add(self, line: Mapping[str, Any]) -> None:
        """One line: numbers as curves; of mappings, each number is a curve ``name/key``."""
        for name, value in line.items():
            if isinstance(value, dict):
                for key, number in value.items():
                    if isinstance(number, int | float):
                        self._writer.add_scalar(f"{name}/{key}", number, line["step"])
            elif name not in {"step", "epoch"}:
                self._writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Writes what is still held back."""
        self._writer.close()
