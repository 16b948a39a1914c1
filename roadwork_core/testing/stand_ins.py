"""Small models and data that components are tried on. Imports torch: only contracts import this, when they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.preprocessing import Preprocessing

FEATURES = 16
SIDE = 32


class Attention(nn.Module):
    """Two heads of self-attention, with the projections under their usual names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (part(tokens).unflatten(-1, (2, -1)).transpose(1, 2) for part in self._inputs())
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        made: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return made

    def _inputs(self) -> tuple[nn.Module, ...]:
        return self.query, self.key, self.value


class Block(nn.Module):
    """A transformer block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(width, 2 * width))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        made: Tensor = tokens + self.mlp(self.norm2(tokens))
        return made


class StandInBackbone(nn.Module):
    """A tiny vision transformer: images, float (N, 3, 32, 32), to features, float (N, 16)."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = FEATURES
        self.preprocessing = Preprocessing(
            size=(SIDE, SIDE), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), size_multiple=8
        )
        self.architecture: Mapping[str, Any] = {"stand_in": 1}
        self.patches = nn.Conv2d(3, FEATURES, 8, stride=8)
        self.layers = nn.ModuleList(Block(FEATURES) for _ in range(3))
        self.norm = nn.LayerNorm(FEATURES)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.tokens(pixel_values).mean(dim=1)

    @property
    def token_dim(self) -> int:
        return FEATURES

    def tokens(self, pixel_values: Tensor) -> Tensor:
        tokens = self.patches(pixel_values).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        normed: Tensor = self.norm(tokens)
        return normed

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.layers)


def backbone(seed: int = 0) -> StandInBackbone:
    """A stand-in with weights from a seed; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return StandInBackbone()


def pictures(count: int, height: int = SIDE, width: int = SIDE, seed: int = 1) -> Tensor:
    """Smooth colourful pictures, uint8 (count, 3, height, width)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, 6, 6), generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return (smooth * 255).round().to(torch.uint8)


def inputs(count: int, size: tuple[int, int] = (SIDE, SIDE), seed: int = 1) -> Tensor:
    """Normalised images, float32 (count, 3, *size)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((count, 3, *size), generator=generator)


def scores(count: int, classes: int, seed: int = 3) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Overconfident logits float64 (count, classes) with their labels and groups of three, int64 (count,)."""
    generator = np.random.default_rng(seed)
    groups = np.arange(count) // 3
    labels = generator.integers(0, classes, size=count)
    signal = 4.0 * np.eye(classes)[labels]
    noise = generator.normal(0, 2.0, (count, classes)) + generator.normal(0, 1.0, (count // 3 + 1, classes))[groups]
    return (signal + noise).astype(np.float64), labels.astype(np.int64), groups.astype(np.int64)
