"""Entries of `objectives`, as recipes write them: what is wrong with them, and the objectives that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from docstill.mistakes import choice, mistakes

if TYPE_CHECKING:
    from docstill.objectives.base import Objective


def objective_problems(objectives: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a list of objectives, as lines `0.temperature: …`; empty if nothing is."""
    from docstill.objectives import OBJECTIVES
    from docstill.objectives.base import options_of

    problems = []
    for index, entry in enumerate(objectives):
        kind = entry.get("kind")
        if kind not in OBJECTIVES:
            problems.append(f"{index}.kind: " + choice(kind, list(OBJECTIVES)))
            continue
        options = options_of(str(kind), OBJECTIVES[str(kind)])
        try:
            checked = options.model_validate(entry)
            OBJECTIVES[str(kind)](**checked.model_dump(exclude={"kind", "weight"}))
        except ValidationError as error:
            problems += [f"{index}.{line}" for line in mistakes(error, options)]
        except ValueError as error:  # options that are right each by itself, and wrong together
            problems.append(f"{index}.{error}")
    return problems


def as_checked(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry that holds, with the values that its options are read as: YAML reads 4e0 as a text."""
    from docstill.objectives import OBJECTIVES
    from docstill.objectives.base import options_of

    kind = str(entry["kind"])
    found = options_of(kind, OBJECTIVES[kind]).model_validate(entry).model_dump(exclude_unset=True)
    return {key: found[key] for key in entry}


def made_objective(entry: dict[str, Any]) -> Objective:
    """The objective of an entry that holds."""
    from docstill.objectives import OBJECTIVES

    options = {name: value for name, value in entry.items() if name not in ("kind", "weight")}
    return OBJECTIVES[entry["kind"]](**options)
