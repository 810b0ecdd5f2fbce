"""The layers of two models against each other as a picture: PNG for slides and pages. The report draws its own as SVG."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from docstill.files import atomic

CELL, GAP, MARGIN, HEAD = 72, 4, 36, 150
INK, SOFT, PALE, MISSING = (30, 34, 42), (95, 101, 107), (246, 248, 251), (222, 222, 222)
DARK = (12, 68, 124)
LINE = 52
"""Height of a line of text beside the grid."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def picture_of(similarity: Mapping[str, Any], documents: int) -> Image.Image:
    """The heatmap of what `docstill compare` found in the layers."""
    layers, overall = similarity["layers"], similarity["global"]
    title = "CKA of the layers" + ("" if overall is None else f", global {overall:.3f}")
    below = f"{similarity['estimator']}, tokens {similarity['tokens']}, {documents} documents; framed: the same depth"
    matched = {(pair["teacher"], pair["student"]) for pair in layers["matched"]}
    return heatmap(layers["matrix"], layers["teacher_names"], layers["student_names"], title, below, matched)


def heatmap(
    matrix: Sequence[Sequence[float | None]],
    teacher: Sequence[str],
    student: Sequence[str],
    title: str,
    subtitle: str = "",
    framed: Collection[tuple[int, int]] = (),
) -> Image.Image:
    """A grid of shaded cells, 0 pale and 1 dark, each with its value; what is not defined is gray with a dash.

    Args:
        matrix: values in [0, 1], one list a row; None is not defined.
        teacher: a name for each row.
        student: a name for each column.
        title: above the grid.
        subtitle: below the title.
        framed: cells (row, column) that get a frame.
    """
    small, normal, large = (ImageFont.load_default(size) for size in (23, 27, 36))
    left = MARGIN + LINE + _longest(normal, teacher) + 16
    right, bottom = left + len(student) * CELL, HEAD + len(teacher) * CELL
    width = max(right, MARGIN + _longest(large, [title]), MARGIN + _longest(small, [subtitle])) + MARGIN
    height = bottom + 16 + _longest(normal, student) + LINE + MARGIN
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=large)
    draw.text((MARGIN, MARGIN + 50), subtitle, fill=SOFT, font=small)
    for row, values in enumerate(matrix):
        draw.text((left - 16, HEAD + (row + 0.5) * CELL), teacher[row], fill=INK, font=normal, anchor="rm")
        for column, value in enumerate(values):
            corner = (left + column * CELL, HEAD + row * CELL)
            _cell(draw, corner, value, (row, column) in framed, small)
    for column, name in enumerate(student):
        _upright(image, name, normal, left + column * CELL + (CELL - LINE) // 2, bottom + 12)
    draw.text(((left + right) / 2, height - MARGIN), "student", fill=SOFT, font=normal, anchor="ms")
    _upright(image, "teacher", normal, MARGIN - 8, (HEAD + bottom - _longest(normal, ["teacher"])) // 2, SOFT)
    return image


def save_heatmap(image: Image.Image, path: Path) -> None:
    """Writes the picture as PNG, whole or not at all; its folder is made."""
    with atomic(path) as file:
        image.save(file, "PNG", optimize=True)


def _cell(draw: ImageDraw.ImageDraw, corner: tuple[int, int], value: float | None, framed: bool, font: Font) -> None:
    box = (*corner, corner[0] + CELL - GAP, corner[1] + CELL - GAP)
    ink = "white" if value is not None and value > 0.65 else INK
    draw.rectangle(box, fill=MISSING if value is None else _shade(value))
    if framed:
        draw.rectangle((box[0] + 4, box[1] + 4, box[2] - 4, box[3] - 4), outline=ink, width=2)
    text = "-" if value is None else "1" if value > 1 - 1e-6 else f"{min(max(0.0, value), 0.99):.2f}".replace("0.", ".")
    draw.text((corner[0] + (CELL - GAP) / 2, corner[1] + (CELL - GAP) / 2), text, fill=ink, font=font, anchor="mm")


def _shade(value: float) -> tuple[int, int, int]:
    share = min(1.0, max(0.0, value))
    red, green, blue = (round(pale + share * (dark - pale)) for pale, dark in zip(PALE, DARK, strict=True))
    return red, green, blue


def _longest(font: Font, names: Sequence[str]) -> int:
    return max(int(font.getlength(name)) + 2 for name in names)


def _upright(image: Image.Image, text: str, font: Font, x: int, y: int, ink: tuple[int, int, int] = INK) -> None:
    """Text turned by a quarter, read from below, that ends at ``y``."""
    strip = Image.new("L", (_longest(font, [text]), LINE), 0)
    ImageDraw.Draw(strip).text((0, LINE // 2), text, fill=255, font=font, anchor="lm")
    image.paste(ink, (x, y), strip.rotate(90, expand=True))
