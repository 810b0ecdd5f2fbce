"""Writes docs/benchmarks.md from the outputs in this folder, so that no number in it is typed by hand.

python benchmarks/write_page.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from docstill.metrics.seeds import summary

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"

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
KINDS_IN_WORDS = (
    "In words: plain KD and the difference of logits (MSE) help on every pair by more than their spread, whatever family the "
    "teacher is of. With the ResNet-10, DKD and MSE gain most; of the methods on features ReviewKD, CKA and SimKD do. VkD, attention and "
    "RKD help little. The deeper student gains half as much at best, and from a teacher of another family methods on features "
    "teach it next to nothing, hints less than nothing. DKD and ReviewKD together, tried when the rest was known, are no better than DKD alone. More steps close more of the gap "
    "than another method does. Students are not as well calibrated as teachers that are nearly always right."
)
HOLE_IN_WORDS = (
    "Prune, then distil, from the teacher that ships, on 6,000 generated labels of small packets, three epochs; 300 others to score on.",
    "In words: with a quarter of its weights and two of six decoder layers the student keeps 98 % of the teacher's TED accuracy (the published "
    "system has 93 % of its Donut's) and 90 % of its field F1, where one wrong character loses a field. The teacher is worth more than "
    "3 points of F1 on every seed. CKA is high for the twin, too: both begin as the teacher. What is missing is practice more than weights: "
    "taught as many epochs of four times the labels, the same quarter of the weights keeps nearly all. Times in the table were taken beside other work, which "
    "slows the many small steps of six layers more than those of two; alone on the machine the student is less ahead (below).",
    "All begin as the teacher, on other labels than the study's. Taking whole layers out first leaves more weights to those that stay; LAMP's scores "
    "are better than bare magnitudes. One decoder layer is too few, with all its weights even: this teacher learnt with two to six.",
)
DETECTORS_IN_WORDS = (
    "288 printed book pages of the 18th to 20th century to learn from, 45 to score on (with 7 of the 9 classes), 320 × 224 px. All networks learn from 1,200 generated pages first "
    "(Faster R-CNNs for 6 epochs, RT-DETRv2s for 12), then from the books: teachers for 36 epochs, students and controls for 12 (RT-DETRv2s for 18). The last weights count. Faster R-CNNs have a pyramid of 64 channels "
    "and heads of 256; RT-DETRv2s are narrow throughout. R101 and R152 begin as the R50 and the R101 that have learnt, with blocks added that change nothing at first "
    "(`benchmarks/layout/deeper.py`); as teachers they learn from the books for 12 epochs more. Of those called slim, with a quarter of a ResNet's channels, there are three "
    "seeds and twins; their R50 learns from the books for 24 epochs before it is made deeper. In short, each student beside the same network that has learnt alone in as many steps:",
    "- **Together**: a student that begins with the teacher's heads and goes on to follow its maps, its answers and its graph of regions is better than the same "
    "network alone, an R18 on every seed and by far, a MobileNetV2 on two of three, and keeps nearly all that the teacher has.\n"
    "- **Generated pages first**: an R18 that has not learnt from them (*without*) ends some four points behind the same network that has, a slim R50, the kind that the teachers are of, some ten, on every seed, in as many steps on the books.\n"
    "- **One by one** (R18, three seeds): the teacher's heads (*heads*: begun with, and its maps followed) are worth three points, on every seed; GraphKD's graph (*graphkd*) two, on "
    "every seed; DSIG's (*dsig*) one, on two of three. What the heads say of regions (*roi*) and PKD on the maps of the pyramid (*pkd*) are worth nothing by themselves. "
    "All of them find regions more exactly (AP75) than the twin, and only with the heads or GraphKD's graph are as many found (AP50). That *together* is worth as much as heads, graph and the rest in sum "
    "is one pair's result. *heads-given*, one seed, only begins with the teacher's heads and learns from labels alone: most of *heads* may be that.\n"
    "- **Pages without labels** (*pseudo*, R18): *together* in as many steps, a third of them on generated pages with the regions that the teacher finds there (495 on 136 of 144), is worse, on every seed, than on the "
    "books alone: such pages are not like books, and the books are seen a third less often. What pages of the same kind would add is not measured; there were none but those with labels.\n"
    "- **Three times the speed**: halving the channels of the R18 that *together* left, and teaching it once more (*narrow*), keeps what that R18 has, with a sixth of the teacher's weights. It has "
    "learnt twice as long as *together*, and so has its twin. Pages of half the pixels (*smaller*, beside its own twin) lose page numbers and small figures: no way to be three times as fast.\n"
    "- **DETR-type** (*rt-detrv2-slim*; the teacher has twice its channels). What the teacher is worth depends on when it begins to teach.\n"
    "  - From the generated pages on, with its heads and its maps (*taught-first*), the student is better than the same network alone that has taken as many steps on both, on every seed, by about two points. The "
    "gain is made on the generated pages, of which there are more: after these alone the taught student scores {taught:.1f} where it scores {alone:.1f} alone, its teacher {first:.1f} (one run each).\n"
    "  - From the books on, it is worth nothing. Its maps (*heads*) leave the student behind its twin: an RT-DETR's loss is a sum over its decoder's layers, beside which their gradient was a hundredth of the labels', a tenth in "
    "a Faster R-CNN. With thirty times the weight (*louder-heads*, one seed), and with what the teacher's encoder says of every place beside that (*dense-heads*, one seed), it is level.\n"
    "  - As weights it is worth most: begun as the teacher with half the channels of its backbone, the same network ends four to five points higher (*cut-no-kd*), and the teacher's maps beside the labels change that by less than "
    "seeds differ by (*cut-heads*: ahead on two of three; *cut* and *cut-query-heads*, one seed each).\n"
    "  - None of this is knowledge that the student could not come by. Alone it scores as much in 54 epochs of the books (*longer-no-kd*, one seed), as many as teacher and student take together: two points less than its teacher. "
    "A teacher saves this student time; it does not make it better in the end.\n"
    "- **DETR-type, begun nearly dead** (*rt-detrv2-wide*, and *r50 → rt-detrv2-r18*): measured while an RT-DETRv2 from scratch began as transformers begins it, batch norms drawn around 0, layers of a hundredth, so that next to nothing of a page reached the decoder. "
    "docstill has since begun them as their authors' code does, which takes the loss of the narrow one after an epoch of generated pages from {transformers:.1f} to {docstill:.1f} (one seed, `python benchmarks/layout/beginning.py RUN`). There *heads* gained two to three points on every seed, "
    "what a teacher says of the same queries lost some (*query*, *query-maps*, one seed each), and its weights were worth most, too (*cut-no-kd*). The rows are left as they were measured.\n"
    "- **Deeper teachers**: with blocks added to a teacher and 12 more epochs it scores a point more each time, one run each, which is no more than seeds differ by. An EfficientNet-B0 keeps more than "
    "90 % of what the R101 has, on every seed. Of R101 → R50 there are three seeds with a quarter of the channels (*slim*): *together* is better than the twin on every seed, by two to three points in the mean, and keeps 97 % of what the R101 has. "
    "Of R152 → R101 with as few channels, two seeds are more than four points above the one twin that there is. "
    "At all channels there is one seed of it and of R152 → R101, without a twin; there the R50 scores less than the R50 teacher, which learnt from the books three times as long.\n"
    "- **What is not even**: the R50 had three times as many epochs of book pages as the R18; with as many steps on generated pages it was behind it. How an R18 alone fares in as many epochs as both together, which undid the gain of the RT-DETRs, is not measured yet. The rate of MobileNetV2 and EfficientNet-B0 on book pages, twice the "
    "others', is a guess. 45 validation pages are few: a point is within what seeds differ by.",
)
DETECTORS = {
    "r50-r18": ("together", "narrow"),
    "r50-mobilenet-v2": ("together",),
    "r101-efficientnet-b0": ("together",),
    "r101-r50-slim": ("together",),
    "r152-r101-slim": ("together",),
    "rt-detrv2-slim": ("taught-first", "cut-heads"),
    "r101-r50": (),
    "r152-r101": (),
    "rt-detrv2": (),
    "r50-rt-detrv2-r18": (),
}
"""Pairs of detectors as the page lists them, with the methods that are named in short."""
FASTER_IN_WORDS = (
    "What speed costs after one epoch of 6,000 labels, from the labels alone, one seed: a token costs as many decoder layers as there are, and hardly less where they are narrow, so two of six "
    "leave a third of that at best, and the encoder more of its share. The teacher bears to lose four decoder layers, and a quarter of what is left of the decoder's width with them, but not half of all widths, which hardly make it faster. So the student above keeps the encoder whole and makes answers "
    "shorter instead, where it costs little: tags that follow one another, and values that are one of few. How fast a student is depends on the processor: two decoder layers are 2.9 × as fast here, "
    "and were 2.2 × on one with AVX-512 (*shallow-hole*, whose layers are as many), where the encoder takes more of the time; there the student above is likely to be short of three times."
)
EXTRA = {
    "classification": ["macro_f1", "nll", "ece", "augrc"],
    "kie": ["ted_accuracy", "precision", "recall", "reading"],
    "layout": ["ap50", "ap75", "ap_small", "ap_large"],
}


def main() -> str:
    sections = [HEAD]
    for name, (title, text) in RUNS.items():
        results = read(HERE / name / "results.json")
        if results is not None:
            more = f"{gap(results)}\n\n" if name == "unlabelled" else ""
            sections.append(f"## {title}\n\n{text}\n\n{more}{run_section(name, results)}")
    kinds = {file.parent.name: read(file) for file in sorted(HERE.glob("classification/kinds/*/results.json"))}
    longer = kinds.pop("resnet-resnet-10-longer", None)
    if kinds:
        sections.append(kinds_section(kinds, longer))
    detectors = {name: read(HERE / "layout" / "small" / f"{name}.json") for name in DETECTORS}
    sections.append(detectors_section(detectors, HERE / "layout" / "small"))
    teacher = read(HERE / "teacher" / "results.json")
    if teacher is not None:
        sections.append(teacher_section(teacher))
    hole = read(HERE / "kie" / "micro" / "results.json")
    if hole is not None:
        sections.append(
            hole_section(
                hole, *(read(HERE / "kie" / f"{name}.json") for name in ("longer", "ways", "structural", "faster"))
            )
        )
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


def kinds_section(studies: dict[str, Any], longer: Any) -> str:
    """One column for each pair of networks, one row for each method: points of accuracy over the no-KD twin."""
    pairs = [study["cells"] for study in studies.values()]
    names = [f"{cells[0]['teacher']} → {cells[0]['student']}" for cells in pairs]
    best = [max(cells, key=lambda cell: cell["over_twin"]["mean"]) for cells in pairs]
    found = [{cell["method"]: signed(cell["over_twin"]) for cell in cells} for cells in pairs]
    methods = list(dict.fromkeys(name for cells in found for name in cells))
    rows = [
        ("teacher", [f"{100 * cells[0]['teacher_metric']:.1f}" for cells in pairs]),
        ("no-KD", [spread(cells[0]["twin"]["metrics"]["accuracy"]) for cells in pairs]),
        *((f"*{name}*", [cells.get(name, "–") for cells in found]) for name in methods),
        ("best method: gap closed", [f"*{cell['method']}*: {share(cell['gap_closed'])}" for cell in best]),
        ("best method: ECE, scaled", [scaled(cell["calibration"]) for cell in best]),
        ("teacher: ECE, scaled", [scaled(cell["of_teacher"]["calibration"]) for cell in best]),
    ]
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    lines += [f"| {name} | {' | '.join(figures)} |" for name, figures in rows]
    spent = sum(study["seconds"] for study in studies.values()) / 3600
    more = ""
    if longer is not None:
        twin = spread(longer["cells"][0]["twin"]["metrics"]["accuracy"])
        gains = "; ".join(
            f"*{cell['method']}* {signed(cell['over_twin'])} points, {share(cell['gap_closed'])} of the gap to the teacher"
            for cell in longer["cells"]
        )
        more = f"With 300 epochs instead of 120, tried when the rest was known, resnet → resnet-10: no-KD {twin}; {gains}.\n\n"
    return (
        "## Every objective, with few pages\n\n"
        "Six kinds of generated pages at 96 px: the teachers (half a ResNet-18, a small Swin) learnt from 4,200 pages, students and "
        "controls (a ResNet-10 and a ResNet-18 at a quarter of their widths) from 60 others, from scratch; 1,200 more to score on, by "
        "which nothing was chosen. Accuracy in per cent; of each method the points over the no-KD twin, seed by seed, ± the standard "
        "deviation over 3 seeds. Weights of the objectives are those of the recipes and of the methods' pages, the same for all "
        "pairs. ECE after temperature scaling.\n\n"
        + "\n".join(lines)
        + f"\n\n{more}{KINDS_IN_WORDS}\n\nAll cells took {spent:.1f} hours, one thread each, other work beside them. "
        f"{machine(next(iter(studies.values()))['hardware'])}. `python benchmarks/classification/kinds.py RUN`\n"
    )


def detectors_section(pairs: dict[str, dict[str, Any]], folder: Path) -> str:
    """The pairs in short, then a table for each: the teacher, the student alone, and what each method adds to it."""
    first, rates, first_rates, beginning = (
        read(folder / f"{name}.json") for name in ("pretraining", "rates", "first_rates", "beginning")
    )
    short = [
        "| teacher → student | method | seeds | teacher's AP | AP | over the same alone | of the teacher's AP | speed |",
        "|---|" + "---|" * 7,
    ]
    tables = []
    for pair, mainly in DETECTORS.items():
        found = pairs[pair]
        teacher, ways = found["teacher"]["metrics"], found["methods"]
        called = f"{found['teacher']['network']} → {found['student']}"
        lines = [
            f"| {called} | seeds | AP | over no-KD | AP50 | AP75 | of the teacher's AP |",
            "|---|" + "---|" * 6,
            f"| teacher | 1 | {100 * teacher['ap']:.1f} | | {100 * teacher['ap50']:.1f} | {100 * teacher['ap75']:.1f} | |",
        ]
        for name, seeds in ways.items():
            over = over_alone(ways, name)
            ap, ap50, ap75 = (summary([each["metrics"][key] for each in seeds]) for key in ("ap", "ap50", "ap75"))
            kept = share(ap["mean"] / teacher["ap"])
            lines.append(
                f"| *{name}* | {len(seeds)} | {spread(ap)} | {over} | {spread(ap50)} | {spread(ap75)} | {kept} |"
            )
            if name in mainly:
                faster = f"{times_as_fast(found['speed'], name):.1f} ×" if name in found.get("speed", {}) else "–"
                short.append(
                    f"| {called} | *{name}* | {len(seeds)} | {100 * teacher['ap']:.1f} | {spread(ap)} | {over or '–'} | {kept} | {faster} |"
                )
        tables.append("\n".join(lines))
        if "speed" in found:
            faster = "; ".join(
                f"*{name}* {times_as_fast(found['speed'], name):.1f} ×, {figures['params']['total'] / 1e6:.1f} million weights"
                for name, figures in found["speed"].items()
            )
            tables.append(f"Speed against the teacher, page to regions, interleaved, one thread: {faster}.")
    begun = ", ".join(f"{name} {100 * scored['ap']:.1f}" for name, scored in first.items())
    tried = ", ".join(f"{rate}: {100 * ap:.1f}" for rate, ap in rates["ap"].items())
    begin = "; ".join(
        f"{name} has its own there, by its loss after an epoch ({', '.join(f'{rate}: {loss:.2f}' for rate, loss in known['loss'].items())})"
        for name, known in first_rates.items()
    )
    spent = (
        sum(each["seconds"] for found in pairs.values() for seeds in found["methods"].values() for each in seeds) / 3600
    )
    begun_as = {"taught": "rt-detrv2-slim (with its teacher)", "alone": "rt-detrv2-slim", "first": "rt-detrv2-r18"}
    said = beginning["loss"] | {word: 100 * first[name]["ap"] for word, name in begun_as.items()}
    return (
        f"## Regions of book pages\n\n{DETECTORS_IN_WORDS[0]}\n\n"
        + "\n".join(short)
        + f"\n\n± is the standard deviation over seeds; differences are taken seed by seed.\n\n{DETECTORS_IN_WORDS[1].format(**said)}\n\n"
        + "\n\n".join(tables)
        + f"\n\nAfter the generated pages they score {begun} AP on 100 others. "
        f"The rate on books was chosen by the no-KD twin, on {rates['pages']['validation']} of the training pages, from books held out (AP by "
        f"rate, one seed: {tried}; `python benchmarks/layout/rates.py PAGES RUN`). That on generated pages: 0.0005; {begin} "
        "(`python benchmarks/layout/first_rates.py RUN NETWORK`).\n\n"
        f"{spent:.1f} hours of one core for students and controls. {machine(pairs['r50-r18']['hardware'])}. "
        "`python benchmarks/layout/small.py PAGES RUN PAIR`\n"
    )


def over_alone(ways: dict[str, Any], name: str) -> str:
    """How far a method is ahead of the same student alone, seed by seed; empty if that is what it is, or was not run."""
    kind = next((f"{word}-" for word in ("smaller", "narrow", "cut", "quarter") if name.startswith(word)), "")
    alone = ways.get(f"{kind}no-kd", [])
    over = [each["metrics"]["ap"] - other["metrics"]["ap"] for each, other in zip(ways[name], alone, strict=False)]
    return "" if alone is ways[name] or not over else signed(summary(over))


def times_as_fast(speed: dict[str, Any], name: str) -> float:
    return float(speed["teacher"]["latency_ms"]["p50"] / speed[name]["latency_ms"]["p50"])


def normalisation_section(found: dict[str, Any]) -> str:
    """A row for each network, a column for each way to prepare pages."""
    lines = ["| | black −1, white 1 | mean 0, deviation 1 |", "|---|---|---|"]
    for network, ways in found["accuracy"].items():
        figures = [spread(summary(ways[how])) for how in ("usual", "measured")]
        lines.append(f"| {network} | {' | '.join(figures)} |")
    pages = found["pages"]
    return (
        "## What a transformer from scratch sees of a page\n\n"
        f"Accuracy in per cent after {found['steps']} steps, the first of thousands, on {pages['train']:,} generated pages of "
        f"{found['classes']} kinds at 96 px: a ViT-tiny of six layers and a small Swin, {pages['validation']} other pages to score on. "
        f"All that differs is the image processor. Chance is {100 / found['classes']:.1f}; ± is the standard deviation over 3 seeds.\n\n"
        + "\n".join(lines)
        + f"\n\n{machine(found['hardware'])}. `python benchmarks/normalisation/run.py RUN`\n"
    )


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


def signed(difference: dict[str, Any]) -> str:
    text = spread(difference)
    return text if text.startswith("−") else f"+{text}"


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def scaled(calibration: dict[str, Any]) -> str:
    after = calibration["after"]["ece"]
    return figure(after, 1) if isinstance(after, dict) else f"{after:.3f}"


def teacher_section(teacher: dict[str, Any]) -> str:
    metrics, blank = teacher["metrics"], teacher["blank_page"]
    lines = ["| field | F1 | of a blank page |", "|---|---|---|"]
    for name, scores in metrics["per_field"].items():
        guessed = blank["per_field"].get(name, {"f1": 0.0})["f1"]
        lines.append(f"| {name} | {100 * scores['f1']:.1f} | {100 * guessed:.1f} |")
    lines.append(f"| all | {100 * metrics['field_f1']:.1f} | {100 * blank['field_f1']:.1f} |")
    way = "; ".join(
        f"{stage}: " + ", ".join(f"{100 * look['validation']['field_f1']:.0f}" for look in looks)
        for stage, looks in teacher["training"].items()
    )
    cuts = [
        f"| {stage} | {100 * max(look['validation']['field_f1'] for look in teacher['training'][stage]):.1f} | "
        + " | ".join(f"{100 * f1:.1f}" for f1 in kept.values())
        + " |"
        for stage, kept in teacher["cuts"].items()
    ]
    return (
        "## The teacher that ships\n\n"
        f"A Donut of {teacher['params']['total']:,} parameters, {teacher['bytes'] / 1e6:.1f} MB in half precision, from scratch on "
        f"generated labels; scored on {teacher['n']} of another seed: TED accuracy {metrics['ted_accuracy']:.3f}, reading "
        f"{metrics['reading']:.3f}. A field counts if every character is right.\n\n"
        + "\n".join(lines)
        + f"\n\nField F1 on validation labels on the way, four decoder layers, then six: {way}.\n\n"
        + "Made to be cut: field F1 of the whole model on validation labels, and on unseen labels with three or two of its decoder "
        + "layers and no training since. *four*: its four layers trained in the ordinary way; *six*: with two more, a quarter left out at "
        + "random in training (LayerDrop); *half*: then half; *elastic*: then two to six layers at each step; *shallow*: then two at most steps.\n\n"
        + "| after | whole | three layers | two layers |\n|---|---|---|---|\n"
        + "\n".join(cuts)
        + "\n\n"
        f"{machine(teacher['hardware'])}. `bash benchmarks/teacher/run.sh`\n"
    )


def hole_section(
    study: dict[str, Any],
    longer: dict[str, Any],
    ways: dict[str, Any],
    structural: dict[str, Any] | None,
    faster: dict[str, Any] | None,
) -> str:
    """DONUT-hole's study at the smallest scale: a line for each student and for its twin without a teacher; more of it; what was tried first."""
    done = [cell for cell in study["cells"] if cell["state"] == "done"]
    best = done[0]["of_teacher"]
    lines = [
        "| | field F1 | of the teacher's | TED accuracy | of the teacher's | reading | CKA | weights, % | faster |",
        "|---|" + "---|" * 8,
        hole_line("teacher", best, best, best["cost"]["ms"]),
    ]
    for cell in done:
        slow = cell["of_teacher"]["cost"]["ms"]
        lines.append(hole_line(f"*{cell['method']}*", cell, best, slow))
        if cell["twin"] is not None:
            lines.append(hole_line("its no-KD twin", cell["twin"], best, slow))
    gains = "; ".join(
        f"*{cell['method']}* {signed(cell['over_twin'])} points of F1 over its twin"
        for cell in done
        if cell["over_twin"] is not None
    )
    tried = [
        "| one epoch, one seed | field F1 | TED accuracy | weights, % |",
        "|---|---|---|---|",
        f"| teacher | {100 * ways['teacher']['field_f1']:.1f} | {100 * ways['teacher']['ted_accuracy']:.1f} | |",
        *(
            f"| {name} | {100 * way['metrics']['field_f1']:.1f} | {100 * way['metrics']['ted_accuracy']:.1f} | {share(way['of_teacher'])} |"
            for name, way in ways["ways"].items()
        ),
    ]
    waiting = [f"*{cell['method']}*" for cell in study["cells"] if cell["state"] != "done"]
    still = f" Not run yet: {', '.join(waiting)}." if waiting else ""
    return (
        f"## DONUT-hole, small\n\n{HOLE_IN_WORDS[0]}\n\n"
        + "\n".join(lines)
        + f"\n\n{gains}. Weights: those that are not zero, "
        "without the embedding, in per cent of the teacher's. CKA is the unbiased global number, with the teacher. ± is the standard "
        f"deviation over {study['repeats']} seeds; differences are taken seed by seed.{still}\n\n{HOLE_IN_WORDS[1]}\n\n"
        + longer_taught(longer)
        + (
            ""
            if structural is None
            else f"\n\n{longer_taught(structural, cuts_in_words(structural['student']), ' structural')}"
        )
        + "\n\n"
        + "\n".join(tried)
        + f"\n\n{HOLE_IN_WORDS[2]} `python benchmarks/kie/ways.py RUN`\n\n"
        + ("" if faster is None else three_times(faster))
        + f"{study['seconds'] / 3600:.1f} hours, one thread, other work beside it. {machine(study['hardware'])}. "
        "`bash benchmarks/kie/micro.sh`\n"
    )


def three_times(found: dict[str, Any]) -> str:
    """A line for each way to be three times as fast: what it scores after an epoch, and how fast it is."""
    timed = found.get("speed", {})
    lines = [
        "| two decoder layers, and … | field F1 | TED accuracy | tokens an answer | encoder, ms | a token, ms | a document, ms | faster |",
        "|---|" + "---|" * 7,
    ]
    for name, way in found["models"].items():
        scored = [f"{100 * way['metrics'][key]:.1f}" for key in ("field_f1", "ted_accuracy")]
        times, faster = ["", "", ""], ""
        if name in timed:
            spent = [timed[name][part]["p50"] for part in ("encoder", "per_token", "document")]
            times = [f"{spent[0]:.1f}", f"{spent[1]:.2f}", f"{spent[2]:.1f}"]
            faster = f"{timed['teacher']['document']['p50'] / spent[2]:.2f} ×"
        what = "the whole teacher" if name == "teacher" else name
        lines.append(f"| {what} | {' | '.join(scored)} | {way['tokens']:.0f} | {' | '.join(times)} | {faster} |")
    return "\n".join(lines) + f"\n\n{FASTER_IN_WORDS} `python benchmarks/kie/faster.py RUN`\n\n"


def cuts_in_words(cuts: list[dict[str, Any]]) -> str:
    """What `longer.py structural` cuts off, in words."""
    layers, width, merges = cuts
    return (
        f"{layers['keep']} of 6 decoder layers, {share(width['keep'])} of the width of their feed-forward layers, one token for what at least "
        f"{share(merges['common'])} of the answers hold"
    )


def longer_taught(found: dict[str, Any], name: str = "Shallow-hole", way: str = "") -> str:
    """In a sentence, what a student learns from more labels in more steps."""
    timed = found.get("speed")
    faster = ""
    if timed is not None:
        slow, quick = (timed[who]["latency_ms"]["document"]["p50"] for who in ("teacher", "student"))
        faster = f"; {slow / quick:.1f} × as fast a document, one thread, in interleaved rounds"
    seeds, teacher, twins = found["seeds"], found["teacher"], found.get("twins", [])
    said, alone = [], []
    for key, word in (("field_f1", "field F1"), ("ted_accuracy", "TED accuracy")):
        scored = summary([each["metrics"][key] for each in seeds])
        said.append(f"{word} {spread(scored)}, {100 * scored['mean'] / teacher[key]:.1f} % of the teacher's")
        if twins:
            over = [each["metrics"][key] - twin["metrics"][key] for each, twin in zip(seeds, twins, strict=False)]
            alone.append(
                f"{word} {spread(summary([twin['metrics'][key] for twin in twins]))} ({signed(summary(over))} with the teacher)"
            )
    alike = figure(summary([each["global_cka"] for each in seeds]), 1)
    count, epochs = found["labels"]["train"][0], found["training"]["epochs"]
    twin = ""
    if twins:
        likeness = figure(summary([each["global_cka"] for each in twins]), 1)
        twin = f"Its twin that learns from labels alone, {len(twins)} seed{'s' * (len(twins) > 1)}: {'; '.join(alone)}; CKA {likeness}. "
    return (
        f"*{name}* on {count:,} labels for {epochs} epochs, {len(seeds)} seed{'s' * (len(seeds) > 1)}: {'; '.join(said)}; CKA {alike}; "
        f"{share(max(each['of_teacher'] for each in seeds))} of the weights{faster}. {twin}`python benchmarks/kie/longer.py RUN{way}`"
    )


def hole_line(name: str, row: dict[str, Any], best: dict[str, Any], slow: float) -> str:
    metrics, cost = row["metrics"], row["cost"]
    figures = []
    for key in ("field_f1", "ted_accuracy"):
        figures += [spread(metrics[key]), share(metrics[key]["mean"] / best["metrics"][key]["mean"])]
    alike = "" if cost["cka"] is None else figure(cost["cka"], 1)
    kept = share(cost["nonzero_non_embedding"] / best["cost"]["nonzero_non_embedding"])
    return f"| {name} | {' | '.join(figures)} | {spread(metrics['reading'])} | {alike} | {kept} | {slow / cost['ms']:.1f} × |"


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


def robustness_section(worse: dict[str, Any]) -> str:
    groups = worse["groups"]
    lines = [f"| | {' | '.join(groups)} |", "|---|" + "---|" * len(groups)]
    lines.append("| as they are | " + " | ".join(spread(group["clean"]) for group in groups.values()) + " |")
    lines.append("| mean drop, points | " + " | ".join(spread(group["drop"]) for group in groups.values()) + " |")
    for kind in groups["teacher"]["drop_by_corruption"]:
        drops = [spread(group["drop_by_corruption"][kind]) for group in groups.values()]
        lines.append(f"| {kind} | {' | '.join(drops)} |")
    return (
        "## The same models on worse pages\n\n"
        f"Teacher, students and no-KD controls of the run on real pages, on {worse['n']} of its validation pages: accuracy in per "
        "cent, and by how many points it drops under ten corruptions, mean over five severities.\n\n"
        + "\n".join(lines)
        + f"\n\n± is the standard deviation over 3 seeds (the teacher is one). {machine(worse['hardware'])}. "
        "`python benchmarks/robustness/run.py RUN PAGES 90`\n"
    )


def spread(figure: dict[str, Any]) -> str:
    text = f"{100 * figure['mean']:.1f}"
    return (text if figure["std"] is None else f"{text} ± {100 * figure['std']:.1f}").replace("-", "−")


def canvas(model: dict[str, Any]) -> str:
    return " × ".join(map(str, model["canvas"])) + " px"


def figure(summary: dict[str, Any], scale: float) -> str:
    digits = 1 if scale == 100 else 3
    spread = "" if summary["std"] is None else f" ± {summary['std'] * scale:.{digits}f}"
    return f"{summary['mean'] * scale:.{digits}f}{spread}"


def machine(hardware: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {hardware[name]}" for name in ("torch", "transformers", "docstill"))
    return f"{hardware['cpu']}, {hardware['cores']} cores, {hardware['gpu'] or 'no GPU'}; {versions}"


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("this script takes no arguments")
    PAGE.write_text(main(), encoding="utf-8")
