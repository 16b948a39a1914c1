"""Who uses the street: cars, vans, buses, lorries, pedestrians, cyclists."""

import random
from functools import partial

from roadwork_datasets.synthetic.canvas import NEAR, Canvas, Stand
from roadwork_datasets.synthetic.light import Colour
from roadwork_datasets.synthetic.palette import (
    BLACK,
    CALM,
    DARK,
    GLASS,
    HEAD,
    LIME,
    LOUD,
    ORANGE,
    RED,
    RUBBER,
    SKIN,
    TAIL,
    WHITE,
    YELLOW,
    varied,
)
from roadwork_datasets.synthetic.prop import Paint


def vehicle(rng: random.Random, heading: int, loud: float) -> tuple[str, Paint]:
    """A random vehicle that drives away (heading +1) or comes (-1); `loud` is the chance of a works-like colour."""
    bright = rng.random() < loud
    colour = varied(rng.choice(LOUD if bright else CALM), rng)
    band = rng.choice((WHITE, RED, YELLOW, ORANGE, BLACK)) if rng.random() < (0.5 if bright else 0.12) else None
    draw = rng.random()
    if draw < 0.74:
        tall = rng.uniform(1.35, 1.75)
        return "car", partial(_car, heading=heading, tall=tall, colour=colour, band=band)
    if draw < 0.9:
        return "van", partial(_van, heading=heading, tall=rng.uniform(2.0, 2.5), long=5.2, colour=colour, band=band)
    if draw < 0.96:
        return "lorry", partial(_van, heading=heading, tall=rng.uniform(3.0, 3.5), long=9.0, colour=colour, band=band)
    return "bus", partial(_bus, heading=heading, colour=colour)


def _lights(canvas: Canvas, x: float, z: float, half: float, y: float, heading: int) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    for sign in (-1.0, 1.0):
        if not canvas.light.lamps:
            stand.rect(sign * half - 0.16, y - 0.08, sign * half + 0.16, y + 0.1, TAIL if heading > 0 else HEAD)
        elif heading > 0:
            stand.lamp(sign * half, y, 0.12, TAIL, 0.45)
        else:
            stand.lamp(sign * half, y, 0.15, HEAD, 0.9)


def _wheels(canvas: Canvas, x: float, z: float, long: float, half: float, radius: float = 0.33) -> None:
    side = -half if x > canvas.camera.x else half
    for at in (z + 0.2 * long, z + 0.8 * long):
        if at > canvas.camera.z + NEAR + 0.8:
            a = (x + side, 0.0, at - radius)
            canvas.face(
                (
                    a,
                    (x + side, radius * 1.6, at - radius * 0.7),
                    (x + side, radius * 1.6, at + radius * 0.7),
                    (x + side, 0.0, at + radius),
                ),
                RUBBER,
            )
    for edge in (-half + 0.15, half - 0.15):
        canvas.front(x + edge - 0.13, x + edge + 0.13, 0.0, 0.4, z, RUBBER)


def _car(canvas: Canvas, x: float, z: float, heading: int, tall: float, colour: Colour, band: Colour | None) -> None:
    long, half, waist = 4.3, 0.9, tall * 0.56
    if z < canvas.camera.z + 1.8:
        return
    canvas.underside(x, z, long, half)
    cabin0, cabin1 = (z + 0.5, z + 3.1) if heading > 0 else (z + 1.2, z + 3.8)
    side = -1 if x > canvas.camera.x else 1
    canvas.box(x - half, x + half, 0.28, waist, z, z + long, colour)
    if band is not None:
        canvas.wall(x + side * half, z, z + long, waist - 0.3, waist - 0.12, band)
    _wheels(canvas, x, z, long, half)
    flank = x + side * half
    roof = x + side * half * 0.78
    canvas.face(
        ((flank, waist, cabin0), (roof, tall, cabin0 + 0.5), (roof, tall, cabin1 - 0.6), (flank, waist, cabin1)),
        GLASS,
        0.8,
    )
    canvas.face(
        (
            (x - half * 0.94, waist, cabin0),
            (x - half * 0.74, tall, cabin0 + 0.5),
            (x + half * 0.74, tall, cabin0 + 0.5),
            (x + half * 0.94, waist, cabin0),
        ),
        GLASS,
    )
    top = (
        (x - half * 0.76, tall, cabin0 + 0.5),
        (x + half * 0.76, tall, cabin0 + 0.5),
        (x + half * 0.76, tall, cabin1 - 0.6),
        (x - half * 0.76, tall, cabin1 - 0.6),
    )
    canvas.face(top, colour, 1.15)
    stand = canvas.stand(x, z)
    if stand is not None:
        stand.rect(-0.27, 0.42, 0.27, 0.56, WHITE if heading < 0 else (226.0, 214.0, 150.0))
        stand.rect(-half, 0.26, half, 0.36, DARK)
        stand.rect(-half * 0.76, tall - 0.06, half * 0.76, tall + 0.03, colour)
    _lights(canvas, x, z, 0.66, waist - 0.15, heading)


def _van(
    canvas: Canvas, x: float, z: float, heading: int, tall: float, long: float, colour: Colour, band: Colour | None
) -> None:
    half = 1.0 if tall < 2.8 else 1.2
    if z < canvas.camera.z + 2.2:
        return
    canvas.underside(x, z, long, half)
    canvas.box(x - half, x + half, 0.35, tall, z, z + long, colour)
    _wheels(canvas, x, z, long, half, 0.38)
    if band is not None:
        side = -half if x > canvas.camera.x else half
        canvas.wall(x + side, z, z + long, tall * 0.42, tall * 0.58, band)
        canvas.front(x - half, x + half, tall * 0.42, tall * 0.54, z, band)
    if heading < 0:
        canvas.front(x - half * 0.88, x + half * 0.88, min(tall * 0.55, 1.5), min(tall * 0.86, 2.4), z, GLASS)
    elif tall < 2.8:
        canvas.front(x - half * 0.8, x - 0.06, tall * 0.56, tall * 0.86, z, GLASS)
        canvas.front(x + 0.06, x + half * 0.8, tall * 0.56, tall * 0.86, z, GLASS)
    else:
        canvas.front(x - 0.03, x + 0.03, 0.5, tall, z, DARK)
    canvas.front(x - half, x + half, 0.3, 0.5, z, DARK)
    _lights(canvas, x, z, half - 0.22, 0.8, heading)


def _bus(canvas: Canvas, x: float, z: float, heading: int, colour: Colour) -> None:
    long, half, tall = 11.0, 1.25, 3.0
    if z < canvas.camera.z + 2.5:
        return
    canvas.underside(x, z, long, half)
    canvas.box(x - half, x + half, 0.35, tall, z, z + long, colour)
    side = -half if x > canvas.camera.x else half
    canvas.wall(x + side, z + 0.5, z + long - 0.4, 1.3, 2.3, GLASS)
    canvas.front(x - half * 0.88, x + half * 0.88, 1.3, 2.4, z, GLASS)
    canvas.front(x - half * 0.7, x + half * 0.7, 2.55, 2.85, z, BLACK)
    stand = canvas.stand(x, z)
    if stand is not None:
        stand.lamp(0.0, 2.7, 0.07, (255.0, 170.0, 40.0))
        for dx in (-0.45, -0.25, 0.25, 0.45):
            stand.lamp(dx, 2.7, 0.06, (255.0, 170.0, 40.0))
    _wheels(canvas, x, z, long, half, 0.45)
    _lights(canvas, x, z, 1.0, 0.75, heading)


def body(stand: Stand, coat: Colour, legs: Colour, skin: Colour, stride: float, tall: float, arms: bool = True) -> None:
    """A standing or walking person, without anything on the head."""
    s = tall / 1.75
    stand.line(((-0.09 * s, 0.86 * s), (-0.1 * s - stride, 0.0)), 0.15 * s, legs)
    stand.line(((0.09 * s, 0.86 * s), (0.1 * s + stride, 0.0)), 0.15 * s, legs, 0.9)
    if arms:
        stand.line(((-0.24 * s, 1.38 * s), (-0.3 * s - stride * 0.5, 0.85 * s)), 0.11 * s, coat, 0.85)
        stand.line(((0.24 * s, 1.38 * s), (0.3 * s + stride * 0.5, 0.85 * s)), 0.11 * s, coat, 0.85)
    stand.poly(((-0.21 * s, 0.8 * s), (-0.25 * s, 1.44 * s), (0.25 * s, 1.44 * s), (0.21 * s, 0.8 * s)), coat)
    stand.oval(0.0, 1.6 * s, 0.12 * s, 0.14 * s, skin)


def pedestrian(rng: random.Random, loud: float) -> Paint:
    """Someone on foot; `loud` is the chance of a coat in a works-like colour."""
    coat = rng.choice((ORANGE, LIME, YELLOW, RED)) if rng.random() < loud else rng.choice(CALM)
    hair = rng.choice(((40.0, 30.0, 26.0), (96.0, 70.0, 46.0), (160.0, 150.0, 140.0), (190.0, 150.0, 80.0)))
    return partial(
        _pedestrian,
        coat=varied(coat, rng),
        legs=varied(rng.choice(CALM), rng),
        skin=rng.choice(SKIN),
        hair=hair,
        stride=rng.uniform(0.02, 0.22),
        tall=rng.uniform(1.5, 1.9),
    )


def _pedestrian(
    canvas: Canvas,
    x: float,
    z: float,
    coat: Colour,
    legs: Colour,
    skin: Colour,
    hair: Colour,
    stride: float,
    tall: float,
) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    canvas.shadow(x, z, 0.7, 0.5)
    body(stand, coat, legs, skin, stride, tall)
    stand.oval(0.0, tall * 0.955, 0.125, 0.08, hair)


def cyclist(rng: random.Random, loud: float) -> Paint:
    """Someone on a bicycle, seen from behind or in front; often dressed to be seen."""
    coat = rng.choice((LIME, ORANGE, YELLOW)) if rng.random() < loud else rng.choice(CALM)
    return partial(
        _cyclist, coat=varied(coat, rng), skin=rng.choice(SKIN), helmet=varied(rng.choice((WHITE, BLACK, RED)), rng)
    )


def _cyclist(canvas: Canvas, x: float, z: float, coat: Colour, skin: Colour, helmet: Colour) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    canvas.shadow(x, z, 0.6, 1.4)
    stand.oval(0.0, 0.34, 0.07, 0.34, RUBBER)
    stand.line(((0.0, 0.5), (0.0, 1.0)), 0.06, DARK)
    stand.line(((-0.3, 1.08), (0.3, 1.08)), 0.05, DARK)
    stand.line(((-0.1, 0.95), (-0.17, 0.55), (-0.1, 0.25)), 0.13, BLACK)
    stand.line(((0.1, 0.95), (0.17, 0.55), (0.1, 0.4)), 0.13, BLACK)
    stand.poly(((-0.17, 0.92), (-0.25, 1.48), (0.25, 1.48), (0.17, 0.92)), coat)
    stand.line(((-0.22, 1.45), (-0.3, 1.1)), 0.1, coat, 0.85)
    stand.line(((0.22, 1.45), (0.3, 1.1)), 0.1, coat, 0.85)
    stand.oval(0.0, 1.62, 0.11, 0.13, skin)
    stand.oval(0.0, 1.69, 0.13, 0.08, helmet)
    if canvas.light.lamps:
        stand.lamp(0.0, 0.75, 0.05, TAIL, 0.25)
