"""What `benchmarks/keep_study.py` keeps of a study that is run some rows at a time."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

KEEP = Path(__file__).parents[2] / "benchmarks" / "keep_study.py"


def results(cpu: str = "a", **states: str) -> dict[str, Any]:
    """A study's results with a cell for each method; ``done-2`` is done, and not the same as ``done``."""
    cells = [
        {"teacher": "t", "student": "s", "method": method, "state": state.split("-")[0], "run": state}
        for method, state in states.items()
    ]
    return {"hardware": {"cpu": cpu}, "cells": cells}


def test_rows_of_two_runs_stand_together() -> None:
    together = runpy.run_path(str(KEEP))["together"]
    earlier = results(kd="done", hint="waiting", dist="done", vkd="waiting")
    now = results(hint="done-2", dist="waiting", kd="done-2", cka="failed")
    found = {cell["method"]: cell["run"] for cell in together(earlier, now)}
    assert found == {"kd": "done-2", "hint": "done-2", "dist": "done", "vkd": "waiting", "cka": "failed"}
    assert list(found) == ["kd", "hint", "dist", "vkd", "cka"], "rows stay where they were"


def test_rows_of_other_machines_say_so() -> None:
    together = runpy.run_path(str(KEEP))["together"]
    first = {**results("a", kd="done", hint="waiting", dist="waiting"), "cells": []}
    first["cells"] = together(results("a", kd="done"), results("a", hint="waiting", dist="waiting"))
    assert not any("hardware" in cell for cell in first["cells"])
    second = {"hardware": {"cpu": "b"}, "cells": together(first, results("b", kd="waiting", hint="done-2"))}
    found = {cell["method"]: cell.get("hardware") for cell in second["cells"]}
    assert found == {"kd": {"cpu": "a"}, "hint": None, "dist": None}
    third = together(second, results("a", dist="done"))
    found = {cell["method"]: cell.get("hardware") for cell in third}
    assert found == {"kd": None, "hint": {"cpu": "b"}, "dist": None}
