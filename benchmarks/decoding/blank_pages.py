"""How many empty sheets are called blank, and that no page with writing is.

python benchmarks/decoding/blank_pages.py [FOLDER...]

Empty sheets, 640 × 480 unless said: worn as generated documents are, with one fault each, on a table, with punch holes, with the
dark edge that a scanner leaves. Pages with writing: generated documents of all kinds as they come, and with each corruption at
severities 2 and 3 on top; a single short line; the first 60 pictures of each FOLDER in an order drawn by chance. Two seeds: one that
limits were chosen on (there were three such), and one that was looked at once, afterwards. Needs the extra `synth`.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from docstill.data.corruptions import CORRUPTIONS, corrupt
from docstill.data.images import IMAGE_SUFFIXES, open_image
from docstill.decoding.blank import is_blank
from docstill.deploy.hardware import hardware
from docstill.synthesis.fonts import Fonts
from docstill.synthesis.generator import KINDS, Generator
from docstill.synthesis.scenery import lying
from docstill.synthesis.wear import FAULTS, _perspective, _skew, _stains, _thermal, worn

SEEDS = {"chosen on": 100, "looked at once": 400}
SIZE = (640, 480)
DOCUMENTS = {"layout": 16}  # slow to draw
CORRUPTED = 6
NOWHERE = np.zeros((0, 2))
FONTS = Fonts()


def main(folders: list[str]) -> None:
    torch.set_num_threads(1)
    found = {name: rates(seed) for name, seed in SEEDS.items()}
    for folder in folders:
        paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        random.Random(0).shuffle(paths)
        found["looked at once"]["writing"][f"real: {Path(folder).name}"] = share(
            open_image(path) for path in paths[:60]
        )
    result = {"blank_of": found, "median_cpu_ms": costs(), "hardware": hardware()}
    Path(__file__).with_name("blank_pages.json").write_text(
        json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(json.dumps(result, indent=1, ensure_ascii=False))


def only(fault: str, rng: random.Random) -> Image.Image:
    return spoilt(sheet(), fault, rng)


def rates(seed: int) -> dict[str, dict[str, str]]:
    """Of each kind of page how many are called blank."""

    def drawn(draw: Callable[[random.Random], Image.Image], count: int, name: str) -> Iterator[Image.Image]:
        return (draw(random.Random(f"{seed}:{name}:{index}")) for index in range(count))

    empty: dict[str, tuple[Callable[[random.Random], Image.Image], int]] = {
        "worn": (lambda rng: wear(sheet(), rng), 120),
        "worn, 1000 × 1414": (lambda rng: wear(sheet((1000, 1414)), rng), 24),
        "worn, 384 × 128": (lambda rng: wear(sheet((384, 128)), rng), 24),
        "on a table": (lambda rng: on_table(sheet(), rng), 40),
        "on a table, worn": (lambda rng: wear(on_table(sheet(), rng), rng), 40),
        "two punch holes": (lambda rng: punched(rng), 24),
        "two punch holes, worn": (lambda rng: wear(punched(rng), rng), 24),
        "scanner's edge": (lambda rng: edged(rng), 24),
        "scanner's edge, worn": (lambda rng: wear(edged(rng), rng), 24),
    }
    empty |= {f"only {fault}": (partial(only, fault), 12) for fault in FAULTS}
    lines: dict[str, tuple[Callable[[random.Random], Image.Image], int]] = {
        "a line of 8 px": (lambda rng: line(rng, 8), 40),
        "a line of 10 px": (lambda rng: line(rng, 10), 40),
        "a line of 10 px, 12.50": (lambda rng: line(rng, 10, words=("12.50",)), 40),
        "a line of 10 px, pale": (lambda rng: line(rng, 10, 240, (190, 215)), 40),
        "a line of 10 px, white on black": (lambda rng: line(rng, 10, rng.randint(0, 60), (225, 255)), 40),
        "a line of 10 px, worn": (lambda rng: wear(line(rng, 10), rng), 40),
        "a line of 14 px, worn": (lambda rng: wear(line(rng, 14), rng), 40),
        "a line of 14 px, on a table": (lambda rng: on_table(line(rng, 14), rng), 40),
        "a line of 80 px": (lambda rng: line(rng, 80, words=("7.25",)), 40),
    }
    writing = {name: share(drawn(draw, count, name)) for name, (draw, count) in lines.items()}
    for kind in KINDS:
        documents = [Generator(kind, seed).document(index)[0] for index in range(DOCUMENTS.get(kind, 48))]
        writing[kind] = share(documents)
        rng = random.Random(f"{seed}:{kind}")
        writing[f"{kind}, corrupted"] = share(
            corrupt(image, fault, severity, rng)
            for image in documents[:CORRUPTED]
            for fault in CORRUPTIONS
            for severity in (2, 3)
        )
    return {
        "empty": {name: share(drawn(draw, count, name)) for name, (draw, count) in empty.items()},
        "writing": writing,
    }


def share(images: Iterable[Image.Image]) -> str:
    """How many are called blank, of how many."""
    called = [is_blank(image) for image in images]
    return f"{sum(called)} of {len(called)}"


def costs() -> dict[str, float]:
    """CPU time of one thread, in ms."""
    pages = {
        "generated receipt": Generator("receipts", 1).document(0)[0],
        "generated page of layout": Generator("layout", 1).document(0)[0],
        "empty": sheet((1000, 1000)),
        "empty and worn": wear(sheet((1000, 1000)), random.Random(0)),
        "one line, 300 dpi": sheet((2480, 3508)),
    }
    ImageDraw.Draw(pages["one line, 300 dpi"]).text((300, 400), "Total 12.00", fill="black", font_size=60)
    found = {}
    for name, page in pages.items():
        times = []
        for _ in range(8):
            began = time.process_time()
            is_blank(page)
            times.append(1000 * (time.process_time() - began))
        found[f"{name}, {page.width} × {page.height}"] = round(statistics.median(times[1:]), 1)
    return found


def sheet(size: tuple[int, int] = SIZE, level: int = 255) -> Image.Image:
    return Image.new("RGB", size, (level,) * 3)


def wear(image: Image.Image, rng: random.Random) -> Image.Image:
    return worn(image, NOWHERE, rng, 1.0)[0]


def spoilt(image: Image.Image, fault: str, rng: random.Random) -> Image.Image:
    """The sheet with one fault, at one of its two mildest severities."""
    severity = rng.randint(1, 2)
    if fault in ("skew", "perspective"):
        return {"skew": _skew, "perspective": _perspective}[fault](image, NOWHERE, rng, severity)[0]
    if fault in CORRUPTIONS:
        return corrupt(image, fault, severity, rng)
    return {"thermal": _thermal, "stains": _stains}[fault](image, rng, severity)


def on_table(image: Image.Image, rng: random.Random) -> Image.Image:
    share_of_side = rng.uniform(0.82, 0.95)
    smaller = image.resize((round(SIZE[0] * share_of_side), round(SIZE[1] * share_of_side)))
    return lying(smaller, NOWHERE, SIZE, None, rng)[0]


def punched(rng: random.Random) -> Image.Image:
    """Holes of 6 mm, 80 mm apart, on a sheet of A4."""
    page, millimetre = sheet(level=rng.randint(225, 255)), max(SIZE) / 297
    for side in (-40, 40):
        x, y, radius = 12 * millimetre, SIZE[1] / 2 + side * millimetre, 3 * millimetre
        box = (x - radius, y - radius, x + radius, y + radius)
        ImageDraw.Draw(page).ellipse(box, fill=(rng.randint(0, 90),) * 3)
    return page


def edged(rng: random.Random) -> Image.Image:
    """One to three dark sides, not quite straight."""
    page, (width, height) = sheet(level=rng.randint(225, 255)), SIZE
    near, far = (rng.uniform(0.003, 0.03) * width for _ in range(2))
    sides = (
        ((0, 0), (near, 0), (far, height), (0, height)),
        ((width, 0), (width - near, 0), (width - far, height), (width, height)),
        ((0, 0), (0, near), (width, far), (width, 0)),
        ((0, height), (0, height - near), (width, height - far), (width, height)),
    )
    for side in rng.sample(sides, rng.randint(1, 3)):
        ImageDraw.Draw(page).polygon(side, fill=(rng.randint(0, 90),) * 3)
    return page


def line(
    rng: random.Random,
    high: int,
    paper: int = 255,
    ink: tuple[int, int] = (10, 90),
    words: tuple[str, ...] = ("12.50", "Total", "31.10", "7.25 EUR", "No. 4711", "Birch"),
) -> Image.Image:
    """A sheet with one line of which figures are ``high`` pixels high."""
    page, face, text = sheet(level=paper), rng.choice(FONTS.faces), rng.choice(words)
    size = next(size for size in range(high, 4 * high) if face.at(size).getbbox("150", anchor="ls")[1] <= -high)
    x = rng.uniform(10, SIZE[0] - 10 - face.at(size).getlength(text))
    y = rng.uniform(10 + high, SIZE[1] - 10 - high)
    ImageDraw.Draw(page).text((x, y), text, font=face.at(size), fill=(rng.randint(*ink),) * 3, anchor="ls")
    return page


if __name__ == "__main__":
    main(sys.argv[1:])
