"""Synthetic roadworks can be learned, but not from colours at fixed places."""

import numpy as np
import pytest
from numpy.typing import NDArray
from roadwork_datasets.synthetic import plan, render

_SIDE = 64

Set = tuple[NDArray[np.uint8], NDArray[np.int64]]


def _rendered(n: int, seed: int, frames_per_sequence: int) -> Set:
    frames = plan(n, positive_fraction=0.5, frames_per_sequence=frames_per_sequence, seed=seed)
    images = np.stack([np.asarray(render(frame, width=_SIDE, height=_SIDE)) for frame in frames])
    return images, np.array([int(frame.label) for frame in frames])


@pytest.fixture(scope="module")
def sets() -> tuple[Set, Set]:
    """Training and test pictures from different seeds, so that no drive is in both."""
    return _rendered(700, 1, 2), _rendered(400, 2, 2)


def _auc(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Chance that a positive scores above a negative, ties counted half."""
    gaps = scores[labels == 1][:, None] - scores[labels == 0][None]
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())


@pytest.mark.slow
def test_a_linear_probe_on_pixels_does_not_suffice(sets: tuple[Set, Set]) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    def coarse(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        blocks = images.reshape(len(images), 32, _SIDE // 32, 32, _SIDE // 32, 3).mean(axis=(2, 4))
        return np.asarray(blocks.reshape(len(images), -1) / 255.0)

    (train, labels), (test, truth) = sets
    scale = StandardScaler().fit(coarse(train))
    best = 0.0
    for strength in (1e-4, 1e-3, 1e-2):
        probe = LogisticRegression(C=strength, max_iter=200).fit(scale.transform(coarse(train)), labels)
        best = max(best, _auc(truth, probe.decision_function(scale.transform(coarse(test)))))
    assert best < 0.72


@pytest.mark.slow
def test_a_small_convolutional_network_learns_it(sets: tuple[Set, Set]) -> None:
    import torch
    from torch import nn

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    stem = [nn.Conv2d(3, 16, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]

    def tensor(images: NDArray[np.uint8]) -> torch.Tensor:
        return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0 - 0.45) / 0.25

    (train, labels), (test, truth) = sets
    torch.manual_seed(0)
    net = nn.Sequential(
        *stem, *block(16, 32), *block(32, 64), *block(64, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)
    )
    pictures, target = tensor(train), torch.from_numpy(labels)
    epochs, batch = 8, 32
    steps = epochs * -(-len(pictures) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(len(pictures))
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            views = pictures[rows].flip(-1) if torch.rand(()) < 0.5 else pictures[rows]
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(net(views), target[rows]))
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        logits = net(tensor(test)).numpy()
    assert _auc(truth, logits[:, 1] - logits[:, 0]) > 0.82
