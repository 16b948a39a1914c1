"""Augmentations do what their names say, within their bounds; mixing keeps targets in step with pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import roadwork_augmentations as augmentations
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from roadwork_augmentations.batch import Cutmix, Mixup
from torch import Tensor

from roadwork_core.kinds import AugmentationContext

CONTEXT = AugmentationContext(image_size=(24, 32), num_classes=3)


def build(component: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return component.build(CONTEXT)


def picture(height: int = 60, width: int = 80) -> Tensor:
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    return (smooth[0] * 255).to(torch.uint8)


@pytest.mark.parametrize(
    "component",
    [
        augmentations.RandomResizedCrop(),
        augmentations.RandomCrop(),
        augmentations.CenterCrop(),
        augmentations.Resize(),
    ],
)
def test_without_a_size_the_models_is_taken(component: Any) -> None:
    assert build(component)(picture()).shape == (3, 24, 32)


def test_a_given_size_is_square_and_keep_ratio_scales_the_shorter_side() -> None:
    assert build(augmentations.RandomResizedCrop(size=20))(picture()).shape == (3, 20, 20)
    assert build(augmentations.Resize(size=30, keep_ratio=True))(picture()).shape == (3, 30, 40)


@pytest.mark.parametrize(
    "component",
    [
        augmentations.HorizontalFlip(p=0.0),
        augmentations.ColorJitter(p=0.0),
        augmentations.GaussianNoise(p=0.0),
        augmentations.RandomRotation(p=0.0),
        augmentations.RandomErasing(p=0.0),
        augmentations.Jpeg(p=0.0),
        augmentations.GaussianBlur(p=0.0),
        augmentations.Posterize(p=0.0),
        augmentations.RandomPerspective(p=0.0),
        augmentations.ColorJitter(brightness=0, contrast=0, saturation=0, hue=0),
        augmentations.Posterize(bits=8, p=1.0),
        augmentations.Sharpness(factor=1.0, p=1.0),
        augmentations.RandomRotation(degrees=0.0),
        augmentations.GaussianNoise(sigma=0.0, p=1.0),
    ],
)
def test_no_chance_or_no_strength_changes_nothing(component: Any) -> None:
    assert torch.equal(build(component)(picture()), picture())


def test_effects_that_are_known_exactly() -> None:
    image = picture()
    assert torch.equal(build(augmentations.HorizontalFlip(p=1.0))(image), image.flip(-1))
    grey = build(augmentations.Grayscale(p=1.0))(image)
    assert torch.equal(grey[0], grey[1])
    assert torch.equal(grey[0], grey[2])
    assert torch.equal(build(augmentations.Posterize(bits=2, p=1.0))(image), image & 0b1100_0000)
    stretched = build(augmentations.Autocontrast(p=1.0))(image)
    assert stretched.amin() == 0
    assert stretched.amax() == 255


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    image = torch.full((3, 200, 200), 128, dtype=torch.uint8)
    noisy = build(augmentations.GaussianNoise(sigma=12.0, p=1.0))(image).float()
    assert noisy.mean().item() == pytest.approx(128, abs=0.3)
    assert noisy.std().item() == pytest.approx(12, rel=0.02)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_erasing_stays_within_its_area(seed: int) -> None:
    image = torch.full((3, 100, 100), 9, dtype=torch.uint8)
    erased = build(augmentations.RandomErasing(p=1.0, scale=(0.05, 0.2), fill=77), seed)(image)
    assert set(erased.unique().tolist()) == {9, 77}
    assert 0.04 <= (erased[0] == 77).float().mean().item() <= 0.21


def test_rotation_fills_its_corners() -> None:
    turned = build(augmentations.RandomRotation(degrees=45, fill=255), seed=1)(
        torch.zeros(3, 40, 40, dtype=torch.uint8)
    )
    assert 255 in turned[:, 0, 0].tolist() or 255 in turned[:, 0, -1].tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augmentations.RandomResizedCrop(scale=(0.9, 0.2)), "scale must be"),
        (lambda: augmentations.RandomErasing(ratio=(3.0, 0.3)), "ratio must be"),
        (lambda: augmentations.GaussianBlur(kernel_size=4), "kernel_size must be odd"),
        (lambda: augmentations.Jpeg(quality=(90, 10)), "quality must be"),
        (lambda: augmentations.HorizontalFlip(p=1.5), "p must be at most 1"),
    ],
)
def test_options_out_of_bounds_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def batch(n: int = 8) -> tuple[Tensor, Tensor]:
    """Pictures of one constant each, so that a mixture shows what it is made of."""
    images = (2.0 ** torch.arange(n)).view(n, 1, 1, 1).expand(n, 3, 16, 20).clone()
    return images, torch.eye(n)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0.05, 5))
def test_mixup_blends_targets_exactly_as_pictures(seed: int, alpha: float) -> None:
    images, targets = batch()
    mixed, soft = build(Mixup(alpha=alpha), seed)(images, targets)
    # Picture i is the constant 2^i, so the target says what the mixture must be.
    torch.testing.assert_close(mixed[:, 0, 0, 0], soft @ (2.0 ** torch.arange(8)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(soft.sum(dim=1), torch.ones(8))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0.2, 5))
def test_cutmix_targets_are_the_areas_that_are_seen(seed: int, alpha: float) -> None:
    images, targets = batch()
    mixed, soft = build(Cutmix(alpha=alpha, p=1.0), seed)(images, targets)
    for row in range(8):
        seen = [(mixed[row, 0] == 2.0**source).float().mean() for source in range(8)]
        torch.testing.assert_close(soft[row], torch.stack(seen), rtol=1e-5, atol=1e-5)
    assert torch.equal(images, batch()[0])


def test_mixup_draws_its_weight_from_beta() -> None:
    images, targets = batch(2)
    mix = build(Mixup(alpha=0.4))
    weights: list[float] = []
    while len(weights) < 1500:
        _, soft = mix(images, targets)
        if soft[0, 0] < 1:  # the partner was the other picture
            weights.append(soft[0, 0].item())
    # Variance of Beta(a, a) is 1 / (4 (2 a + 1)).
    assert np.mean(weights) == pytest.approx(0.5, abs=0.03)
    assert np.var(weights) == pytest.approx(1 / (4 * 1.8), rel=0.08)


@pytest.mark.parametrize("component", [Mixup(p=0.3), Cutmix(p=0.3)])
def test_p_is_how_often_a_batch_is_mixed(component: Any) -> None:
    images, targets = batch()
    mix = build(component)
    kept = np.mean([torch.equal(mix(images, targets)[1], targets) for _ in range(600)])
    assert kept == pytest.approx(0.7, abs=0.08)
