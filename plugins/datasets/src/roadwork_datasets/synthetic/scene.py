"""What stands where: composes buildings, traffic, distractors and, where the label says so, roadworks."""

import random
from functools import partial

from attrs import frozen

from roadwork_datasets.synthetic import buildings, furniture, traffic, zone
from roadwork_datasets.synthetic.canvas import Canvas
from roadwork_datasets.synthetic.frame import Frame
from roadwork_datasets.synthetic.ground import Patch
from roadwork_datasets.synthetic.palette import LOUD, RED, WHITE, varied
from roadwork_datasets.synthetic.prop import Paint, Prop
from roadwork_datasets.synthetic.street import Street, street_of


@frozen(kw_only=True)
class Scene:
    """A street with everything on it, before it is looked at."""

    street: Street
    backdrop: tuple[Prop, ...]
    props: tuple[Prop, ...]
    patches: tuple[Patch, ...]


def compose(frame: Frame) -> Scene:
    """The scene of the frame's sequence; the label decides on works or decoys, and how loud the rest is."""
    street = street_of(frame)
    weather = frame.tags["weather"]
    season = frame.stream("season")
    autumn = weather != "snow" and season.random() < 0.4
    backdrop = buildings.line_street(street, frame.stream("buildings"), autumn)
    if street.environment == "highway":
        backdrop += buildings.guard_rails(street)
    rng = frame.stream("traffic")
    loud = 0.3 if frame.label else 0.4
    ordinary = [*_moving(street, rng, loud), *_parked(street, rng, loud), *_lamps(street, rng)]
    ordinary += _distractors(street, frame.stream("distractors"), frame.label)
    patches = furniture.street_patches(street, frame.stream("patches"), weather == "rain", autumn)
    works = zone.works(street, frame.stream("works"))
    # A plain street is cleared around the same area, so that emptiness says nothing, and decoys take its place.
    ordinary = [prop for prop in ordinary if not _in_the_way(prop, works, street)]
    if frame.label:
        props, flat = works.props, works.patches
    else:
        props, flat = tuple(_decoys(street, works, frame.stream("decoys"))), ()
    return Scene(
        street=street,
        backdrop=tuple(backdrop),
        props=(*ordinary, *props),
        patches=(*patches, *flat),
    )


def far_to_near(props: tuple[Prop, ...], done: float) -> list[Prop]:
    """The order in which to paint."""
    return sorted(props, key=lambda prop: -(prop.z + prop.speed * done))


def _in_the_way(prop: Prop, works: zone.Works, street: Street) -> bool:
    """Whether a thing would cover an anchor of the works, or drive over their area."""
    x0, x1, z0, z1 = works.area
    for done in (0.0, 0.5, 1.0):
        eye = street.travel * done
        at = prop.z + prop.speed * done
        if prop.half > 1.0 and x0 < prop.x < x1 and z0 - 4.0 < at < z1:
            return True
        near = max(at - eye, 1.5)
        for anchor in works.anchors:
            far = anchor.z - eye
            reach = (prop.half + anchor.half) / near
            if (
                -5.0 < at - eye < far + 0.5
                and abs((prop.x - street.ego) / near - (anchor.x - street.ego) / far) < reach
            ):
                return True
    return False


def _moving(street: Street, rng: random.Random, loud: float) -> list[Prop]:
    props = []
    for lane, x in enumerate(street.lane_centres):
        heading = street.heading(lane)
        z = rng.uniform(8.0, 30.0)
        while z < 95.0:
            if rng.random() < 0.55:
                kind, paint = traffic.vehicle(rng, heading, loud)
                speed = rng.uniform(-5.0, -1.0) if heading < 0 else street.travel + rng.uniform(-1.0, 6.0)
                if z + speed > street.travel + 5.0:
                    props.append(Prop(kind, x + rng.uniform(-0.3, 0.3), z, paint, speed, half=1.3))
            z += rng.uniform(10.0, 34.0)
    if street.environment != "highway" and rng.random() < 0.45:
        x = street.right - rng.uniform(0.4, 0.9)
        z = rng.uniform(8.0, 24.0)
        props.append(Prop("cyclist", x, z, traffic.cyclist(rng, 0.75), street.travel * rng.uniform(0.3, 1.2)))
    return props


def _parked(street: Street, rng: random.Random, loud: float) -> list[Prop]:
    props: list[Prop] = []
    if street.environment == "highway":
        if rng.random() < 0.25:
            kind, paint = traffic.vehicle(rng, 1, loud)
            props.append(Prop(kind, street.right + 1.2, rng.uniform(10.0, 40.0), paint, half=1.3))
        return props
    for side in (-1, 1):
        chance = rng.choice((0.0, 0.3, 0.75))
        edge = street.right + 0.55 if side > 0 else street.left - 0.55
        z = rng.uniform(4.0, 9.0)
        while z < 60.0:
            if rng.random() < chance:
                kind, paint = traffic.vehicle(rng, 1 if side > 0 else -1, loud)
                if kind in ("car", "van"):
                    props.append(Prop(kind, edge + rng.uniform(-0.15, 0.15), z, paint, half=1.3))
            z += rng.uniform(6.0, 8.0)
    return props


def _lamps(street: Street, rng: random.Random) -> list[Prop]:
    props: list[Prop] = []
    if rng.random() < 0.2:
        return props
    gap, side = rng.uniform(16.0, 28.0), rng.choice((-1, 1))
    z = rng.uniform(5.0, 16.0)
    while z < 110.0:
        x = street.right + 0.9 if side > 0 else street.left - 0.9
        props.append(Prop("street lamp", x, z, partial(buildings.street_lamp, side=side), half=0.2))
        z += gap
        side = -side if rng.random() < 0.5 else side
    if street.environment == "highway" and rng.random() < 0.5:
        props.append(Prop("gantry", 0.0, rng.uniform(25.0, 70.0), furniture.gantry(street, rng), half=0.0))
    return props


def _distractors(street: Street, rng: random.Random, label: bool) -> list[Prop]:
    """Ordinary roadside things; without roadworks more of them have loud colours, and some stand in rows."""
    props: list[Prop] = []
    count = rng.randint(2, 5) if label else rng.randint(3, 8)
    loud = 0.5 if label else 0.7
    for _ in range(count):
        kind, paint = _one(street, rng, loud)
        x, z = _roadside(street, rng)
        props.append(Prop(kind, x, z, paint, half=0.9))
    if rng.random() < (0.2 if label else 0.5):
        props += _row(street, rng, loud)
    for _ in range(rng.choice((0, 1, 2, 4)) if street.environment != "highway" else 0):
        x, z = _roadside(street, rng)
        props.append(Prop("pedestrian", x, z, traffic.pedestrian(rng, 0.3 if label else 0.5), rng.uniform(-1.0, 1.0)))
    if street.crossing is not None and rng.random() < 0.5:
        x = rng.uniform(street.left, street.right)
        props.append(Prop("pedestrian", x, street.crossing + 1.5, traffic.pedestrian(rng, 0.4)))
    return props


def _decoys(street: Street, works: zone.Works, rng: random.Random) -> list[Prop]:
    """Loud or striped ordinary things where roadworks would have been: stopped vehicles, people, furniture."""
    props: list[Prop] = []
    x0, x1, start, _ = works.area
    middle, z = (x0 + x1) / 2.0, start + 1.0
    on_road = street.left < middle < street.right
    for _ in range(rng.randint(1, 3)):
        x = middle + rng.uniform(-0.5, 0.5)
        if on_road and rng.random() < 0.6:
            kind, paint = traffic.vehicle(rng, street.heading(0 if middle < 0.0 else street.lanes - 1), 0.8)
            props.append(Prop(kind, x, z + rng.uniform(0.5, 3.0), paint, half=1.3))
            z += rng.uniform(7.0, 11.0)
        elif on_road:
            x = rng.choice((x0, x1))
            props.append(Prop("cyclist", x, z + rng.uniform(0.0, 3.0), traffic.cyclist(rng, 0.9), street.travel * 0.4))
        elif rng.random() < 0.35:
            person = traffic.pedestrian(rng, 0.7)
            props.append(Prop("pedestrian", x, z + rng.uniform(0.0, 3.0), person, rng.uniform(-1.0, 1.0)))
        else:
            kind, paint = _one(street, rng, 0.9)
            props.append(Prop(kind, x, z + rng.uniform(0.0, 2.0), paint, half=0.9))
            z += rng.uniform(1.5, 4.0)
    return props


def _roadside(street: Street, rng: random.Random) -> tuple[float, float]:
    side = rng.choice((-1, 1))
    edge = street.right if side > 0 else street.left
    near = 0.5 if street.environment != "highway" else 1.6
    return edge + side * rng.uniform(near, near + 2.6), street.travel + rng.choice(
        (3.5, 6.0)
    ) + rng.random() ** 1.5 * 28.0


def _one(street: Street, rng: random.Random, loud: float) -> tuple[str, Paint]:
    bright = rng.random() < loud
    draw = rng.random()
    if draw < 0.24:
        return "sign", furniture.sign(rng)
    if street.environment == "highway":
        if draw < 0.55:
            return "chevron board", partial(_chevrons, colour=varied(RED if bright else (40.0, 40.0, 44.0), rng))
        return "billboard", furniture.billboard(rng, bright)
    if draw < 0.36:
        return "bin", furniture.bin_or_box(rng, bright)
    if draw < 0.48:
        return "planter", furniture.planter(rng, bright)
    if draw < 0.58:
        return "parasol", furniture.parasol(rng, bright)
    if draw < 0.68:
        return "billboard", furniture.billboard(rng, bright)
    if draw < 0.76:
        return "boom", furniture.boom(rng, bright)
    if draw < 0.82:
        return "bus stop", furniture.bus_stop(rng, bright)
    if draw < 0.88:
        return "hydrant", partial(furniture.hydrant, colour=varied(rng.choice(LOUD), rng))
    if draw < 0.94:
        return "traffic light", partial(furniture.traffic_light, phase=rng.randrange(3))
    return "bollard", furniture.bollard(rng, bright)


def _row(street: Street, rng: random.Random, loud: float) -> list[Prop]:
    side = rng.choice((-1, 1))
    x = (street.right if side > 0 else street.left) + side * rng.uniform(0.3, 1.2)
    z, gap = street.travel + rng.uniform(4.0, 9.0), rng.uniform(1.8, 3.5)
    if street.environment == "highway" or rng.random() < 0.7:
        kind, paint = "bollard", furniture.bollard(rng, rng.random() < loud)
    else:
        kind, paint = "planter", furniture.planter(rng, rng.random() < loud)
    return [Prop(kind, x, z + index * gap, paint, half=0.3) for index in range(rng.randint(3, 8))]


def _chevrons(canvas: Canvas, x: float, z: float, colour: tuple[float, float, float]) -> None:
    """A permanent board of chevrons at a bend."""
    stand = canvas.stand(x, z, retro=1.0)
    if stand is None:
        return
    for leg in (-0.5, 0.5):
        stand.rect(leg - 0.04, 0.0, leg + 0.04, 1.0, (120.0, 122.0, 124.0))
    stand.rect(-0.8, 0.9, 0.8, 1.6, colour)
    for start in (-0.7, -0.1):
        stand.line(((start, 1.5), (start + 0.35, 1.25), (start, 1.0)), 0.14, WHITE)
