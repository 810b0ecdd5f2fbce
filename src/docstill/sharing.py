"""A part that student and teacher have in common is run once a batch, not twice.

A student that was cut from its teacher often keeps a part of it whole, such as a Donut's encoder. With `freeze` that part stays
the teacher's to the bit, and what it makes of a page is what the teacher's would make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Pairs = Sequence[tuple[nn.Module, nn.Module]]


class _Call(NamedTuple):
    given: tuple[tuple[Any, ...], dict[str, Any]]
    made: Any


def in_common(frozen: Mapping[str, nn.Module], teacher: nn.Module, tapped: Sequence[str]) -> Pairs:
    """Those of a student's ``frozen`` modules that the teacher has at the same path, kinds and numbers, with the teacher's; on one device.

    Left out is where a path in ``tapped`` lies within: a module of the teacher that does not run has no output.
    """
    theirs = dict(teacher.named_modules())
    return [
        (ours, theirs[path])
        for path, ours in frozen.items()
        if path in theirs and _alike(ours, theirs[path]) and not any(tap.startswith(f"{path}.") for tap in tapped)
    ]


@contextmanager
def taken_over(pairs: Pairs) -> Iterator[None]:
    """While the context is open, the second module of a pair hands on what the first one made, if it is given the same."""
    calls: dict[nn.Module, _Call] = {}

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        calls[module] = _Call((args, kwargs), output)

    handles = [ours.register_forward_hook(keep, with_kwargs=True) for ours, _ in pairs]
    before = [vars(theirs).get("forward") for _, theirs in pairs]  # mostly that of the class
    for ours, theirs in pairs:
        theirs.forward = _recalling(theirs.forward, calls, ours)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for (_, theirs), own in zip(pairs, before, strict=True):
            del theirs.forward
            if own is not None:
                theirs.forward = own


def _recalling(compute: Callable[..., Any], calls: Mapping[nn.Module, _Call], ours: nn.Module) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        call = calls.get(ours)
        return call.made if call is not None and _same(call.given, (args, kwargs)) else compute(*args, **kwargs)

    return forward


def _alike(one: nn.Module, other: nn.Module) -> bool:
    kinds = [[(name, type(part)) for name, part in module.named_modules()] for module in (one, other)]
    return kinds[0] == kinds[1] and _same(*(dict(_numbers(module)) for module in (one, other)))


def _numbers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one is other or (one.dtype == other.dtype and torch.equal(one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and bool(one == other)
