"""The Donut that ships, and its students: smaller, and faster."""

from __future__ import annotations

from typing import Any

from page.words import figure, machine, share, signed, spread

from docstill.metrics.seeds import summary

HOLE_IN_WORDS = (
    "Prune, then distil, from the teacher that ships, on 6,000 generated labels of small packets, three epochs; 300 others to score on.",
    "In words: with a quarter of its weights and two of six decoder layers the student keeps 98 % of the teacher's TED accuracy (the published "
    "system has 93 % of its Donut's) and 90 % of its field F1, where one wrong character loses a field. There the teacher is worth more than "
    "3 points of F1 on every seed. CKA is high for the twin, too: both begin as the teacher. What is missing is practice more than weights: "
    "taught as many epochs of four times the labels, the same quarter of the weights keeps nearly all. *Donut-hole* is pruned as published, the smallest weights at "
    "once, all layers kept. Untaught it reads nothing (*pruned*), taught it comes back most of the way, more of it with the teacher than with labels alone; but the same share of the weights is worth more where "
    "whole layers go first, and a network with zeros is no faster. Times in the table were taken beside other work, which "
    "slows the many small steps of six layers more than those of two; alone on the machine the student is less ahead (below).",
    "All begin as the teacher, on other labels than the study's. Taking whole layers out first leaves more weights to those that stay; LAMP's scores "
    "are better than bare magnitudes. One decoder layer is too few, with all its weights even: this teacher learnt with two to six.",
)
FASTER_IN_WORDS = (
    "What speed costs after one epoch of 6,000 labels, from the labels alone, one seed: a token costs as many decoder layers as there are, and hardly less where they are narrow, so two of six "
    "leave a third of that at best, and the encoder more of its share. The teacher bears to lose four decoder layers, and a quarter of what is left of the decoder's width with them, but not half of all widths, which hardly make it faster, and least of all "
    "half of the encoder's blocks. So the student above keeps the encoder whole and makes answers shorter instead. Tokens for tags that follow one another, and for values that are one of few, cost nothing; "
    "100 of them for whatever strings are frequent, parts of names and numbers, cost 19 points of F1, likely as each asks for several letters at once. How fast a student is depends on the processor: two decoder layers are 2.9 × as fast here, "
    "and were 2.2 × on one with AVX-512 (*shallow-hole*, whose layers are as many), where the encoder takes more of the time; there the student above is likely to be short of three times."
)


def teacher_section(teacher: dict[str, Any], unseen: dict[str, Any]) -> str:
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
        + f"\n\nIt reads, and does not know by heart: on the {unseen['new']['n']} of these {unseen['all']['n']} labels whose name and street are "
        + f"none of the {unseen['training']['name']:,} names and {unseen['training']['street']:,} streets in the training labels, field F1 is {100 * unseen['new']['field_f1']:.1f}, of names {100 * unseen['new']['name']:.1f}, of streets "
        + f"{100 * unseen['new']['street']:.1f} (`python benchmarks/teacher/unseen.py`)."
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
    longest = max(cell["seconds"] for cell in study["cells"] if cell["state"] == "done")
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
        + f"A student learns for up to {longest / 60:.0f} minutes a seed, on one thread, other work beside it or halted for it. {machines(study)}. "
        "`bash benchmarks/kie/micro.sh`\n"
    )


def machines(study: dict[str, Any]) -> str:
    """The machine of a study, and those of rows that were run elsewhere; such a row's speed is beside its teacher's there."""
    elsewhere: dict[str, list[str]] = {}
    for cell in study["cells"]:
        if "hardware" in cell:
            elsewhere.setdefault(machine(cell["hardware"]), []).append(f"*{cell['method']}*")
    return "; ".join(
        [machine(study["hardware"]), *(f"{', '.join(methods)}: {where}" for where, methods in elsewhere.items())]
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
