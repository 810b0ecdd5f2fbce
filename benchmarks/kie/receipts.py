"""Real receipts (SROIE's four fields): what reading generated ones first is worth, field by field, and what compression then costs.

python benchmarks/kie/receipts.py RECEIPTS RUN SCALE

RECEIPTS holds {train,validation} with metadata.jsonl, and in lines/{train,validation}.jsonl the text and the box of each line, which say
about where each character stands. A network is tuned on them from each of its beginnings: from scratch, and after each kind of generated
documents that it has read; from the last of these also on every second receipt, for as many steps. What has read everything and was tuned
on all of them teaches a student that keeps two of its decoder layers and loses weights as in the recipe `donut-hole`, beside its no-KD
twin; 3 seeds. SCALE is `micro`, where it is the teacher that ships that begins to read receipts: some eight hours of one core; `mini`, for a
GPU and the cores that draw its documents; or `try`, which takes minutes and keeps nothing. Stopped, it goes on with the same command; once
all is read, several processes share the work. Leaves receipts-SCALE.json here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import docstill
from docstill.data.donut_folder import read_donut_folder
from docstill.deploy.hardware import hardware
from docstill.errors import InUse
from docstill.files import copy_whole, read_lines, write_json, write_lines
from docstill.run import DONE, locked, step

OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    "student": [{"kind": "labels", "weight": 0.5}, {"kind": "kd", "temperature": 2.0, "weight": 0.5}],
    "no-kd": [{"kind": "labels"}],
}
PRUNE = {"sparsity": 0.62, "scope": "lamp", "of": "non-embedding", "end": 0.4}
SEEDS = range(3)
SHARED: dict[str, Any] = {"weight_decay": 0.01, "batch_size": 8}


@dataclass(frozen=True)
class Scale:
    """How large, and for how long.

    Attributes:
        new: the network from scratch, and its (height, width) in pixels; receipts are about twice as high as wide.
        reader: what reads generated documents first: a shipped teacher's name and how many of its decoder layers are kept, or None, which
            is ``new``.
        documents: of each kind in turn, how many are drawn; each is seen once.
        validation: of each kind, how many to look at.
        first: how they are learnt.
        tuning: how real receipts are.
        keep: decoder layers of the student.
        epochs: of the student, on real receipts.
    """

    new: dict[str, Any]
    reader: tuple[str, int] | None
    documents: dict[str, int]
    validation: int
    first: dict[str, Any]
    tuning: dict[str, Any]
    keep: int
    epochs: float


_TUNING = {"epochs": 40, "learning_rate": 0.0003, "reading": 20, "evaluate_every": 40, "keep": "last"}
_FIRST = {"epochs": 1, "batch_size": 32, "learning_rate": 0.001, "reading": 20, "evaluate_every": 0.25}
_TRIED = {"epochs": 0.05, "batch_size": 2, "evaluate_every": 0.05, "reading": 20}
SCALES = {
    "micro": Scale(
        {"new": "donut-micro", "image_size": (768, 384)},
        ("small-labels", 4),
        {"receipts": 16_000},
        100,
        _FIRST | {"batch_size": 8, "learning_rate": 0.0005},
        _TUNING | {"epochs": 12, "evaluate_every": 12},
        2,
        8,
    ),
    "mini": Scale(
        {"new": "donut-base-mini", "image_size": (960, 480)},
        None,
        {"pages": 100_000, "receipts": 60_000},
        200,
        _FIRST | {"workers": 16},
        _TUNING | {"workers": 16},
        2,
        40,
    ),
    "try": Scale(
        {"new": "donut-tiny", "image_size": (320, 160), "config": {"decoder": {"decoder_layers": 2}}},
        None,
        {"pages": 40, "receipts": 40},
        4,
        _TRIED,
        _TRIED,
        1,
        0.05,
    ),
}


def main(receipts: Path, run: Path, name: str) -> None:
    scale, data = SCALES[name], run / "receipts"
    for split in ("train", "validation"):
        step(run / f"lines-{split}", partial(with_lines, receipts, data, split))
    begins: dict[str, Any] = {"scratch": docstill.NewModel(**scale.new)} | read(scale, run)
    last = list(begins)[-1]
    step(run / "halved", partial(with_half, data, run / "half"))
    twice = scale.tuning | {key: 2 * scale.tuning[key] for key in ("epochs", "evaluate_every")}
    # what the students wait for first
    arms = [(begin, begins[begin], data, scale.tuning) for begin in reversed(begins)]
    for arm, model, receipts_of, tuning in [*arms, ("half", begins[last], run / "half", twice)]:
        try:
            docstill.train("kie", model, receipts_of, run / f"tuned-{arm}", **SHARED | tuning)
        except InUse:
            continue
        keep(run, name)
    teacher = run / f"tuned-{last}"
    if not (teacher / DONE).is_file():
        sys.exit("another process has the teacher; begin this one again once it is done")
    cut = docstill.prune(teacher / "model", run / "shallow", method="depth", of="decoder", keep=scale.keep)["model"]
    learning = SHARED | {key: value for key, value in scale.tuning.items() if key != "reading"}
    learning |= {"epochs": scale.epochs, "evaluate_every": scale.epochs, "prune": PRUNE}
    for seed in SEEDS:
        for kind, objectives in OBJECTIVES.items():
            folder = run / kind / f"seed-{seed}"
            try:
                docstill.distill(teacher / "model", cut, data, folder, seed=seed, objectives=objectives, **learning)
            except InUse:
                continue
            keep(run, name)
    folders = [run / kind / f"seed-{seed}" for seed in SEEDS for kind in OBJECTIVES]
    if not all((folder / DONE).is_file() for folder in folders):
        sys.exit("another process still teaches a student; begin this one again once it is done, to time them")
    models = [str(teacher / "model"), str(run / "student" / "seed-0" / "model")]
    with locked(run / "timed"):
        step(run / "timed", lambda: {"models": docstill.benchmark(models, data / "validation")["models"]})
    keep(run, name)


def read(scale: Scale, run: Path) -> dict[str, Any]:
    """The beginnings that have read: as the shipped teacher was, if that is one, and after each kind of generated documents."""
    found: dict[str, Any] = {}
    model: Any = docstill.NewModel(**scale.new)
    if scale.reader is not None:
        shipped, layers = scale.reader
        cut = docstill.prune(f"shipped:{shipped}", run / "begun", method="depth", of="decoder", keep=layers)["model"]
        found[shipped] = model = docstill.Resized(load=cut, image_size=scale.new["image_size"])
    for kind, count in scale.documents.items():
        seen = run / "generated" / kind
        form: dict[str, Any] = {"form": "flat"} if kind == "receipts" else {}
        if not seen.exists():
            docstill.synth(kind, seen, scale.validation, seed=1, **form)
        drawn = {"train": {"synth": kind, "n": count, **form}, "validation": str(seen)}
        done = docstill.train("kie", model, drawn, run / f"read-{kind}", **SHARED | scale.first)
        found[kind] = model = str(done["model"])
    return found


def with_lines(receipts: Path, data: Path, split: str) -> dict[str, Any]:
    """Copies a split and says in its metadata what stands in which line."""
    lines = {entry["file_name"]: entry["lines"] for entry in read_lines(receipts / "lines" / f"{split}.jsonl")}
    copy_whole(receipts / split, data / split)
    entries = read_lines(data / split / "metadata.jsonl")
    known = [entry | {"lines": lines[entry["file_name"]]} for entry in entries if entry["file_name"] in lines]
    unknown = [entry for entry in entries if entry["file_name"] not in lines]
    write_lines(data / split / "metadata.jsonl", known + unknown)
    read_donut_folder(data / split)  # a box that cannot be is said now, not when it is the receipts' turn
    return {"documents": len(entries), "with lines": len(known)}


def with_half(data: Path, half: Path) -> dict[str, Any]:
    """Copies the data with every second of the receipts to learn from."""
    copy_whole(data, half)
    entries = read_lines(data / "train" / "metadata.jsonl")[::2]
    write_lines(half / "train" / "metadata.jsonl", entries)
    return {"documents": len(entries)}


def keep(run: Path, name: str) -> None:
    """Writes what is done so far."""
    scale, data = SCALES[name], run / "receipts"
    tuned = {folder.name.removeprefix("tuned-"): folder for folder in sorted(run.glob("tuned-*"))}
    found: dict[str, Any] = {
        "teachers": {begin: scored(folder, data) for begin, folder in tuned.items() if (folder / DONE).is_file()}
    }
    for kind in OBJECTIVES:
        folders = {seed: run / kind / f"seed-{seed}" for seed in SEEDS}
        done = {seed: folder for seed, folder in folders.items() if (folder / DONE).is_file()}
        found[kind] = [{"seed": seed} | scored(folder, data) for seed, folder in done.items()]
    if (run / "timed" / DONE).is_file():
        found["benchmark"] = list(step(run / "timed", dict)["models"].values())
    about: dict[str, Any] = {"reader": scale.reader, "documents": scale.documents, "new": scale.new}
    about |= {
        "reading": SHARED | scale.first,
        "tuning": SHARED | scale.tuning,
        "epochs": scale.epochs,
        "prune": PRUNE,
        "objectives": OBJECTIVES,
    }
    if name != "try":
        write_json(Path(__file__).with_name(f"receipts-{name}.json"), found | about | {"hardware": hardware()})


def scored(folder: Path, receipts: Path) -> dict[str, Any]:
    """What the model of a run scores on the validation receipts, field by field."""
    look = step(folder / "evaluation", lambda: docstill.evaluate(folder / "model", receipts / "validation"))
    return dict(look["metrics"])


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[3] not in SCALES:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
