"""Any picture to upright 8-bit RGB, or one line that says why not."""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import simplejpeg
from attrs import frozen
from PIL import Image

from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What pictures may be; others (PostScript, PDF, video) are not opened at all.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
#: What Pillow raises over damaged files, by its own account and by feeding it garbage.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError),
    *(AttributeError, RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError),
)
_JPEG = b"\xff\xd8\xff"
#: Metadata stand before the picture; a file without this word in its first bytes has no orientation to ask for.
_EXIF_WITHIN = 1 << 18
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE = (255, 255, 255, 255)


class BadImageError(DataError):
    """A picture that cannot be used; `message` says why, `path` which (None for one that is not a file)."""


@frozen
class Picture:
    """`pixels`, uint8 (h, w, 3), RGB; `width` and `height` of the whole upright picture, before any reduction."""

    pixels: NDArray[np.uint8]
    width: int
    height: int


def decode(
    source: Path | bytes | Image.Image | NDArray[Any], *, min_side: int = 0, max_pixels: int = 100_000_000
) -> NDArray[np.uint8]:
    """The picture as uint8 (H, W, 3), RGB, upright, contiguous.

    A JPEG is decoded at the smallest of the scales 1/8, 2/8, ..., 8/8 whose shorter side is at least `min_side` pixels
    (0: at full size); everything else keeps its size. EXIF orientation is applied, an animation gives its first frame,
    transparency lies on white, 16-bit samples are scaled by 1/257 and CMYK is converted. An array is uint8 or uint16,
    (H, W) grey or (H, W, C) with C of 1, 3 (RGB) or 4 (RGBA).

    Raises BadImageError for whatever cannot be read in full, and for more than `max_pixels` pixels (judged by the
    header, before memory is taken).
    """
    return decode_picture(source, min_side=min_side, max_pixels=max_pixels).pixels


def decode_picture(
    source: Path | bytes | Image.Image | NDArray[Any], *, min_side: int = 0, max_pixels: int = 100_000_000
) -> Picture:
    """As `decode`, with the size that the picture has on disk."""
    path = source if isinstance(source, Path) else None
    try:
        if isinstance(source, Path):
            with _regular_file(source).open("rb") as stream:
                return _decode_stream(stream, min_side, max_pixels)
        if isinstance(source, bytes | bytearray | memoryview):
            if not source:
                raise BadImageError("the file is empty")
            return _decode_stream(io.BytesIO(source), min_side, max_pixels)
        if isinstance(source, np.ndarray):
            return _finish(_image_of(source, max_pixels), source.shape[1], source.shape[0])
        _check_pixels(source.size, max_pixels)
        return _finish(source, *source.size)
    except BadImageError as error:
        raise BadImageError(error.message, path=path) from None
    except _DAMAGE as error:
        raise BadImageError(_reason(error), path=path) from error


def _regular_file(path: Path) -> Path:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise BadImageError("not a file" if not stat.S_ISDIR(status.st_mode) else "a folder, not a picture")
    if status.st_size == 0:
        raise BadImageError("the file is empty")
    return path


def _decode_stream(stream: Any, min_side: int, max_pixels: int) -> Picture:
    if stream.read(3) == _JPEG:
        stream.seek(0)
        content = stream.read()
        picture = _decode_jpeg(content, min_side, max_pixels)
        if picture is not None:
            return picture
        stream = io.BytesIO(content)
    stream.seek(0)
    return _decode_any(stream, min_side, max_pixels)


def _decode_jpeg(content: bytes, min_side: int, max_pixels: int) -> Picture | None:
    """A sound JPEG in colour or grey by libjpeg-turbo alone; None where Pillow must look: CMYK, and damage to name."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray"):
            return None
        _check_pixels((width, height), max_pixels)
        pixels = simplejpeg.decode_jpeg(content, "RGB", min_height=min_side, min_width=min_side)
    except ValueError:
        return None
    if content.find(b"Exif", 0, _EXIF_WITHIN) >= 0:
        with _open(io.BytesIO(content)) as image:
            if (turn := _orientation(image)) is not None:
                return _finish(Image.fromarray(pixels), width, height, turn)
    return Picture(pixels, width, height)


def _decode_any(stream: Any, min_side: int, max_pixels: int) -> Picture:
    with _open(stream) as image:
        width, height = image.size
        _check_pixels(image.size, max_pixels)
        if image.format in ("JPEG", "MPO") and min_side > 0:
            image.draft("RGB", (min_side, min_side))
        image.load()
        return _finish(image, width, height)


def _open(stream: Any) -> Image.Image:
    # Not Image.open: its limit on pixels is a global of the process, ours is an argument.
    _register_formats()
    prefix = stream.read(16)
    stream.seek(0)
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory is None:
            continue
        accepted = accept(prefix) if accept else True
        if isinstance(accepted, str):
            raise BadImageError(f"this installation cannot read {name}")
        if accepted:
            return cast("Image.Image", factory(stream, ""))
    raise BadImageError(_not_a_picture(prefix))


def _register_formats() -> None:
    if "WEBP" not in Image.OPEN or "JPEG" not in Image.OPEN:
        Image.init()


def _not_a_picture(prefix: bytes) -> str:
    start = prefix.lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page, not a picture"
    if not prefix.strip(b"\0"):
        return "only zero bytes"
    return "not a picture of a known format (JPEG, PNG, WebP, AVIF, TIFF, BMP, GIF, PPM)"


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadImageError(f"a picture of {width} x {height} pixels")
    if width * height > max_pixels:
        raise BadImageError(f"{width} x {height} pixels are more than the limit of {max_pixels} (data.max_pixels)")


def _image_of(array: NDArray[Any], max_pixels: int) -> Image.Image:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise BadImageError(f"an array of shape {array.shape}; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    _check_pixels((array.shape[1], array.shape[0]), max_pixels)
    if array.dtype == np.uint16:
        array = _from_16_bit(array)
    if array.dtype != np.uint8:
        raise BadImageError(f"an array of {array.dtype}; expected uint8 or uint16")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def _finish(image: Image.Image, width: int, height: int, turn: Image.Transpose | None = None) -> Picture:
    turn = _orientation(image) if turn is None else turn
    rgb = _to_rgb(image)
    if turn is not None:
        rgb = rgb.transpose(turn)
    if turn is not None and turn not in (_UPRIGHT[2], _UPRIGHT[3], _UPRIGHT[4]):
        width, height = height, width
    return Picture(np.array(rgb, dtype=np.uint8), width, height)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    # Read after loading: Pillow turns a TIFF itself and then forgets the tag. Broken EXIF data says nothing.
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    convert: Callable[[Image.Image], Image.Image] | None = _DEEP.get(image.mode)
    if convert is not None:
        return convert(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_16_bit(array: NDArray[Any]) -> NDArray[np.uint8]:
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _grey_16(image: Image.Image) -> Image.Image:
    return Image.fromarray(_from_16_bit(np.asarray(image))).convert("RGB")


def _grey_32(image: Image.Image) -> Image.Image:
    array = np.asarray(image)
    if array.min() < 0 or array.max() > 65535:
        raise BadImageError("32-bit samples beyond 16 bits, whose range is not known")
    return Image.fromarray(_from_16_bit(array)).convert("RGB")


def _grey_float(image: Image.Image) -> Image.Image:
    array = np.asarray(image)
    if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
        raise BadImageError("floating-point samples outside 0 to 1, whose range is not known")
    return Image.fromarray(np.rint(array * 255).astype(np.uint8)).convert("RGB")


_DEEP: dict[str, Callable[[Image.Image], Image.Image]] = {
    "I;16": _grey_16,
    "I;16L": _grey_16,
    "I;16B": _grey_16,
    "I;16N": _grey_16,
    "I": _grey_32,
    "F": _grey_float,
}


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "may not be read (permission denied)"
    if isinstance(error, MemoryError):
        return "does not fit in memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    if "truncated" in text.lower():
        return f"truncated ({text})"
    return f"damaged ({text or type(error).__name__})"
