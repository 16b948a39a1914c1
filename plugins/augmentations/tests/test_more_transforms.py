"""The rarer augmentations: their exact effects, their bounds, and that no chance leaves a picture as it is."""

from __future__ import annotations

import io
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import roadwork_augmentations as augmentations
import torch
from PIL import Image
from torch import Tensor

from roadwork_core.kinds import AugmentationContext


def made(component: Any, image: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    result: Tensor = component.build(AugmentationContext(image_size=(24, 32), num_classes=2))(image)
    return result


def picture() -> Tensor:
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(coarse, size=(60, 80), mode="bicubic").clamp(0, 1)
    return (smooth[0] * 255).to(torch.uint8)


@pytest.mark.parametrize(
    "component",
    [
        augmentations.VerticalFlip(p=0.0),
        augmentations.ZoomOut(p=0.0),
        augmentations.Elastic(p=0.0),
        augmentations.Elastic(alpha=0.0, p=1.0),
        augmentations.Solarize(p=0.0),
        augmentations.Invert(p=0.0),
        augmentations.ChannelPermutation(p=0.0),
        augmentations.PhotometricDistort(p=0.0),
        augmentations.Pad(padding=0),
    ],
    ids=str,
)
def test_no_chance_or_no_strength_changes_nothing(component: Any) -> None:
    assert torch.equal(made(component, picture()), picture())


def test_effects_that_are_known_exactly() -> None:
    image = picture()
    assert torch.equal(made(augmentations.VerticalFlip(p=1.0), image), image.flip(-2))
    assert torch.equal(made(augmentations.Invert(p=1.0), image), 255 - image)
    turned = made(augmentations.Solarize(p=1.0, threshold=100), image)
    assert torch.equal(turned, torch.where(image >= 100, 255 - image, image))
    padded = made(augmentations.Pad(padding=7, fill=9), image)
    assert padded.shape == (3, 74, 94)
    assert torch.equal(padded[:, 7:-7, 7:-7], image)
    assert set(padded[:, :7].flatten().tolist()) == {9}


def test_channels_are_exchanged_and_every_order_occurs() -> None:
    image = picture()
    orders = {order: image[list(order)] for order in permutations(range(3))}
    component = augmentations.ChannelPermutation(p=1.0)
    found = {
        next(order for order, expected in orders.items() if torch.equal(made(component, image, seed), expected))
        for seed in range(60)
    }
    assert found == set(orders)


def test_random_resize_reaches_both_ends() -> None:
    sides = {made(augmentations.RandomResize(sides=(20, 23)), picture(), seed).shape[1] for seed in range(60)}
    assert sides == {20, 21, 22, 23}


def test_zoom_out_keeps_the_whole_picture_on_a_larger_canvas() -> None:
    image = torch.full((3, 40, 50), 200, dtype=torch.uint8)
    for seed in range(20):
        canvas = made(augmentations.ZoomOut(sides=(1.5, 3.0), fill=7, p=1.0), image, seed)
        assert 1.45 * 40 <= canvas.shape[1] <= 3 * 40
        assert int((canvas[0] == 200).sum()) == 40 * 50
        assert set(canvas.flatten().tolist()) == {7, 200}


@pytest.mark.parametrize("quality", [1, 40, 95])
def test_jpeg_is_that_of_pillow_at_its_quality(quality: int) -> None:
    image = picture()
    file = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, format="JPEG", quality=quality)
    expected = np.asarray(Image.open(file))
    found = made(augmentations.Jpeg(quality=(quality, quality), p=1.0), image)
    np.testing.assert_array_equal(found.permute(1, 2, 0), expected)


@pytest.mark.parametrize("policy", ["imagenet", "cifar10", "svhn"])
def test_each_searched_policy_is_another(policy: Any) -> None:
    from torchvision.transforms import v2

    torch.manual_seed(4)
    expected = v2.AutoAugment(v2.AutoAugmentPolicy(policy))(picture())
    assert torch.equal(made(augmentations.AutoAugment(policy=policy), picture(), 4), expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augmentations.ZoomOut(sides=(2.0, 1.5)), "sides must be"),
        (lambda: augmentations.RandomResize(sides=(30, 20)), "sides must be"),
        (lambda: augmentations.PhotometricDistort(hue=(0.1, -0.1)), "hue must be"),
    ],
)
def test_ranges_the_wrong_way_round_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
