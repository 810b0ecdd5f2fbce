"""Whether what a teacher adds to a DETR-type student is more than chance on the generated pages, which `small.py` has it learn from but once.

python benchmarks/layout/first_again.py PAGES RUN [alone|taught]

RUN is that of `small.py … rt-detrv2-slim taught-first`. The student begins anew with another seed, alone and with its teacher, learns from the
generated pages and then from the books. Stopped, it goes on with the same command; two processes take `alone` and `taught`. Leaves
small/first_again.json.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from small import FIRST, HERE, METHODS, PAIRS, STUDENT, learnt_first, learnt_teacher, new, own

import docstill
from docstill.deploy.hardware import hardware
from docstill.files import read_json, write_json
from docstill.run import DONE

PAIR, METHOD, SEED = "rt-detrv2-slim", "taught-first", 1
WAYS = ("alone", "taught")
OUTPUT = HERE / "first_again.json"


def main(pages: Path, run: Path, ways: list[str]) -> None:
    teacher, student, _ = PAIRS[PAIR]
    generated, folder = run / "generated", run / "first-again"
    first, books = own(FIRST, student, 0), own(STUDENT, student, 1)
    for way in ways:
        out = folder / f"{way}-{SEED}", folder / f"{way}-{SEED}-books"
        if way == "alone":
            begun = docstill.train("layout", new(student), generated, out[0], seed=SEED, **first)["model"]
            docstill.train("layout", str(begun), pages, out[1], seed=SEED, **books)
        else:
            asked: dict[str, Any] = {"seed": SEED, "objectives": METHODS[METHOD]}
            knew, taught = learnt_first(teacher, generated, run), learnt_teacher(teacher, generated, pages, run)
            begun = docstill.distill(knew, new(student), generated, out[0], **asked, **first)["model"]
            docstill.distill(taught, str(begun), pages, out[1], **asked, **books)
    keep(folder)


def keep(folder: Path) -> None:
    """Writes what is done so far: AP on the generated pages, then on the books."""
    found: dict[str, Any] = {"seed": SEED, "hardware": hardware()}
    for way in WAYS:
        parts = {"generated": f"{way}-{SEED}", "books": f"{way}-{SEED}-books"}
        done = {part: folder / name / DONE for part, name in parts.items()}
        found[way] = {part: read_json(file)["best"] for part, file in done.items() if file.is_file()}
    write_json(OUTPUT, found)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or any(way not in WAYS for way in sys.argv[3:]):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or list(WAYS))
