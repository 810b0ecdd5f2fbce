"""Safe decoding: any legal picture becomes upright 8-bit RGB; an illegal one is a sentence, not a traceback."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from docstill.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
MAX_PIXELS = 150_000_000
"""A4 at 1,000 dpi is 97 million; a picture of more pixels is taken for a decompression bomb."""


def open_image(path: Path) -> Image.Image:
    """Reads a picture as upright 8-bit RGB: first frame, EXIF rotation applied, transparency on white.

    Raises:
        UserError: missing, empty, truncated, too large, not a picture; names the file.
    """
    try:
        return _decode(path)
    except _Bad as error:
        raise UserError(f"{path}: {error}") from error


def probe_image(path: Path) -> str | None:
    """What is wrong with a picture, as a short phrase, or None. Decodes it whole: truncation shows only then."""
    try:
        _decode(path)
    except _Bad as error:
        return str(error)
    return None


class _Bad(Exception):
    """A phrase that says what is wrong with a picture."""


def _decode(path: Path) -> Image.Image:
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise _Bad(f"cannot be read ({error.strerror})") from error
    if not head:
        raise _Bad("is an empty file (0 bytes); restore it or remove it")
    if head.startswith(b"%PDF"):
        raise _Bad("is a PDF, not a picture; render its pages to PNG or JPEG first")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked just below
            image = Image.open(path)
        if image.width * image.height > MAX_PIXELS:
            raise _Bad(
                f"has {image.width} × {image.height} pixels, more than the {MAX_PIXELS:,} that are accepted; scan it at a lower resolution"
            )
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise _Bad("is not a picture that can be read; give JPEG, PNG, TIFF, WebP, BMP or GIF") from error
    except Image.DecompressionBombError as error:
        raise _Bad(
            f"has more than the {MAX_PIXELS:,} pixels that are accepted; scan it at a lower resolution"
        ) from error
    except MemoryError as error:
        raise _Bad("does not fit into memory; scan it at a lower resolution") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise _Bad(f"is damaged ({error}); restore it or remove it") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode; 16-bit and float pictures are scaled, not cut off."""
    if image.mode.startswith("I;16") or image.mode in {"I", "F"}:
        values = np.asarray(image, dtype=np.float64)
        top = (
            65535.0
            if image.mode.startswith("I") and values.max(initial=0) > 255
            else max(float(values.max(initial=0)), 1.0)
        )
        if image.mode in {"I"} and values.max(initial=0) <= 255:
            top = 255.0
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8), "L").convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image)
        image = flat
    return image.convert("RGB")
