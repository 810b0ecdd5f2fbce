"""The layers of two models against each other as a picture: PNG for slides and pages, from plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, MARGIN, TITLE = 38, 2, 18, 64
INK, PALE, MISSING = (30, 34, 42), (246, 248, 251), (222, 222, 222)
DARK = (12, 68, 124)


def heatmap(
    matrix: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    row_title: str,
    column_title: str,
) -> Image.Image:
    """A grid of shaded cells, 0 pale and 1 dark, each with its value; what is not defined is gray with a dash.

    Args:
        matrix: values in [0, 1], one list a row; None is not defined.
        rows: a name for each row.
        columns: a name for each column.
        title: above the grid.
        row_title: what the rows are.
        column_title: what the columns are.
    """
    font, small, large = (ImageFont.load_default(size) for size in (14, 12, 18))
    left = MARGIN + 26 + max(int(font.getlength(name)) for name in rows) + 8
    below = 8 + max(int(font.getlength(name)) for name in columns) + 26 + MARGIN
    right = left + len(columns) * CELL
    width = max(right, int(large.getlength(title)) + 2 * MARGIN - MARGIN, left + int(font.getlength(column_title)))
    height = TITLE + len(rows) * CELL + below
    image = Image.new("RGB", (width + MARGIN, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((MARGIN, MARGIN), title, fill=INK, font=large)
    for row, values in enumerate(matrix):
        top = TITLE + row * CELL
        draw.text((left - 8, top + CELL / 2), rows[row], fill=INK, font=font, anchor="rm")
        for column, value in enumerate(values):
            corner = (left + column * CELL, top)
            shade = MISSING if value is None else _shade(value)
            draw.rectangle((*corner, corner[0] + CELL - GAP, corner[1] + CELL - GAP), fill=shade)
            text = "–" if value is None else f"{max(0.0, value):.2f}".replace("0.", ".")
            ink = "white" if value is not None and value > 0.55 else INK
            middle = (corner[0] + (CELL - GAP) / 2, corner[1] + (CELL - GAP) / 2)
            draw.text(middle, text, fill=ink, font=small, anchor="mm")
    bottom = TITLE + len(rows) * CELL
    for column, name in enumerate(columns):
        _upright(image, name, font, left + column * CELL + (CELL - GAP) // 2, bottom + 6)
    draw.text(((left + right) / 2, height - MARGIN), column_title, fill=INK, font=font, anchor="ms")
    _upright(image, row_title, font, MARGIN + 8, (TITLE + bottom) // 2, centred=True)
    return image


def save_heatmap(image: Image.Image, path: Path) -> None:
    """Writes the picture as PNG; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "PNG", optimize=True)


def _shade(value: float) -> tuple[int, int, int]:
    share = min(1.0, max(0.0, value))
    red, green, blue = (round(pale + share * (dark - pale)) for pale, dark in zip(PALE, DARK, strict=True))
    return red, green, blue


def _upright(
    image: Image.Image,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    x: int,
    y: int,
    centred: bool = False,
) -> None:
    """Text turned by a quarter, read from below; ``y`` is its upper end, or its middle."""
    length = int(font.getlength(text)) + 2
    strip = Image.new("L", (length, 20), 0)
    ImageDraw.Draw(strip).text((0, 10), text, fill=255, font=font, anchor="lm")
    turned = strip.rotate(90, expand=True)
    corner = (x - 10, y - length // 2 if centred else y)
    image.paste(INK, corner, turned)
