"""Keeps a study's results for the record: its table, and its figures without the places where the data lay.

Rows that an earlier run left there, and that this one did not reach, stay: a study of many hours can be run some rows at a time
(`docstill study NAME 'pairs=[[TEACHER, STUDENT, [METHOD]]]'`). A row from a machine of another kind says so (``hardware``): its speed is
beside its own teacher's, but its milliseconds are not to be put beside those of other rows.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from docstill.reporting.study import TABLE, write_study


def main(run: Path, target: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    results["data"] = {split: Path(path).name for split, path in results["data"].items()}
    command = results.pop("command")
    if (known := target / "results.json").is_file():
        results["cells"] = together(json.loads(known.read_text(encoding="utf-8")), results)
    known.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        write_study({**results, "command": command}, Path(folder))
        shutil.copyfile(Path(folder) / TABLE, target / TABLE)
    if elsewhere := [cell["method"] for cell in results["cells"] if "hardware" in cell]:
        with (target / TABLE).open("a", encoding="utf-8") as table:
            table.write(f"Timed on another machine, to be compared by its speed alone: {', '.join(elsewhere)}.\n")


def together(earlier: dict[str, Any], now: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells of both runs: this one's where it has come to them."""
    cells = {named(cell): dict(cell) for cell in earlier["cells"]}
    for cell in cells.values():
        if cell["state"] == "done":
            cell.setdefault("hardware", earlier["hardware"])
    cells |= {named(cell): cell for cell in now["cells"] if cell["state"] == "done" or named(cell) not in cells}
    for cell in cells.values():
        if cell.get("hardware", now["hardware"])["cpu"] == now["hardware"]["cpu"]:
            cell.pop("hardware", None)
    return list(cells.values())


def named(cell: dict[str, Any]) -> tuple[str, str, str]:
    return cell["teacher"], cell["student"], cell["method"]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
