"""Safe decoding: any legal picture becomes upright 8-bit RGB; an illegal one is a sentence, not a traceback."""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError

from docstill.data.pdf import open_pdf, pdf_page_count
from docstill.errors import UserError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF")
"""The decoders that are tried, whatever a file's name: others, such as EPS, would run programs on what they are given."""
LEFT_BY_SYSTEMS = frozenset({"Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir"})
"""What desktops and archives leave behind; these and hidden files and folders are no mistake of the user's."""
MAX_PIXELS = 150_000_000
"""A4 at 1,000 dpi is 97 million; a picture of more pixels is taken for a decompression bomb."""

OVERSHOOT = 1.1
"""So much brighter than white the edges of letters may be where a picture was resized."""
MARGIN = 1.15
"""Pages are brought to a little more than the network's input before they are augmented, which needs pixels to work with."""


def open_image(path: Path) -> Image.Image:
    """Reads a picture as upright 8-bit RGB: first frame, EXIF rotation applied, transparency on white.

    Raises:
        UserError: missing, empty, truncated, too large, not a picture; names the file.
    """
    try:
        return _decode(path)
    except _Bad as error:
        raise UserError(f"{path}: {error}") from error


def shrink(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Shrinks ``image`` as far as both sides stay at least `MARGIN` times ``size`` (width, height); never enlarges."""
    ratio = max(size[0] / image.width, size[1] / image.height) * MARGIN
    if ratio >= 1:
        return image
    return image.resize(
        (round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BICUBIC, reducing_gap=3.0
    )


def as_read(image: Image.Image) -> Image.Image:
    """A picture from a program as `open_image` would read it from a file: upright 8-bit RGB, transparency on white.

    Raises:
        UserError: it was opened and not loaded yet, and its file is damaged.
    """
    try:
        return _to_rgb(_upright(image))
    except Exception as error:  # as for files
        raise UserError(f"a picture that was given is damaged ({error}); give a whole one") from error


def open_pages(path: Path) -> Iterator[Image.Image]:
    """All pages of a file, one after the other: those of a PDF or a TIFF, of anything else the one picture.

    Raises:
        UserError: as for `open_image`; a PDF that is damaged or needs a password.
        MissingExtra: a PDF, and the extra ``pdf`` is not installed.
    """
    if _is_pdf(path):
        yield from open_pdf(path)
        return
    count, broken = 1, None
    try:
        count = page_count(path)
    except UserError as error:  # of a TIFF that breaks off, the first page can be read
        broken = error
    try:
        with _opened(path) as image:  # once: a page of a TIFF is found by way of those before it
            for number in range(count):
                if number:
                    image.seek(number)
                yield _page_of(image)
    except _Bad as error:
        raise UserError(f"{path}: {error}") from error
    if broken is not None:
        raise broken


def page_count(path: Path) -> int:
    """How many pages a file has; 1 for what is neither a PDF nor a TIFF, whatever is wrong with it.

    Raises:
        UserError: as for `open_pages`; a TIFF that breaks off between two pages.
        MissingExtra: as for `open_pages`.
    """
    if _is_pdf(path):
        return pdf_page_count(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("TIFF",)) as image:
                return _frames(image, path)
    except UserError:
        raise
    except Exception:  # whatever Pillow raises on what is no TIFF, and on damaged bytes; opening it says what is wrong
        return 1


def _frames(image: Any, path: Path) -> int:
    try:
        return int(image.n_frames)
    except Exception as error:
        raise UserError(f"{path}: is damaged after its first page ({error}); restore it or remove it") from error


def probe_image(path: Path) -> str | None:
    """What is wrong with a picture, as a short phrase, or None. Decodes it whole: truncation shows only then."""
    try:
        _decode(path)
    except _Bad as error:
        return str(error)
    return None


def left_by_systems(path: Path) -> bool:
    """Whether a path, relative to the folder that the user gave, is hidden or one of `LEFT_BY_SYSTEMS`."""
    return any(part.startswith(".") or part in LEFT_BY_SYSTEMS for part in path.parts)


def pictures(folder: Path) -> list[Path]:
    """All pictures in a folder and below it, but for what is hidden or left by systems there, by their paths."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not left_by_systems(path.relative_to(folder)) and not path.is_dir()
    )


def bad_name(path: Path) -> str | None:
    """Why a picture that is there by its name cannot be used, as a phrase; None if it can."""
    if path.is_symlink() and path.is_dir():
        return "is a link to a folder, which is not followed; put the folder itself there"
    if path.is_symlink() and not path.exists():
        return "is a link that leads nowhere; mend or remove it"
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return "has a name that is not UTF-8; rename it"
    return None


def composed(name: str) -> str:
    """A name whose umlauts and accents are one character each (NFC): a Mac and a zip file may spell the same name in two ways."""
    return unicodedata.normalize("NFC", name)


def shown_name(path: Path) -> str:
    """A path as it can be printed, whatever bytes its name has."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def find_file(folder: Path, name: str) -> Path | None:
    """The file of this name in a folder, or None.

    The same letters can be written in two ways (Unicode's NFC and NFD), and macOS and what it packs write umlauts in the other
    one: either is found by either.
    """
    forms = dict.fromkeys((name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))))
    # Path.is_file raises on names that are too long
    return next((folder / form for form in forms if os.path.isfile(folder / form)), None)


def upright_size(path: Path) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Width and height with EXIF rotation applied, and as stored; from the head of the file alone, so it may be damaged.

    Returns:
        Two times None where there is nothing to be read; `probe_image` says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if isinstance(image, TiffImagePlugin.TiffImageFile):  # its size may be reported as turned already
                    tags = image.tag_v2
                    stored = int(tags[ExifTags.Base.ImageWidth]), int(tags[ExifTags.Base.ImageLength])
                    orientation = tags.get(ExifTags.Base.Orientation)
                else:
                    stored, orientation = image.size, _tags(image, path).get(ExifTags.Base.Orientation)
                return (stored[::-1] if orientation in _SIDEWAYS else stored), stored
    except Exception:  # whatever Pillow raises on damaged bytes
        return None, None


def _tags(image: Image.Image, path: Path) -> Image.Exif:
    """EXIF's tags of a picture that is not decoded yet."""
    if isinstance(image, PngImagePlugin.PngImageFile) and not _tagged_behind(path):
        return Image.Image.getexif(image)  # the one of PNG would decode it whole, to look behind the pixels
    return image.getexif()


def _tagged_behind(path: Path) -> bool:
    """Whether a PNG has its EXIF tags behind its pixels (PNG 3, 11.3.4.5); looks at the heads of its chunks alone."""
    with open(path, "rb") as file:
        file.seek(8)
        pixels = False
        while len(head := file.read(8)) == 8:
            kind = head[4:]
            if kind == b"eXIf":
                return pixels
            pixels = pixels or kind == b"IDAT"
            file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    return False


_SIDEWAYS = {5, 6, 7, 8}
"""Values of EXIF's tag that turn a page by 90 degrees (CIPA DC-008, Orientation)."""


class _Bad(Exception):
    """A phrase that says what is wrong with a picture."""


def _is_pdf(path: Path) -> bool:
    """Whether a file says that it is a PDF; one that says it is a picture is a mistake, and `_decode` says so."""
    return path.suffix.lower() == ".pdf"


def _decode(path: Path) -> Image.Image:
    with _opened(path) as image:
        return _page_of(image)


def _page_of(image: Image.Image) -> Image.Image:
    """The page that an open file stands at."""
    if image.width * image.height > MAX_PIXELS:
        raise _Bad(
            f"has {image.width} × {image.height} pixels, more than the {MAX_PIXELS:,} that are accepted; "
            "scan it at a lower resolution"
        )
    image.load()
    return _to_rgb(_upright(image))


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture's file; whatever is wrong with it, now or while it is read, is a phrase."""
    if path.is_dir():
        raise _Bad("is a folder; give the files in it")
    try:
        with open(path, "rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise _Bad(f"cannot be read ({error.strerror})") from error
    if not head:
        raise _Bad("is an empty file (0 bytes); restore it or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is checked just below
            with Image.open(path, formats=FORMATS) as image:
                yield image
    except _Bad:
        raise
    except UnidentifiedImageError as error:
        if b"%PDF-" in head:
            raise _Bad(
                "is a PDF, not a picture; `docstill predict` reads files named .pdf page by page, for data render the pages to PNG or JPEG"
            ) from error
        raise _Bad("is not a picture that can be read; give JPEG, PNG, TIFF, WebP, BMP or GIF") from error
    except Image.DecompressionBombError as error:
        raise _Bad(
            f"has more than the {MAX_PIXELS:,} pixels that are accepted; scan it at a lower resolution"
        ) from error
    except MemoryError as error:
        raise _Bad("does not fit into memory; scan it at a lower resolution") from error
    except Exception as error:  # on damaged bytes Pillow's decoders raise nearly anything, struct.error for one
        raise _Bad(f"is damaged ({error}); restore it or remove it") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF that cannot be parsed says nothing about rotation; the pixels are whole all the same
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB from any mode; pictures of more than 8 bits are scaled, not cut off."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0)
        scaled = np.clip(values / _full_scale(image.mode, float(values.max())), 0, 1) * 255
        return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        image = image.convert("RGBA")
        flat = Image.new("RGBA", image.size, "white")
        flat.alpha_composite(image)
        image = flat
    return image.convert("RGB")


def _full_scale(mode: str, brightest: float) -> float:
    """What counts as white. 32-bit and float files do not say: the smallest usual range that holds their values."""
    if mode.startswith("I;16"):
        return 65535.0
    ranges = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
    return next((top for top in ranges if brightest <= OVERSHOOT * top), brightest)
