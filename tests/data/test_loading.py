"""What a batch holds depends on seed, epoch and sample, and on nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from roadwork_core.data.loading import (
    BatchSchedule,
    ImageDataset,
    RawImages,
    batches,
    epoch_order,
    make_loader,
    worker_count,
)
from roadwork_core.data.order import random_keys
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.data.sample import Row
from roadwork_core.data.workers import START_METHOD
from roadwork_core.errors import DataError

SIZE = Preprocessing(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)


def row(index: int, path: Path) -> Row:
    return Row(
        index=index, path=str(path), label="b" if index % 2 else "a", target=index % 2, split="train",
        group=str(index), sha256="", phash="", width=60, height=40,
    )  # fmt: skip


@pytest.fixture
def rows(tmp_path: Path) -> list[Row]:
    made = []
    for index in range(11):
        pixels = np.random.default_rng(index).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        path = tmp_path / f"{index}.{'jpg' if index % 3 else 'png'}"
        Image.fromarray(pixels).resize((60, 40)).save(path)
        made.append(row(100 + index, path))
    return made


def noise(image: torch.Tensor) -> torch.Tensor:
    return (image.int() + torch.randint(0, 30, image.shape)).clamp(0, 255).to(torch.uint8)


def cropped(image: torch.Tensor) -> torch.Tensor:
    left = int(torch.randint(0, image.shape[2] - 20, ()))
    return image[:, :36, left : left + 20]


def dataset(rows: list[Row], seed: int = 1, augmented: bool = True) -> ImageDataset:
    return ImageDataset(rows, SIZE, [noise, cropped] if augmented else None, seed=seed)


def epoch_of(rows: list[Row], workers: int, epochs: tuple[int, ...] = (0, 1)) -> list[torch.Tensor]:
    schedule = BatchSchedule()
    loader = make_loader(dataset(rows), schedule, workers=workers)
    found = []
    for epoch in epochs:
        schedule.set(epoch, batches(len(rows), 4, seed=1, epoch=epoch))
        for images, targets in loader:
            assert images.dtype == torch.uint8
            assert targets.dtype == torch.int64
            found += [images, targets]
    return found


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(rows: list[Row], workers: int) -> None:
    assert same(epoch_of(rows, 0), epoch_of(rows, workers))


def test_an_epoch_begun_anew_is_the_same_epoch(rows: list[Row]) -> None:
    assert same(epoch_of(rows, 2)[6:], epoch_of(rows, 0, epochs=(1,)))


def test_epochs_and_seeds_differ(rows: list[Row]) -> None:
    first = dataset(rows)[(0, 3)][0]
    assert not torch.equal(first, dataset(rows)[(1, 3)][0])
    assert not torch.equal(first, dataset(rows, seed=2)[(0, 3)][0])


def test_set_epoch_is_the_epoch_of_plain_positions(rows: list[Row]) -> None:
    data = dataset(rows)
    data.set_epoch(5)
    assert torch.equal(data[2][0], data[(5, 2)][0])


def test_a_picture_does_not_depend_on_which_others_there_are(rows: list[Row]) -> None:
    assert torch.equal(dataset(rows)[(3, 7)][0], dataset(rows[7:])[(3, 0)][0])


def test_the_global_generator_is_neither_read_nor_moved(rows: list[Row]) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = epoch_of(rows, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, epoch_of(rows, 0))


def test_without_augmentation_it_is_the_evaluation_transform(rows: list[Row]) -> None:
    raw, target = RawImages(rows, min_side=32)[4]
    image, same_target = dataset(rows, augmented=False)[(9, 4)]
    assert torch.equal(SIZE.to_input(raw), image)
    assert target == same_target == rows[4].target


def test_raw_pictures_keep_their_size(rows: list[Row]) -> None:
    loader = make_loader(RawImages(rows, min_side=0), [[0, 1], [2]], workers=0)
    pictures = [image for images, _ in loader for image in images]
    assert [tuple(image.shape) for image in pictures] == [(3, 40, 60)] * 3
    assert all(image.is_contiguous() for image in pictures)


def test_a_file_that_went_bad_since_is_named(rows: list[Row]) -> None:
    Path(rows[0].path).write_bytes(b"")
    with pytest.raises(DataError, match="the file is empty, though it could be read when the data were prepared"):
        dataset(rows)[0]


@given(st.integers(1, 200), st.integers(0, 2**32 - 1), st.integers(0, 1000))
@settings(max_examples=50)
def test_an_epoch_visits_each_sample_once(n: int, seed: int, epoch: int) -> None:
    order = epoch_order(n, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(n))
    assert order == epoch_order(n, seed=seed, epoch=epoch)


def test_orders_are_spread_evenly_over_places() -> None:
    first = [epoch_order(10, seed=5, epoch=epoch)[0] for epoch in range(4000)]
    counts = np.bincount(first, minlength=10)
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi squared, 9 degrees of freedom, p = 0.001


def test_random_keys_follow_the_published_finaliser() -> None:
    """An independent transcription with Python's whole numbers."""

    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    def step(state: int, part: int) -> int:
        return mix(((state ^ part) + 0x9E3779B97F4A7C15) % 2**64)

    found = random_keys(7, 3, np.arange(4)).tolist()
    assert found == [step(step(step(0, 7), 3), sample) for sample in range(4)]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 5), st.booleans())
@settings(max_examples=100)
def test_processes_share_an_epoch_out(n: int, batch_size: int, world: int, shuffle: bool) -> None:
    if n < world or batch_size < world:
        with pytest.raises(ValueError, match="cannot be divided"):
            batches(n, batch_size, seed=0, epoch=0, rank=0, world=world, shuffle=shuffle)
        return
    shares = [batches(n, batch_size, seed=0, epoch=2, rank=rank, world=world, shuffle=shuffle) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    assert all(batch for share in shares for batch in share)
    assert sorted(number for share in shares for batch in share for number in batch) == list(range(n))
    alone = batches(n, batch_size, seed=0, epoch=2, shuffle=shuffle)
    joined = [sorted(number for share in shares for number in share[step]) for step in range(len(shares[0]))]
    if n % batch_size == 0 or n % batch_size >= world:
        assert joined == [sorted(batch) for batch in alone]


def test_workers_default_to_the_cores_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    cores: Callable[[int], set[int]] = lambda _: set(range(3))  # noqa: E731
    monkeypatch.setattr("os.sched_getaffinity", cores, raising=False)
    assert worker_count(None) == 3
    assert worker_count(0) == 0
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert worker_count(None) == 8


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_went_away_is_one_line_from_a_worker_too(rows: list[Row], workers: int) -> None:
    Path(rows[2].path).unlink()
    loader = make_loader(RawImages(rows, min_side=8), [[0, 1], [2, 3]], workers=workers)
    batches = iter(loader)
    assert len(next(batches)[0]) == 2
    with pytest.raises(DataError) as caught:
        next(batches)
    assert caught.value.path == rows[2].path
    assert caught.value.message == "no such file, though it could be read when the data were prepared"
    assert caught.value.hint is not None


_LOOKS = """
import sys
import torch
from roadwork_core.data.loading import ImageDataset, make_loader
from roadwork_core.data.preprocessing import Preprocessing

class Looks(ImageDataset):
    def __getitem__(self, key):
        return torch.tensor(["torchvision.transforms.v2.functional" in sys.modules]), 0

preprocessing = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
print([images.tolist() for images, _ in make_loader(Looks([None], preprocessing), [[0]], workers=1)])
"""


@pytest.mark.skipif(START_METHOD != "fork", reason="a fresh interpreter imports for itself")
def test_workers_are_born_with_what_resizes_pictures() -> None:
    """Imported in each of them it would cost each of them seconds."""
    done = subprocess.run([sys.executable, "-c", _LOOKS], capture_output=True, text=True, check=True)
    assert done.stdout == "[[[True]]]\n"
