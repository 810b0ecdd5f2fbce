"""`docstill synth`: generated documents, each of them from (seed, index) alone."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from docstill.data.coco import coco_content
from docstill.data.coco_folder import INSIDE
from docstill.data.regions import Regions
from docstill.errors import MissingExtra, UserError
from docstill.progress import counter, say
from docstill.synthesis.composing import LABELS
from docstill.synthesis.fonts import Face, Fonts
from docstill.synthesis.labels import draw_label, shipment
from docstill.synthesis.layouts import draw_layout
from docstill.synthesis.page_kinds import write_page_kinds
from docstill.synthesis.reading import SIZES, Corpus, draw_reading
from docstill.synthesis.receipts import Form, draw_receipt, receipt
from docstill.synthesis.scenery import lying, on_texture, photographs
from docstill.synthesis.sheet import Glyph, Sheet
from docstill.synthesis.small_labels import draw_small_label, packet
from docstill.synthesis.wear import Places, worn
from docstill.synthesis.writing import new_folder

Kind = Literal["pages", "labels", "small-labels", "receipts", "layout"]
KINDS: tuple[Kind, ...] = ("pages", "labels", "small-labels", "receipts", "layout")
CLASSES = "page-kinds"
"""The kind that comes in class folders."""
_FORMS: dict[str, tuple[Callable[[random.Random], Any], Callable[..., Sheet]]] = {
    "labels": (shipment, draw_label),
    "small-labels": (packet, draw_small_label),
    "receipts": (receipt, draw_receipt),
}
"""Of each kind of form, what makes its content and what draws that."""
FORMS: tuple[Form, ...] = ("nested", "flat")
_TRIES = 40
_ROOM = (1.04, 1.25)
"""Sides of a picture with a background, in sides of the document that lies on it."""
_CHUNK = 8
QUALITY = 88


def synth(
    kind: str,
    out: str | Path,
    n: int,
    *,
    seed: int = 0,
    workers: int = 1,
    fonts: str | Path | None = None,
    corpus: str | Path | None = None,
    form: str = "nested",
    wear: float = 1.0,
    glyphs: bool = False,
    papers: str | Path | None = None,
    backgrounds: str | Path | None = None,
) -> dict[str, Any]:
    """Generates ``n`` documents into the folder ``out``: pictures and ``metadata.jsonl``, COCO annotations, or class folders.

    Args:
        kind: ``pages`` (text to learn reading from), ``labels`` (parcels), ``small-labels`` (packets: one address), ``receipts``,
            ``layout`` (pages with regions) or ``page-kinds`` (to classify; drawn in one way, so only ``n`` and ``seed`` may be chosen).
        out: a new folder.
        n: how many.
        seed: another seed gives other documents.
        workers: processes; the documents do not depend on it.
        fonts: a folder with fonts; default: those of the extra ``synth``.
        corpus: for pages and layout, a UTF-8 text file; default: sentences of Faker.
        form: for receipts, ``nested`` (CORD's keys) or ``flat`` (SROIE's).
        wear: 0 to 1; how worn the paper is.
        glyphs: say in ``metadata.jsonl`` where each character stands, for the objective `reading`.
        papers: a folder with photographs of paper, to print on; default: plain paper.
        backgrounds: a folder with photographs for documents to lie on, not for layout; default: half of the pages lie on a
            table that is drawn, other kinds on nothing.

    Returns:
        ``{"kind", "out", "n", "seed"}``.

    Raises:
        MissingExtra: the extra ``synth`` is not installed.
        UserError: an argument does not hold, the folder cannot be written, or a process that draws ended early.
    """
    if n < 1:
        raise UserError(f"n must be at least 1, {n} given")
    if kind == CLASSES:
        chosen = {
            "fonts": fonts,
            "corpus": corpus,
            "form": form != "nested",
            "wear": wear != 1,
            "glyphs": glyphs,
            "papers": papers,
            "backgrounds": backgrounds,
        }
        named = " and ".join(name for name, value in chosen.items() if value)
        if named:
            raise UserError(f"{CLASSES} are drawn in one way; leave {named} out, or choose another kind")
        write_page_kinds(Path(out), n, seed)
        return {"kind": kind, "out": str(out), "n": n, "seed": seed}
    check_extra("docstill synth")
    if kind not in KINDS:
        raise UserError(f"there are no generated {kind!r}; choose one of {', '.join((*KINDS, CLASSES))}")
    if form not in FORMS:
        raise UserError(f"form can be {' or '.join(FORMS)}, {form!r} given")
    if form != "nested" and kind != "receipts":
        raise UserError(f"form is for receipts, {kind} were asked for; leave it out")
    if corpus is not None and kind not in ("pages", "layout"):
        raise UserError(f"a corpus is for pages and layout, {kind} were asked for; leave it out")
    if not 0 <= wear <= 1:
        raise UserError(f"wear must be between 0 and 1, {wear} given")
    if glyphs and kind == "layout":
        raise UserError("glyphs are for what is read, not for layout; leave them out, or choose another kind")
    if backgrounds is not None and kind == "layout":
        raise UserError("pages of layout fill their picture; leave backgrounds out, or choose another kind")
    generator = Generator(
        kind,
        seed,
        None if fonts is None else Path(fonts),
        None if corpus is None else Path(corpus),
        form,
        wear,
        None if papers is None else Path(papers),
        None if backgrounds is None else Path(backgrounds),
    )
    check_folders(generator)
    write_documents(generator, Path(out), n, workers, glyphs)
    return {"kind": kind, "out": str(out), "n": n, "seed": seed}


def check_extra(what: str) -> None:
    """Raises MissingExtra, on behalf of ``what``, if documents of these kinds cannot be drawn in this installation."""
    for package in ("faker", "barcode"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(what, "synth")


def check_folders(generator: Generator) -> None:
    """Raises UserError if a folder that a generator is to draw with is not there."""
    for path, what, holds in (
        (generator.fonts, "font folder", ".ttf or .otf files"),
        (generator.papers, "folder of papers", "photographs of paper"),
        (generator.backgrounds, "folder of backgrounds", "photographs"),
    ):
        if path is not None and not path.is_dir():
            raise UserError(f"there is no {what} {path}; give a folder with {holds}")


@dataclass(frozen=True)
class Drawn:
    """A document: the picture (RGB), the ground truth, and its characters with x and y as shares of width and height."""

    image: Image.Image
    truth: dict[str, Any]
    glyphs: list[Glyph]


Noted = tuple[str, dict[str, Any], list[Glyph]]
"""What is written down of a document: file name, ground truth, characters with their places."""


@dataclass(frozen=True)
class Generator:
    """Documents of one kind, by number, without end.

    Attributes:
        kind: one of `KINDS`.
        seed: another seed gives other documents.
        fonts: a folder with fonts; default: those of the extra `synth`.
        corpus: a UTF-8 text file for ``pages`` and ``layout``; default: sentences of Faker.
        form: of the ground truth of receipts.
        wear: how worn the paper is; 0 is as drawn.
        papers: a folder with photographs of paper.
        backgrounds: a folder with photographs for documents to lie on.
    """

    kind: Kind
    seed: int = 0
    fonts: Path | None = None
    corpus: Path | None = None
    form: Form = "nested"
    wear: float = 1.0
    papers: Path | None = None
    backgrounds: Path | None = None

    def document(self, index: int) -> tuple[Image.Image, dict[str, Any]]:
        """The picture (RGB) and the ground truth of a number; the same whenever and wherever it is asked for.

        Raises:
            UserError: no font has all glyphs that are needed.
        """
        drawn = self.drawn(index)
        return drawn.image, drawn.truth

    def from_right(self) -> float:
        """The share of the corpus that is left out since it is written from right to left."""
        return 0.0 if self.corpus is None else self._corpus.from_right

    def drawable(self) -> float:
        """The share of the corpus that the fonts have glyphs for; 1 where there is no corpus."""
        return 1.0 if self.corpus is None else self._corpus.drawable(self._fonts)

    def drawn(self, index: int) -> Drawn:
        """The document of a number, and where its characters stand; as `document`."""
        sheet, truth = self.sheet(index)
        places = np.array([glyph[1:] for glyph in sheet.glyphs], dtype=float).reshape(-1, 2)
        image, places = self._set(sheet.image, places, self._rng(index, "scenery"))
        moving = self.kind != "layout"  # boxes of regions stay upright
        image, places = worn(image, places, self._rng(index, "wear"), self.wear, moving)
        shares = (places / image.size).tolist()
        return Drawn(image, truth, [(sign, x, y) for (sign, _, _), (x, y) in zip(sheet.glyphs, shares, strict=True)])

    def sheet(self, index: int) -> tuple[Sheet, dict[str, Any]]:
        """The document as drawn, before anything happened to it."""
        rng = self._rng(index, "content")
        if self.kind == "pages":
            return draw_reading(self._corpus, self._fonts, rng)
        if self.kind == "layout":
            return draw_layout(self._corpus, self._fonts, rng)
        it, faces = self._content(rng)
        return _FORMS[self.kind][1](it, *faces, rng), self._said(it)

    def truth(self, index: int) -> dict[str, Any]:
        """The ground truth of a number alone: at once for forms; of other kinds it is known when the sheet is drawn."""
        if self.kind not in _FORMS:
            return self.sheet(index)[1]
        return self._said(self._content(self._rng(index, "content"))[0])

    def _content(self, rng: random.Random) -> tuple[Any, tuple[Face, Face]]:
        """What stands on a form, and the faces that can write it."""
        make, _ = _FORMS[self.kind]
        for _ in range(_TRIES):
            it = make(rng)
            faces = self._faces(it.characters(), rng)
            if faces is not None:  # else an alphabet that these fonts do not have: another country
                return it, faces
        raise UserError(
            f"the fonts in {self.fonts or 'the installed packages'} lack the letters of {self.kind}; give --fonts with a "
            "face for Latin script"
        )

    def _said(self, it: Any) -> dict[str, Any]:
        """The ground truth of a form."""
        truth: dict[str, Any] = it.truth(self.form) if self.kind == "receipts" else it.truth()
        return truth

    def stream(self, start: int = 0, step: int = 1) -> Iterator[tuple[Image.Image, dict[str, Any]]]:
        """Documents without end, for training without a disk; worker w of W starts at w and steps by W."""
        index = start
        while True:
            yield self.document(index)
            index += step

    def _set(self, image: Image.Image, places: Places, rng: random.Random) -> tuple[Image.Image, Places]:
        """The sheet on its paper, and that on its table, as far as there are any."""
        if self.papers is not None:
            image = on_texture(image, photographs(self.papers), rng)
        size = image.size
        if self.kind == "pages":
            size = next(one for one in SIZES if (one[0] > one[1]) == (image.width > image.height))
        elif self.backgrounds is not None:
            size = (round(image.width * rng.uniform(*_ROOM)), round(image.height * rng.uniform(*_ROOM)))
        if size == image.size or (self.wear == 0 and self.backgrounds is None):
            return image, places
        return lying(image, places, size, None if self.backgrounds is None else photographs(self.backgrounds), rng)

    def _faces(self, characters: str, rng: random.Random) -> tuple[Face, Face] | None:
        face, bold = self._fonts.choose(rng, characters), self._fonts.choose(rng, characters, bold=True)
        return (face, bold) if face and bold else None

    def _rng(self, index: int, purpose: str) -> random.Random:
        return random.Random(f"{self.kind}:{self.seed}:{index}:{purpose}")

    @cached_property
    def _fonts(self) -> Fonts:
        return Fonts(self.fonts)

    @cached_property
    def _corpus(self) -> Corpus:
        corpus = Corpus(self.corpus)
        corpus.drawable(self._fonts)
        return corpus


def write_documents(generator: Generator, folder: Path, count: int, workers: int = 1, glyphs: bool = False) -> None:
    """Writes an image folder with ``metadata.jsonl``, as Donut's data sets are, or COCO annotations; whole or not at all.

    Args:
        generator: what to draw.
        folder: is made; must not hold anything yet.
        count: documents.
        workers: processes; the documents do not depend on it.
        glyphs: say where each character stands.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    with new_folder(folder) as scratch:
        generator.document(0)  # what is wrong with fonts or corpus is said before any process starts
        if (share := generator.drawable()) < 1:
            say(
                f"warning: the fonts have no glyphs for some {1 - share:.1%} of the words of the corpus; they are left out"
            )
        if from_right := generator.from_right():
            say(
                f"warning: {from_right:.1%} of the corpus is written from right to left, which is not drawn; it is left out"
            )
        marked: list[tuple[str, Regions]] = []
        chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
        with counter(f"drawing {generator.kind}", count) as advance:
            for done in _in_chunks(generator, scratch, chunks, workers, glyphs):
                if generator.kind == "layout":
                    marked += [(name, _regions(truth)) for name, truth, _ in done]
                else:  # at once: where each character stands is too much to be kept for all documents
                    with open(scratch / "metadata.jsonl", "a", encoding="utf-8") as lines:
                        lines.writelines(_line(noted, glyphs) for noted in done)
                advance(len(done))
        if generator.kind == "layout":
            (scratch / INSIDE).write_text(json.dumps(coco_content(marked, LABELS)) + "\n", encoding="utf-8")


def _in_chunks(
    generator: Generator, folder: Path, chunks: list[range], workers: int, glyphs: bool
) -> Iterator[list[Noted]]:
    if workers <= 1:
        yield from (_draw(generator, folder, glyphs, chunk) for chunk in chunks)
        return
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(workers, context, _begin, (replace(generator), folder, glyphs)) as pool:
            yield from pool.map(_draw_next, chunks)
    except BrokenProcessPool as error:
        raise UserError(
            'a process that draws documents ended early; a script that calls synth must do so under `if __name__ == "__main__":`, for '
            "each of them imports it; if yours does, there may be too little memory: give fewer workers"
        ) from error


_begun: list[tuple[Generator, Path, bool]] = []
"""In a worker process: its generator, whose fonts and corpus are read once, where it writes, and whether it notes characters."""


def _begin(generator: Generator, folder: Path, glyphs: bool) -> None:
    _begun.append((generator, folder, glyphs))


def _draw_next(chunk: range) -> list[Noted]:
    return _draw(*_begun[0], chunk)


def _draw(generator: Generator, folder: Path, glyphs: bool, chunk: range) -> list[Noted]:
    """Name, ground truth and, if they are asked for, characters of each document that was drawn."""
    truths = []
    for index in chunk:
        drawn = generator.drawn(index)
        name = f"{index:06d}.jpg"
        drawn.image.save(folder / name, quality=QUALITY)
        truths.append((name, drawn.truth, drawn.glyphs if glyphs else []))
    return truths


def _line(noted: Noted, glyphs: bool) -> str:
    """A line of ``metadata.jsonl``."""
    name, truth, places = noted
    line: dict[str, Any] = {
        "file_name": name,
        "ground_truth": json.dumps({"gt_parse": truth}, ensure_ascii=False),
    }
    if glyphs:
        line["glyphs"] = [(sign, round(x, 4), round(y, 4)) for sign, x, y in places]
    return json.dumps(line, ensure_ascii=False) + "\n"


def _regions(truth: dict[str, Any]) -> Regions:
    """The ground truth of a page with regions."""
    boxes = tuple((float(x), float(y), float(w), float(h)) for x, y, w, h in (one["box"] for one in truth["regions"]))
    labels = tuple(LABELS.index(one["label"]) for one in truth["regions"])
    areas = tuple(width * height for _, _, width, height in boxes)
    return Regions((truth["width"], truth["height"]), boxes, labels, areas, (False,) * len(boxes))
