"""The shape of a street: lanes, edges, what lies beside it, and where the camera drives."""

import random

from attrs import frozen

from roadwork_datasets.synthetic.canvas import Camera
from roadwork_datasets.synthetic.frame import Frame
from roadwork_datasets.synthetic.light import Colour

LANE = 3.3


@frozen(kw_only=True)
class Street:
    """A straight street along z; x = 0 is its middle. Lengths in metres."""

    environment: str
    lanes: int
    two_way: bool
    left: float
    right: float
    #: Width of the pavement (0 on a highway) and of the strip from the road's edge to the buildings.
    pavement: float
    setback: float
    curve: float
    #: Whether the picture is flipped, for a country that drives on the left.
    mirrored: bool
    asphalt: Colour
    paving: Colour
    soil: Colour
    worn: bool
    crossing: float | None
    #: Where the camera starts, and how far it drives within the sequence.
    ego: float
    travel: float

    @property
    def lane_centres(self) -> list[float]:
        """x of the middle of each lane, left to right."""
        return [self.left + LANE * (index + 0.5) for index in range(self.lanes)]

    def heading(self, lane: int) -> int:
        """+1 for a lane that drives away from the camera, -1 for one that comes towards it."""
        return -1 if self.two_way and lane < self.lanes // 2 else 1


def street_of(frame: Frame) -> Street:
    """The street of the frame's sequence; does not depend on the label."""
    rng = frame.stream("street")
    environment = frame.tags["environment"]
    lanes = {"urban": (2, 2, 3, 4), "suburban": (2,), "highway": (2, 3, 3, 4)}[environment]
    count = rng.choice(lanes)
    two_way = environment != "highway" and count != 3
    half = count * LANE / 2.0
    first = count // 2 if two_way else max(0, count - 2)
    lane = rng.randrange(first, count)
    grey = rng.uniform(82.0, 128.0)
    snow = frame.tags["weather"] == "snow"
    wet = 0.72 if frame.tags["weather"] == "rain" else 1.0
    paving = rng.uniform(128.0, 172.0) * wet
    green = rng.uniform(0.0, 1.0)
    soil = (92.0 + 40.0 * green, 112.0 + 12.0 * green, 56.0 + 16.0 * green)
    return Street(
        environment=environment,
        lanes=count,
        two_way=two_way,
        left=-half,
        right=half,
        pavement=0.0 if environment == "highway" else rng.uniform(2.2, 4.5),
        setback=rng.uniform(3.5, 6.5) if environment == "urban" else rng.uniform(9.0, 15.0),
        curve=rng.gauss(0.0, 0.0011),
        mirrored=rng.random() < 0.5,
        asphalt=_slush(grey * wet, snow, rng),
        paving=(226.0, 230.0, 236.0) if snow else (paving, paving * 0.97, paving * rng.uniform(0.88, 0.97)),
        soil=(224.0, 229.0, 236.0) if snow else soil,
        worn=rng.random() < 0.4,
        crossing=rng.uniform(9.0, 26.0) if environment == "urban" and rng.random() < 0.35 else None,
        ego=-half + LANE * (lane + 0.5) + rng.uniform(-0.4, 0.4),
        travel=rng.uniform(1.5, 4.0) * (1.3 if environment == "highway" else 1.0),
    )


def camera_of(frame: Frame, street: Street, width: int, height: int) -> Camera:
    """The camera of one frame: a little further along the street than that of the frame before."""
    rng, own = frame.stream("camera"), frame.own_stream("camera")
    done = frame.frame / max(1, frame.frames - 1) if frame.frames > 1 else 0.0
    return Camera(
        width=width,
        height=height,
        focal=rng.uniform(0.80, 1.05) * max(width, height),
        horizon=height * (rng.uniform(0.38, 0.52) + own.uniform(-0.008, 0.008)),
        x=street.ego + own.uniform(-0.12, 0.12),
        y=rng.uniform(1.25, 1.95),
        z=street.travel * done,
        curve=street.curve,
    )


def _slush(grey: float, snow: bool, rng: random.Random) -> Colour:
    if snow:
        grey = grey * 0.6 + rng.uniform(70.0, 130.0)
    return (grey, grey, grey * 1.02)
