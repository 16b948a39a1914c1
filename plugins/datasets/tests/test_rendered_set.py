"""The rendered set: drawn once, whole or not at all, the same however it was drawn."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image
from roadwork_datasets import SyntheticRoadwork, rendering

from roadwork_core.data.sample import Sample
from roadwork_core.kinds import DatasetContext

OPTIONS = {"n": 24, "width": 48, "height": 32, "frames_per_sequence": 3}


def build(cache: Path, messages: list[str] | None = None, **options: object) -> list[Sample]:
    report = messages.append if messages is not None else lambda _: None
    component = SyntheticRoadwork(**{**OPTIONS, **options})  # type: ignore[arg-type]
    return list(component.build(DatasetContext(cache_dir=cache, seed=0, report=report)))


def contents(samples: list[Sample]) -> list[bytes]:
    return [sample.path.read_bytes() for sample in samples]


def test_samples_say_what_was_drawn(tmp_path: Path) -> None:
    samples = build(tmp_path, positive_fraction=0.25)
    assert Counter(sample.label for sample in samples) == {"roadwork": 6, "no_roadwork": 18}
    assert all(count == 3 for count in Counter(sample.group for sample in samples).values())
    assert all({"weather", "daytime", "sequence"} <= set(sample.tags) for sample in samples)
    assert all(sample.tags["sequence"] == sample.group for sample in samples)
    with Image.open(samples[0].path) as picture:
        assert picture.size == (48, 32)


def test_a_second_listing_draws_nothing(tmp_path: Path) -> None:
    first = build(tmp_path)
    times = [sample.path.stat().st_mtime_ns for sample in first]
    messages: list[str] = []
    assert build(tmp_path, messages) == first
    assert [sample.path.stat().st_mtime_ns for sample in first] == times
    assert messages == []


def test_processes_draw_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = build(tmp_path / "alone")
    monkeypatch.setattr(rendering, "_cores", lambda: 3)
    monkeypatch.setattr(rendering, "_BATCH", 5)
    together = build(tmp_path / "together")
    assert contents(alone) == contents(together)


@pytest.mark.parametrize(
    "other", [{"width": 64}, {"height": 40}, {"seed": 1}, {"weather": ("snow",)}, {"positive_fraction": 0.25}]
)
def test_other_options_are_other_pictures_in_another_folder(tmp_path: Path, other: dict[str, object]) -> None:
    first, second = build(tmp_path), build(tmp_path, None, **other)
    assert not {sample.path for sample in first} & {sample.path for sample in second}
    assert contents(first) != contents(second)


def test_the_weather_can_be_restricted(tmp_path: Path) -> None:
    assert {sample.tags["weather"] for sample in build(tmp_path, weather=("fog", "snow"))} == {"fog", "snow"}


def test_lost_pictures_are_drawn_again(tmp_path: Path) -> None:
    samples = build(tmp_path)
    before = contents(samples)
    samples[3].path.unlink()
    assert contents(build(tmp_path)) == before


KILLED = """
import sys
from pathlib import Path
from roadwork_core.kinds import DatasetContext
from roadwork_datasets import SyntheticRoadwork
SyntheticRoadwork(n=400, width=48, height=32, frames_per_sequence=4).build(
    DatasetContext(cache_dir=Path(sys.argv[1]), seed=0)
)
"""


def test_a_killed_run_leaves_only_whole_pictures_and_the_next_draws_the_rest(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.rglob("frame-*.png"))) < 40 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    left = sorted(tmp_path.rglob("frame-*.png"))
    assert 40 <= len(left) < 400
    for path in left:
        with Image.open(path) as picture:
            picture.load()
    times = {path: path.stat().st_mtime_ns for path in left}
    samples = build(tmp_path, n=400, frames_per_sequence=4)
    assert all(sample.path.is_file() for sample in samples)
    assert {path: path.stat().st_mtime_ns for path in left} == times
