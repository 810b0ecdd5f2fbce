"""The pairs of the study on real book pages, small enough for 2 cores: one pair at a time, 3 seeds.

python benchmarks/layout/small.py PAGES RUN PAIR [METHOD …]

PAGES holds {train,validation}, COCO's files beside them. Pages are 320 × 224 pixels, pyramids and heads of the detectors narrow. Each
network learns from 1,200 generated pages first, then teacher, students and controls from the real ones; the last weights count, so that
nothing is chosen by the validation pages. The rate was chosen by the no-KD twin, on books held out of the training pages (`rates.py`).

Stopped, it goes on with the same command. The same command in several processes shares the work, once the teacher has learnt: each
takes the next student that no other is at. All methods get their first seed before any gets its second, which a study's cells do not.
Leaves what is done so far in small/PAIR.json, and what the first learning gave in small/pretraining.json; with `speed` as the method,
how fast the students are beside their teacher.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from deeper import deeper

import docstill
from docstill.deploy.hardware import hardware
from docstill.engine import METRICS
from docstill.errors import InUse
from docstill.files import read_json, write_json
from docstill.gradients import mean_ratios
from docstill.recipe import Recipe
from docstill.run import DONE, read_metrics, step

HERE = Path(__file__).parent / "small"
GENERATED = {"train": (1200, 41), "validation": (100, 42)}
"""How many of each split, and the seed that they are drawn with."""
UNLABELLED = (144, 43)
"""The same of those that the teacher labels for ``pseudo``: half as many as there are book pages."""
SIDE = (320, 224)
NARROW = {
    "pyramid_channels": 64,
    "head_channels": 256,
    "anchor_sizes": [6, 14, 32, 76, 180],
    "anchor_ratios": [0.06, 0.15, 0.4, 1.0],
    "proposals": 300,
    "regions": 64,
}
"""Anchors by the regions of the training pages: page numbers are 4 pixels high here, running heads 15 times as wide as high."""
SEEDS = range(3)
FIRST: dict[str, Any] = {
    "epochs": 6,
    "batch_size": 8,
    "learning_rate": 0.0005,
    "augment": 0.3,
    "evaluate_every": 6,
    "keep": "last",
}
STUDENT: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 4,
    "learning_rate": 0.0006,
    "augment": 0.5,
    "evaluate_every": 12,
    "keep": "last",
}
TEACHER_EPOCHS = 36
FEWER_EPOCHS = {"r50-slim": 24}
"""Of a network that teaches nobody: it is made deeper, and learns for 12 more."""
SLIM = {**NARROW, "widths": [16, 64, 128, 256, 512]}
"""A quarter of the channels of a ResNet of bottlenecks: the pairs with the deepest networks, for three seeds on 2 cores."""
DETR: dict[str, Any] = {
    "backbone_config": {"hidden_sizes": [32, 64, 128, 256], "embedding_size": 32},
    "encoder_in_channels": [64, 128, 256],
    "d_model": 96,
    "encoder_hidden_dim": 96,
    "encoder_ffn_dim": 256,
    "decoder_ffn_dim": 256,
    "decoder_in_channels": [96, 96, 96],
    "num_queries": 100,
    "num_denoising": 50,
}
"""An RT-DETRv2 narrow throughout: its backbone has half the channels of a ResNet-18."""
DETR_TEACHER = {**DETR, "backbone_config": {}, "encoder_in_channels": [128, 256, 512]}
"""The same with all channels of a ResNet-18."""
DETR_SLIM = {
    **DETR,
    "backbone_config": {"hidden_sizes": [16, 32, 64, 128], "embedding_size": 16},
    "encoder_in_channels": [32, 64, 128],
}
"""The same with a quarter of the channels."""
DETR_SETTINGS: tuple[dict[str, Any], dict[str, Any]] = (
    {"epochs": 12, "evaluate_every": 4, "batch_size": 4, "learning_rate": 0.001, "max_grad_norm": 0.1},
    {"epochs": 18, "evaluate_every": 18, "learning_rate": 0.0006, "max_grad_norm": 0.1},
)
OWN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mobilenet-v2": ({"learning_rate": 0.0015}, {"learning_rate": 0.0012}),
    "efficientnet-b0": ({"learning_rate": 0.0015}, {"learning_rate": 0.0012}),
    "r50-slim": ({"learning_rate": 0.0015}, {"learning_rate": 0.0012}),
    "r101-slim": ({}, {"learning_rate": 0.0012}),
    "r152-slim": ({}, {"learning_rate": 0.0012}),
    "rt-detrv2-r18": DETR_SETTINGS,
    "rt-detrv2-wide": DETR_SETTINGS,
    "rt-detrv2-slim": DETR_SETTINGS,
}
"""Settings on generated and on book pages, of networks that want others than the usual ones: rates on the first by `first_rates.py`.

EfficientNet-B0's on book pages is MobileNetV2's, of whose kind it is. That of the RT-DETRv2 was found with batches of 8, and is smaller with those of 4; it learns more slowly than the others.
"""
DEEPER = {"r101": "r50", "r152": "r101", "r101-slim": "r50-slim", "r152-slim": "r101-slim"}
"""Networks that begin as a shallower one that has learnt already (`deeper.py`); a teacher then learns from the books as long as a student."""
SMALLER: dict[str, Any] = {"method": "resolution", "keep": 0.7}
"""Pages of 224 × 160 for the student: half the pixels."""
NARROWER: dict[str, Any] = {"method": "channels", "keep": 0.5}
"""Half of the channels of the student's backbone, once it has learnt; then it learns as long again."""
LABELS = {"kind": "labels"}
HEADS = {"kind": "heads", "frozen": False}
LOUDER = {**HEADS, "weight": 30.0}
PKD = [{"kind": "pkd", "student_module": f"backbone.fpn.layer_blocks.{level}"} for level in range(4)]
ROI = {"kind": "roi", "temperature": 1.0}
GRAPH = {"kind": "graphkd", "weight": 0.5}
QUERY = {"kind": "query", "weight": 2.0}
DENSE = {"kind": "dense", "weight": 0.5}
MAPS = [{"kind": "pkd", "student_module": f"model.decoder_input_proj.{level}"} for level in range(3)]
METHODS: dict[str, list[dict[str, Any]]] = {
    "no-kd": [],
    "longer-no-kd": [],
    "together": [LABELS, HEADS, ROI, GRAPH],
    "smaller-no-kd": [],
    "smaller": [LABELS, HEADS, ROI, GRAPH],
    "narrow-no-kd": [],
    "narrow": [LABELS, HEADS, ROI, GRAPH],
    "pseudo": [LABELS, HEADS, ROI, GRAPH],
    "heads": [LABELS, HEADS],
    "heads-given": [LABELS, {**HEADS, "weight": 0.0}],
    "louder-heads": [LABELS, LOUDER],
    "taught-first": [LABELS, LOUDER],
    "dense-first": [LABELS, DENSE],
    "dense-heads": [LABELS, LOUDER, DENSE],
    "roi": [LABELS, ROI],
    "pkd": [LABELS, *PKD],
    "graphkd": [LABELS, GRAPH],
    "dsig": [LABELS, {"kind": "dsig"}],
    "query": [LABELS, QUERY],
    "graph": [LABELS, {**GRAPH, "weight": 5.0}],
    "query-maps": [LABELS, QUERY, *MAPS],
    "cut-no-kd": [],
    "cut": [LABELS, QUERY, *MAPS],
    "cut-heads": [LABELS, LOUDER],
    "cut-query-heads": [LABELS, {**QUERY, "weight": 8.0}, {**HEADS, "weight": 10.0}],
    "quarter-no-kd": [],
    "quarter": [LABELS, QUERY, *MAPS],
    "without": [],
}
"""Objectives by name; none: the student alone, ``longer-no-kd``: for as many epochs of the books as teacher and student together,
``smaller``: on smaller pages, ``without``: alone and without generated pages.

With ``heads-given`` the student begins with the teacher's heads, and learns from the labels alone. ``pseudo`` is ``together`` with generated
pages on which the teacher's regions are the labels: as many steps, a third of them on such pages. ``narrow`` begins with the student that
``together`` left, ``narrow-no-kd`` with that of ``no-kd``, of the same seed. ``graph`` is ``graphkd`` for a student whose labels' loss, a sum
over the decoder's layers, is some ten times a Faster R-CNN's. ``query-maps`` compares what both say of the same queries, and the maps that
the decoder looks at; ``cut`` does so for a student that begins as the teacher with half the channels of its backbone, and so does
``cut-no-kd``, which then learns alone; ``quarter`` is left a quarter of them. ``cut-heads`` follows the maps alone, ``cut-query-heads`` both,
with weights by which they pull as hard beside the labels as in a Faster R-CNN, for the reason given for ``graph``: by those of ``heads`` and
``cut`` the maps' gradient is a hundredth of the labels'. ``louder-heads`` is ``heads`` with such a weight; with ``taught-first`` the teacher, as
it was before the books, teaches on the generated pages, too. ``dense-heads`` is ``louder-heads`` with what the encoders say of every place beside
it, ``dense-first`` is that alone, from the generated pages on.
"""
DETR_METHODS = [
    "longer-no-kd",
    "louder-heads",
    "taught-first",
    "dense-first",
    "dense-heads",
    "query",
    "graph",
    "query-maps",
    "cut-no-kd",
    "cut",
    "cut-heads",
    "cut-query-heads",
    "quarter-no-kd",
    "quarter",
]
PAIRS = {
    "r50-r18": ("r50", "r18", [method for method in METHODS if method not in DETR_METHODS]),
    "r50-mobilenet-v2": ("r50", "mobilenet-v2", ["no-kd", "together"]),
    "r101-r50": ("r101", "r50", ["no-kd", "together"]),
    "r101-efficientnet-b0": ("r101", "efficientnet-b0", ["no-kd", "together"]),
    "r152-r101": ("r152", "r101", ["no-kd", "together"]),
    "r101-r50-slim": ("r101-slim", "r50-slim", ["no-kd", "together"]),
    "r152-r101-slim": ("r152-slim", "r101-slim", ["no-kd", "together"]),
    "r50-rt-detrv2-r18": ("r50", "rt-detrv2-r18", ["no-kd", "query", "graph"]),
    "rt-detrv2": (
        "rt-detrv2-wide",
        "rt-detrv2-r18",
        ["no-kd", "heads", "query-maps", "cut-no-kd", "cut", "quarter-no-kd", "quarter"],
    ),
    "rt-detrv2-slim": ("rt-detrv2-r18", "rt-detrv2-slim", ["no-kd", "heads", "cut-no-kd", "cut-heads"]),
}
"""Teacher, student and the methods. One is across families: a Faster R-CNN teaches an RT-DETRv2."""


def main(pages: Path, run: Path, pair: str, methods: list[str]) -> None:
    generated = run / "generated"
    for split, (count, seed) in GENERATED.items():
        if not (generated / split).exists():
            docstill.synth("layout", generated / split, count, seed=seed, workers=2)
    teacher, student, usual = PAIRS[pair]
    begun, taught = learnt_first(student, generated, run), learnt_teacher(teacher, generated, pages, run)
    for seed in SEEDS:
        for method in methods or usual:
            try:
                learnt(method, begun, taught, pages, run, pair, seed)
            except InUse:
                continue
            keep(pages, run, pair)


def new(network: str) -> docstill.NewModel:
    if network.startswith("rt-detr"):
        config = {"rt-detrv2-wide": DETR_TEACHER, "rt-detrv2-r18": DETR, "rt-detrv2-slim": DETR_SLIM}[network]
        return docstill.NewModel(new="rt-detrv2-r18", image_size=SIDE, config=config)
    config = SLIM if network.endswith("-slim") else NARROW
    return docstill.NewModel(new=f"faster-rcnn-{network.removesuffix('-slim')}", image_size=SIDE, config=config)


def backbone(network: str) -> str:
    """A ResNet's whole name."""
    return network.removesuffix("-slim").replace("r", "resnet")


def own(settings: dict[str, Any], network: str, place: int) -> dict[str, Any]:
    """The settings with the network's own, if it has some."""
    return {**settings, **OWN[network][place]} if network in OWN else settings


def learnt_first(network: str, generated: Path, run: Path) -> str:
    """The folder of a detector that has learnt from generated pages; what it scores on others of them is noted."""
    if network in DEEPER:
        shallow = learnt_first(DEEPER[network], generated, run)
        return deeper(Path(shallow), backbone(network), run / "first" / network / "model")
    done = docstill.train("layout", new(network), generated, run / "first" / network, **own(FIRST, network, 0))
    return noted(network, done)


def noted(name: str, done: dict[str, Any]) -> str:
    """The model's folder; what it scores on generated pages is noted."""
    known = read_json(HERE / "pretraining.json") if (HERE / "pretraining.json").is_file() else {}
    known[name] = {"ap": done["best"], "seconds": done["seconds"], "hardware": hardware()}
    write_json(HERE / "pretraining.json", known)
    return str(done["model"])


def learnt_teacher(network: str, generated: Path, pages: Path, run: Path) -> str:
    """The folder of a detector that has learnt from generated pages, then from the books."""
    settings = {**own(STUDENT, network, 1), "epochs": FEWER_EPOCHS.get(network, TEACHER_EPOCHS)}
    if network in DEEPER:
        shallow = learnt_teacher(DEEPER[network], generated, pages, run)
        begun = deeper(Path(shallow), backbone(network), run / "teachers" / f"{network}-begun")
        settings["epochs"] = STUDENT["epochs"]
    else:
        begun = learnt_first(network, generated, run)
    return str(docstill.train("layout", begun, pages, run / "teachers" / network, **settings)["model"])


def learnt(method: str, begun: str, taught: str, pages: Path, run: Path, pair: str, seed: int) -> None:
    """One student or control; its folder is ``run/pair/method/seed-n``."""
    folder, student = run / pair / method / f"seed-{seed}", begins(method, begun, taught, run, pair, seed)
    settings = own(STUDENT, PAIRS[pair][1], 1)
    if method == "longer-no-kd":
        settings["epochs"] += TEACHER_EPOCHS
    if method == "pseudo":
        docstill.compress(with_unlabelled(begun, taught, pages, run, settings, seed), folder)
        return
    if METHODS[method]:
        docstill.distill(taught, student, pages, folder, seed=seed, objectives=METHODS[method], **settings)
    else:
        docstill.train("layout", student, pages, folder, seed=seed, **settings)


def with_unlabelled(begun: str, taught: str, pages: Path, run: Path, settings: dict[str, Any], seed: int) -> Recipe:
    """``together``, with pages that the teacher labels; in as many steps as without them."""
    count, drawn = UNLABELLED
    if not (run / "unlabelled").exists():
        docstill.synth("layout", run / "unlabelled", count, seed=drawn, workers=2)
    labelled = len(read_json(pages / "train.json")["images"])
    fewer = {"epochs": settings["epochs"] * labelled / (labelled + count)}
    distill = {**settings, **fewer, "objectives": METHODS["pseudo"]}
    content = {
        "task": "layout",
        "teacher": taught,
        "student": begun,
        "data": {"train": pages / "train", "validation": pages / "validation", "unlabelled": run / "unlabelled"},
        "stages": [{"distill": distill}],
        "controls": ["teacher"],
        "seed": seed,
    }
    return Recipe.model_validate(content)


def begins(method: str, begun: str, taught: str, run: Path, pair: str, seed: int) -> str | docstill.NewModel:
    """What a student begins as."""
    teacher, student, _ = PAIRS[pair]
    if method == "without":
        return new(student)
    if method.endswith("-first"):
        generated, asked = run / "generated", {**own(FIRST, student, 0), "objectives": METHODS[method]}
        knew = learnt_first(teacher, generated, run)
        done = docstill.distill(knew, new(student), generated, run / pair / f"{method}-begun", **asked)
        return noted(f"{student} ({method})", done)
    if method.startswith("quarter"):
        fewer = {**NARROWER, "keep": 0.25}
        return str(docstill.prune(taught, run / pair / "quarter-begun", **fewer)["model"])
    if method.startswith("cut"):
        return str(docstill.prune(taught, run / pair / "cut-begun", **NARROWER)["model"])
    if method.startswith("smaller"):
        return str(docstill.prune(begun, run / pair / "shrunk", **SMALLER)["model"])
    if method.startswith("narrow"):
        wide = run / pair / ("no-kd" if method.endswith("no-kd") else "together") / f"seed-{seed}"
        if not (wide / DONE).is_file():
            raise InUse(f"{wide} is not done")
        return str(docstill.prune(wide / "model", run / pair / f"{method}-begun" / f"seed-{seed}", **NARROWER)["model"])
    return begun


def keep(pages: Path, run: Path, pair: str) -> None:
    """Writes what is done so far; how fast it is, once timed, stays."""
    teacher, student, _ = PAIRS[pair]
    taught = figures(run / "teachers" / teacher, pages)
    found: dict[str, Any] = {
        "teacher": {"network": teacher, **taught},
        "student": student,
        "epochs": own(STUDENT, student, 1)["epochs"],
    }
    found |= {"hardware": hardware(), "methods": {}}
    for method in METHODS:
        where = "seed-*/seed-*/student/1-distill" if method == "pseudo" else "seed-*"
        folders = sorted((run / pair / method).glob(where))
        if done := [figures(folder, pages) for folder in folders if (folder / DONE).is_file()]:
            found["methods"][method] = done
    target = HERE / f"{pair}.json"
    old = read_json(target) if target.is_file() else {}
    write_json(target, found | {key: value for key, value in old.items() if key == "speed"})


def figures(folder: Path, pages: Path) -> dict[str, Any]:
    """What a network scores on the validation pages at its end, how long it learnt, and how hard each objective pulled beside the labels."""
    seconds = read_json(folder / DONE)["seconds"]
    scored = step(folder / "evaluation", lambda: docstill.evaluate(folder / "model", pages / "validation"))
    found = {"metrics": scored["metrics"], "seconds": seconds}
    ratios = mean_ratios(read_metrics(folder / METRICS))
    return {**found, "gradients": ratios} if ratios else found


def speed(pages: Path, run: Path, pair: str) -> None:
    """How fast the first student of each size is beside the teacher, in interleaved rounds."""
    teacher, _, methods = PAIRS[pair]
    sizes = ("together" if "together" in methods else "heads", "smaller", "narrow", "cut")
    models = {"teacher": run / "teachers" / teacher / "model"}
    models |= {name: run / pair / name / "seed-0" / "model" for name in sizes}
    there = {name: str(folder) for name, folder in models.items() if folder.is_dir()}
    timed = docstill.benchmark(list(there.values()), pages / "validation", threads=1)["models"]
    found = read_json(HERE / f"{pair}.json")
    found["speed"] = {name: timed[folder] for name, folder in there.items()}
    write_json(HERE / f"{pair}.json", found)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[3] not in PAIRS or any(name not in (*METHODS, "speed") for name in sys.argv[4:]):
        sys.exit(f"{__doc__}\nPAIR is one of {', '.join(PAIRS)}\nMETHOD is one of {', '.join(METHODS)}; or speed")
    if sys.argv[4:] == ["speed"]:
        speed(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
    else:
        main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
