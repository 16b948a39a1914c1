"""Rendered street scenes: the same everywhere, alike within a drive, and with works exactly where the label says."""

import hashlib
import random
import subprocess
import sys

import attrs
import numpy as np
import pytest
from numpy.typing import NDArray
from roadwork_datasets.synthetic import Frame, plan, render
from roadwork_datasets.synthetic.render import render_scene
from roadwork_datasets.synthetic.scene import Scene, compose
from roadwork_datasets.synthetic.zone import WORKS_KINDS

from roadwork_core.errors import UsageError

_DIGESTS = """
import hashlib
from roadwork_datasets.synthetic import plan, render
frames = plan(24, positive_fraction=0.5, frames_per_sequence=3, seed=11)
for frame in reversed(frames):
    print(frame.index, hashlib.sha256(render(frame, width=64, height=48).tobytes()).hexdigest())
"""


def _pixels(frame: Frame, width: int = 48, height: int = 36) -> NDArray[np.float64]:
    return np.asarray(render(frame, width=width, height=height), dtype=np.float64)


def _works(scene: Scene) -> list[str]:
    kinds = [prop.kind for prop in (*scene.props, *scene.backdrop)] + [patch.kind for patch in scene.patches]
    return [kind for kind in kinds if kind in WORKS_KINDS]


def test_pixels_depend_on_the_frame_alone_not_on_order_or_process() -> None:
    frames = plan(24, positive_fraction=0.5, frames_per_sequence=3, seed=11)
    shuffled = random.Random(0).sample(frames, k=len(frames))
    here = {f.index: hashlib.sha256(render(f, width=64, height=48).tobytes()).hexdigest() for f in shuffled}
    answer = subprocess.run(
        [sys.executable, "-c", _DIGESTS], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "7"}
    )
    there = {int(index): digest for index, digest in (line.split() for line in answer.stdout.splitlines())}
    assert here == there
    assert len(set(here.values())) == len(frames)


@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 96), (37, 120), (320, 240)])
def test_any_size_and_aspect_gives_rgb_of_that_size(width: int, height: int) -> None:
    for frame in plan(6, positive_fraction=0.5, frames_per_sequence=1, seed=4):
        image = render(frame, width=width, height=height)
        assert (image.mode, image.size) == ("RGB", (width, height))
        assert np.asarray(image).std() > 4.0


@pytest.mark.parametrize("size", [(8, 64), (64, 5000)])
def test_a_size_that_cannot_be_drawn_is_refused(size: tuple[int, int]) -> None:
    frame = plan(1, positive_fraction=1.0, frames_per_sequence=1, seed=0)[0]
    with pytest.raises(UsageError, match="pixels"):
        render(frame, width=size[0], height=size[1])


def test_another_seed_gives_other_pictures() -> None:
    first, second = (plan(20, positive_fraction=0.5, frames_per_sequence=1, seed=seed) for seed in (5, 6))
    twins = [
        (a, attrs.evolve(b, label=a.label, tags=a.tags, sequence=a.sequence))
        for a, b in zip(first, second, strict=True)
    ]
    for a, b in twins:
        assert np.abs(_pixels(a) - _pixels(b)).mean() > 5.0


def test_frames_of_a_drive_are_more_alike_than_frames_of_different_drives() -> None:
    frames = plan(90, positive_fraction=0.5, frames_per_sequence=3, seed=8)
    pictures = np.stack([_pixels(frame, 24, 18).ravel() for frame in frames])
    distance = np.abs(pictures[:, None] - pictures[None]).mean(axis=2)
    drive = np.array([frame.sequence for frame in frames])
    np.fill_diagonal(distance, np.inf)
    nearest = drive[distance.argmin(axis=1)]
    assert (nearest == drive).mean() > 0.97
    same = (drive[:, None] == drive[None]) & np.isfinite(distance)
    assert distance[same].min() > 0.3, "a frame must not be a copy of another"
    assert distance[same].mean() < 0.5 * distance[drive[:, None] != drive[None]].mean()


def test_works_stand_exactly_where_the_label_says() -> None:
    seen: set[str] = set()
    for frame in plan(300, positive_fraction=0.5, frames_per_sequence=1, seed=9):
        works = _works(compose(frame))
        assert bool(works) is frame.label
        assert not frame.label or len(works) >= 2
        seen.update(works)
    assert seen == WORKS_KINDS, "every kind of works occurs somewhere"


def test_works_are_visible_in_every_positive_frame() -> None:
    shares = []
    for frame in plan(180, positive_fraction=1.0, frames_per_sequence=3, seed=10):
        scene = compose(frame)
        bare = attrs.evolve(
            scene,
            props=tuple(prop for prop in scene.props if prop.kind not in WORKS_KINDS),
            patches=tuple(patch for patch in scene.patches if patch.kind not in WORKS_KINDS),
        )
        with_works, without = (
            np.asarray(render_scene(each, frame, width=64, height=64), dtype=np.int64) for each in (scene, bare)
        )
        shares.append((np.abs(with_works - without).max(axis=2) > 12).mean())
    assert min(shares) > 0.003, "at least a dozen of 4,096 pixels"
    assert np.quantile(shares, 0.1) > 0.015
    assert np.quantile(shares, 0.9) < 0.4, "works must not fill the picture"


def test_night_is_darker_than_day_and_fog_softens_edges() -> None:
    base = plan(40, positive_fraction=0.5, frames_per_sequence=1, seed=12)

    def under(weather: str, daytime: str) -> list[NDArray[np.float64]]:
        tags = [{**frame.tags, "weather": weather, "daytime": daytime} for frame in base]
        return [_pixels(attrs.evolve(frame, tags=own)) for frame, own in zip(base, tags, strict=True)]

    def edges(pixels: NDArray[np.float64]) -> float:
        return float(np.abs(np.diff(pixels, axis=1)).mean())

    day, night, fog = under("clear", "day"), under("clear", "night"), under("fog", "day")
    assert np.mean([a.mean() > b.mean() + 20 for a, b in zip(day, night, strict=True)]) > 0.95
    assert np.mean([edges(a) > edges(b) for a, b in zip(day, fog, strict=True)]) > 0.9
