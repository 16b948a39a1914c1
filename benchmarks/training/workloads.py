"""What is trained: a network that takes all the time, one that takes nearly none, and a small one on JPEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from contenders import Work
from torch import nn

from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.data.sample import Row
from roadwork_core.model import Classifier

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _resnet() -> Classifier:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    backbone = resnet18(num_classes=2)
    return Classifier(backbone, nn.Identity())


def _perceptron() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))


def _small() -> Classifier:
    torch.manual_seed(0)
    layers = []
    for before, after in ((3, 8), (8, 16), (16, 32)):
        layers += [nn.Conv2d(before, after, 3, 4, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return Classifier(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(32, 2))


def _pictures(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def network_bound(steps: int) -> Work:
    """ResNet-18 on 96 x 96 pictures in memory, 16 a batch."""
    return Work(
        make_model=_resnet,
        preprocessing=Preprocessing(size=(96, 96), mean=MEAN, std=STD),
        batch_size=16,
        size=16 * steps,
        pictures=_pictures(16, 96),
    )


def empty_step(steps: int) -> Work:
    """One linear layer on 8 x 8 pictures: what is left is the loop."""
    return Work(
        make_model=_perceptron,
        preprocessing=Preprocessing(size=(8, 8), mean=MEAN, std=STD),
        batch_size=16,
        size=16 * steps,
        pictures=_pictures(16, 8),
    )


def decode_bound(folder: Path, count: int) -> Work:
    """Three convolutions on 640 x 480 JPEG files (quality 90, written once) at 224 x 224, 32 a batch."""
    return Work(
        make_model=_small,
        preprocessing=Preprocessing(size=(224, 224), mean=MEAN, std=STD),
        batch_size=32,
        size=count,
        rows=[_jpeg(folder / f"{number}.jpg", number) for number in range(count)],
    )


def _jpeg(path: Path, number: int) -> Row:
    from PIL import Image

    if not path.exists():
        rng = np.random.default_rng(number)
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize((640, 480))
        grain = rng.normal(0, 6, (480, 640, 1))
        Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).save(path, quality=90)
    values = {"index": number, "path": str(path), "label": str(number % 2), "target": number % 2, "split": "train"}
    return Row(**values, group=str(number), sha256="", phash="", width=640, height=480)
