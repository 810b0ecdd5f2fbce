"""Mistakes in a recipe or a study in plain words: key path, what was given, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Annotated, Any

from pydantic import BaseModel, ValidationError


def choice(given: Any, allowed: list[str]) -> str:
    """What was given, what is allowed, and the nearest name."""
    near = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{given!r} given, one of {', '.join(allowed)} expected{hint}"


def mistakes(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line a mistake. Union branches that do not fit what was written are left out."""
    lines: dict[str, None] = {}
    for item in error.errors(include_url=False):
        where = list(item["loc"])
        path = [part for part in where if not _is_branch(part)]
        key = ".".join(map(str, path))
        if item["type"] == "extra_forbidden":
            allowed = _keys_at(model, where[:-1])
            near = difflib.get_close_matches(str(path[-1]), allowed, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f"; allowed: {', '.join(allowed)}"
            lines[f"{key}: unknown key{hint}"] = None
        elif item["type"] == "missing":
            lines[f"{key}: required, not given"] = None
        elif item["type"] == "literal_error":
            allowed = [part.strip(" '") for part in str(item["ctx"]["expected"]).replace(" or ", ",").split(",")]
            lines[f"{key}: {choice(item['input'], allowed)}"] = None
        elif item["type"] == "value_error":
            raw = str(item["ctx"]["error"]).splitlines()
            # a line that starts with a dot says where below the key it belongs
            lines |= dict.fromkeys(
                (f"{key}{line}" if line.startswith(".") else f"{key}: {line}" if key else line).lstrip(".")
                for line in raw
            )
        elif item["type"] == "string_type" and isinstance(item["input"], dict):
            continue  # the other branch of `str | mapping` says what is wrong with the mapping
        elif item["type"] == "model_type" and isinstance(item["input"], str):
            continue
        else:
            lines[f"{key}: {item['input']!r} given; {item['msg'][0].lower()}{item['msg'][1:]}"] = None
    return list(lines)


def _is_branch(part: Any) -> bool:
    """Whether a part of a path is no key but the branch of a union: a class, which has a capital, or a plain type."""
    return isinstance(part, str) and (part == "str" or part[:1].isupper())


def _keys_at(model: Any, path: list[Any]) -> list[str]:
    """The keys allowed at ``path`` below ``model``, walking through lists, optionals and unions."""
    candidates = _models(model)
    for part in path:
        if _is_branch(part):
            candidates = [candidate for candidate in candidates if candidate.__name__ == part]
            continue
        candidates = [
            found
            for candidate in candidates
            for found in (
                [candidate]
                if isinstance(part, int)
                else _models(candidate.model_fields[part].annotation)
                if part in candidate.model_fields
                else []
            )
        ]
    return [name for candidate in candidates for name in candidate.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in {typing.Union, types.UnionType, list, Annotated}:
        return [model for part in typing.get_args(annotation) for model in _models(part)]
    return []
