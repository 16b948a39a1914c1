"""The colours of the street, 0 to 255."""

import random

from roadwork_datasets.synthetic.light import Colour

ORANGE: Colour = (244.0, 110.0, 26.0)
AMBER: Colour = (255.0, 176.0, 40.0)
YELLOW: Colour = (246.0, 200.0, 36.0)
LIME: Colour = (206.0, 232.0, 52.0)
RED: Colour = (206.0, 36.0, 34.0)
WHITE: Colour = (240.0, 240.0, 238.0)
BLACK: Colour = (24.0, 24.0, 26.0)
DARK: Colour = (44.0, 46.0, 50.0)
STEEL: Colour = (138.0, 142.0, 146.0)
BLUE: Colour = (36.0, 84.0, 170.0)
GREEN: Colour = (34.0, 120.0, 74.0)
GLASS: Colour = (62.0, 78.0, 92.0)
RUBBER: Colour = (30.0, 30.0, 32.0)
EARTH: Colour = (112.0, 82.0, 56.0)
TAIL: Colour = (226.0, 28.0, 26.0)
HEAD: Colour = (255.0, 246.0, 220.0)
SKIN: tuple[Colour, ...] = ((224.0, 182.0, 152.0), (188.0, 140.0, 106.0), (116.0, 80.0, 58.0))

#: Colours that works and ordinary things share.
LOUD: tuple[Colour, ...] = (ORANGE, (236.0, 92.0, 30.0), YELLOW, (250.0, 150.0, 40.0), RED, LIME)
CALM: tuple[Colour, ...] = (
    (196.0, 198.0, 200.0),
    (232.0, 232.0, 230.0),
    (60.0, 62.0, 66.0),
    (36.0, 40.0, 46.0),
    (44.0, 70.0, 120.0),
    (110.0, 30.0, 34.0),
    (90.0, 104.0, 96.0),
    (140.0, 130.0, 112.0),
)


def varied(colour: Colour, rng: random.Random, spread: float = 14.0) -> Colour:
    """The colour with a random change of brightness and a smaller one of hue."""
    shift = rng.uniform(-spread, spread)
    return (
        min(255.0, max(0.0, colour[0] + shift + rng.uniform(-6.0, 6.0))),
        min(255.0, max(0.0, colour[1] + shift + rng.uniform(-6.0, 6.0))),
        min(255.0, max(0.0, colour[2] + shift + rng.uniform(-6.0, 6.0))),
    )
