"""Students of the teacher that ships, taught longer than in the study (`micro.sh`) and on more labels; 3 seeds.

python benchmarks/kie/longer.py RUN [WAY [speed]]

``hole`` is DONUT-hole with 26 % of the weights, ``structural`` has fewer layers, narrower ones, and writes fewer tokens, for speed. Each seed's student
has a twin that begins as it does, is cut as it is, and learns from the labels alone. Scored on the study's validation labels. Stopped, it goes on with the same command; the same command in two processes shares the students. Leaves longer.json
or structural.json here; with ``speed`` it only times the first student beside its teacher, with nothing else on the machine, please.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import docstill
from docstill.deploy.hardware import hardware
from docstill.errors import InUse
from docstill.files import read_json, write_json
from docstill.models.size import count_parameters
from docstill.run import DONE, step
from docstill.shipped import find_teacher

sys.path.insert(0, str(Path(__file__).parent))
from faster import COMMON, NARROW, SHALLOW
from ways import scores

COUNTS = {"hole": 24000, "structural": 12000}
"""How many labels each learns from."""
SEEDS_OF_LABELS = {"train": 2101, "validation": 2002}
VALIDATION = 300
TRAINING: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.0007,
    "weight_decay": 0.01,
    "evaluate_every": 3,
    "objectives": [{"kind": "labels", "weight": 0.5}, {"kind": "kd", "temperature": 2.0, "weight": 0.5}],
    "cache_logits": 20,
}
SPARSE = {"prune": {"sparsity": 0.62, "scope": "lamp", "of": "non-embedding", "end": 0.4}}
WAYS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "hole": ([SHALLOW], {**TRAINING, **SPARSE}),
    "structural": (
        [SHALLOW, NARROW, COMMON],
        {**TRAINING, "learning_rate": 0.0002},
    ),
}
"""What is cut off before a student learns, and how it learns."""
SEEDS = range(3)
FILES = {
    "hole": Path(__file__).with_name("longer.json"),
    "structural": Path(__file__).with_name("structural.json"),
}


def main(run: Path, way: str) -> None:
    for split, (count, seed) in labels(way).items():
        if not (run / "labels" / split).exists():
            docstill.synth("small-labels", run / "labels" / split, count, seed=seed, workers=2)
    teacher, own = find_teacher("small-labels"), run / way
    begun, (cuts, training) = str(teacher), WAYS[way]
    for number, cut in enumerate(cuts, 1):
        begun = docstill.prune(begun, own / f"cut-{number}", data=run / "labels", **cut)["model"]
    alone = {key: value for key, value in training.items() if key != "cache_logits"} | {
        "objectives": [{"kind": "labels"}]
    }
    for kind, settings in (("seed", training), ("twin", alone)):
        for seed in SEEDS:
            try:
                docstill.distill(teacher, begun, run / "labels", own / f"{kind}-{seed}", seed=seed, **settings)
            except InUse:
                continue
            keep(run, way, teacher)


def labels(way: str) -> dict[str, tuple[int, int]]:
    """How many of each split, and the seed that they are drawn with."""
    counts = {"train": COUNTS[way], "validation": VALIDATION}
    return {split: (count, SEEDS_OF_LABELS[split]) for split, count in counts.items()}


def keep(run: Path, way: str, teacher: Path) -> None:
    """Writes what is done so far."""
    cuts, training = WAYS[way]
    about: dict[str, Any] = {"labels": labels(way), "student": cuts, "training": training, "hardware": hardware()}
    about["teacher"] = scores(teacher, run, run / "teacher")
    about |= {name: figures(run, run / way, kind, teacher) for name, kind in (("seeds", "seed"), ("twins", "twin"))}
    known = read_json(FILES[way]) if FILES[way].is_file() else {}
    write_json(FILES[way], about | {key: value for key, value in known.items() if key == "speed"})


def figures(run: Path, own: Path, kind: str, teacher: Path) -> list[dict[str, Any]]:
    """What each finished student, or twin, scores, keeps and has learnt like its teacher."""
    whole, found = count_parameters(docstill.load(teacher).model.network).nonzero_non_embedding, []
    for folder in (folder for folder in sorted(own.glob(f"{kind}-*")) if (folder / DONE).is_file()):
        kept = count_parameters(docstill.load(folder / "model").model.network).nonzero_non_embedding
        compared = partial(docstill.compare, teacher, folder / "model", run / "labels" / "validation")
        likeness = step(folder / "comparison", compared)
        found.append(
            {
                "metrics": scores(folder / "model", run, folder / "evaluation"),
                "of_teacher": kept / whole,
                "global_cka": likeness["similarity"]["global"],
                "seconds": read_json(folder / DONE)["seconds"],
            }
        )
    return found


def speed(run: Path, way: str) -> None:
    """How fast the first seed's student is beside its teacher, in interleaved rounds."""
    pair = {"teacher": str(find_teacher("small-labels")), "student": str(run / way / "seed-0" / "model")}
    timed = docstill.benchmark(list(pair.values()), run / "labels" / "validation", threads=1)["models"]
    found = read_json(FILES[way])
    write_json(FILES[way], found | {"speed": {name: timed[folder] for name, folder in pair.items()}})


if __name__ == "__main__":
    if (
        len(sys.argv) not in (2, 3, 4)
        or (sys.argv[2:] and sys.argv[2] not in WAYS)
        or sys.argv[3:] not in ([], ["speed"])
    ):
        sys.exit(f"{__doc__}\nWAY is one of {', '.join(WAYS)}")
    if sys.argv[3:]:
        speed(Path(sys.argv[1]), sys.argv[2])
    else:
        main(Path(sys.argv[1]), (*sys.argv[2:], "hole")[0])
