"""What lines the street: blocks of flats, shops with awnings, houses, trees, hedges, guard rails."""

import random
from functools import partial

from roadwork_datasets.synthetic.canvas import NEAR, Canvas
from roadwork_datasets.synthetic.light import Colour, mix
from roadwork_datasets.synthetic.palette import AMBER, BLUE, DARK, GREEN, LOUD, RED, STEEL, WHITE, varied
from roadwork_datasets.synthetic.prop import Prop
from roadwork_datasets.synthetic.street import Street

_FACADES: tuple[Colour, ...] = (
    (176.0, 160.0, 140.0),
    (150.0, 104.0, 84.0),
    (190.0, 184.0, 172.0),
    (132.0, 128.0, 126.0),
    (204.0, 178.0, 130.0),
    (120.0, 90.0, 78.0),
    (168.0, 176.0, 184.0),
)
_ROOFS: tuple[Colour, ...] = ((120.0, 66.0, 50.0), (84.0, 80.0, 82.0), (150.0, 84.0, 56.0), (66.0, 70.0, 80.0))
_SNOW: Colour = (232.0, 236.0, 242.0)


def line_street(street: Street, rng: random.Random, autumn: bool) -> list[Prop]:
    """Buildings and trees on both sides, from behind the camera to the far end."""
    props: list[Prop] = []
    for side in (-1, 1):
        edge = street.right if side > 0 else street.left
        if street.environment == "urban":
            props += _terrace(edge + side * street.setback, side, rng)
        elif street.environment == "suburban":
            props += _houses(edge + side * street.setback, side, rng)
        else:
            far = edge + side * (4.0 if side > 0 else 6.0 + street.lanes * 3.3)
            props += _woods(far, side, rng, autumn)
        if street.environment != "highway":
            props += _avenue(edge, side, street, rng, autumn)
    return props


def _terrace(x: float, side: int, rng: random.Random) -> list[Prop]:
    props, z = [], rng.uniform(-14.0, 0.0)
    while z < 105.0:
        long = rng.uniform(9.0, 22.0)
        floors = rng.randint(2, 7)
        colour = varied(rng.choice(_FACADES), rng)
        awning = varied(rng.choice((*LOUD, RED, BLUE, GREEN)), rng) if rng.random() < 0.45 else None
        seed = rng.getrandbits(32)
        paint = partial(_block, side=side, long=long, floors=floors, colour=colour, awning=awning, seed=seed)
        props.append(Prop("building", x, z, paint))
        z += long + (rng.uniform(4.0, 12.0) if rng.random() < 0.2 else 0.0)
    return props


def _block(
    canvas: Canvas,
    x: float,
    z: float,
    side: int,
    long: float,
    floors: int,
    colour: Colour,
    awning: Colour | None,
    seed: int,
) -> None:
    end = z + long
    if end < canvas.camera.z + NEAR + 0.5:
        return
    rng = random.Random(seed)
    tall = 1.0 + floors * 3.1
    lit = canvas.light.flank[0] if side > 0 else canvas.light.flank[1]
    if z > canvas.camera.z + NEAR:
        canvas.front(min(x, x + side * 12.0), max(x, x + side * 12.0), 0.0, tall, z, colour, 0.92)
    canvas.wall(x, z, end, 0.0, tall, colour, lit)
    if canvas.light.snow:
        canvas.wall(x, z, end, tall - 0.3, tall + 0.2, _SNOW, lit)
    start = max(z, canvas.camera.z + NEAR)
    depth = (start + end) / 2.0 - canvas.camera.z
    column_pixels = canvas.camera.focal * 3.0 * abs(x - canvas.camera.x) / (depth * depth)
    glass: Colour = (70.0, 84.0, 98.0)
    columns = max(1, int(long / 3.0))
    step = long / columns
    for floor in range(floors):
        low = 1.2 + floor * 3.1
        if column_pixels < 2.2:
            canvas.wall(x, z, end, low, low + 1.5, mix(colour, glass, 0.5), lit)
            continue
        for column in range(columns):
            at = z + column * step + step * 0.22
            burning = canvas.light.lamps and rng.random() < 0.35
            if at < canvas.camera.z + NEAR:
                continue
            if floor == 0 and awning is not None:
                canvas.wall(x, at - step * 0.12, at + step * 0.66, 0.3, 2.4, (58.0, 58.0, 62.0), lit)
                continue
            pane: Colour = (250.0, 214.0, 140.0) if burning else varied(glass, rng)
            canvas.wall(x, at, at + step * 0.5, low, low + 1.6, pane, 2.4 if burning else lit)
    if awning is not None:
        _awning(canvas, x, z, end, side, awning, lit)


def _awning(canvas: Canvas, x: float, z: float, end: float, side: int, colour: Colour, lit: float) -> None:
    stripes = max(2, int((end - z) / 0.9))
    step = (end - z) / stripes
    out = x - side * 1.4
    for stripe in range(stripes):
        near = z + stripe * step
        if near < canvas.camera.z + NEAR or near > canvas.camera.z + 45.0:
            continue
        ink = colour if stripe % 2 else WHITE
        far = near + step
        canvas.face(((x, 3.2, near), (x, 3.2, far), (out, 2.5, far), (out, 2.5, near)), ink, lit * 1.1)


def _houses(x: float, side: int, rng: random.Random) -> list[Prop]:
    props, z = [], rng.uniform(-6.0, 4.0)
    while z < 90.0:
        wide = rng.uniform(8.0, 13.0)
        paint = partial(
            _house,
            side=side,
            wide=wide,
            tall=rng.uniform(3.2, 6.0),
            colour=varied(rng.choice(_FACADES), rng),
            roof=varied(rng.choice(_ROOFS), rng),
        )
        props.append(Prop("house", x, z, paint))
        if rng.random() < 0.6:
            hedge = varied((70.0, 96.0, 52.0), rng)
            front = x - side * rng.uniform(3.0, 5.0)
            props.append(Prop("hedge", front, z, partial(_hedge, side=side, long=wide, colour=hedge)))
        z += wide + rng.uniform(4.0, 12.0)
    return props


def _house(
    canvas: Canvas, x: float, z: float, side: int, wide: float, tall: float, colour: Colour, roof: Colour
) -> None:
    if z < canvas.camera.z + NEAR + 1.0:
        return
    lit = canvas.light.flank[0] if side > 0 else canvas.light.flank[1]
    back, ridge, end = x + side * 8.0, x + side * 4.0, z + wide
    low, high = sorted((x, back))
    canvas.front(low, high, 0.0, tall, z, colour, 0.92)
    canvas.face(((x, tall, z), (ridge, tall + 3.0, z), (back, tall, z)), colour, 0.88)
    canvas.wall(x, z, end, 0.0, tall, colour, lit)
    tiles = _SNOW if canvas.light.snow else roof
    canvas.face(((x, tall, z), (x, tall, end), (ridge, tall + 3.0, end), (ridge, tall + 3.0, z)), tiles, lit)
    pane: Colour = (250.0, 214.0, 140.0) if canvas.light.lamps else (66.0, 80.0, 94.0)
    glow = 2.4 if canvas.light.lamps else lit
    for share in (0.12, 0.42, 0.74):
        canvas.wall(x, z + wide * share, z + wide * (share + 0.15), 1.0, 2.3, pane, glow)
    canvas.front(low + 2.6, low + 4.0, 1.0, 2.3, z, pane, glow)


def _hedge(canvas: Canvas, x: float, z: float, side: int, long: float, colour: Colour) -> None:
    low, high = sorted((x, x + side * 0.8))
    canvas.box(low, high, 0.0, 1.1, z, z + long, colour)


def _avenue(edge: float, side: int, street: Street, rng: random.Random, autumn: bool) -> list[Prop]:
    if rng.random() < 0.35:
        return []
    props, z = [], rng.uniform(4.0, 14.0)
    gap = rng.uniform(8.0, 18.0)
    while z < 80.0:
        x = edge + side * rng.uniform(1.0, 1.8)
        props.append(Prop("tree", x, z, tree(rng, autumn), half=1.6))
        z += gap * rng.uniform(0.7, 1.5)
    return props


def _woods(x: float, side: int, rng: random.Random, autumn: bool) -> list[Prop]:
    props: list[Prop] = []
    z = rng.uniform(4.0, 12.0)
    while z < 140.0:
        if rng.random() < 0.8:
            props.append(Prop("tree", x + side * rng.uniform(1.0, 14.0), z, tree(rng, autumn, rng.uniform(1.0, 1.7))))
        z += rng.uniform(3.0, 10.0)
    return props


def tree(rng: random.Random, autumn: bool, scale: float = 1.0) -> partial[None]:
    """A tree with a crown of several tufts; in autumn often orange or yellow."""
    leaves: Colour = (58.0, 92.0, 42.0)
    if autumn and rng.random() < 0.75:
        leaves = rng.choice(((214.0, 110.0, 34.0), (222.0, 160.0, 46.0), (176.0, 66.0, 34.0)))
    tall = rng.uniform(4.0, 7.5) * scale
    tufts = tuple(
        (rng.uniform(-0.75, 0.75), rng.uniform(-0.8, 0.9), rng.uniform(0.5, 1.0), rng.uniform(0.8, 1.15))
        for _ in range(9)
    )
    return partial(_tree, tall=tall, leaves=varied(leaves, rng, 20.0), tufts=tufts)


def _tree(
    canvas: Canvas,
    x: float,
    z: float,
    tall: float,
    leaves: Colour,
    tufts: tuple[tuple[float, float, float, float], ...],
) -> None:
    stand = canvas.stand(x, z)
    if stand is None:
        return
    canvas.shadow(x, z, tall * 0.5, 1.2)
    stand.rect(-0.14, 0.0, 0.14, tall * 0.55, (74.0, 58.0, 46.0))
    radius = tall * 0.24
    if canvas.light.snow:
        leaves = (leaves[0] * 0.4 + 120.0, leaves[1] * 0.4 + 122.0, leaves[2] * 0.4 + 126.0)
    for dx, dy, size, lit in tufts[: 9 if stand.scale > 5.0 else 4]:
        stand.oval(dx * radius * 1.4, tall * 0.72 + dy * radius, radius * size, radius * size * 0.9, leaves, lit)


def guard_rails(street: Street) -> list[Prop]:
    """Steel rails along a highway, in pieces so that things in front of them cover them rightly."""
    props = []
    for x in (street.left - 2.0, street.right + 3.0):
        for piece in range(12):
            props.append(Prop("rail", x, 2.0 + piece * 8.0, _rail))
    return props


def _rail(canvas: Canvas, x: float, z: float) -> None:
    canvas.wall(x, z, z + 8.0, 0.45, 0.8, STEEL)
    for post in (z + 0.5, z + 4.5):
        canvas.front(x - 0.06, x + 0.06, 0.0, 0.7, post, DARK)


def street_lamp(canvas: Canvas, x: float, z: float, side: int) -> None:
    """A tall lamp whose arm reaches over the road."""
    stand = canvas.stand(x, z)
    if stand is None:
        return
    reach = -1.8 * side
    stand.line(((0.0, 0.0), (0.0, 7.4), (reach, 7.9)), 0.14, (96.0, 98.0, 100.0))
    if canvas.light.lamps:
        stand.lamp(reach, 7.75, 0.22, AMBER, 1.5)
    else:
        stand.rect(reach - 0.35, 7.7, reach + 0.35, 7.9, (120.0, 122.0, 124.0))
