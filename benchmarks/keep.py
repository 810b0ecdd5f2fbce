"""Keeps a run's results for the record: figures, curves at the looks at the validation split; no pages, no paths."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(run: Path, target: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    for curve in results["curves"]:
        curve["points"] = [point for point in curve["points"] if "validation" in point]
    results["worst"] = [{"file": entry["file"], "score": entry["score"]} for entry in results["worst"]]
    for split in results["data"].values():
        split["path"] = Path(split["path"]).name
    # the recipe that ran, without the places where things lay on that machine
    places = tuple(f"{key}: /" for key in ("train", "validation", "unlabelled", "teacher"))
    lines = results["recipe"].splitlines()
    results["recipe"] = "\n".join(
        f"{line.partition(':')[0]}: …" if line.strip().startswith(places) else line for line in lines
    )
    del results["command"]
    target.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
