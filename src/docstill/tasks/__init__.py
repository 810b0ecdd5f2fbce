"""Tasks by name. A new task is a file and a line in `TASKS`."""

from __future__ import annotations

from docstill.errors import UserError, nearest
from docstill.tasks.base import Task
from docstill.tasks.classification import Classification
from docstill.tasks.kie import Kie
from docstill.tasks.layout import Layout

TASKS: dict[str, Task] = {"classification": Classification(), "kie": Kie(), "layout": Layout()}


def task_named(name: str) -> Task:
    """The task of that name.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(f"there is no task {name!r}; choose one of {', '.join(TASKS)}{nearest(name, TASKS)}")
    return TASKS[name]
