"""What roadworks are made of: cones, barriers, signs, machines, people, holes."""

import random
from functools import partial

from roadwork_datasets.synthetic.canvas import Canvas, Stand
from roadwork_datasets.synthetic.furniture import TRIANGLE, scaled
from roadwork_datasets.synthetic.light import Colour
from roadwork_datasets.synthetic.palette import (
    AMBER,
    BLACK,
    CALM,
    DARK,
    EARTH,
    LIME,
    ORANGE,
    RED,
    RUBBER,
    SKIN,
    STEEL,
    WHITE,
    YELLOW,
    varied,
)
from roadwork_datasets.synthetic.prop import Paint
from roadwork_datasets.synthetic.traffic import body

_WORKS_ORANGE: tuple[Colour, ...] = (ORANGE, (240.0, 88.0, 30.0), (250.0, 130.0, 40.0))


def cone(rng: random.Random) -> Paint:
    """A traffic cone with one or two white bands."""
    return partial(
        _cone,
        tall=rng.uniform(0.75, 1.1),
        colour=varied(rng.choice(_WORKS_ORANGE), rng),
        bands=rng.choice((1, 2)),
        foot=rng.choice((BLACK, DARK, ORANGE)),
    )


def _cone(canvas: Canvas, x: float, z: float, tall: float, colour: Colour, bands: int, foot: Colour) -> None:
    stand = canvas.stand(x, z, retro=0.6)
    if stand is None:
        return
    wide = tall * 0.24
    canvas.shadow(x, z, tall * 0.8, 0.6)
    stand.rect(-wide * 1.35, 0.0, wide * 1.35, 0.07, foot)

    def slice_of(low: float, high: float) -> list[tuple[float, float]]:
        a, b = wide * (1.0 - 0.84 * low), wide * (1.0 - 0.84 * high)
        return [(-a, tall * low), (a, tall * low), (b, tall * high), (-b, tall * high)]

    stand.poly(slice_of(0.05, 1.0), colour)
    stand.poly(slice_of(0.52, 0.74), WHITE)
    if bands == 2:
        stand.poly(slice_of(0.26, 0.4), WHITE)


def drum(rng: random.Random) -> Paint:
    """A wide plastic drum with white bands."""
    return partial(_drum, colour=varied(rng.choice(_WORKS_ORANGE), rng), lamp=rng.random() < 0.3)


def _drum(canvas: Canvas, x: float, z: float, colour: Colour, lamp: bool) -> None:
    stand = canvas.stand(x, z, retro=0.6)
    if stand is None:
        return
    canvas.shadow(x, z, 1.0, 0.7)
    stand.rect(-0.36, 0.0, 0.36, 0.1, BLACK)
    stand.poly(((-0.3, 0.08), (0.3, 0.08), (0.25, 1.05), (-0.25, 1.05)), colour)
    for low in (0.32, 0.68):
        stand.rect(-0.27, low, 0.27, low + 0.16, WHITE)
    if lamp:
        stand.lamp(0.0, 1.2, 0.1, AMBER, 0.5 if canvas.light.lamps else 0.0)


def tube(rng: random.Random) -> Paint:
    """A thin tubular marker or a striped guide post on a rubber foot."""
    return partial(_tube, colour=varied(rng.choice((*_WORKS_ORANGE, RED)), rng), board=rng.random() < 0.45)


def _tube(canvas: Canvas, x: float, z: float, colour: Colour, board: bool) -> None:
    stand = canvas.stand(x, z, retro=0.6)
    if stand is None:
        return
    stand.rect(-0.28, 0.0, 0.28, 0.08, RUBBER)
    if board:
        stand.stripes((-0.14, 0.2, 0.14, 1.15), WHITE, colour, 1, 0.0)
        for low in (0.22, 0.56, 0.9):
            stand.poly(((-0.14, low), (0.14, low + 0.12), (0.14, low + 0.28), (-0.14, low + 0.16)), colour)
    else:
        stand.rect(-0.07, 0.0, 0.07, 1.1, colour)
        for low in (0.55, 0.82):
            stand.rect(-0.07, low, 0.07, low + 0.13, WHITE)


def barrier(rng: random.Random) -> Paint:
    """A barrier across: slanted boards on legs, plastic blocks, or mesh between posts."""
    colour = varied(rng.choice((RED, ORANGE, RED, (240.0, 88.0, 30.0))), rng)
    wide, kind = rng.uniform(0.9, 1.5), rng.random()
    if kind < 0.6:
        return partial(
            _boards,
            colour=colour,
            wide=wide,
            rows=rng.choice((1, 2, 2, 3)),
            lean=rng.choice((-1.0, 1.0)),
            lamp=rng.random() < 0.4,
        )
    if kind < 0.85:
        return partial(_blocks, colour=colour, count=rng.choice((2, 3)))
    return partial(_mesh, colour=varied(ORANGE, rng), wide=wide * 1.3)


def _boards(
    canvas: Canvas, x: float, z: float, colour: Colour, wide: float, rows: int, lean: float, lamp: bool
) -> None:
    stand = canvas.stand(x, z, retro=0.7)
    if stand is None:
        return
    canvas.shadow(x, z, wide * 2.2, 0.6)
    for leg in (-0.8, 0.8):
        stand.rect(leg * wide - 0.05, 0.0, leg * wide + 0.05, 1.1, STEEL)
        stand.rect(leg * wide - 0.22, 0.0, leg * wide + 0.22, 0.08, DARK)
    for row in range(rows):
        high = 1.15 - row * 0.36
        stand.stripes((-wide, high - 0.26, wide, high), WHITE, colour, max(6, int(wide * 7)), lean)
    if lamp:
        stand.lamp(wide * 0.8, 1.28, 0.11, AMBER, 0.5 if canvas.light.lamps else 0.0)


def _blocks(canvas: Canvas, x: float, z: float, colour: Colour, count: int) -> None:
    canvas.shadow(x, z, count * 1.1, 0.8)
    for index in range(count):
        low = x + (index - count / 2.0) * 1.05
        canvas.box(low, low + 1.0, 0.0, 0.85, z, z + 0.45, colour if index % 2 else WHITE)
        canvas.front(low + 0.25, low + 0.75, 0.3, 0.5, z, DARK if index % 2 else (180.0, 180.0, 178.0))


def _mesh(canvas: Canvas, x: float, z: float, colour: Colour, wide: float) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    stand.rect(-wide, 0.15, wide, 1.05, colour)
    gap = 0.22
    if gap * stand.scale > 3.0:
        for index in range(1, int(2 * wide / gap)):
            stand.line(((-wide + index * gap, 0.15), (-wide + index * gap, 1.05)), 0.04, colour, 0.6)
    for low in (0.4, 0.7):
        stand.line(((-wide, low), (wide, low)), 0.05, colour, 0.6)
    for post in (-wide, 0.0, wide):
        stand.rect(post - 0.04, 0.0, post + 0.04, 1.2, DARK)


def works_sign(rng: random.Random) -> Paint:
    """A temporary sign: triangle with a digging figure, orange diamond, or a board of arrows on a low stand."""
    return partial(
        _works_sign,
        form=rng.choice(("triangle", "triangle", "diamond", "diamond", "board")),
        size=rng.uniform(0.9, 1.25),
        low=rng.uniform(0.5, 1.5),
        back=YELLOW if rng.random() < 0.5 else WHITE,
    )


def _digger(stand: Stand, y: float, size: float) -> None:
    stand.oval(-0.02 * size, y + 0.2 * size, 0.05 * size, 0.05 * size, BLACK)
    stand.line(((-0.04 * size, y + 0.14 * size), (-0.1 * size, y), (-0.14 * size, y - 0.14 * size)), 0.06 * size, BLACK)
    stand.line(
        ((-0.04 * size, y + 0.1 * size), (0.08 * size, y + 0.02 * size), (0.14 * size, y - 0.12 * size)),
        0.045 * size,
        BLACK,
    )
    stand.poly(((0.06 * size, y - 0.16 * size), (0.17 * size, y - 0.04 * size), (0.26 * size, y - 0.16 * size)), BLACK)


def _works_sign(canvas: Canvas, x: float, z: float, form: str, size: float, low: float, back: Colour) -> None:
    stand = canvas.stand(x, z, retro=1.0)
    if stand is None:
        return
    canvas.shadow(x, z, 0.9, 0.6)
    y = low + size * 0.55
    for leg in (-0.3, 0.3):
        stand.line(((leg, 0.0), (0.0, low + 0.2)), 0.05, DARK)
    stand.rect(-0.03, 0.1, 0.03, y, STEEL)
    if form == "triangle":
        stand.poly(scaled(TRIANGLE, y, size * 1.1), RED)
        stand.poly(scaled(TRIANGLE, y - 0.03 * size, size * 0.78), back)
        _digger(stand, y - 0.1 * size, size * 0.8)
    elif form == "diamond":
        half = size * 0.62
        stand.poly(((0.0, y - half), (half, y), (0.0, y + half), (-half, y)), BLACK)
        half *= 0.94
        stand.poly(((0.0, y - half), (half, y), (0.0, y + half), (-half, y)), ORANGE)
        _digger(stand, y, size)
    else:
        half = size * 0.6
        stand.rect(-half, y - half, half, y + half, AMBER)
        stand.line(((-half * 0.5, y - half * 0.7), (-half * 0.5, y), (half * 0.4, y + half * 0.7)), 0.1, BLACK)
        stand.line(((half * 0.4, y - half * 0.7), (half * 0.4, y - half * 0.1)), 0.1, BLACK)
        stand.rect(half * 0.15, y - half * 0.12, half * 0.65, y + half * 0.02, RED)


def arrow_board(rng: random.Random) -> Paint:
    """A trailer with a panel of lamps in the shape of an arrow."""
    return partial(_arrow_board, right=rng.random() < 0.5, chevrons=rng.random() < 0.4)


_ARROW = (
    (-0.8, 0.0),
    (-0.5, 0.0),
    (-0.2, 0.0),
    (0.1, 0.0),
    (0.4, 0.0),
    (0.75, 0.0),
    (0.5, 0.25),
    (0.5, -0.25),
    (0.25, 0.45),
    (0.25, -0.45),
)


def _arrow_board(canvas: Canvas, x: float, z: float, right: bool, chevrons: bool) -> None:
    canvas.shadow(x, z, 2.4, 1.6)
    canvas.box(x - 0.8, x + 0.8, 0.35, 0.75, z, z + 1.2, varied(ORANGE, random.Random(7)))
    stand = canvas.stand(x, z)
    if stand is None:
        return
    for wheel in (-0.8, 0.8):
        stand.oval(wheel, 0.28, 0.12, 0.28, RUBBER)
    stand.rect(-0.06, 0.6, 0.06, 1.4, DARK)
    stand.rect(-1.15, 1.3, 1.15, 2.65, (22.0, 24.0, 26.0))
    flip = 1.0 if right else -1.0
    for dx, dy in _ARROW:
        stand.lamp(dx * flip, 1.97 + dy, 0.1, AMBER, 0.35 if canvas.light.lamps else 0.0)
    if chevrons:
        stand.stripes((-1.0, 0.8, 1.0, 1.15), WHITE, RED, 9, 1.0)


def worker(rng: random.Random) -> Paint:
    """Someone in a hi-vis vest and helmet, often with a tool."""
    return partial(
        _worker,
        vest=varied(rng.choice((LIME, ORANGE, ORANGE, LIME)), rng),
        legs=rng.choice((rng.choice(CALM), ORANGE, (40.0, 50.0, 80.0))),
        skin=rng.choice(SKIN),
        helmet=rng.choice((YELLOW, WHITE, ORANGE, (60.0, 110.0, 200.0))),
        tool=rng.choice(("shovel", "paddle", None)),
        stride=rng.uniform(0.02, 0.2),
        tall=rng.uniform(1.65, 1.9),
    )


def _worker(
    canvas: Canvas,
    x: float,
    z: float,
    vest: Colour,
    legs: Colour,
    skin: Colour,
    helmet: Colour,
    tool: str | None,
    stride: float,
    tall: float,
) -> None:
    stand = canvas.stand(x, z, retro=0.5)
    if stand is None:
        return
    canvas.shadow(x, z, 0.8, 0.5)
    body(stand, vest, legs, skin, stride, tall)
    s = tall / 1.75
    silver: Colour = (226.0, 228.0, 226.0)
    stand.rect(-0.22 * s, 0.98 * s, 0.22 * s, 1.06 * s, silver)
    for strap in (-0.15, 0.09):
        stand.rect(strap * s, 1.06 * s, (strap + 0.06) * s, 1.42 * s, silver)
    for leg in (-1.0, 1.0):
        stand.rect((leg * 0.1 - 0.09) * s, 0.3 * s, (leg * 0.1 + 0.09) * s, 0.37 * s, silver)
    stand.oval(0.0, 1.69 * s, 0.16 * s, 0.1 * s, helmet)
    stand.rect(-0.18 * s, 1.65 * s, 0.18 * s, 1.69 * s, helmet, 0.9)
    if tool == "shovel":
        stand.line(((0.36, 0.1), (0.3, 1.35)), 0.05, (150.0, 112.0, 70.0))
        stand.poly(((0.27, 0.0), (0.47, 0.0), (0.44, 0.28), (0.3, 0.28)), STEEL)
    elif tool == "paddle":
        stand.line(((0.42, 0.3), (0.42, 1.9)), 0.04, STEEL)
        stand.oval(0.42, 2.05, 0.26, 0.26, RED)
        stand.rect(0.24, 2.0, 0.6, 2.1, WHITE)


def hole(x: float, z: float, wide: float, long: float, rng: random.Random) -> tuple[tuple[float, float], ...]:
    """The ragged outline of dug-up asphalt, metres (x, z)."""
    steps = 5
    near = [(x - wide / 2 + wide * i / steps, z + rng.uniform(-0.25, 0.25)) for i in range(steps + 1)]
    far = [(px, z + long + rng.uniform(-0.4, 0.4)) for px, _ in reversed(near)]
    return (*near, *far)


def heap(rng: random.Random) -> Paint:
    """A pile of earth, sand or rubble."""
    colour = varied(rng.choice((EARTH, (166.0, 140.0, 100.0), (120.0, 116.0, 110.0))), rng)
    bumps = tuple((rng.uniform(-0.9, 0.9), rng.uniform(0.35, 0.8), rng.uniform(0.86, 1.12)) for _ in range(6))
    return partial(_heap, colour=colour, bumps=bumps, size=rng.uniform(0.7, 1.3))


def _heap(
    canvas: Canvas, x: float, z: float, colour: Colour, bumps: tuple[tuple[float, float, float], ...], size: float
) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    stand.poly(
        [(px * size, py * size) for px, py in ((-1.5, 0.0), (-0.7, 0.7), (0.0, 1.0), (0.6, 0.75), (1.5, 0.0))], colour
    )
    for dx, r, lit in bumps:
        stand.poly(
            [(size * (dx - r * 0.6), 0.0), (size * dx, size * (0.9 - abs(dx) * 0.5)), (size * (dx + r * 0.6), 0.0)],
            colour,
            lit,
        )
