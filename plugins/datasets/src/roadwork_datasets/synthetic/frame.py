"""Which frames a synthetic set holds: sequences, labels and conditions, decided before anything is drawn."""

import random
from collections.abc import Mapping, Sequence

from attrs import field, frozen

from roadwork_core.errors import UsageError

#: Share of the sequences per condition. Labels and conditions are drawn independently.
WEATHERS: Mapping[str, float] = {"clear": 0.32, "overcast": 0.26, "rain": 0.18, "fog": 0.10, "snow": 0.14}
DAYTIMES: Mapping[str, float] = {"day": 0.68, "dusk": 0.16, "night": 0.16}
ENVIRONMENTS: Mapping[str, float] = {"urban": 0.40, "suburban": 0.35, "highway": 0.25}


@frozen(kw_only=True)
class Frame:
    """One picture to be rendered. Two equal frames render to identical pixels.

    :ivar index: place in the planned list.
    :ivar sequence: which drive it belongs to; the frames of a sequence share street, label and tags.
    :ivar frame: place in the sequence, from 0.
    :ivar frames: length of the sequence.
    :ivar label: whether the street has roadworks.
    :ivar tags: `weather`, `daytime` and `environment`.
    :ivar seed: of the whole plan.
    """

    index: int
    sequence: int
    frame: int
    frames: int
    label: bool
    tags: dict[str, str] = field(hash=False)
    seed: int

    def stream(self, *purpose: str | int) -> random.Random:
        """Random numbers shared by the whole sequence, one independent stream per purpose."""
        name = ":".join(str(part) for part in (self.seed, self.sequence, *purpose))
        return random.Random(f"roadwork-synthetic:{name}")

    def own_stream(self, *purpose: str | int) -> random.Random:
        """Random numbers of this frame alone, one independent stream per purpose."""
        return self.stream("frame", self.frame, *purpose)


def plan(
    n: int,
    *,
    positive_fraction: float,
    frames_per_sequence: int,
    seed: int,
    weather: Sequence[str] | None = None,
) -> list[Frame]:
    """Decide labels, sequences and conditions of `n` frames; deterministic, and draws nothing.

    Exactly `round(n * positive_fraction)` frames are positive. Every sequence has `frames_per_sequence` frames, but
    for the last one of each label, which has what remains. Conditions are spread over the sequences of each label
    by quota, so that they carry no information on it.

    :param weather: restrict to these weathers, with their usual proportions; None means all.
    :raises UsageError: a count below 1, a fraction outside [0, 1], an unknown or empty weather.
    """
    if n < 1 or frames_per_sequence < 1:
        raise UsageError(
            f"a synthetic set of n = {n} with frames_per_sequence = {frames_per_sequence} is empty",
            hint="both must be at least 1",
        )
    if not 0.0 <= positive_fraction <= 1.0:
        raise UsageError(f"positive_fraction = {positive_fraction} is outside [0, 1]", hint="give a share, such as 0.5")
    weathers = _restricted(WEATHERS, weather)

    positives = round(n * positive_fraction)
    rng = random.Random(f"roadwork-synthetic:plan:{seed}")
    drives: list[tuple[bool, int, dict[str, str]]] = []
    for label, count in ((True, positives), (False, n - positives)):
        lengths = [min(frames_per_sequence, count - start) for start in range(0, count, frames_per_sequence)]
        tags = zip(
            _spread(weathers, len(lengths), rng),
            _spread(DAYTIMES, len(lengths), rng),
            _spread(ENVIRONMENTS, len(lengths), rng),
            strict=True,
        )
        for length, (sky, daytime, environment) in zip(lengths, tags, strict=True):
            drives.append((label, length, {"weather": sky, "daytime": daytime, "environment": environment}))
    rng.shuffle(drives)

    frames: list[Frame] = []
    for sequence, (label, length, tags_of_drive) in enumerate(drives):
        for position in range(length):
            frames.append(
                Frame(
                    index=len(frames),
                    sequence=sequence,
                    frame=position,
                    frames=length,
                    label=label,
                    tags=dict(tags_of_drive),
                    seed=seed,
                )
            )
    return frames


def _restricted(shares: Mapping[str, float], allowed: Sequence[str] | None) -> Mapping[str, float]:
    if allowed is None:
        return shares
    unknown = sorted(set(allowed) - set(shares))
    if unknown or not allowed:
        found = f"unknown weather {', '.join(map(repr, unknown))}" if unknown else "weather is empty"
        raise UsageError(found, hint=f"choose from {', '.join(shares)}")
    return {name: share for name, share in shares.items() if name in allowed}


def _spread(shares: Mapping[str, float], count: int, rng: random.Random) -> list[str]:
    """`count` values in random order, in proportions as near to `shares` as whole numbers allow."""
    total = sum(shares.values())
    exact = {name: count * share / total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: count - sum(counts.values())]:
        counts[name] += 1
    values = [name for name, repeats in counts.items() for _ in range(repeats)]
    rng.shuffle(values)
    return values
