"""Page classifiers: every objective, what a transformer sees, worse pages."""

from __future__ import annotations

from typing import Any

from page.words import machine, scaled, share, signed, spread

from docstill.metrics.seeds import summary

KINDS_IN_WORDS = (
    "In words: plain KD and the difference of logits (MSE) help on every pair by more than their spread, whatever family the "
    "teacher is of. With the ResNet-10, DKD and MSE gain most; of the methods on features ReviewKD, CKA and SimKD do. VkD, attention and "
    "RKD help little. The deeper student gains half as much at best, and from a teacher of another family methods on features "
    "teach it next to nothing, hints less than nothing. DKD and ReviewKD together, tried when the rest was known, are no better than DKD alone. More steps close more of the gap "
    "than another method does. Students are not as well calibrated as teachers that are nearly always right."
)


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
