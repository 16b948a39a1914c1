"""A zone of roadworks: where it lies, and which of its parts stand where."""

import random

from attrs import frozen

from roadwork_datasets.synthetic import machines
from roadwork_datasets.synthetic import works as parts
from roadwork_datasets.synthetic.ground import Patch
from roadwork_datasets.synthetic.palette import EARTH, varied
from roadwork_datasets.synthetic.prop import Paint, Prop
from roadwork_datasets.synthetic.street import LANE, Street

#: Every kind of prop or patch that makes a street a roadwork street.
WORKS_KINDS = frozenset(
    {
        "cone",
        "drum",
        "tube",
        "barrier",
        "works sign",
        "arrow board",
        "excavator",
        "roller",
        "works lorry",
        "worker",
        "heap",
        "hole",
    }
)

#: How far beside the camera works begin at most, metres; on a wider street they close a lane in its middle.
_WIDEST = 5.4
#: The first marker stays within this slope to the side of the camera's axis, so inside of every field of view.
_TANGENT = 0.42


@frozen
class Works:
    """The parts of a zone; the anchors must stay visible, and nobody drives over the area (x0, x1, z0, z1)."""

    props: tuple[Prop, ...]
    patches: tuple[Patch, ...]
    anchors: tuple[Prop, ...]
    area: tuple[float, float, float, float]


def works(street: Street, rng: random.Random) -> Works:
    """Two to eight kinds or groups of parts, around a row of markers that is near enough to be seen."""
    side = rng.choice((-1, 1, 1))
    edge = street.right if side > 0 else street.left
    if abs(edge - street.ego) > _WIDEST:
        edge = street.ego + side * rng.uniform(LANE + 0.6, _WIDEST)
    start = street.travel + rng.uniform(3.8, 7.5)
    long = rng.uniform(8.0, 22.0)
    if rng.random() < 0.6:
        line, inner = edge - side * rng.uniform(1.8, LANE), edge - side * 0.9
    else:
        line, inner = edge - side * 0.2, edge + side * rng.uniform(1.0, 1.8)
    # Nothing stands in the camera's own way, unless well ahead.
    if abs(line - street.ego) < 1.5:
        start += rng.uniform(1.5, 4.0)
    start = max(start, street.travel + abs(line - street.ego) / _TANGENT)

    row = _row(line, inner, start, long, rng)
    props, patches = list(row), []
    anchors = row[:3]
    for part in rng.sample(("sign", "across", "board", "machine", "people", "dig", "cones"), k=rng.randint(2, 5)):
        if part == "sign":
            for _ in range(rng.choice((1, 1, 2))):
                x = edge + rng.choice((side, side, -side)) * rng.uniform(0.3, 1.4)
                x = x if rng.random() < 0.7 else line
                sign = Prop("works sign", x, start + rng.uniform(-1.5, 6.0), parts.works_sign(rng), half=0.6)
                props.append(sign)
                anchors.append(sign)
        elif part == "across":
            for index in range(rng.choice((1, 1, 2))):
                barrier = Prop(
                    "barrier",
                    inner + index * 0.4,
                    start + rng.uniform(0.0, 3.0) + index * 5.0,
                    parts.barrier(rng),
                    half=1.2,
                )
                props.append(barrier)
                anchors.append(barrier)
        elif part == "board":
            props.append(Prop("arrow board", inner, start + rng.uniform(1.0, 5.0), parts.arrow_board(rng), half=1.2))
        elif part == "machine":
            kind, paint = machines.machine(rng)
            props.append(
                Prop(kind, inner + side * rng.uniform(-0.2, 0.6), start + rng.uniform(4.0, 14.0), paint, half=1.5)
            )
        elif part == "people":
            for _ in range(rng.randint(1, 4)):
                x = rng.uniform(min(line, inner), max(line, inner)) + side * 0.4
                props.append(
                    Prop("worker", x, start + rng.uniform(0.5, long * 0.7), parts.worker(rng), rng.uniform(-0.8, 0.8))
                )
        elif part == "dig":
            wide = min(2.4, abs(inner - line) + 0.6)
            outline = parts.hole((line + inner) / 2.0 + side * 0.3, start + 1.5, wide, rng.uniform(3.0, 9.0), rng)
            patches.append(Patch("hole", outline, varied((EARTH[0] * 0.75, EARTH[1] * 0.75, EARTH[2] * 0.75), rng)))
            if rng.random() < 0.7:
                props.append(Prop("heap", inner + side * 0.4, start + rng.uniform(4.0, 9.0), parts.heap(rng), half=1.3))
        else:
            for _ in range(rng.randint(2, 5)):
                x = rng.uniform(min(line, inner) - 0.3, max(line, inner) + 0.3)
                props.append(Prop("cone", x, start + rng.uniform(0.0, long), parts.cone(rng), half=0.3))
    area = (min(line, inner) - 0.9, max(line, inner) + 0.9, start - 1.0, start + long + 6.0)
    return Works(tuple(props), tuple(patches), tuple(anchors), area)


def _row(line: float, inner: float, start: float, long: float, rng: random.Random) -> list[Prop]:
    """Markers that lead around the zone: a short taper, then along the line."""
    kinds: dict[str, Paint] = {
        "cone": parts.cone(rng),
        "drum": parts.drum(rng),
        "tube": parts.tube(rng),
        "barrier": parts.barrier(rng),
    }
    kind = rng.choices(tuple(kinds), weights=(5, 2, 2, 4))[0]
    count = rng.randint(4, 9) if kind != "barrier" else rng.randint(2, 5)
    gap = max(1.3, min(3.2, long / count))
    taper = rng.choice((0, 1, 2))
    row = []
    for index in range(count):
        share = (taper - index) / (taper + 1) if index < taper else 0.0
        x = line + (inner - line) * share + rng.uniform(-0.12, 0.12)
        z = start + index * gap * rng.uniform(0.9, 1.1)
        row.append(Prop(kind, x, z, kinds[kind], half=1.1 if kind == "barrier" else 0.35))
    return row
