"""Machines of roadworks: excavator, roller, works lorry."""

import random
from functools import partial

from roadwork_datasets.synthetic.canvas import Canvas, Stand
from roadwork_datasets.synthetic.light import Colour
from roadwork_datasets.synthetic.palette import (
    AMBER,
    BLACK,
    DARK,
    GLASS,
    ORANGE,
    RED,
    RUBBER,
    STEEL,
    TAIL,
    WHITE,
    YELLOW,
    varied,
)
from roadwork_datasets.synthetic.prop import Paint


def machine(rng: random.Random) -> tuple[str, Paint]:
    """A random machine."""
    colour = varied(rng.choice((YELLOW, ORANGE, (250.0, 170.0, 30.0))), rng)
    flip = rng.choice((-1.0, 1.0))
    draw = rng.random()
    if draw < 0.5:
        return "excavator", partial(_excavator, colour=colour, flip=flip, lift=rng.uniform(-0.5, 1.0))
    if draw < 0.65:
        return "roller", partial(_roller, colour=colour, flip=flip)
    return "works lorry", partial(_works_lorry, colour=colour, arrow=rng.random() < 0.6)


def _beacon(stand: Stand, x: float, y: float) -> None:
    stand.lamp(x, y, 0.12, AMBER, 0.7 if stand.canvas.light.lamps else 0.0)


def _excavator(canvas: Canvas, x: float, z: float, colour: Colour, flip: float, lift: float) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    canvas.shadow(x, z, 5.0, 2.0)

    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(px * flip, py) for px, py in points]

    stand.poly(
        at((-1.6, 0.15), (-1.3, 0.0), (1.3, 0.0), (1.6, 0.15), (1.6, 0.6), (1.3, 0.78), (-1.3, 0.78), (-1.6, 0.6)),
        RUBBER,
    )
    for wheel in (-1.1, -0.4, 0.4, 1.1):
        stand.oval(wheel, 0.38, 0.24, 0.24, (70.0, 70.0, 70.0))
    stand.poly(at((-1.7, 0.9), (1.0, 0.9), (1.0, 1.5), (-0.2, 1.75), (-1.7, 1.75)), colour)
    stand.poly(at((-1.7, 0.9), (-1.1, 0.9), (-1.1, 1.75), (-1.7, 1.75)), colour, 0.75)
    stand.poly(at((-0.1, 1.5), (0.95, 1.5), (0.8, 2.9), (0.0, 2.9)), colour, 0.9)
    stand.poly(at((0.08, 1.7), (0.8, 1.7), (0.68, 2.7), (0.12, 2.7)), GLASS)
    elbow, wrist = (2.6, 3.3 + lift * 0.5), (3.7, 1.6 + lift)
    stand.line(at((0.9, 1.5), (1.5, 2.9 + lift * 0.3), elbow), 0.36, colour)
    stand.line(at(elbow, wrist), 0.28, colour, 0.85)
    stand.line(at((1.2, 1.7), (2.0, 2.8 + lift * 0.4)), 0.1, STEEL)
    wx, wy = wrist
    stand.poly(at((wx + 0.2, wy + 0.1), (wx + 0.3, wy - 0.6), (wx - 0.5, wy - 0.8), (wx - 0.4, wy - 0.1)), DARK)
    _beacon(stand, 0.4 * flip, 3.0)


def _roller(canvas: Canvas, x: float, z: float, colour: Colour, flip: float) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    canvas.shadow(x, z, 4.0, 1.6)
    for drum in (-1.2, 1.2):
        stand.oval(drum, 0.62, 0.62, 0.62, STEEL)
        stand.oval(drum, 0.62, 0.3, 0.3, DARK)
    stand.rect(-1.4, 0.9, 1.4, 1.45, colour)
    stand.rect(-0.5, 0.55, 0.5, 1.0, DARK)
    stand.rect(-0.6 + 0.2 * flip, 2.45, 0.7 + 0.2 * flip, 2.6, colour)
    for post in (-0.5, 0.6):
        stand.rect(post + 0.2 * flip - 0.04, 1.4, post + 0.2 * flip + 0.04, 2.5, DARK)
    _beacon(stand, 0.0, 2.72)


def _works_lorry(canvas: Canvas, x: float, z: float, colour: Colour, arrow: bool) -> None:
    half, long = 1.15, 6.0
    if z < canvas.camera.z + 2.6:
        return
    canvas.underside(x, z, long, half)
    canvas.box(x - half, x + half, 0.5, 1.3, z, z + 4.0, colour)
    canvas.box(x - half, x + half, 0.5, 2.3, z + 4.0, z + long, colour)
    canvas.front(x - half, x + half, 0.5, 1.3, z, colour)
    stand = canvas.stand(x, z, retro=0.7)
    if stand is None:
        return
    for edge in (-0.85, 0.85):
        stand.rect(edge - 0.2, 0.0, edge + 0.2, 0.55, RUBBER)
        stand.rect(edge - 0.12, 0.55, edge + 0.12, 0.68, TAIL)
    if arrow:
        stand.stripes((-half, 0.75, half, 1.6), WHITE, RED, 8, 2.0)
        stand.rect(-0.9, 1.7, 0.9, 2.9, BLACK)
        for dx, dy in ((-0.6, 0.0), (-0.3, 0.0), (0.0, 0.0), (0.3, 0.0), (0.6, 0.0), (0.35, 0.25), (0.35, -0.25)):
            stand.lamp(dx, 2.3 + dy, 0.1, AMBER, 0.35 if canvas.light.lamps else 0.0)
    else:
        stand.stripes((-half, 0.8, half, 1.25), YELLOW, BLACK if colour != YELLOW else RED, 9, 1.0)
        stand.poly(((-0.9, 1.3), (-0.3, 1.75), (0.4, 1.65), (0.9, 1.3)), (120.0, 92.0, 64.0))
    _beacon(stand, -0.8, 2.95 if arrow else 2.45)
    _beacon(stand, 0.8, 2.95 if arrow else 2.45)
