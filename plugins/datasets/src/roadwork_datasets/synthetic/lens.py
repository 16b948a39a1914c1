"""Between the scene and the file: lamps that bloom, rain and snow in the air, and a camera's flaws."""

import io
import random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from roadwork_datasets.synthetic.frame import Frame
from roadwork_datasets.synthetic.light import Colour

Pixels = NDArray[np.float32]


def expose(image: Image.Image, frame: Frame, glows: list[tuple[float, float, float, Colour]]) -> Image.Image:
    """Turn the painted picture into a photograph of the same size.

    :param glows: lamps as (u, v, radius, colour), in pixels of this image.
    """
    rng, own = frame.stream("lens"), frame.own_stream("lens")
    image = _weather(image, frame, rng, own)
    blur = rng.choice((0.0, 0.0, 0.0, 0.5, 0.9)) * max(image.size) / 256.0 * own.uniform(0.7, 1.2)
    if blur > 0.15:
        image = image.filter(ImageFilter.GaussianBlur(blur))
    pixels = np.asarray(image).astype(np.float32)
    if glows:
        _bloom(pixels, glows)
    pixels = _grade(pixels, rng, own)
    night = frame.tags["daytime"] == "night"
    sigma = rng.uniform(0.5, 4.0) + (rng.uniform(2.0, 6.0) if night else 0.0)
    noise = np.random.default_rng(own.getrandbits(64)).standard_normal(pixels.shape, dtype=np.float32)
    pixels += noise * np.float32(sigma)
    shot = Image.fromarray(np.clip(pixels, 0.0, 255.0).astype(np.uint8))
    return _compressed(shot, rng.choice((40, 60, 75, 85, 92, 95)))


def _weather(image: Image.Image, frame: Frame, rng: random.Random, own: random.Random) -> Image.Image:
    weather = frame.tags["weather"]
    if weather not in ("rain", "snow"):
        return image
    width, height = image.size
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    unit = max(image.size) / 128.0
    if weather == "rain":
        slant = rng.uniform(-0.25, 0.25)
        for _ in range(rng.randint(30, 110)):
            u, v = own.uniform(-0.1, 1.1) * width, own.uniform(-0.1, 1.0) * height
            long = own.uniform(4.0, 13.0) * unit
            draw.line((u, v, u + slant * long, v + long), own.randint(18, 70), max(1, round(unit * 0.5)))
    else:
        for _ in range(rng.randint(40, 170)):
            u, v = own.random() * width, own.random() * height
            r = own.choice((0.35, 0.5, 0.5, 0.8, 1.3)) * unit
            draw.ellipse((u - r, v - r, u + r, v + r), own.randint(90, 220))
    night = frame.tags["daytime"] == "night"
    air = (120, 122, 128) if night else (222, 226, 232)
    return Image.composite(Image.new("RGB", image.size, air), image, mask)


def _bloom(pixels: Pixels, glows: list[tuple[float, float, float, Colour]]) -> None:
    height, width = pixels.shape[:2]
    for u, v, radius, colour in glows:
        reach = max(radius, 1.0)
        u0, u1 = max(0, int(u - reach)), min(width, int(u + reach) + 2)
        v0, v1 = max(0, int(v - reach)), min(height, int(v + reach) + 2)
        if u0 >= u1 or v0 >= v1:
            continue
        across = (np.arange(u0, u1, dtype=np.float32) - np.float32(u)) / np.float32(reach)
        down = (np.arange(v0, v1, dtype=np.float32) - np.float32(v)) / np.float32(reach)
        fall = np.clip(1.0 - across[None, :] ** 2 - down[:, None] ** 2, 0.0, 1.0) ** 2
        pixels[v0:v1, u0:u1] += fall[:, :, None] * (np.asarray(colour, np.float32) * np.float32(0.55))


def _grade(pixels: Pixels, rng: random.Random, own: random.Random) -> Pixels:
    exposure = rng.uniform(0.82, 1.2) * own.uniform(0.97, 1.03)
    contrast = rng.uniform(0.8, 1.15)
    saturation = rng.uniform(0.55, 1.15)
    balance = np.array([rng.uniform(0.94, 1.06), 1.0, rng.uniform(0.94, 1.06)], np.float32)
    pixels = pixels * (balance * np.float32(exposure))
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * np.float32(saturation)
    return (pixels - np.float32(112.0)) * np.float32(contrast) + np.float32(112.0)


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    if quality > 92:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
