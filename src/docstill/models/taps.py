"""Taps: forward hooks that keep the outputs of named modules, by path."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from docstill.errors import ModelError


@contextmanager
def tapped(network: nn.Module, paths: Sequence[str], whose: str = "") -> Iterator[dict[str, Tensor]]:
    """While the context is open, every forward pass fills the yielded dict with the outputs of ``paths``.

    ``whose`` it is, ``teacher`` or ``student``, is for the error.

    Raises:
        ModelError: see `module_at`.
    """
    kept: dict[str, Tensor] = {}
    handles = []
    for path in paths:
        module = module_at(network, path, whose)

        def keep(_module: nn.Module, _inputs: Any, output: Any, path: str = path) -> None:
            kept[path] = first_tensor(output, path)

        handles.append(module.register_forward_hook(keep))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def module_at(network: nn.Module, path: str, whose: str = "") -> nn.Module:
    """The module that a path names.

    Raises:
        ModelError: a path names no module; whose network lacks it, and the nearest paths, are told.
    """
    try:
        if path:
            return network.get_submodule(path)
    except AttributeError:
        pass
    near = difflib.get_close_matches(path, [name for name, _ in network.named_modules()], n=3, cutoff=0.3)
    owner = f"{whose}'s " if whose else ""
    raise ModelError(
        f"the {owner}{type(network).__name__} has no module {path!r}; did you mean {', '.join(near) or 'another path'}?"
    )


def first_tensor(output: Any, path: str) -> Tensor:
    """What a module hands on: its output, or the first tensor of it."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, dict) else output
    for value in values if isinstance(values, tuple | list) or isinstance(output, dict) else ():
        if isinstance(value, Tensor):
            return value
    raise ModelError(f"module {path!r} returns {type(output).__name__}, not a tensor; tap another module")
