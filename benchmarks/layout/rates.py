"""Which learning rate suits the small detectors of `small.py`: that of a student without a teacher, on books it has not seen.

python benchmarks/layout/rates.py PAGES RUN

RUN is that of `small.py`, where R18 has learnt from generated pages. A fifth of the books of the training pages is held out and scored;
the validation pages are not looked at. Leaves small/rates.json.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import write_json

sys.path.insert(0, str(Path(__file__).parent))
from small import HERE, STUDENT, learnt_first

RATES = (0.0003, 0.0006, 0.0012)
HELD_OUT = 5
"""One book of so many, by its name."""


def main(pages: Path, run: Path) -> None:
    held_out, begun = split_by_book(pages, run / "tune"), learnt_first("r18", run / "generated", run)
    found = {}
    for rate in RATES:
        settings = {**STUDENT, "learning_rate": rate, "evaluate_every": 4}
        found[f"{rate:g}"] = docstill.train("layout", begun, run / "tune", run / "rates" / f"{rate:g}", **settings)[
            "best"
        ]
    write_json(
        HERE / "rates.json", {"network": "r18", "seed": 0, "pages": held_out, "ap": found, "hardware": hardware()}
    )


def split_by_book(pages: Path, target: Path) -> dict[str, int]:
    """Lays the training pages out in ``target``, those of some books as a validation split; says how many of each."""
    known = json.loads((pages / "train.json").read_text(encoding="utf-8"))
    counts = {}
    for split in ("train", "validation"):
        images = [image for image in known["images"] if is_held_out(image["file_name"]) == (split == "validation")]
        there = {image["id"] for image in images}
        regions = [region for region in known["annotations"] if region["image_id"] in there]
        (target / split).mkdir(parents=True, exist_ok=True)
        write_json(target / f"{split}.json", {**known, "images": images, "annotations": regions})
        for image in images:
            link = target / split / image["file_name"]
            if not link.exists():
                os.symlink((pages / "train" / image["file_name"]).resolve(), link)
        counts[split] = len(images)
    return counts


def is_held_out(file_name: str) -> bool:
    book = file_name.rpartition("_")[0]
    return int(hashlib.sha1(book.encode()).hexdigest(), 16) % HELD_OUT == 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
