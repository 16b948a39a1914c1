"""Ordinary things at the roadside, many of which share colours and shapes with roadworks."""

import random
from collections.abc import Callable
from functools import partial

from roadwork_datasets.synthetic.canvas import Canvas, Point, Stand
from roadwork_datasets.synthetic.ground import Patch, blob
from roadwork_datasets.synthetic.light import Colour
from roadwork_datasets.synthetic.palette import (
    AMBER,
    BLACK,
    BLUE,
    DARK,
    GREEN,
    LOUD,
    ORANGE,
    RED,
    STEEL,
    WHITE,
    YELLOW,
    varied,
)
from roadwork_datasets.synthetic.prop import Paint
from roadwork_datasets.synthetic.street import LANE, Street

TRIANGLE: tuple[Point, ...] = ((-0.5, -0.43), (0.0, 0.43), (0.5, -0.43))


def sign(rng: random.Random) -> Paint:
    """A permanent traffic sign on a post: warning, limit, order, place."""
    faces = (_warning, _warning, _diamond, _limit, _limit, _stop, _give_way, _arrow_disc, _parking)
    return partial(
        _sign,
        face=rng.choice(faces),
        mark=rng.randrange(4),
        size=rng.uniform(0.7, 0.95),
        tall=rng.uniform(1.9, 2.5),
    )


def _sign(
    canvas: Canvas,
    x: float,
    z: float,
    face: Callable[[Stand, float, float, int], None],
    mark: int,
    size: float,
    tall: float,
) -> None:
    stand = canvas.stand(x, z, retro=1.0)
    if stand is not None:
        stand.rect(-0.035, 0.0, 0.035, tall + size * 0.4, STEEL, 0.8)
        face(stand, tall, size, mark)


def scaled(points: tuple[Point, ...], y: float, size: float) -> list[Point]:
    """The outline, `size` metres large, around (0, y)."""
    return [(px * size, y + py * size) for px, py in points]


def _warning(stand: Stand, y: float, size: float, mark: int) -> None:
    stand.poly(scaled(TRIANGLE, y, size), RED)
    stand.poly(scaled(TRIANGLE, y - 0.03 * size, size * 0.68), WHITE if mark != 3 else YELLOW)
    low = y - 0.27 * size
    if mark == 0:
        stand.rect(-0.035 * size, low + 0.14 * size, 0.035 * size, low + 0.36 * size, BLACK)
        stand.oval(0.0, low + 0.05 * size, 0.04 * size, 0.04 * size, BLACK)
    elif mark == 1:
        bend = (
            (-0.06 * size, low),
            (-0.06 * size, low + 0.14 * size),
            (0.06 * size, low + 0.22 * size),
            (0.04 * size, low + 0.34 * size),
        )
        stand.line(bend, 0.06 * size, BLACK)
    else:
        stand.line(((-0.1 * size, low), (0.1 * size, low + 0.3 * size)), 0.06 * size, BLACK)
        stand.line(((0.1 * size, low), (-0.1 * size, low + 0.3 * size)), 0.06 * size, BLACK)


def _diamond(stand: Stand, y: float, size: float, mark: int) -> None:
    half = size * 0.56
    stand.poly(((0.0, y - half), (half, y), (0.0, y + half), (-half, y)), BLACK)
    half *= 0.93
    stand.poly(((0.0, y - half), (half, y), (0.0, y + half), (-half, y)), YELLOW)
    if mark % 2:
        stand.line(((0.0, y - 0.25 * size), (0.0, y + 0.25 * size)), 0.08 * size, BLACK)
        stand.line(((0.0, y), (0.18 * size, y + 0.14 * size)), 0.07 * size, BLACK)
    else:
        for dy, ink in ((0.16, RED), (0.0, BLACK), (-0.16, GREEN)):
            stand.oval(0.0, y + dy * size, 0.07 * size, 0.07 * size, ink)


def _limit(stand: Stand, y: float, size: float, mark: int) -> None:
    half = size * 0.45
    stand.oval(0.0, y, half, half, RED)
    stand.oval(0.0, y, half * 0.72, half * 0.72, WHITE)
    stand.rect(-half * 0.42, y - half * 0.3, -half * 0.12, y + half * 0.3, BLACK)
    stand.rect(half * 0.1, y - half * 0.3, half * 0.42, y + half * 0.3, BLACK)


def _stop(stand: Stand, y: float, size: float, mark: int) -> None:
    a, b = size * 0.46, size * 0.19
    stand.poly(
        ((-a, -b + y), (-b, -a + y), (b, -a + y), (a, -b + y), (a, b + y), (b, a + y), (-b, a + y), (-a, b + y)), RED
    )
    stand.rect(-a * 0.7, y - 0.08 * size, a * 0.7, y + 0.08 * size, WHITE)


def _give_way(stand: Stand, y: float, size: float, mark: int) -> None:
    for shrink, ink in ((1.0, RED), (0.62, WHITE)):
        stand.poly([(px * size * shrink, y + 0.06 * size - py * size * shrink) for px, py in TRIANGLE], ink)


def _arrow_disc(stand: Stand, y: float, size: float, mark: int) -> None:
    half = size * 0.42
    stand.oval(0.0, y, half, half, BLUE)
    stand.line(((-half * 0.5, y + half * 0.4), (half * 0.45, y - half * 0.45)), 0.12 * size, WHITE)


def _parking(stand: Stand, y: float, size: float, mark: int) -> None:
    half = size * 0.4
    stand.rect(-half, y - half, half, y + half, BLUE)
    stand.rect(-half * 0.4, y - half * 0.6, -half * 0.1, y + half * 0.6, WHITE)
    stand.oval(0.0, y + half * 0.25, half * 0.35, half * 0.32, WHITE)


def bollard(rng: random.Random, bright: bool) -> Paint:
    """A permanent bollard or delineator: grey, black and white, or red and white rings."""
    first, second = (
        rng.choice(((RED, WHITE), (RED, WHITE), (ORANGE, DARK)))
        if bright
        else rng.choice(((DARK, WHITE), (STEEL, STEEL), (WHITE, BLACK)))
    )
    return partial(_bollard, first=first, second=second, tall=rng.uniform(0.8, 1.15), wide=rng.uniform(0.07, 0.11))


def _bollard(canvas: Canvas, x: float, z: float, first: Colour, second: Colour, tall: float, wide: float) -> None:
    stand = canvas.stand(x, z, retro=0.4)
    if stand is not None:
        canvas.shadow(x, z, 0.4, 0.3)
        stand.rect(-wide, 0.0, wide, tall, first)
        stand.rect(-wide, tall * 0.72, wide, tall * 0.86, second)
        stand.oval(0.0, tall, wide, wide * 0.6, first)


def bin_or_box(rng: random.Random, bright: bool) -> Paint:
    """A litter bin, letter box or newspaper box."""
    colour = varied(rng.choice(LOUD) if bright else rng.choice((DARK, GREEN, STEEL, BLUE)), rng)
    return partial(
        _bin, colour=colour, tall=rng.uniform(0.8, 1.4), wide=rng.uniform(0.22, 0.38), lid=rng.random() < 0.5
    )


def _bin(canvas: Canvas, x: float, z: float, colour: Colour, tall: float, wide: float, lid: bool) -> None:
    canvas.shadow(x, z, wide * 3.0, 0.8)
    canvas.box(x - wide, x + wide, 0.08, tall, z, z + wide * 2.0, colour)
    stand = canvas.stand(x, z)
    if stand is not None:
        stand.rect(-wide * 0.7, tall * 0.7, wide * 0.7, tall * 0.8, BLACK)
        if lid:
            stand.rect(-wide * 1.1, tall * 0.93, wide * 1.1, tall, DARK)


def hydrant(canvas: Canvas, x: float, z: float, colour: Colour) -> None:
    """A fire hydrant: upright and loud, with a cap and two arms."""
    stand = canvas.stand(x, z)
    if stand is not None:
        canvas.shadow(x, z, 0.5, 0.4)
        stand.rect(-0.13, 0.0, 0.13, 0.62, colour)
        stand.rect(-0.24, 0.36, 0.24, 0.48, colour, 0.85)
        stand.oval(0.0, 0.64, 0.15, 0.12, colour, 1.1)


def parasol(rng: random.Random, bright: bool) -> Paint:
    """A café table under a parasol, its top in wedges of two colours."""
    colour = varied(rng.choice(LOUD) if bright else rng.choice((WHITE, GREEN, BLUE)), rng)
    return partial(_parasol, first=colour, second=WHITE if rng.random() < 0.6 else colour, wide=rng.uniform(1.0, 1.5))


def _parasol(canvas: Canvas, x: float, z: float, first: Colour, second: Colour, wide: float) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    canvas.shadow(x, z, wide * 2.0, 1.4)
    stand.rect(-0.03, 0.0, 0.03, 2.4, WHITE, 0.8)
    stand.rect(-0.45, 0.68, 0.45, 0.76, (150.0, 120.0, 90.0))
    for index in range(5):
        low, high = (index - 2.5) / 2.5 * wide, (index - 1.5) / 2.5 * wide
        stand.poly(((low, 2.05), (0.0, 2.6), (high, 2.05)), second if index % 2 else first)


def planter(rng: random.Random, bright: bool) -> Paint:
    """A box of flowers, or a bare one."""
    petals = varied(rng.choice(LOUD) if bright else (96.0, 128.0, 64.0), rng)
    dots = tuple((rng.uniform(-0.6, 0.6), rng.uniform(0.5, 0.85), rng.uniform(0.06, 0.13)) for _ in range(10))
    return partial(_planter, petals=petals, dots=dots, box=varied(rng.choice((STEEL, (120.0, 96.0, 74.0), WHITE)), rng))


def _planter(
    canvas: Canvas, x: float, z: float, petals: Colour, dots: tuple[tuple[float, float, float], ...], box: Colour
) -> None:
    canvas.shadow(x, z, 1.8, 0.9)
    canvas.box(x - 0.7, x + 0.7, 0.0, 0.5, z, z + 0.7, box)
    stand = canvas.stand(x, z)
    if stand is not None:
        stand.oval(0.0, 0.6, 0.65, 0.22, (66.0, 104.0, 52.0))
        for dx, y, r in dots:
            stand.oval(dx, y, r, r, petals)


def billboard(rng: random.Random, bright: bool) -> Paint:
    """An advertisement on two legs."""
    colours = [varied(rng.choice(LOUD) if bright else rng.choice((BLUE, WHITE, GREEN, DARK)), rng) for _ in range(2)]
    return partial(
        _billboard,
        back=colours[0],
        bar=colours[1],
        wide=rng.uniform(0.6, 1.7),
        low=rng.uniform(0.4, 1.6),
        round_mark=rng.random() < 0.5,
    )


def _billboard(
    canvas: Canvas, x: float, z: float, back: Colour, bar: Colour, wide: float, low: float, round_mark: bool
) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    for leg in (-0.7, 0.7):
        stand.rect(leg * wide - 0.04, 0.0, leg * wide + 0.04, low, DARK)
    stand.rect(-wide, low, wide, low + 1.5, WHITE, 0.9)
    stand.rect(-wide + 0.08, low + 0.08, wide - 0.08, low + 1.42, back)
    stand.rect(-wide * 0.7, low + 0.25, wide * 0.4, low + 0.5, bar)
    if round_mark:
        stand.oval(wide * 0.3, low + 0.95, wide * 0.3, 0.3, bar)


def boom(rng: random.Random, bright: bool) -> Paint:
    """The raised or lowered boom of a car park: a long red and white pole."""
    return partial(_boom, raised=rng.random() < 0.7, second=RED if bright else DARK)


def _boom(canvas: Canvas, x: float, z: float, raised: bool, second: Colour) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    stand.rect(-0.2, 0.0, 0.2, 1.05, (206.0, 206.0, 200.0))
    dx, dy = (0.13, 0.36) if raised else (0.38, 0.03)
    for piece in range(9):
        ink = second if piece % 2 else WHITE
        start = (piece * dx, 0.9 + piece * dy)
        stand.line((start, (start[0] + dx, start[1] + dy)), 0.1, ink)


def bus_stop(rng: random.Random, bright: bool) -> Paint:
    """A shelter with a lit panel of dotted text."""
    return partial(_bus_stop, roof=varied(rng.choice(LOUD) if bright else DARK, rng))


def _bus_stop(canvas: Canvas, x: float, z: float, roof: Colour) -> None:
    canvas.shadow(x, z, 3.4, 1.4)
    canvas.front(x - 1.5, x + 1.5, 0.3, 2.2, z + 1.2, (128.0, 144.0, 152.0))
    canvas.box(x - 1.6, x + 1.6, 2.3, 2.5, z, z + 1.3, roof)
    for post in (-1.5, 1.5):
        canvas.front(x + post - 0.05, x + post + 0.05, 0.0, 2.3, z, DARK)
    stand = canvas.stand(x, z)
    if stand is not None:
        stand.rect(-0.7, 1.85, 0.7, 2.25, BLACK)
        for row in (1.95, 2.12):
            for dot in range(5):
                stand.lamp(-0.5 + dot * 0.24, row, 0.05, AMBER)


def traffic_light(canvas: Canvas, x: float, z: float, phase: int) -> None:
    """Three lamps on a pole."""
    stand = canvas.stand(x, z)
    if stand is None:
        return
    stand.rect(-0.06, 0.0, 0.06, 2.6, DARK)
    stand.rect(-0.2, 2.4, 0.2, 3.4, BLACK)
    lamps: tuple[Colour, ...] = ((250.0, 60.0, 40.0), AMBER, (70.0, 230.0, 130.0))
    stand.lamp(0.0, 3.2 - 0.3 * phase, 0.12, lamps[phase], 0.5 if canvas.light.lamps else 0.0)


def gantry(street: Street, rng: random.Random) -> Paint:
    """Signs over a highway; the camera looks at them from below."""
    return partial(_gantry, left=street.left, right=street.right, ink=rng.choice((BLUE, GREEN, BLACK)))


def _gantry(canvas: Canvas, x: float, z: float, left: float, right: float, ink: Colour) -> None:
    for post in (left - 2.0, right + 3.2):
        canvas.front(post - 0.15, post + 0.15, 0.0, 7.4, z, STEEL)
    canvas.front(left - 2.0, right + 3.2, 6.9, 7.2, z, STEEL)
    for share in (0.22, 0.72):
        middle = left + (right - left) * share
        canvas.front(middle - 2.0, middle + 2.0, 5.6, 7.5, z, ink)
        bars = AMBER if ink == BLACK else WHITE
        canvas.front(middle - 1.5, middle + 1.0, 6.7, 7.0, z, bars)
        canvas.front(middle - 1.5, middle + 0.4, 6.1, 6.4, z, bars)


def street_patches(street: Street, rng: random.Random, wet: bool, autumn: bool) -> list[Patch]:
    """Mended asphalt, manholes, puddles, fallen leaves."""
    patches: list[Patch] = []
    grey = street.asphalt[0]
    for _ in range(rng.randrange(5)):
        x, z = rng.uniform(street.left + 0.6, street.right - 0.6), rng.uniform(4.0, 34.0)
        tint = rng.uniform(0.62, 0.88)
        wide, long = rng.uniform(0.4, 1.5), rng.uniform(0.8, 5.0)
        outline = ((x - wide, z), (x + wide, z), (x + wide, z + long), (x - wide, z + long))
        patches.append(Patch("mend", outline, (grey * tint, grey * tint, grey * tint)))
    for _ in range(rng.randrange(3)):
        x, z = rng.uniform(street.left + 0.6, street.right - 0.6), rng.uniform(4.0, 22.0)
        patches.append(Patch("manhole", blob(x, z, 0.34, 0.34, rng), (grey * 0.6, grey * 0.6, grey * 0.6)))
    if wet:
        for _ in range(rng.randrange(2, 6)):
            x, z = rng.uniform(street.left, street.right), rng.uniform(4.0, 26.0)
            shine = rng.uniform(1.15, 1.5)
            patches.append(
                Patch("puddle", blob(x, z, rng.uniform(0.4, 1.3), rng.uniform(0.6, 2.4), rng), (grey * shine,) * 3)
            )
    if autumn:
        for _ in range(rng.randrange(2, 6)):
            edge = street.left if rng.random() < 0.5 else street.right
            leaves = varied(rng.choice(((196.0, 108.0, 40.0), (158.0, 92.0, 44.0), (206.0, 150.0, 50.0))), rng)
            rim = blob(
                edge + rng.uniform(-0.8, 1.2), rng.uniform(4.0, 30.0), rng.uniform(0.4, 1.2), rng.uniform(0.6, 3.0), rng
            )
            patches.append(Patch("leaves", rim, leaves))
    if rng.random() < 0.2:
        lane = rng.choice(street.lane_centres)
        z = rng.uniform(5.0, 16.0)
        paint = varied(rng.choice(((150.0, 60.0, 48.0), (176.0, 84.0, 50.0), (60.0, 110.0, 80.0))), rng)
        edge = LANE / 2 - 0.1
        patches.append(
            Patch(
                "painted lane",
                ((lane - edge, z), (lane + edge, z), (lane + edge, z + 12.0), (lane - edge, z + 12.0)),
                paint,
            )
        )
    return patches
