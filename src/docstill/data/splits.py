"""Which folder is which split of a data set."""

from __future__ import annotations

from pathlib import Path

from docstill.errors import DataError

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}
"""Splits by the names that people give their folders, in small letters or capitals."""


def find_splits(data: Path) -> dict[str, Path]:
    """The splits below ``data``, by our names; empty if it holds none (then it may be a split itself).

    Raises:
        DataError: two folders are the same split by another name.
    """
    folders = sorted(path for path in data.iterdir() if path.is_dir()) if data.is_dir() else []
    there = {split: [path for path in folders if path.name.lower() in names] for split, names in SPLITS.items()}
    twice = [", ".join(f"{path.name}/" for path in paths) for paths in there.values() if len(paths) > 1]
    if twice:
        raise DataError(
            f"{data} holds the same split under two names; keep one of each",
            [f"{names} are all the same split" for names in twice],
        )
    return {split: paths[0] for split, paths in there.items() if paths}


def resolve_split(data: Path, split: str | None = None) -> Path:
    """The folder of ``split`` (default: validation) if ``data`` holds splits, otherwise ``data`` itself.

    Raises:
        DataError: ``data`` is not there, holds splits but not this one, or is a split itself but not the one asked for.
    """
    if not data.is_dir():
        raise DataError(f"cannot read {data}", ["there is no such folder"])
    splits = find_splits(data)
    wanted = _ours(split or "validation")
    if wanted in splits:
        return splits[wanted]
    if splits:
        there = ", ".join(sorted(path.name for path in splits.values()))
        raise DataError(f"{data} has no split {wanted}", [f"it has {there}"])
    if split is not None and _ours(data.resolve().name) != wanted:
        raise DataError(
            f"{data} has no split {wanted}",
            [f"it holds {_contents(data)}; give the folder that holds {wanted}/, or name no split to use it as it is"],
        )
    return data


def _ours(name: str) -> str:
    """Our name for a split, whatever its folder is called."""
    return next((ours for ours, names in SPLITS.items() if name.lower() in names), name)


def _contents(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:8] + ["…"] * (len(names) > 8)) or "nothing"
