"""Recipes and studies as text: read from YAML, changed by `key.path=value`, told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from docstill.errors import RecipeError


def read_yaml(source: Path, overrides: list[str] | None = None) -> dict[str, Any]:
    """The mapping that a YAML file holds, with ``key.path=value`` overrides.

    Raises:
        RecipeError: the file cannot be read, is not YAML, holds no mapping, or an override does not fit it.
    """
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"cannot read the recipe {source}", [f"{error.strerror}; see `docstill recipes list`"]
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"cannot read the recipe {source}", [f"it is not UTF-8 ({error}); save it as such"]
        ) from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise RecipeError(f"{source} is not valid YAML", [f"{where}{getattr(error, 'problem', error)}"]) from error
    if not isinstance(content, dict):
        raise RecipeError(f"{source} is not a recipe", ["expected a mapping that starts with `task:`"])
    return overridden(_copied(content), overrides or [])


def _copied(value: Any) -> Any:
    """The same without parts that stand in two places (YAML's anchors), so that an override changes one alone."""
    if isinstance(value, dict):
        return {key: _copied(child) for key, child in value.items()}
    return [_copied(child) for child in value] if isinstance(value, list) else value


def overridden(content: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """``content``, changed in place by ``key.path=value``.

    Raises:
        RecipeError: an override does not fit it.
    """
    problems = [problem for entry in overrides if (problem := _override(content, entry))]
    if problems:
        raise RecipeError("an override does not hold", problems)
    return content


def differences(old: str, new: str) -> list[str]:
    """Key paths whose values differ between two resolved recipes, as `key: old -> new`."""
    before, after = _flat(yaml.safe_load(old)), _flat(yaml.safe_load(new))
    return [
        f"{key}: {before.get(key, '(absent)')} -> {after.get(key, '(absent)')}"
        for key in [*before, *(key for key in after if key not in before)]
        if before.get(key, _ABSENT) != after.get(key, _ABSENT)
    ]


_ABSENT = object()


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        return {path: value}
    return {
        key: leaf
        for name, child in items
        for key, leaf in _flat(child, f"{path}.{name}" if path else str(name)).items()
    }


def _value(text: str, named: bool) -> Any:
    """What an override says; of a key that holds a name the text as it was written: 2024 is a folder, and so is `a #1`."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        if named:
            return text
        raise
    return text if named and value is not None and not isinstance(value, dict) and text[:1] not in "\"'" else value


_NAMED = re.compile(r"data\.(train|validation|unlabelled)|teacher|student|(teachers|students)\.[^.]+")
"""Keys that hold a folder or a hub id."""


def _override(content: dict[str, Any], entry: str) -> str | None:
    key, separator, text = entry.partition("=")
    if not separator or not key:
        return f"{entry!r}: expected key.path=value"
    node: Any = content
    *parents, last = key.split(".")
    for depth, part in enumerate(parents):
        try:
            if isinstance(node, dict) and isinstance(node.get(part), str):
                node[part] = {}  # a name or a path gives way to the mapping that may stand in its place
            node = node[int(part)] if isinstance(node, list) else node.setdefault(part, {})
        except (ValueError, IndexError):
            return f"{key}: there is no entry {part} under {'.'.join(parents[:depth])} (it has {len(node)} entries, counted from 0)"
        if not isinstance(node, dict | list):
            return f"{key}: {'.'.join(parents[: depth + 1])} is {node!r}, it has no keys"
    try:
        value = _value(text, named=_NAMED.fullmatch(key) is not None)
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    except (ValueError, IndexError, yaml.YAMLError) as error:
        return f"{key}: {error}"
    return None
