"""Writes docs/benchmarks.md, and the table in the README, from the outputs in this folder, so that no number in them is typed by hand.

python benchmarks/write_page.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from page.classifiers import kinds_section, normalisation_section, robustness_section
from page.detectors import DETECTORS, detectors_section
from page.donuts import hole_section, teacher_section
from page.receipts import receipts_section
from page.short import BEGIN, END, in_short
from page.words import canvas, figure, machine, read, scaled

HERE = Path(__file__).parent
PAGE, README = HERE.parent / "docs" / "benchmarks.md", HERE.parent / "README.md"

HEAD = """# Benchmarks

Written by `python benchmarks/write_page.py` from the outputs under [`benchmarks/`](../benchmarks), each of which lies
beside its script and names hardware and versions. Quote ratios: absolute times depend on what else the machine does. What
is still to be run stands in [`queue.md`](../benchmarks/queue.md).
"""

RUNS = {
    "demo": (
        "The demo",
        "`docstill demo`: the teacher that ships and a student with fewer layers, on generated labels of small packets, one seed.",
    ),
    "doctype": (
        "Kinds of real pages",
        "702 pages to learn from, 376 to score on, 9 kinds, gray, longest side 512; all networks from scratch. Class and "
        "source are confounded for most kinds (one source each). `keep: best` picks the weights of teacher, student and "
        "control alike by these same 376 pages, so all three are a little flattered. All three students have 350 of 376 pages "
        "right, as the teacher has, by chance: not the same 350. Two forms of one office, fara_amendment and fara_dissemination, were "
        "thought to be the hard pair; they are not: the students most often take report_page and scientific_paper for each other. Beside the run other work went on, at the lowest priority.",
    ),
    "unlabelled": (
        "A tenth of the labels",
        "The same pages, students and teacher as above, but the student and its control are given the labels of a tenth of the "
        "training pages. The student sees the others too, as the teacher (who learnt from all labels) answers them; the control sees the "
        "tenth as many times more often. What all labels give is the control of the run above. One thread, and other work beside it.",
    ),
    "speed": (
        "A ResNet-50 as teacher",
        "The same pages as above at 128 px: a ResNet-50 from scratch, for which 702 pages are few, and a ResNet-10 at a quarter of its "
        "widths as its student, the temperature of both scaled. One thread; beside its training other work went on.",
    ),
    "sroie": (
        "Real receipts, from scratch",
        "436 receipts to learn from, 60 to score on, four fields. A small Donut without reading pretraining: it learns the "
        "language of receipts and hardly reads them. Shows that prune-then-distil runs end to end on real data, no more.",
    ),
}
EXTRA = {
    "classification": ["macro_f1", "nll", "ece", "augrc"],
    "kie": ["ted_accuracy", "precision", "recall", "reading"],
    "layout": ["ap50", "ap75", "ap_small", "ap_large"],
}


def main() -> str:
    sections = [
        HEAD,
        "## In short\n\n"
        f"{in_short(HERE)}\nIn per cent, ± the standard deviation over 3 seeds (a teacher is one). Students and their no-KD twins took as many steps; networks and pages are small, all from scratch. "
        "Speed on a CPU, on one thread (ResNet-18: two), the whole way from page to answer, in interleaved rounds.\n",
    ]
    for name, (title, text) in RUNS.items():
        results = read(HERE / name / "results.json")
        if results is not None:
            more = f"{gap(results)}\n\n" if name == "unlabelled" else whole_command() if name == "demo" else ""
            sections.append(f"## {title}\n\n{text}\n\n{more}{run_section(name, results)}")
    kinds = {file.parent.name: read(file) for file in sorted(HERE.glob("classification/kinds/*/results.json"))}
    longer = kinds.pop("resnet-resnet-10-longer", None)
    if kinds:
        sections.append(kinds_section(kinds, longer))
    detectors = {name: read(HERE / "layout" / "small" / f"{name}.json") for name in DETECTORS}
    sections.append(detectors_section(detectors, HERE / "layout" / "small"))
    teacher = read(HERE / "teacher" / "results.json")
    if teacher is not None:
        sections.append(teacher_section(teacher, read(HERE / "teacher" / "unseen.json")))
    hole = read(HERE / "kie" / "micro" / "results.json")
    if hole is not None:
        sections.append(
            hole_section(
                hole, *(read(HERE / "kie" / f"{name}.json") for name in ("longer", "ways", "structural", "faster"))
            )
        )
    receipts = read(HERE / "kie" / "receipts-micro.json")
    if receipts is not None:
        sections.append(receipts_section(receipts))
    normalised = read(HERE / "normalisation" / "results.json")
    if normalised is not None:
        sections.append(normalisation_section(normalised))
    prepared = read(HERE / "preparation" / "results.json")
    if prepared is not None:
        sections.append(preparation_section(prepared))
    worse = read(HERE / "robustness" / "results.json")
    if worse is not None:
        sections.append(robustness_section(worse))
    cost = read(HERE / "distill_cost" / "results.json")
    if cost is not None:
        low, _, high = cost["ratio_quartiles"]
        sections.append(
            "## What a distil step costs\n\n"
            f"{cost['ratio']:.3f} × (teacher forward + student step, each measured apart); quartiles of {cost['rounds']} "
            f"interleaved rounds {low:.3f} to {high:.3f}. Batches of {cost['batch']} at {cost['image_size']} px, "
            f"{cost['precision']}, {machine(cost['hardware'])}. `python benchmarks/distill_cost/run.py`\n"
        )
    cached = read(HERE / "teacher_cache" / "results.json")
    if cached is not None:
        low, _, high = cached["ratio_quartiles"]
        medians = cached["median_cpu_seconds"]
        sections.append(
            "## The teacher asked once\n\n"
            f"With `cache_logits: {cached['logits_kept']}` a distil step takes {cached['ratio']:.2f} × the CPU time of one that "
            f"asks the teacher (quartiles of {cached['rounds']} interleaved rounds {low:.2f} to {high:.2f}), pages prepared and "
            f"weights updated: a {cached['teacher']['size']} on {canvas(cached['teacher'])} teaches a {cached['student']['size']} "
            f"on {canvas(cached['student'])}, batches of {cached['batch']}, {cached['precision']}, one thread. What is saved, once "
            f"paid, is mostly the teacher's forward pass, alone {medians['teacher forward alone'] / medians['teacher asked']:.2f} × "
            f"such a step. {cached['bytes_a_token']:.0f} bytes a token on disk. The more the teacher outweighs the student, the more "
            f"it is worth. {machine(cached['hardware'])}. `python benchmarks/teacher_cache/run.py`\n"
        )
    boxes = read(HERE / "coco_eval" / "results.json")
    if boxes is not None:
        whole, beside, versions = boxes["docstill"], boxes["beside"], boxes["versions"]
        mine, theirs = (beside[name]["processor_s"] for name in ("docstill", "pycocotools"))
        sections.append(
            "## Scoring boxes\n\n"
            f"`docstill score --task layout` on {boxes['pages']:,} pages of {boxes['boxes_a_page']} regions and as many "
            f"detections, {boxes['classes']} classes, reading the files included: {whole['processor_s']:.1f} s of one "
            f"processor, {whole['wall_s']:.1f} s on the clock (the better of {boxes['rounds']} rounds). On "
            f"{beside['pages']} of the pages pycocotools takes {theirs / mine:.1f} times as long. Largest difference of a figure "
            f"{boxes['largest_difference']:.0e}. faster-coco-eval {versions['faster-coco-eval']}, pycocotools "
            f"{versions['pycocotools']}; {machine(boxes['hardware'])}. `python benchmarks/coco_eval/run.py`\n"
        )
    receipts = read(HERE / "receipt_scores" / "results.json")
    if receipts is not None:
        sections.append(
            "## Scoring receipts\n\n"
            f"TED accuracy and field F1 of {receipts['receipts']:,} generated receipts of {receipts['characters_a_receipt']} "
            f"characters, read with a TED accuracy of {receipts['ted_accuracy']:.2f}: {receipts['processor_s']:.1f} s of one processor "
            f"(the best of {receipts['rounds']} rounds). {machine(receipts['hardware'])}. "
            "`python benchmarks/receipt_scores/run.py`\n"
        )
    drawn = read(HERE / "synth" / "results.json")
    if drawn is not None:
        sections.append(drawing_section(drawn))
    kills = HERE / "resume" / "output.txt"
    if kills.is_file():
        hardware, *lines = kills.read_text(encoding="utf-8").splitlines()
        sections.append(
            "## Killed twenty times\n\n"
            "A tiny recipe is killed with `kill -9` at 20 random moments, each time followed by the same command; the final "
            "student equals that of the uninterrupted run bit for bit, on a CPU: "
            f"{lines[-1].strip('= ')}; {machine(json.loads(hardware))}. `bash benchmarks/resume/run.sh`\n"
        )
    return "\n".join(sections)


def readme(text: str) -> str:
    """The README with the table of today."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + in_short(HERE) + END + rest.split(END)[1]


def whole_command() -> str:
    """How long the demo takes, from its start to the path of the report, and what its models score on more labels."""
    seconds, more = read(HERE / "demo" / "whole.json")["seconds"], read(HERE / "demo" / "more.json")
    said = f"The whole command, drawing the labels included: {seconds // 60} min {seconds % 60} s."
    if more is not None:
        teacher, cut, student, twin = (100 * more["field_f1"][name] for name in ("teacher", "cut", "student", "no-kd"))
        said += (
            f" The demo scores few labels. On {more['labels']} others its teacher has {teacher:.1f} field F1, the student {student:.1f} "
            f"({100 * student / teacher:.1f} % of that), its twin {twin:.1f}, and the student before it learnt {cut:.1f}: this teacher was trained so that it bears to "
            "lose layers, and so little teaching adds next to nothing (`python benchmarks/demo/more.py RUN`). "
            "Taught for longer, such a student gains points (below)."
        )
    return f"{said}\n\n"


def gap(results: dict[str, Any]) -> str:
    """How much of the way from a tenth of the labels to all of them the student goes without them."""
    few, without = (accuracy(results, name) for name in ("no-kd", "student"))
    every = accuracy(read(HERE / "doctype" / "results.json"), "no-kd")
    return (
        f"From {100 * few:.1f} with a tenth of the labels to {100 * every:.1f} with all of them: {100 * (without - few) / (every - few):.0f} % "
        "of that gap is closed, in the mean."
    )


def accuracy(results: dict[str, Any], name: str) -> float:
    found: float = next(row["metrics"]["accuracy"]["mean"] for row in results["rows"] if row["name"] == name)
    return found


def preparation_section(found: dict[str, Any]) -> str:
    """A row for each data set: what is gained, in the mean over models."""
    lines = ["| | models | pages | accuracy or AP, points | NLL | models that gain |", "|---|---|---|---|---|---|"]
    for name, data in found.items():
        gain = data["gain"]
        main_name = "accuracy" if "accuracy" in gain else "ap"
        points = 100 * gain[main_name]["mean"]
        nll = f"{gain['nll']['mean']:+.3f}" if "nll" in gain else ""
        # A likelihood says more than a share of a few hundred pages, where it is there.
        better = [-value for value in gain["nll"]["values"]] if "nll" in gain else gain[main_name]["values"]
        gained = sum(value > 0 for value in better)
        line = (
            f"| {name} | {len(data['models'])} | {data['pages']} | {points:+.1f} | {nll} | {gained} of {len(better)} |"
        )
        lines.append(line.replace("-", "−"))
    return (
        "## Scans in use as in training\n\n"
        "In training a scan is brought near to the network's size first, then augmented, then given to the image processor. Until now "
        "it went through the processor alone in use. The same models, their pages prepared in use as in training; what is gained "
        "(with classifiers NLL is looked at for the last column, with detectors AP, of which 45 pages say little):\n\n"
        + "\n".join(lines)
        + f"\n\n{machine(next(iter(found.values()))['hardware'])}. `python benchmarks/preparation/run.py DATA MODEL …`\n"
    )


def drawing_section(drawn: dict[str, Any]) -> str:
    lines = ["| kind | documents a second | median size in pixels |", "|---|---|---|"]
    for kind, found in drawn["kinds"].items():
        width, height = found["median_size"]
        lines.append(f"| {kind} | {found['documents_a_second']:.0f} | {width} × {height} |")
    versions = ", ".join(f"{name} {version}" for name, version in drawn["versions"].items())
    return (
        "## Drawing documents\n\n"
        f"`docstill synth`, {drawn['documents']} documents of each kind with {drawn['workers']} processes, whose start counts, "
        f"worn by default; median of {drawn['rounds']} interleaved rounds.\n\n"
        + "\n".join(lines)
        + f"\n\n{versions}; {machine(drawn['hardware'])}. `python benchmarks/synth/run.py`\n"
    )


def run_section(name: str, results: dict[str, Any]) -> str:
    metric, extra = results["primary_metric"], EXTRA[results["task"]]
    lines = [
        f"| | {metric} | {' | '.join(extra)} | parameters | non-zero | MB | ms a page (p50) |",
        "|---|" + "---|" * (len(extra) + 5),
    ]
    for row in results["rows"]:
        latency = row["latency_ms"].get("document", row["latency_ms"])["p50"]
        figures = [figure(row["metrics"][key], 100 if key == metric else 1) for key in (metric, *extra)]
        params = row["params"]
        lines.append(
            f"| {row['name']} | {' | '.join(figures)} | {params['total']:,} | {params['nonzero']:,} | "
            f"{row['bytes'] / 1e6:.1f} | {latency:.1f} |"
        )
    if results["task"] == "classification":
        lines += ["", *by_class(results["rows"])]
    if all(row.get("calibration") for row in results["rows"]):
        errors = [f"{row['name']} {scaled(row['calibration'])}" for row in results["rows"]]
        lines += ["", f"ECE after temperature scaling: {', '.join(errors)}."]
    seeds = max(len(row["seeds"]) for row in results["rows"])
    return (
        "\n".join(lines)
        + f"\n\n{metric} in per cent, the rest as fractions; ± is the standard deviation over {seeds} seed{'s' * (seeds > 1)}"
        + (" (the teacher is one)" if seeds > 1 else "")
        + f". The whole recipe took {results['seconds'] / 60:.0f} minutes. {machine(results['hardware'])}. "
        + f"`bash benchmarks/{name}/run.sh`\n"
    )


def by_class(rows: list[dict[str, Any]]) -> list[str]:
    """Accuracy of the pages of each class, mean over seeds."""
    lines = [f"| pages of | {' | '.join(row['name'] for row in rows)} |", "|---|" + "---|" * len(rows)]
    for label in rows[0]["per_class"][0]:
        means = [sum(seed[label] for seed in row["per_class"]) / len(row["per_class"]) for row in rows]
        lines.append(f"| {label} | {' | '.join(f'{100 * mean:.1f}' for mean in means)} |")
    return lines


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("this script takes no arguments")
    PAGE.write_text(main(), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8")), encoding="utf-8")
