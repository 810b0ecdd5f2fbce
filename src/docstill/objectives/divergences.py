"""Distances between two rows of probabilities, given as logits: what `kd` and its relatives are made of.

With p from the teacher and q from the student, both ``(N, C)``, each returns ``(N,)`` in nats, 0 where p = q:

    forward   KL( p ‖ q )                            covers every mode of the teacher (Hinton et al. 2015)
    reverse   KL( q ‖ p )                            keeps to the teacher's main mode (MiniLLM, arXiv 2306.08543)
    jsd       β KL( p ‖ m ) + (1−β) KL( q ‖ m ),     m = β p + (1−β) q   (GKD, arXiv 2306.13649, section 2)
    skew      KL( p ‖ λ p + (1−λ) q )                bounded where q is nearly 0 (DistiLLM, arXiv 2402.03898, section 3.1)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from docstill.errors import ModelError
from docstill.objectives.base import UNLABELLED, Outputs

NEVER = -60.0
"""In logits that were put together (`Outputs.reckoned`), the log probability of what has none; finite, for objectives divide and subtract it."""
_SOFTEST = 4.0
"""Up to this temperature `NEVER` is divided by it like all others: e⁻¹⁵ is still next to nothing, e⁻³ is not."""


def check_width(name: str, student: Outputs, teacher: Outputs) -> None:
    """Raises ModelError unless both have one logit for each class of each decision."""
    if student.logits.shape != teacher.logits.shape:
        raise ModelError(
            f"{name} compares logits of one shape, the student's are {tuple(student.logits.shape)} and the teacher's "
            f"{tuple(teacher.logits.shape)}; use a student with the teacher's classes or vocabulary"
        )


def check_raw(name: str, teacher: Outputs) -> None:
    """Raises ModelError where the teacher's logits themselves say nothing."""
    if teacher.reckoned:
        raise ModelError(
            f"{name} compares logits, but of a student with merged tokens the teacher's probabilities alone are known; use kd without "
            "standardise"
        )


def softened(teacher: Outputs, temperature: float) -> Tensor:
    """The teacher's logits over T; what it holds impossible stays so, however high T is."""
    softer = teacher.logits / temperature
    if not teacher.reckoned or temperature <= _SOFTEST:
        return softer
    return softer.masked_fill(teacher.logits <= NEVER, NEVER / _SOFTEST)


def answers(student: Outputs, teacher: Outputs) -> Tensor:
    """The right answers ``(N,)``; where none is known, what the teacher holds most likely."""
    return torch.where(student.targets == UNLABELLED, teacher.logits.argmax(-1), student.targets)


def standardised(logits: Tensor) -> Tensor:
    """Each row with mean 0 and standard deviation 1 (Sun et al. 2024, arXiv 2403.01427, section 4.2).

    A row whose deviation is far below 0.001 stays near 0: blown up to 1, it would drown the gradient of all others.
    """
    centred = logits - logits.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def divergence(kind: str, student: Tensor, teacher: Tensor, mix: float) -> Tensor:
    """One of the four, by name.

    Args:
        kind: ``forward``, ``reverse``, ``jsd`` or ``skew``.
        student: ``(N, C)`` logits, already divided by the temperature.
        teacher: the same for the teacher.
        mix: β or λ, in (0, 1); not looked at by the first two.
    """
    log_q, log_p = functional.log_softmax(student, dim=-1), functional.log_softmax(teacher, dim=-1)
    if kind == "forward":
        return _kl(log_p, log_q)
    if kind == "reverse":
        return _kl(log_q, log_p)
    mixture = torch.logaddexp(log_p + math.log(mix), log_q + math.log(1 - mix))
    if kind == "skew":
        return _kl(log_p, mixture)
    return mix * _kl(log_p, mixture) + (1 - mix) * _kl(log_q, mixture)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
