"""Pictures: the legal ones are read right, the others are one sentence each, and nothing global is changed."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from docstill.data.images import open_image, probe_image
from docstill.errors import UserError


def _noise(path: Path) -> Path:
    Image.effect_noise((200, 200), 60).convert("RGB").save(path)
    return path


def _png_header(path: Path, width: int, height: int) -> Path:
    """A PNG that says it is huge and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
    return path


def test_truncated(tmp_path: Path) -> None:
    path = _noise(tmp_path / "page.jpg")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"page\.jpg: is damaged"):
        open_image(path)
    assert probe_image(path) is not None
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="0 bytes"):
        open_image(tmp_path / "page.jpg")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        open_image(tmp_path / "page.jpg")


@pytest.mark.parametrize("side", [15_000, 30_000])
def test_a_decompression_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(UserError, match=r"pixels.* that are accepted"):
        open_image(_png_header(tmp_path / "bomb.png", side, side))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_large_scan_is_no_bomb(tmp_path: Path) -> None:
    Image.new("1", (9_000, 11_000)).save(tmp_path / "scan.png")
    assert open_image(tmp_path / "scan.png").size == (9_000, 11_000)


def test_a_pdf_in_disguise(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_bytes(b"%PDF-1.7 and so on")
    with pytest.raises(UserError, match="is a PDF"):
        open_image(tmp_path / "page.jpg")


def test_not_a_picture(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("hello")
    with pytest.raises(UserError, match="not a picture"):
        open_image(tmp_path / "page.jpg")


def test_cmyk(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "page.jpg", quality=100)
    image = open_image(tmp_path / "page.jpg")
    assert image.mode == "RGB"
    assert max(image.getpixel((4, 4))) < 10  # type: ignore[type-var, arg-type]


def test_sixteen_bits_are_scaled_not_cut(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "page.png")
    read = np.asarray(open_image(tmp_path / "page.png"))[..., 0]
    assert np.abs(read.astype(int) - values.astype(int) / 257).max() <= 1


def test_palette_and_transparency_lie_on_white(tmp_path: Path) -> None:
    Image.new("P", (8, 8), 1).save(tmp_path / "palette.png")
    assert open_image(tmp_path / "palette.png").mode == "RGB"
    for mode, colour in (("RGBA", (255, 0, 0, 0)), ("LA", (0, 0))):
        Image.new(mode, (8, 8), colour).save(tmp_path / f"{mode}.png")
        assert open_image(tmp_path / f"{mode}.png").getpixel((4, 4)) == (255, 255, 255)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "page.jpg", exif=exif)
    read = open_image(tmp_path / "page.jpg")
    assert read.size == (20, 40)
    assert read.getpixel((10, 5)) < (50, 50, 50)  # type: ignore[operator]
    assert read.getpixel((10, 35)) > (200, 200, 200)  # type: ignore[operator]


def test_animated_pictures_give_their_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "page.gif", save_all=True, append_images=frames[1:])
    assert open_image(tmp_path / "page.gif").getpixel((4, 4)) == (255, 0, 0)
