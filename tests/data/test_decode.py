"""Whatever users have as pictures becomes upright 8-bit RGB, or one line that says why not."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from roadwork_core.data.decode import BadImageError, decode, decode_picture


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """A picture whose corners differ: red, green, blue and white on a smooth ground."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=2)
    pixels[:20, :20] = (250, 10, 10)
    pixels[:20, -20:] = (10, 250, 10)
    pixels[-20:, :20] = (10, 10, 250)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def close(found: np.ndarray, expected: Image.Image, tolerance: float = 3.0) -> bool:
    reference = np.asarray(expected.convert("RGB")).astype(float)
    return found.shape == reference.shape and float(np.abs(found - reference).mean()) <= tolerance


def rgb16_png() -> bytes:
    import struct
    import zlib

    pixels = np.asarray(scene()).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 96, 64, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def grey16() -> Image.Image:
    return Image.fromarray((np.asarray(scene().convert("L")).astype(np.uint16)) * 257)


def transparent() -> Image.Image:
    image = scene().convert("RGBA")
    image.putalpha(Image.fromarray(np.repeat([[0] * 48 + [255] * 48], 64, axis=0).astype(np.uint8)))
    return image


def on_white() -> Image.Image:
    expected = scene()
    expected.paste((255, 255, 255), (0, 0, 48, 64))
    return expected


KINDS: dict[str, tuple[Callable[[], bytes], Callable[[], Image.Image]]] = {
    "jpeg": (lambda: encoded(scene(), "JPEG", quality=95), scene),
    "progressive jpeg": (lambda: encoded(scene(), "JPEG", quality=95, progressive=True), scene),
    "grey jpeg": (lambda: encoded(scene().convert("L"), "JPEG", quality=95), lambda: scene().convert("L")),
    "cmyk jpeg": (lambda: encoded(scene().convert("CMYK"), "JPEG", quality=95), scene),
    "cmyk tiff": (lambda: encoded(scene().convert("CMYK"), "TIFF"), scene),
    "png": (lambda: encoded(scene(), "PNG"), scene),
    "palette png": (lambda: encoded(scene().quantize(64), "PNG"), lambda: scene().quantize(64)),
    "one-bit png": (lambda: encoded(scene().convert("1"), "PNG"), lambda: scene().convert("1")),
    "16-bit grey png": (lambda: encoded(grey16(), "PNG"), lambda: scene().convert("L")),
    "16-bit grey tiff": (lambda: encoded(grey16(), "TIFF"), lambda: scene().convert("L")),
    "16-bit rgb png": (rgb16_png, scene),
    "rgba png": (lambda: encoded(transparent(), "PNG"), on_white),
    "rgba webp": (lambda: encoded(transparent(), "WEBP", lossless=True), on_white),
    "transparent palette png": (lambda: encoded(transparent().quantize(64), "PNG"), on_white),
    "grey with transparency": (
        lambda: encoded(Image.fromarray(np.full((64, 96), 7, np.uint8)), "PNG", transparency=7),
        lambda: Image.new("RGB", (96, 64), "white"),
    ),
    "webp": (lambda: encoded(scene(), "WEBP", quality=95), scene),
    "bmp": (lambda: encoded(scene(), "BMP"), scene),
    "ppm": (lambda: encoded(scene(), "PPM"), scene),
    "gif": (lambda: encoded(scene(), "GIF"), lambda: scene().quantize(256)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_becomes_rgb(kind: str) -> None:
    make, expected = KINDS[kind]
    found = decode(make())
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert close(found, expected(), tolerance=6 if "palette" in kind or kind == "gif" else 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert close(decode(content), frames[0])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "MPO"])
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"save_all": True, "append_images": [scene()]} if kind == "MPO" else {}
    content = encoded(scene(), kind, exif=exif, **options)
    reference = scene()
    reference.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(reference)
    picture = decode_picture(content)
    assert close(picture.pixels, expected, tolerance=8)
    assert (picture.width, picture.height) == expected.size


def test_broken_exif_data_do_not_cost_the_picture() -> None:
    content = encoded(scene(), "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\xff\xff\xff\xff\xff")
    assert close(decode(content), scene())


@pytest.mark.parametrize(
    ("min_side", "size"), [(0, 800), (800, 800), (700, 700), (401, 500), (400, 400), (100, 100), (10, 100)]
)
def test_a_jpeg_is_decoded_at_the_smallest_sufficient_scale(min_side: int, size: int) -> None:
    picture = decode_picture(encoded(scene(1000, 800), "JPEG", quality=95), min_side=min_side)
    assert picture.pixels.shape == (size, size * 1000 // 800, 3)
    assert (picture.width, picture.height) == (1000, 800)
    assert close(picture.pixels, scene(1000, 800).resize((size * 1000 // 800, size), Image.Resampling.BOX))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 200))
@settings(max_examples=40, deadline=None)
def test_a_reduced_jpeg_is_never_smaller_than_asked(width: int, height: int, min_side: int) -> None:
    found = decode(encoded(Image.new("RGB", (width, height), "gray"), "JPEG"), min_side=min_side)
    assert min(found.shape[:2]) >= min(min_side, width, height)


def test_arrays_and_pictures_are_taken_as_they_are() -> None:
    rgb = np.asarray(scene())
    assert np.array_equal(decode(rgb), rgb)
    assert np.array_equal(decode(scene()), rgb)
    assert np.array_equal(decode(rgb.astype(np.uint16) * 257), rgb)
    assert np.array_equal(decode(rgb[:, :, 0]), np.repeat(rgb[:, :, :1], 3, axis=2))
    assert np.array_equal(decode(rgb[:, :, :1]), np.repeat(rgb[:, :, :1], 3, axis=2))
    assert close(decode(np.asarray(transparent())), on_white())


def test_a_picture_given_as_an_object_is_left_as_it_was() -> None:
    image = scene().convert("CMYK")
    before = image.tobytes()
    decode(image, min_side=8)
    assert (image.mode, image.tobytes()) == ("CMYK", before)


def reason(source: Any, **limits: int) -> str:
    with pytest.raises(BadImageError) as error:
        decode(source, **limits)
    return error.value.message


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    bomb = encoded(Image.new("1", (30_000, 30_000)), "PNG")
    assert len(bomb) < 2_000_000
    assert "30000 x 30000" in reason(bomb)
    assert "900000000" not in reason(bomb)


def test_the_limit_on_pixels_is_the_callers_alone() -> None:
    assert "limit of 6143" in reason(encoded(scene(), "PNG"), max_pixels=6143)
    assert decode(encoded(scene(), "PNG"), max_pixels=6144).shape == (64, 96, 3)
    assert "limit of 100" in reason(np.zeros((20, 20), np.uint8), max_pixels=100)
    # More than twice Pillow's own limit, which is a global of the process.
    wide = encoded(Image.new("1", (180_000, 1_000)), "PNG")
    assert decode(wide, max_pixels=180_000_000).shape == (1_000, 180_000, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_truncated_file_is_named(kind: str) -> None:
    content = encoded(scene(400, 300), kind)
    assert reason(content[: len(content) * 2 // 3]).startswith(("truncated", "damaged"))


def test_truncation_is_seen_at_a_reduced_scale_too() -> None:
    content = encoded(scene(800, 600), "JPEG")
    assert "truncated" in reason(content[:-2000], min_side=64)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    empty, text, page, zeros = (tmp_path / name for name in ("empty.jpg", "text.jpg", "page.jpg", "zeros.jpg"))
    empty.touch()
    text.write_text("not a picture")
    page.write_text("<!DOCTYPE html><html></html>")
    zeros.write_bytes(bytes(5000))
    os.mkfifo(tmp_path / "pipe.jpg")
    assert reason(empty) == "the file is empty"
    assert reason(b"") == "the file is empty"
    assert reason(text).startswith("not a picture of a known format")
    assert reason(page) == "a web page, not a picture"
    assert reason(zeros) == "only zero bytes"
    assert reason(tmp_path / "none.jpg") == "no such file"
    assert reason(tmp_path) == "a folder, not a picture"
    assert reason(tmp_path / "pipe.jpg") == "not a file"
    assert "shape (3,)" in reason(np.zeros(3, np.uint8))
    assert "float64" in reason(np.zeros((3, 3)))
    assert "0 x 5" in reason(np.zeros((5, 0), np.uint8))


def test_postscript_is_not_opened() -> None:
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n").startswith("not a picture")


def test_samples_of_unknown_range_are_refused() -> None:
    assert "32-bit" in reason(Image.fromarray(np.full((4, 4), 70_000, np.int32)))
    assert "floating-point" in reason(Image.fromarray(np.full((4, 4), 1.5, np.float32)))
    assert close(decode(Image.fromarray(np.full((4, 4), 0.5, np.float32))), Image.new("L", (4, 4), 128))


def test_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"garbage")
    with pytest.raises(BadImageError) as error:
        decode(path)
    assert str(error.value).startswith(f"{path}: ")


WHOLE = {kind: encoded(scene(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF")}


@given(st.sampled_from(sorted(WHOLE)), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_files_decode_or_say_why_and_never_raise_anything_else(kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(content)))
    outcome = attempt(bytes(content[: end or None]))
    if isinstance(outcome, BadImageError):
        assert outcome.message
        assert "\n" not in outcome.message
    else:
        assert outcome.ndim == 3
        assert outcome.shape[2] == 3


def attempt(content: bytes) -> np.ndarray | BadImageError:
    try:
        return decode(content, min_side=32, max_pixels=1_000_000)
    except BadImageError as error:
        return error


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}], ids=str)
def test_a_jpeg_at_full_size_is_what_pillow_makes_of_it(mode: str, options: dict[str, Any]) -> None:
    content = encoded(scene(333, 251).convert(mode), "JPEG", quality=90, **options)
    reference = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert np.abs(decode(content).astype(int) - reference).max() <= 1


def test_a_jpeg_with_something_behind_it_is_read() -> None:
    content = encoded(scene(), "JPEG", quality=95)
    assert np.array_equal(decode(content + b"\0 trailing words of a camera"), decode(content))
