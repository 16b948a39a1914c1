"""The judge's distortions: what is drawn at each level, and what is done, beside a rendering with PIL and numpy."""

from __future__ import annotations

import io
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from roadwork_augmentations import ValidatorDistortions, distortions
from roadwork_augmentations.distortions import Distortion, apply, distort, draw
from scipy import ndimage, stats
from torch import Tensor

from roadwork_core.kinds import AugmentationContext

Floats = NDArray[np.float64]
DRAWS = 3000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def street(height: int = 260, width: int = 340) -> Tensor:
    """A smooth picture of strong colours."""
    coarse = torch.rand(1, 3, 7, 9, generator=generator(3))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (smooth[0] * 255).to(torch.uint8)


def drawn(level: int, height: int = 400, width: int = 400) -> list[Distortion]:
    source = generator(level)
    return [draw(level, height, width, source) for _ in range(DRAWS)]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_angles_and_areas_are_uniform(level: int) -> None:
    found = drawn(level)
    angles = [each.angle for each in found]
    assert max(map(abs, angles)) <= 20
    assert stats.kstest(angles, stats.uniform(-20, 40).cdf).pvalue > 0.001
    areas = [each.box[2] * each.box[3] / 400**2 for each in found if each.box]
    assert len(areas) == DRAWS
    assert stats.kstest(areas, stats.uniform(0.2, 0.8).cdf).pvalue > 0.001
    assert all(each.box and each.box[2] == each.box[3] for each in found)


@pytest.mark.parametrize(("height", "width"), [(100, 400), (400, 100), (37, 91)])
def test_squares_lie_within_the_picture_and_come_to_its_edges(height: int, width: int) -> None:
    boxes = [each.box for each in drawn(1, height, width) if each.box]
    assert all(top >= 0 and left >= 0 and top + h <= height and left + w <= width for top, left, h, w in boxes)
    assert min(top for top, *_ in boxes) == 0
    assert max(top + h for top, _, h, _ in boxes) == height
    assert min(left for _, left, *_ in boxes) < width / 20
    assert max(left + w for _, left, _, w in boxes) > width * 0.95


@pytest.mark.parametrize(
    ("level", "grades"),
    [
        (
            1,
            {"saturation": (1.0,), "darkening": (1.0,), "reduction": (1,), "noise": (0.0,), "blur": (0,)},
        ),
        (
            2,
            {"saturation": (1.0, 0.4), "darkening": (1.0, 0.85), "reduction": (1, 2), "noise": (0.0,), "blur": (0,)},
        ),
        (
            3,
            {
                "saturation": (1.0, 0.4, 0.3),
                "darkening": (1.0, 0.85, 0.725),
                "reduction": (1, 2, 3),
                "noise": (0.0, 255 * math.sqrt(0.001), 255 * math.sqrt(0.002)),
                "blur": (0, 7, 9),
            },
        ),
    ],
)
def test_every_grade_of_a_level_is_as_likely_and_independent(level: int, grades: dict[str, tuple[float, ...]]) -> None:
    found = drawn(level)
    for name, values in grades.items():
        counts = Counter(getattr(each, name) for each in found)
        assert set(counts) == set(values)
        assert len(values) == 1 or stats.chisquare([counts[value] for value in values]).pvalue > 0.001
    pairs = Counter((each.saturation, each.darkening) for each in found)
    assert level == 1 or stats.chisquare(list(pairs.values())).pvalue > 0.001


def test_level_0_is_the_middle_square_at_224() -> None:
    assert draw(0, 300, 500, generator()) == Distortion()
    image = street(300, 500)
    middle = Image.fromarray(image.permute(1, 2, 0).numpy()).crop((100, 0, 400, 300))
    expected = through_jpeg(np.asarray(middle.resize((224, 224), Image.Resampling.BILINEAR)))
    difference = np.abs(distort(image, 0, generator()).permute(1, 2, 0).numpy().astype(int) - expected)
    assert difference.mean() < 0.6


@pytest.mark.parametrize("level", [-1, 4])
def test_another_level_is_refused(level: int) -> None:
    with pytest.raises(ValueError, match=f"level must be one of 0, 1, 2, 3, got {level}"):
        distort(street(), level, generator())


def through_jpeg(pixels: NDArray[Any]) -> NDArray[np.int64]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=75)
    return np.asarray(Image.open(file)).astype(np.int64)


#: ITU-R BT.601 as the standard gives it: R, G, B of 0 to 1 to Y, Cb, Cr of 0 to 255.
TO_YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
OFFSET = np.array([16.0, 128.0, 128.0])


def rendering(image: Tensor, what: Distortion) -> Floats:
    """Without noise and JPEG: PIL for the geometry, numpy for the colours, scipy for the blur."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy()).rotate(what.angle, Image.Resampling.NEAREST)
    assert what.box is not None
    top, left, height, width = what.box
    picture = picture.crop((left, top, left + width, top + height)).resize((224, 224), Image.Resampling.BILINEAR)
    values = np.asarray(picture).astype(float)
    ycbcr = values / 255 @ TO_YCBCR.T + OFFSET
    ycbcr[..., 1:] = 128 + (ycbcr[..., 1:] - 128) * what.saturation
    values = (ycbcr - OFFSET) @ np.linalg.inv(TO_YCBCR).T * 255 * what.darkening
    if what.reduction > 1:
        values = np.stack([reduced(values[..., c], what.reduction) for c in range(3)], axis=-1)
    if what.blur:
        # The kernel is cut off at its own half width.
        sigma = what.blur / 6
        values = ndimage.gaussian_filter(values, (sigma, sigma, 0), mode="mirror", truncate=(what.blur // 2) / sigma)
    return values


def reduced(plane: Floats, factor: int) -> Floats:
    """Bilinear samples at the centres of the coarse pixels, and back."""
    small = 224 // factor

    def line(length: int, other: int) -> Floats:
        centres: Floats = np.clip((np.arange(length) + 0.5) * other / length - 0.5, 0, other - 1)
        return centres

    coarse = ndimage.map_coordinates(plane, np.meshgrid(line(small, 224), line(small, 224), indexing="ij"), order=1)
    back: Floats = ndimage.map_coordinates(
        coarse, np.meshgrid(line(224, small), line(224, small), indexing="ij"), order=1
    )
    return back


@pytest.mark.parametrize("seed", range(12))
def test_what_is_done_is_what_was_drawn(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distortions, "recompressed", lambda image, quality: image)
    monkeypatch.setattr(distortions, "NOISE", (0.0, 0.0, 0.0))
    image, source = street(), generator(seed)
    what = draw(3, image.shape[-2], image.shape[-1], source)
    made = apply(image, what, source).permute(1, 2, 0).numpy().astype(float)
    expected = rendering(image, what)
    assert np.abs(made - expected).mean() < 1.0
    assert np.quantile(np.abs(made - expected), 0.99) < 6


@pytest.mark.parametrize(("grade", "blue", "green", "red"), [(1, 19, 12, 16), (2, 27, 17, 23)])
def test_noise_has_the_deviation_of_each_channel(
    grade: int, blue: int, green: int, red: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distortions, "recompressed", lambda image, quality: image)
    grey = torch.full((3, 300, 300), 128, dtype=torch.uint8)
    made = apply(grey, Distortion(noise=distortions.NOISE[grade]), generator()).double()
    assert made.std(dim=(1, 2)).tolist() == pytest.approx([red, green, blue], abs=0.7)
    assert made.mean(dim=(1, 2)).tolist() == pytest.approx([128] * 3, abs=0.5)


def test_the_last_thing_is_a_jpeg_of_quality_75(monkeypatch: pytest.MonkeyPatch) -> None:
    image, what = street(), Distortion(angle=5.0, box=(10, 20, 200, 200), saturation=0.4)
    sent = apply(image, what, generator()).permute(1, 2, 0).numpy()
    monkeypatch.setattr(distortions, "recompressed", lambda image, quality: image)
    before = apply(image, what, generator()).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(sent, through_jpeg(before))
    assert not np.array_equal(sent, before)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_one_state_of_the_generator_is_one_picture(level: int) -> None:
    image = street()
    state = torch.get_rng_state()
    pictures = [distort(image, level, generator(seed)) for seed in (5, 5, 6)]
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2]) is (level == 0)
    assert torch.equal(state, torch.get_rng_state())
    assert pictures[0].shape == (3, 224, 224)


def test_mixed_draws_every_level_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []

    def note(image: Tensor, level: int, source: torch.Generator, *, size: int) -> Tensor:
        levels.append(level)
        return image

    monkeypatch.setattr(distortions, "distort", note)
    torch.manual_seed(0)
    transform = ValidatorDistortions().build(AugmentationContext(image_size=(32, 32), num_classes=2))
    for _ in range(2000):
        transform(street(8, 8))
    assert stats.chisquare([levels.count(level) for level in range(4)]).pvalue > 0.001
