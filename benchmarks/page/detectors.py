"""Detectors on book pages: a summary, what was learnt in words, and a table for each pair."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from page.words import machine, read, share, signed, spread

from docstill.metrics.seeds import summary

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
    "gain is made on the generated pages, of which there are more: after these alone the taught student scores {taught:.1f} where it scores {alone:.1f} alone, its teacher {first:.1f}. "
    "The spread is that of the books, before which each learnt from the generated pages once.{again}\n"
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
    "Of R152 → R101 with as few channels, too, by about four points. "
    "At all channels there is one seed of it and of R152 → R101, without a twin; there the R50 scores less than the R50 teacher, which learnt from the books three times as long.\n"
    "- **What is not even**: the R50 had three times as many epochs of book pages as the R18; with as many steps on generated pages it was behind it. How an R18 alone fares in as many epochs as both together, which undid the gain of the RT-DETRs, is not measured yet. The rate of MobileNetV2 and EfficientNet-B0 on book pages, twice the "
    "others', is a guess. 45 validation pages are few: a point is within what seeds differ by.",
)
DETECTORS: dict[str, dict[str, str]] = {
    "r50-r18": {"together": "together", "narrow": "narrow"},
    "r50-mobilenet-v2": {"together": "together"},
    "r101-efficientnet-b0": {"together": "together"},
    "r101-r50-slim": {"together": "together"},
    "r152-r101-slim": {"together": "together"},
    "rt-detrv2-slim": {"taught-first": "heads", "cut-heads": "heads"},
    "r101-r50": {},
    "r152-r101": {},
    "rt-detrv2": {},
    "r50-rt-detrv2-r18": {},
}
"""Pairs as the page lists them, with the methods that are named in short, and the student that was timed for each: the same network."""


def detectors_section(pairs: dict[str, dict[str, Any]], folder: Path) -> str:
    """The pairs in short, then a table for each: the teacher, the student alone, and what each method adds to it."""
    first, rates, first_rates, beginning = (
        read(folder / f"{name}.json") for name in ("pretraining", "rates", "first_rates", "beginning")
    )
    short = [
        "| teacher → student | method | seeds | teacher's AP | AP | over the no-KD twin | of the teacher's AP | speed |",
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
                timed = mainly[name]
                faster = f"{times_as_fast(found['speed'], timed):.1f} ×" if timed in found.get("speed", {}) else "–"
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
    begun_as = {"taught": "rt-detrv2-slim (taught-first)", "alone": "rt-detrv2-slim", "first": "rt-detrv2-r18"}
    said = (
        {"again": begun_again(read(folder / "first_again.json"))}
        | beginning["loss"]
        | {word: 100 * first[name]["ap"] for word, name in begun_as.items()}
    )
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


def begun_again(found: dict[str, Any] | None) -> str:
    """In a sentence, what another beginning gave, as far as it was run."""
    if found is None:
        return ""
    both = {
        part: [100 * found[way][part] for way in ("taught", "alone")]
        for part in ("generated", "books")
        if all(part in found[way] for way in ("taught", "alone"))
    }
    said = " and ".join(
        f"{taught:.1f} taught, {alone:.1f} alone on the {part}{' pages' * (part == 'generated')}"
        for part, (taught, alone) in both.items()
    )
    return said and f" Begun once more with another seed: {said} (`python benchmarks/layout/first_again.py PAGES RUN`)."


def alone_of(ways: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The seeds of the same student alone: of the kind of the method, if it has a twin of its own."""
    kind = next((f"{word}-" for word in ("smaller", "narrow", "cut", "quarter") if name.startswith(word)), "")
    alone: list[dict[str, Any]] = ways.get(f"{kind}no-kd", [])
    return alone


def over_alone(ways: dict[str, Any], name: str) -> str:
    """How far a method is ahead of the same student alone, seed by seed; empty if that is what it is, or was not run."""
    alone = alone_of(ways, name)
    over = [each["metrics"]["ap"] - other["metrics"]["ap"] for each, other in zip(ways[name], alone, strict=False)]
    return "" if alone is ways[name] or not over else signed(summary(over))


def times_as_fast(speed: dict[str, Any], name: str) -> float:
    return float(speed["teacher"]["latency_ms"]["p50"] / speed[name]["latency_ms"]["p50"])
