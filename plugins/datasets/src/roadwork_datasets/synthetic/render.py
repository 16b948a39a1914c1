"""Paints a planned frame."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from roadwork_core.errors import UsageError
from roadwork_datasets.synthetic.canvas import Canvas
from roadwork_datasets.synthetic.frame import Frame
from roadwork_datasets.synthetic.ground import paint_ground, paint_sky, paint_skyline, texture
from roadwork_datasets.synthetic.lens import expose
from roadwork_datasets.synthetic.light import light_of
from roadwork_datasets.synthetic.scene import Scene, compose, far_to_near
from roadwork_datasets.synthetic.street import camera_of

#: Painted this many times larger, then averaged, for smooth edges.
_OVERSAMPLING = 2
_SMALLEST, _LARGEST = 16, 2048


def render(frame: Frame, *, width: int, height: int) -> Image.Image:
    """The frame as an RGB image of `width` x `height` pixels.

    A pure function of its arguments: neither the order of calls nor the process changes a pixel.

    :raises UsageError: a side below 16 or above 2048 pixels.
    """
    for side, name in ((width, "width"), (height, "height")):
        if not _SMALLEST <= side <= _LARGEST:
            raise UsageError(f"{name} = {side} pixels", hint=f"choose between {_SMALLEST} and {_LARGEST}")
    return render_scene(compose(frame), frame, width=width, height=height)


def render_scene(scene: Scene, frame: Frame, *, width: int, height: int) -> Image.Image:
    """A scene, which may have been changed, through the camera, light and lens of a frame."""
    street = scene.street
    size = (width * _OVERSAMPLING, height * _OVERSAMPLING)
    camera = camera_of(frame, street, *size)
    canvas = Canvas(camera, light_of(frame), Image.new("RGB", size))
    paint_sky(canvas, frame.stream("sky"))
    paint_skyline(canvas, street, frame.stream("skyline"))
    paint_ground(canvas, street, scene.patches, frame.stream("markings"))
    texture(canvas, _grain(frame.stream("grain").randrange(16)))
    done = frame.frame / max(1, frame.frames - 1)
    for layer in (scene.backdrop, scene.props):
        for prop in far_to_near(layer, done):
            prop.draw(canvas, done)
    image = canvas.image.reduce(_OVERSAMPLING)
    glows = [(u / _OVERSAMPLING, v / _OVERSAMPLING, r / _OVERSAMPLING, ink) for u, v, r, ink in canvas.glows]
    shot = expose(image, frame, glows)
    return ImageOps.mirror(shot) if street.mirrored else shot


@lru_cache(maxsize=16)
def _grain(which: int) -> NDArray[np.float32]:
    """One of a few tiles of rough ground: fine grain over soft stains."""
    rng = np.random.default_rng(7_000 + which)
    fine = rng.standard_normal((256, 256), dtype=np.float32) * np.float32(0.06)
    stains = np.kron(rng.standard_normal((8, 8), dtype=np.float32), np.ones((32, 32), np.float32))
    for _ in range(3):
        for axis in (0, 1):
            stains = (np.roll(stains, -11, axis) + stains + np.roll(stains, 11, axis)) / np.float32(3.0)
    return fine + stains * np.float32(0.16)
