"""Daylight, dusk, night and the air between: what colour a thing has at a distance."""

import math
import random

from attrs import frozen

from roadwork_datasets.synthetic.frame import Frame

Colour = tuple[float, float, float]


@frozen
class Tone:
    """Light and air at one depth: shown = colour * gain + haze."""

    gain: Colour
    haze: Colour
    clear: float

    def of(self, colour: Colour, lit: float = 1.0) -> tuple[int, int, int]:
        """The colour as the camera sees it, 0 to 255."""
        r, g, b = colour
        (gr, gg, gb), (hr, hg, hb) = self.gain, self.haze
        return (
            min(255, int(r * gr * lit + hr)),
            min(255, int(g * gg * lit + hg)),
            min(255, int(b * gb * lit + hb)),
        )

    def emit(self, colour: Colour) -> tuple[int, int, int]:
        """The same for a source of light."""
        clear = 0.4 + 0.6 * self.clear
        haze = self.haze
        return (
            min(255, int(colour[0] * clear + haze[0] * 0.5)),
            min(255, int(colour[1] * clear + haze[1] * 0.5)),
            min(255, int(colour[2] * clear + haze[2] * 0.5)),
        )


@frozen(kw_only=True)
class Light:
    """The light of one sequence."""

    sky_top: Colour
    sky_low: Colour
    ambient: Colour
    #: Headlights of the camera's own car, 0 by day.
    headlights: float
    #: Air colour, and extinction per metre.
    air: Colour
    extinction: float
    #: Colour of the ground in shadow.
    shade: Colour
    #: Brightness of walls on the right-hand and left-hand side of the road.
    flank: tuple[float, float]
    #: Whether lamps and windows are lit.
    lamps: bool
    wet: bool
    snow: bool
    clouds: float

    def tone(self, depth: float, retro: float = 0.0) -> Tone:
        """Light at a depth in metres; `retro` is how strongly a surface throws headlights back."""
        clear = math.exp(-self.extinction * depth)
        beam = self.headlights * math.exp(-depth / 22.0) * (1.0 + 1.6 * retro)
        ambient, air = self.ambient, self.air
        fog = 1.0 - clear
        return Tone(
            (
                (ambient[0] + beam) * clear,
                (ambient[1] + beam * 0.97) * clear,
                (ambient[2] + beam * 0.88) * clear,
            ),
            (air[0] * fog, air[1] * fog, air[2] * fog),
            clear,
        )


_EXTINCTION = {"clear": 0.0015, "overcast": 0.003, "rain": 0.009, "fog": 0.026, "snow": 0.012}


def light_of(frame: Frame) -> Light:
    """The light of the frame's sequence, with a slight change from frame to frame."""
    rng = frame.stream("light")
    weather, daytime = frame.tags["weather"], frame.tags["daytime"]
    sunny = weather == "clear"
    if daytime == "night":
        top, low, gain = _night(rng)
    elif daytime == "dusk":
        top, low, gain = _dusk(rng, sunny)
    else:
        top, low, gain = _day(rng, sunny)
    grade = 1.0 + frame.own_stream("light").uniform(-0.04, 0.04)
    gain = (gain[0] * grade, gain[1] * grade, gain[2] * grade)
    if weather in ("fog", "snow"):
        grey = sum(low) / 3.0
        low = mix(low, (grey, grey, grey), 0.8)
        top = mix(top, low, 0.85 if weather == "fog" else 0.6)
    strong = sunny and daytime == "day"
    sun = rng.choice((-1.0, 1.0)) * (0.24 if strong else 0.05)
    dark = 26.0 if strong else 44.0
    return Light(
        sky_top=top,
        sky_low=low,
        ambient=gain,
        headlights={"day": 0.0, "dusk": 0.15, "night": 0.62}[daytime],
        air=low,
        extinction=_EXTINCTION[weather] * rng.uniform(0.75, 1.3),
        shade=(dark, dark, dark * 1.1),
        flank=(0.86 + sun, 0.86 - sun),
        lamps=daytime != "day",
        wet=weather == "rain",
        snow=weather == "snow",
        clouds={"clear": 0.35, "overcast": 1.0, "rain": 0.8, "fog": 0.0, "snow": 0.3}[weather],
    )


def _day(rng: random.Random, sunny: bool) -> tuple[Colour, Colour, Colour]:
    if sunny:
        level = rng.uniform(0.98, 1.16)
        warm = rng.uniform(-0.04, 0.07)
        top = mix((72.0, 122.0, 190.0), (118.0, 160.0, 205.0), rng.random())
        return top, (196.0, 214.0, 226.0), (level + warm, level, level - warm)
    level = rng.uniform(0.72, 0.95)
    grey = rng.uniform(165.0, 212.0)
    return (grey * 0.86, grey * 0.89, grey * 0.93), (grey, grey * 1.01, grey * 1.02), (level, level, level * 1.03)


def _dusk(rng: random.Random, sunny: bool) -> tuple[Colour, Colour, Colour]:
    level = rng.uniform(0.45, 0.62)
    if sunny:
        low = mix((236.0, 150.0, 88.0), (206.0, 158.0, 150.0), rng.random())
        return (58.0, 72.0, 116.0), low, (level * 1.12, level, level * 0.92)
    return (70.0, 78.0, 96.0), (132.0, 130.0, 136.0), (level, level, level * 1.1)


def _night(rng: random.Random) -> tuple[Colour, Colour, Colour]:
    level = rng.uniform(0.24, 0.36)
    glow = rng.uniform(0.6, 1.4)
    return (10.0, 13.0, 24.0), (34.0 * glow, 32.0 * glow, 38.0 * glow), (level * 1.12, level, level * 0.9)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The first colour with this share of the second."""
    keep = 1.0 - share
    return (
        first[0] * keep + second[0] * share,
        first[1] * keep + second[1] * share,
        first[2] * keep + second[2] * share,
    )
