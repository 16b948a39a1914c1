"""Preprocessing is what Pillow and torchvision's own transforms would do, whatever the picture's shape."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from roadwork_core.data.preprocessing import Preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def preprocessing(height: int = 64, width: int = 64, **options: object) -> Preprocessing:
    return Preprocessing(size=(height, width), mean=MEAN, std=STD, **options)  # type: ignore[arg-type]


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / 9 + phase) * np.cos(y / 7 - phase) for phase in (0, 1, 2)]
    return np.stack(waves, axis=2).astype(np.uint8)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.parametrize("shape", [(480, 640), (640, 480), (100, 100), (40, 30), (1080, 1920)])
@pytest.mark.parametrize(("mode", "pil"), [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC")])
def test_crop_covers_and_cuts_the_centre_as_pillow_does(shape: tuple[int, int], mode: str, pil: str) -> None:
    height, width = shape
    scale = max(64 / height, 48 / width)
    size = (round(width * scale), round(height * scale))
    resized = Image.fromarray(smooth(height, width)).resize(size, getattr(Image.Resampling, pil))
    left, top = round((size[0] - 48) / 2), round((size[1] - 64) / 2)
    expected = np.asarray(resized.crop((left, top, left + 48, top + 64))).astype(int)
    found = preprocessing(64, 48, interpolation=mode).to_input(tensor(smooth(height, width)))
    assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


def test_stretch_is_pillows_plain_resize() -> None:
    expected = np.asarray(Image.fromarray(smooth(90, 200)).resize((48, 64), Image.Resampling.BILINEAR)).astype(int)
    found = preprocessing(64, 48, fit="stretch").to_input(tensor(smooth(90, 200)))
    assert np.abs(found.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 2


def test_normalise_is_torchvisions() -> None:
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])(images)
    found = preprocessing().normalise(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference, atol=1e-5, rtol=0)


SIDES = st.integers(2, 80)  # torch itself cannot resize to 1 x 1


@given(st.integers(1, 500), st.integers(1, 500), SIDES, SIDES, st.sampled_from(["crop", "stretch"]))
@settings(max_examples=80, deadline=None)
def test_every_shape_comes_out_at_the_size(height: int, width: int, out_height: int, out_width: int, fit: str) -> None:
    found = preprocessing(out_height, out_width, fit=fit).to_input(torch.zeros(3, height, width, dtype=torch.uint8))
    assert found.shape == (3, out_height, out_width)
    assert found.dtype == torch.uint8


@pytest.mark.parametrize("shape", [(2, 1), (1, 2), (2, 2), (300, 1), (7, 3)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_one_pixel_is_made_of_planes_too(shape: tuple[int, int], fit: str) -> None:
    planes = tensor(smooth(*shape)).contiguous()
    found = preprocessing(1, 1, fit=fit).to_input(planes)
    assert found.shape == (3, 1, 1)
    if fit == "stretch":
        assert (found.flatten() - planes.float().mean(dim=(1, 2))).abs().max() <= 1


def test_a_long_strip_needs_no_more_memory_than_the_input() -> None:
    strip = torch.zeros(3, 2, 500_000, dtype=torch.uint8)
    strip[:, :, 249_000:251_000] = 200
    found = preprocessing(224, 224).to_input(strip)  # resized first, it would be 224 x 56,000,000
    assert found.shape == (3, 224, 224)
    assert (found == 200).all()


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    image = tensor(smooth(64, 64))
    assert torch.equal(preprocessing().to_input(image), image)


def test_it_survives_json() -> None:
    before = preprocessing(32, 48, interpolation="bicubic", fit="stretch", size_multiple=16, min_side=64)
    document = json.loads(json.dumps(before.to_json()))
    assert document["colour"] == "RGB"
    assert Preprocessing.from_json(document) == before


def test_pictures_are_decoded_no_smaller_than_the_input() -> None:
    assert preprocessing(32, 48).min_side == 48
    assert preprocessing(32, 48, min_side=100).min_side == 100
