"""Objectives: what a student is asked to do. One method a file; a new one is a file and a line in `OBJECTIVES`."""

from __future__ import annotations

from docstill.objectives.base import Objective
from docstill.objectives.hint import Hint
from docstill.objectives.kd import Kd
from docstill.objectives.labels import Labels

OBJECTIVES: dict[str, type[Objective]] = {
    "labels": Labels,
    "kd": Kd,
    "hint": Hint,
}
