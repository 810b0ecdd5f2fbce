"""Pictures: what is legal is read as it looks, what is not is one sentence."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from docstill.data.images import MAX_PIXELS, open_image, open_pages, page_count, probe_image, upright_size
from docstill.errors import UserError

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def arrow(size: tuple[int, int] = (64, 32)) -> Image.Image:
    """White, with a red block in the upper left corner: shows where up and left are."""
    image = Image.new("RGB", size, "white")
    image.paste(RED, (0, 0, size[0] // 4, size[1] // 4))
    return image


def noise(path: Path, size: tuple[int, int] = (200, 160)) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds next to nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def bmp_header(width: int, height: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def close(pixel: object, wanted: tuple[int, int, int], by: int = 6) -> bool:
    return all(abs(one - other) <= by for one, other in zip(pixel, wanted, strict=True))  # type: ignore[call-overload]


def turned(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return tags


# What is legal -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "gif"])
def test_every_format_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    arrow().save(tmp_path / f"page.{suffix}")
    image = open_image(tmp_path / f"page.{suffix}")
    assert (image.mode, image.size) == ("RGB", (64, 32))
    assert close(image.getpixel((4, 2)), RED, 12)
    assert close(image.getpixel((60, 28)), WHITE)


def test_the_suffix_does_not_matter_only_the_bytes(tmp_path: Path) -> None:
    arrow().save(tmp_path / "page.png")
    (tmp_path / "page.png").rename(tmp_path / "page.jpg")
    assert open_image(tmp_path / "page.jpg").getpixel((4, 2)) == RED


def test_cmyk_has_its_colours(tmp_path: Path) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # magenta and yellow ink: red
    image.paste((0, 0, 0, 0), (8, 0, 16, 16))  # no ink: white
    image.save(tmp_path / "ink.tif")
    image.save(tmp_path / "ink.jpg", quality=95)
    for name in ("ink.tif", "ink.jpg"):
        page = open_image(tmp_path / name)
        assert close(page.getpixel((2, 8)), RED, 12)
        assert close(page.getpixel((13, 8)), WHITE, 12)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_is_scaled_not_cut_off(tmp_path: Path, suffix: str) -> None:
    levels = np.repeat(np.array([[0, 257 * 64, 257 * 128, 65535]], dtype=np.uint16), 8, axis=0)
    Image.fromarray(levels).save(tmp_path / f"deep.{suffix}")
    page = open_image(tmp_path / f"deep.{suffix}")
    assert [page.getpixel((x, 4)) for x in range(4)] == [(v, v, v) for v in (0, 64, 128, 255)]


def test_a_dark_16_bit_page_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 200, dtype=np.uint16)).save(tmp_path / "dark.png")
    assert open_image(tmp_path / "dark.png").getpixel((4, 4)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 100, 255]], dtype=np.int32), [0, 100, 255]),
        (np.array([[0, 257 * 100, 65535]], dtype=np.int32), [0, 100, 255]),
        (np.array([[0.0, 0.5, 0.75]], dtype=np.float32), [0, 128, 191]),
        (np.array([[0.0, 100.0, 200.0]], dtype=np.float32), [0, 100, 200]),
        (np.array([[np.nan, -5.0, 1.0]], dtype=np.float32), [0, 0, 255]),
    ],
)
def test_32_bit_and_float_pictures_keep_their_range(tmp_path: Path, values: np.ndarray, wanted: list[int]) -> None:
    Image.fromarray(values).save(tmp_path / "wide.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = open_image(tmp_path / "wide.tif")
    assert [page.getpixel((x, 0))[0] for x in range(3)] == wanted


def test_palette_with_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([*RED, *BLUE, *GREEN])
    image.paste(1, (8, 0, 16, 16))
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=0)
    assert [open_image(tmp_path / "plain.png").getpixel((x, 8)) for x in (2, 13)] == [RED, BLUE]
    assert [open_image(tmp_path / "clear.png").getpixel((x, 8)) for x in (2, 13)] == [WHITE, BLUE]


@pytest.mark.parametrize(("mode", "clear", "half"), [("RGBA", (0, 0, 0, 0), (0, 0, 0, 128)), ("LA", (0, 0), (0, 128))])
def test_alpha_is_laid_on_white(tmp_path: Path, mode: str, clear: tuple[int, ...], half: tuple[int, ...]) -> None:
    image = Image.new(mode, (16, 16), clear)
    image.paste(half, (8, 0, 16, 16))
    image.save(tmp_path / "alpha.png")
    page = open_image(tmp_path / "alpha.png")
    assert page.getpixel((2, 8)) == WHITE
    assert close(page.getpixel((13, 8)), (127, 127, 127), 2)


def test_one_bit_fax_pages_are_read(tmp_path: Path) -> None:
    arrow().convert("1", dither=Image.Dither.NONE).save(tmp_path / "fax.tif", compression="group4")
    page = open_image(tmp_path / "fax.tif")
    assert (page.getpixel((4, 2)), page.getpixel((60, 28))) == ((0, 0, 0), WHITE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = arrow().transpose(undo[orientation]) if orientation in undo else arrow()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"turned.{suffix}", exif=exif)
    page = open_image(tmp_path / f"turned.{suffix}")
    assert page.size == (64, 32)
    assert close(page.getpixel((4, 2)), RED, 12)
    assert close(page.getpixel((60, 28)), WHITE)
    assert page.getexif().get(0x0112, 1) == 1


def test_broken_exif_does_not_hide_whole_pixels(tmp_path: Path) -> None:
    arrow().save(tmp_path / "page.jpg", exif=b"Exif\0\0nonsense that is no TIFF header")
    assert open_image(tmp_path / "page.jpg").size == (64, 32)


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "png"])
def test_animated_pictures_give_the_first_frame_and_let_the_file_go(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (BLUE, RED, GREEN)]
    frames[0].save(tmp_path / f"film.{suffix}", save_all=True, append_images=frames[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        page = open_image(tmp_path / f"film.{suffix}")
    assert page.size == (16, 16)
    assert close(page.getpixel((8, 8)), BLUE, 12)


def test_a_phones_double_picture_is_read(tmp_path: Path) -> None:
    arrow().save(tmp_path / "double.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (64, 32))])
    with Image.open(tmp_path / "double.jpg") as image:
        assert image.format == "MPO"
    assert close(open_image(tmp_path / "double.jpg").getpixel((60, 28)), WHITE)


def test_a_large_legal_page_is_read_without_a_warning(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_500), 1).save(tmp_path / "large.png")  # more than Pillow's own limit, less than ours
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(tmp_path / "large.png").size == (10_000, 9_500)


# What is not -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "bmp", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_truncated_pictures_are_named(tmp_path: Path, suffix: str, share: float) -> None:
    path = noise(tmp_path / f"cut.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError) as error:
        open_image(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert message == f"{path}: {probe_image(path)}"


def test_a_cut_jpeg_is_found_though_its_header_is_whole(tmp_path: Path) -> None:
    path = noise(tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[:5000])
    with Image.open(path) as image:
        assert image.size == (200, 160)  # a look at the header does not find it
    assert "is damaged" in (probe_image(path) or "")


def test_empty_missing_folder_and_text(tmp_path: Path) -> None:
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("hello")
    assert "0 bytes" in (probe_image(tmp_path / "zero.png") or "")
    assert "not a picture" in (probe_image(tmp_path / "text.png") or "")
    assert "No such file" in (probe_image(tmp_path / "nothing.png") or "")
    assert "is a folder; give the files in it" in (probe_image(tmp_path) or "")


@pytest.mark.parametrize("before", [b"", b"\n", b"\xef\xbb\xbf", b"scanned by X\n"])
def test_a_pdf_by_another_name_is_called_a_pdf(tmp_path: Path, before: bytes) -> None:
    (tmp_path / "scan.jpg").write_bytes(before + b"%PDF-1.7\n1 0 obj << >> endobj")
    with pytest.raises(UserError, match=r"scan\.jpg: is a PDF, not a picture"):
        open_image(tmp_path / "scan.jpg")


def test_a_picture_that_speaks_of_pdf_is_a_picture(tmp_path: Path) -> None:
    arrow().save(tmp_path / "page.jpg", comment=b"made from %PDF-1.7")
    assert probe_image(tmp_path / "page.jpg") is None


def test_postscript_is_not_run(tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "page.jpg").write_bytes(eps)
    assert "not a picture" in (probe_image(tmp_path / "page.jpg") or "")


@pytest.mark.parametrize("make", [png_header, bmp_header])
@pytest.mark.parametrize("size", [(30_000, 30_000), (15_001, 10_000)])
def test_bombs_are_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, size: tuple[int, int]
) -> None:
    assert size[0] * size[1] > MAX_PIXELS
    (tmp_path / "bomb.png").write_bytes(make(*size))  # type: ignore[operator]

    def explode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", explode)
    assert "150,000,000" in (probe_image(tmp_path / "bomb.png") or "")


def test_bombs_are_refused_though_pillows_own_limit_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.png").write_bytes(png_header(30_000, 30_000))
    with pytest.raises(UserError, match=r"bomb\.png: has 30000 × 30000 pixels"):
        open_image(tmp_path / "bomb.png")


def test_pillows_settings_are_left_alone(tmp_path: Path) -> None:
    path = noise(tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[:5000])
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    probe_image(path)
    assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS, list(warnings.filters))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "gif"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_never_bring_anything_but_a_sentence(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"page.{suffix}"
    arrow((32, 24)).save(path, **({} if suffix == "gif" else {"exif": exif}))
    whole = path.read_bytes()
    source = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for place in source.integers(0, min(len(whole), 300), 4):
            damaged[place] = source.integers(0, 256)
        path.write_bytes(damaged)
        problem = probe_image(path)  # must not raise
        assert problem is None or "\n" not in problem


# What is told from the head of a file -------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_the_upright_size_is_that_of_the_page_as_read(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"page.{suffix}"
    arrow().save(path, exif=turned(orientation))
    upright, stored = upright_size(path)
    assert stored == (64, 32)
    assert upright == open_image(path).size == ((32, 64) if orientation > 4 else (64, 32))


@pytest.mark.parametrize("where", ["raw profile", "XMP", "behind the pixels"])
def test_tags_of_a_png_wherever_they_lie(tmp_path: Path, where: str) -> None:
    path, tags, info = tmp_path / "page.png", turned(6).tobytes(), PngImagePlugin.PngInfo()
    if where == "raw profile":  # as ImageMagick wrote them before PNG had a chunk for them
        info.add_text("Raw profile type exif", f"\nexif\n{len(tags):8d}\n{tags.hex()}\n", zip=True)
    if where == "XMP":
        info.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    arrow().save(path, pnginfo=info)
    if where == "behind the pixels":
        data = path.read_bytes()
        end = data.index(b"IEND") - 4
        path.write_bytes(data[:end] + chunk(b"eXIf", tags.removeprefix(b"Exif\0\0")) + data[end:])
    assert upright_size(path)[0] == open_image(path).size == (32, 64)


def test_letters_edges_may_be_brighter_than_white(tmp_path: Path) -> None:
    values = np.ones((20, 20), dtype=np.float32)
    values[3, 3] = 1.04
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert open_image(tmp_path / "a.tif").getpixel((10, 10)) == (255, 255, 255)


def test_a_long_tiff_is_opened_once_for_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheets = [Image.new("L", (8, 8), 40 * number) for number in range(6)]
    sheets[0].save(tmp_path / "a.tif", save_all=True, append_images=sheets[1:])
    count, opened, open_file = page_count(tmp_path / "a.tif"), [], Image.open
    monkeypatch.setattr(Image, "open", lambda *given, **named: (opened.append(1), open_file(*given, **named))[1])
    found = [page.getpixel((0, 0)) for page in open_pages(tmp_path / "a.tif")]
    assert found == [(40 * number,) * 3 for number in range(6)]
    assert (count, len(opened)) == (6, 2), "once to count, once to read"
