"""Which folder is which split of a data set."""

from __future__ import annotations

from pathlib import Path

from docstill.errors import DataError

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
"""Splits by the names that people give their folders."""


def find_splits(data: Path) -> dict[str, Path]:
    """The splits below ``data``, by our names; empty if it holds none (then it may be a split itself)."""
    return {split: data / name for split, names in SPLITS.items() for name in names if (data / name).is_dir()}


def resolve_split(data: Path, split: str | None = None) -> Path:
    """The folder of ``split`` (default: validation) if ``data`` holds splits, otherwise ``data`` itself.

    Raises:
        DataError: ``data`` is not there, or holds splits but not this one.
    """
    if not data.is_dir():
        raise DataError(f"cannot read {data}", ["there is no such folder"])
    splits = find_splits(data)
    if not splits:
        return data
    wanted = next((ours for ours, names in SPLITS.items() if split in names), split) or "validation"
    if wanted not in splits:
        raise DataError(
            f"{data} has no split {wanted}", [f"it has {', '.join(sorted(path.name for path in splits.values()))}"]
        )
    return splits[wanted]
