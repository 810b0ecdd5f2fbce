"""Real receipts: what a small Donut reads of them after what, and what its student keeps."""

from __future__ import annotations

import math
from typing import Any

from page.words import machine, share, signed, spread

from docstill.metrics.seeds import summary

BEGINNINGS = {
    "scratch": "from scratch",
    "small-labels": "from the teacher that ships",
    "receipts": "after generated receipts",
    "half": "the same, on every second receipt",
}
STUDENTS = {
    "student": "student of the one after generated receipts",
    "no-kd": "its no-KD twin",
}
FIELDS = ("company", "date", "address", "total")
PUBLISHED, TAUGHT_WITH, HERE = 87.3, 626, 436
"""DocParser's F1 on the official test receipts (arXiv 2304.12484), and how many receipts are given to learn from, there and here."""


def receipts_section(found: dict[str, Any]) -> str:
    """A line for each beginning, for the students and for their twins; of those that are there."""
    lines = [
        "| | " + " | ".join((*FIELDS, "all", "TED accuracy", "reading")) + " |",
        "|---|" + "---|" * (len(FIELDS) + 3),
    ]
    rows = [(BEGINNINGS[name], [found["teachers"][name]]) for name in BEGINNINGS if name in found["teachers"]]
    rows += [(word, found[kind]) for kind, word in STUDENTS.items() if found[kind]]
    for name, scored in rows:
        each = [[one["per_field"][field]["f1"] for one in scored] for field in FIELDS]
        each += [[one[key] for one in scored] for key in ("field_f1", "ted_accuracy", "reading")]
        lines.append(f"| {name} | " + " | ".join(spread(summary(values)) for values in each) + " |")
    drawn = " and ".join(f"{count:,} generated {kind}" for kind, count in found["documents"].items())
    height, width = found["new"]["image_size"]
    return (
        "## Real receipts\n\n"
        f"SROIE's four fields in per cent, F1; a field counts if every character is right. A {found['new']['new']} that sees pages at {height} × {width} "
        f"pixels reads {drawn} before it is tuned for {found['tuning']['epochs']:g} epochs on {HERE} real ones; scored on 60 others. "
        "Generated and real receipts say where characters stand, the real ones by the boxes of their lines (`reading`).\n\n"
        + "\n".join(lines)
        + f"\n\n{of_data(found['teachers'])}{of_students(found)}{machine(found['hardware'])}. `python benchmarks/kie/receipts.py RECEIPTS RUN micro`\n"
    )


def of_data(teachers: dict[str, Any]) -> str:
    """What share of the gap to what is published would be closed by as many receipts; nothing until it can be told."""
    if not {"receipts", "half"} <= teachers.keys():
        return ""
    whole, half = (100 * teachers[name]["field_f1"] for name in ("receipts", "half"))
    gap, doubling = PUBLISHED - whole, whole - half
    worth = max(0.0, doubling) * math.log2(TAUGHT_WITH / HERE)
    return (
        f"**How much of the gap is data.** DocParser has {PUBLISHED} on the official test receipts (arXiv 2304.12484), {gap:.1f} points more than the "
        f"Donut here. Twice as many receipts were worth {doubling:.1f} points; at that rate the {TAUGHT_WITH} that it learnt from, instead of {HERE}, are "
        f"worth {worth:.1f}: {share(worth / gap)} of the gap is receipts. The rest is reading: published networks have ten to thirty times the weights, "
        "see several times the pixels and have read millions of pages before.\n\n"
    )


def of_students(found: dict[str, Any]) -> str:
    """In a sentence, what students keep and gain; nothing while there are none."""
    if not found["student"]:
        return ""
    seeds, teacher = found["student"], found["teachers"]["receipts"]
    twins = {twin["seed"]: twin["field_f1"] for twin in found["no-kd"]}
    kept = summary([one["field_f1"] for one in seeds])["mean"] / teacher["field_f1"]
    said = f"Students keep {share(kept)} of their teacher's field F1, {len(seeds)} seed{'s' * (len(seeds) > 1)}"
    over = [one["field_f1"] - twins[one["seed"]] for one in seeds if one["seed"] in twins]
    if over:
        said += f", {signed(summary(over))} points over {'their twins' if len(over) == len(seeds) else f'the twins of {len(over)}'}"
    if "benchmark" in found:
        large, small = found["benchmark"]
        slow, quick = (one["latency_ms"]["document"]["p50"] for one in (large, small))
        weights = small["nonzero_non_embedding"] / large["nonzero_non_embedding"]
        said += f", with {share(weights)} of its weights, and are {slow / quick:.1f} × as fast a document"
    return (
        f"{said}. {HERE} receipts do not give back what pruning takes, with a teacher or without; on 24,000 generated labels a quarter of the weights keeps nearly all "
        "(*shallow-hole*, above). "
    )
