"""Keeps a study's results for the record: its table, and its figures without the places where the data lay."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path


def main(run: Path, target: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    results["data"] = {split: Path(path).name for split, path in results["data"].items()}
    del results["command"]
    (target / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(run / "table.md", target / "table.md")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
