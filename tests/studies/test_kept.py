"""What `benchmarks/keep_study.py` keeps of a study that is run some rows at a time."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

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


def test_rows_of_other_machines_are_refused() -> None:
    together = runpy.run_path(str(KEEP))["together"]
    with pytest.raises(SystemExit, match="rows of a are not put beside those of b; move the earlier away first"):
        together(results("a", kd="done"), results("b", hint="done"))
