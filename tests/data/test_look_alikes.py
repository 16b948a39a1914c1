"""Near-duplicates are found by hash and confirmed by thumbnail, and share a cluster; different pictures do not."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from roadwork_core.data.clusters import Clusters, join_near_duplicates
from roadwork_core.data.perceptual import candidates, correlations, perceptual_hash, thumbnail


def picture(seed: int, width: int = 160, height: int = 120) -> Image.Image:
    """Random blobs: natural in that low frequencies dominate."""
    cells = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)


def thumb(image: Image.Image) -> np.ndarray:
    return thumbnail(np.asarray(image))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded again": lambda image: jpeg(image, 30),
    "half the size": lambda image: image.resize((80, 60)),
    "twice the size": lambda image: image.resize((320, 240)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.8),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "shifted by a pixel": lambda image: image.crop((1, 0, 160, 120)),
}


def looks(images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    thumbs = np.stack([thumb(image) for image in images])
    return np.array([perceptual_hash(cells) for cells in thumbs], dtype=np.uint64), thumbs


def clusters_of(images: list[Image.Image], distance: int = 4) -> list[int]:
    hashes, thumbs = looks(images)
    clusters = Clusters(np.arange(len(images)))
    digests = [str(number) for number in range(len(images))]
    join_near_duplicates(clusters, digests=digests, hashes=hashes, thumbnails=thumbs, distance=distance)
    return clusters.labels.tolist()


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found(copy: str) -> None:
    images = [picture(seed) for seed in range(20)]
    assert clusters_of([*images, *map(COPIES[copy], images)]) == [*range(20), *range(20)]


def test_different_pictures_are_not_joined() -> None:
    assert clusters_of([picture(seed) for seed in range(200)]) == list(range(200))


def test_alike_hashes_alone_do_not_join() -> None:
    """Two pictures with the same low frequencies, and fine patterns of their own on top."""
    base = np.asarray(picture(1, 128, 128).convert("L")).astype(float)
    y, x = np.mgrid[0:128, 0:128]
    fine = [90 * np.sin(2 * np.pi * 14 * part / 128) for part in (x, y)]
    images = [Image.fromarray(np.clip(base / 4 + 96 + wave, 0, 255).astype(np.uint8)).convert("RGB") for wave in fine]
    hashes, thumbs = looks(images)
    assert int(np.bitwise_count(hashes[0] ^ hashes[1])) <= 8
    assert correlations(thumbs[:1], thumbs[1:])[0] < 0.9
    assert clusters_of(images, distance=8) == [0, 1]


def test_flat_pictures_are_like_no_other_unless_their_bytes_are_the_same() -> None:
    black = [Image.new("RGB", (64, 64), (value,) * 3) for value in (0, 0, 1, 200)]
    hashes, thumbs = looks(black)
    clusters = Clusters(np.arange(4))
    join_near_duplicates(clusters, digests=["a", "a", "b", "c"], hashes=hashes, thumbnails=thumbs, distance=16)
    assert clusters.labels.tolist() == [0, 0, 2, 3]


def test_the_hash_is_of_the_lowest_frequencies() -> None:
    cells = thumb(picture(5))
    spectrum = dctn(cells.astype(float), norm="ortho")
    order = sorted(((u, v) for u in range(32) for v in range(32)), key=lambda place: (place[0] + place[1], place[0]))
    values = np.array([spectrum[place] for place in order[1:65]])
    expected = int("".join("1" if value > np.median(values) else "0" for value in values), 2)
    assert perceptual_hash(cells) == expected
    assert expected.bit_count() == 32


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=60), st.integers(0, 16), st.randoms())
@settings(max_examples=80, deadline=None)
def test_every_near_pair_of_hashes_is_a_candidate(values: list[int], distance: int, random: object) -> None:
    for number in range(0, len(values) - 1, 2):
        for _ in range(random.randint(0, distance + 1)):  # type: ignore[attr-defined]
            values[number + 1] = values[number] ^ (1 << random.randrange(64))  # type: ignore[attr-defined]
    hashes = np.array(values, dtype=np.uint64)

    def pairs() -> Iterator[tuple[int, int]]:
        for first, second in candidates(hashes, distance):
            yield from ((min(i, j), max(i, j)) for i, j in zip(first.tolist(), second.tolist(), strict=True))

    expected = {
        (i, j)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if (values[i] ^ values[j]).bit_count() <= distance
    }
    assert set(pairs()) == expected


@given(st.integers(1, 30), st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=40))
@settings(deadline=None)
def test_clusters_are_connected_components(n: int, edges: list[tuple[int, int]]) -> None:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = [(a % n, b % n) for a, b in edges]
    clusters = Clusters(np.arange(n))
    for start in range(0, len(edges), 7):
        part = edges[start : start + 7]
        clusters.join([a for a, _ in part], [b for _, b in part])
    first, second = [a for a, _ in edges], [b for _, b in edges]
    _, expected = connected_components(coo_array((np.ones(len(edges)), (first, second)), shape=(n, n)), directed=False)
    assert len({*zip(clusters.labels.tolist(), expected.tolist(), strict=True)}) == len(set(expected.tolist()))
    assert len(set(clusters.labels.tolist())) == len(set(expected.tolist()))


def test_a_chain_of_alike_frames_is_one_cluster_explained_by_as_many_joins() -> None:
    base = picture(3)
    frames = [base.crop((shift, 0, 150 + shift, 120)) for shift in range(10)]
    hashes, thumbs = looks(frames)
    clusters = Clusters(np.arange(10))
    pairs = join_near_duplicates(clusters, digests=list("abcdefghij"), hashes=hashes, thumbnails=thumbs, distance=4)
    assert clusters.labels.tolist() == [0] * 10
    assert len(pairs) == 9


def test_a_hundred_thousand_pictures_do_not_need_all_pairs() -> None:
    hashes = np.random.default_rng(0).integers(0, 2**63, 100_000, dtype=np.uint64)
    hashes[50_000:50_010] = hashes[:10] ^ np.uint64(0b1011)
    found = {
        (min(i, j), max(i, j))
        for first, second in candidates(hashes, 4)
        for i, j in zip(first.tolist(), second.tolist(), strict=True)
    }
    assert {(i, 50_000 + i) for i in range(10)} <= found
