"""Preprocessing in numpy is torch's, and Pillow's within one grey level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from roadwork_exporters.pictures import Picture, normalise, to_input
from roadwork_exporters.resampling import resize

from roadwork_core.data.preprocessing import Preprocessing

#: torch 2.15 fails on some pictures of one column.
SIDES = st.integers(2, 90)
#: Where torch has no vectorised kernel it computes in float32 and rounds once.
EXACT = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
LEVELS = 0 if EXACT else 1


def noise(height: int, width: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    old=st.tuples(SIDES, SIDES),
    size=st.tuples(st.integers(2, 64), st.integers(2, 64)),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest"]),
    fit=st.sampled_from(["crop", "stretch"]),
)
def test_the_input_is_torchs(old: tuple[int, int], size: tuple[int, int], interpolation: Any, fit: Any) -> None:
    preprocessing = Preprocessing(
        size=size, mean=(0.48, 0.45, 0.4), std=(0.2, 0.21, 0.22), interpolation=interpolation, fit=fit
    )
    image = noise(*old)
    theirs = preprocessing.to_input(torch.from_numpy(image)).numpy()
    ours = to_input(preprocessing, image.view(Picture))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= LEVELS
    normalised = preprocessing.normalise(torch.from_numpy(theirs)[None]).numpy()
    assert np.array_equal(normalise(preprocessing, theirs[None]), normalised)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("old", "new"), [((60, 80), (32, 43)), ((20, 30), (50, 41)), ((64, 64), (32, 32))])
def test_resizing_is_pillows_within_a_level(old: tuple[int, int], new: tuple[int, int], interpolation: str) -> None:
    image = noise(*old)
    how = Image.Resampling[interpolation.upper()]
    pillow = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).resize(new[::-1], how)).transpose(2, 0, 1)
    gap = np.abs(resize(image, new, interpolation).astype(int) - pillow)
    assert gap.max() <= 1
    assert (gap > 0).mean() < 0.03


def test_a_picture_flips_like_a_tensor() -> None:
    image = noise(5, 7)
    assert np.array_equal(image.view(Picture).flip(-1), torch.from_numpy(image).flip(-1).numpy())
