"""Sky, skyline and everything flat: fields, pavements, asphalt, markings, patches."""

import math
import random
from collections.abc import Sequence

import numpy as np
from attrs import frozen
from numpy.typing import NDArray
from PIL import Image

from roadwork_datasets.synthetic.canvas import Canvas
from roadwork_datasets.synthetic.light import Colour, mix
from roadwork_datasets.synthetic.palette import WHITE, YELLOW
from roadwork_datasets.synthetic.street import LANE, Street


@frozen
class Patch:
    """A flat polygon on the road, in metres (x, z); drawn before everything that stands."""

    kind: str
    outline: tuple[tuple[float, float], ...]
    colour: Colour

    def draw(self, canvas: Canvas) -> None:
        """Paint the part in front of the camera."""
        if min(z for _, z in self.outline) > canvas.camera.z + 1.4:
            canvas.face([(x, 0.0, z) for x, z in self.outline], self.colour)


def blob(x: float, z: float, rx: float, rz: float, rng: random.Random) -> tuple[tuple[float, float], ...]:
    """A rough closed outline around a centre."""
    turns = [math.tau * step / 11 for step in range(11)]
    return tuple(
        (x + rx * math.cos(turn) * rng.uniform(0.75, 1.1), z + rz * math.sin(turn) * rng.uniform(0.75, 1.1))
        for turn in turns
    )


def paint_sky(canvas: Canvas, rng: random.Random) -> None:
    """A vertical gradient and soft clouds, over the whole image."""
    camera, light = canvas.camera, canvas.light
    horizon = max(2, int(camera.horizon))
    share = np.clip(np.arange(camera.height, dtype=np.float32) / horizon, 0.0, 1.0)[:, None, None] ** 1.3
    top, low = np.asarray(light.sky_top, np.float32), np.asarray(light.sky_low, np.float32)
    rows = (top * (1.0 - share) + low * share).clip(0, 255).astype(np.uint8)
    canvas.retarget(Image.fromarray(np.ascontiguousarray(np.broadcast_to(rows, (camera.height, camera.width, 3)))))
    bright = tuple(min(255.0, c * 0.5 + v * 0.58) for c, v in zip(light.sky_low, light.sky_top, strict=True))
    for _ in range(int(light.clouds * 9)):
        u, v = rng.uniform(-0.1, 1.1) * camera.width, rng.uniform(0.0, 0.75) * horizon
        long = rng.uniform(0.06, 0.22) * camera.width
        flat = long * rng.uniform(0.12, 0.3)
        tint = rng.uniform(0.93, 1.12)
        ink = tuple(min(255, int(c * tint)) for c in bright)
        for _ in range(3):
            du, scale = rng.uniform(-0.6, 0.6) * long, rng.uniform(0.4, 1.0)
            canvas.draw.ellipse((u + du - long * scale, v - flat * scale, u + du + long * scale, v + flat * scale), ink)


def paint_skyline(canvas: Canvas, street: Street, rng: random.Random) -> None:
    """Hills, woods or roofs far away."""
    camera = canvas.camera
    base: Colour = (96.0, 108.0, 112.0) if street.environment == "urban" else (72.0, 92.0, 64.0)
    if canvas.light.snow:
        base = (168.0, 176.0, 180.0)
    for depth, tall in ((420.0, 0.075), (230.0, 0.05)):
        ink = canvas.light.tone(depth).of(base)
        tall *= rng.uniform(0.5, 1.5)
        phase, waves = rng.uniform(0.0, 6.28), rng.uniform(1.0, 3.0)
        points = [(0.0, camera.horizon + 2.0)]
        for step in range(25):
            rise = 0.55 + 0.3 * math.sin(phase + waves * step * 0.26) + rng.uniform(0.0, 0.15)
            points.append((camera.width * step / 24.0, camera.horizon - tall * rise * camera.height))
        points.append((float(camera.width), camera.horizon + 2.0))
        canvas.draw.polygon(points, ink)


def paint_ground(canvas: Canvas, street: Street, patches: Sequence[Patch], rng: random.Random) -> None:
    """Fields, pavements, kerbs, road surface, patches and markings."""
    left, right = street.left, street.right
    canvas.ribbon(-160.0, 160.0, street.soil)
    if street.environment == "urban":
        canvas.ribbon(left - street.setback - 1.0, right + street.setback + 1.0, street.paving)
    elif street.environment == "suburban":
        for side, edge in ((-1, left), (1, right)):
            inner, outer = edge + side * 1.2, edge + side * (1.2 + street.pavement * 0.6)
            canvas.ribbon(min(inner, outer), max(inner, outer), street.paving)
    shoulder = 2.2 if street.environment == "highway" else 0.0
    canvas.ribbon(left - shoulder * 0.5, right + shoulder, street.asphalt)
    if street.environment == "highway":
        far = tuple(c * 0.97 for c in street.asphalt)
        canvas.ribbon(left - 3.2 - street.lanes * LANE, left - 3.2, (far[0], far[1], far[2]))
    else:
        kerb: Colour = (186.0, 186.0, 182.0)
        canvas.ribbon(left - 0.25, left, kerb)
        canvas.ribbon(right, right + 0.25, kerb)
    for patch in patches:
        if patch.kind != "puddle":
            patch.draw(canvas)
    _markings(canvas, street, rng)
    for patch in patches:
        if patch.kind == "puddle":
            patch.draw(canvas)


def _markings(canvas: Canvas, street: Street, rng: random.Random) -> None:
    fade = 0.7 if street.worn or canvas.light.snow else 1.0
    ink: Colour = mix(WHITE, street.asphalt, 1.0 - fade)
    middle: Colour = ink
    if street.two_way and rng.random() < 0.45:
        middle = mix(YELLOW, street.asphalt, 1.0 - fade)
    z = canvas.camera.z
    for line in range(1, street.lanes):
        x = street.left + line * LANE
        if street.two_way and line == street.lanes // 2 and rng.random() < 0.4:
            canvas.ribbon(x - 0.16, x - 0.05, middle)
            canvas.ribbon(x + 0.05, x + 0.16, middle)
            continue
        shade = middle if street.two_way and line == street.lanes // 2 else ink
        period, dash = (9.0, 3.5) if street.environment == "highway" else (6.0, 2.6)
        start = math.floor(z / period) * period
        for step in range(9):
            at = start + step * period
            canvas.slab(x - 0.075, x + 0.075, at, at + dash, shade)
    if street.environment == "highway" or rng.random() < 0.5:
        canvas.ribbon(street.left + 0.15, street.left + 0.32, ink)
        canvas.ribbon(street.right - 0.32, street.right - 0.15, ink)
    if street.crossing is not None:
        at = street.crossing
        bars = int((street.right - street.left) / 1.0)
        for bar in range(bars):
            x = street.left + 0.25 + bar
            canvas.slab(x, x + 0.5, at, at + 3.0, ink)


def texture(canvas: Canvas, grain: NDArray[np.float32]) -> None:
    """Roughen what is painted below the horizon with a pattern that lies on the ground in perspective.

    :param grain: a square tile of factors around 0, repeated over the ground.
    """
    camera = canvas.camera
    first = int(camera.horizon) + 2
    if first >= camera.height:
        return
    rows = np.arange(first, camera.height, dtype=np.float32)
    depth = camera.focal * camera.y / (rows - camera.horizon + 0.5)
    columns = np.arange(camera.width, dtype=np.float32) - camera.width * 0.5
    across = depth[:, None] * (columns[None, :] / camera.focal) + camera.x
    side = grain.shape[0]
    # A cell must not be smaller than a pixel, or the pattern would flicker: far rows take coarser steps.
    step = np.maximum(0.025, depth * 1.2 / camera.focal)[:, None]
    u = (across / step).astype(np.int32) % side
    v = ((depth + camera.z) / 0.05).astype(np.int32)[:, None] % side
    strength = np.float32(0.5) * np.exp(-depth / 30.0, dtype=np.float32)[:, None]
    factor = 1.0 + grain[v, u] * strength
    lower = np.asarray(canvas.image)[first:].astype(np.float32) * factor[:, :, None]
    canvas.image.paste(Image.fromarray(np.minimum(lower, 255.0).astype(np.uint8)), (0, first))
