"""The adapter itself: it adds no weights, so there is nothing to fold in when it is merged."""

from __future__ import annotations

from torch import nn


class Biases:
    """The backbone with its vectors trainable and the rest frozen."""

    def __init__(self, backbone: nn.Module, norms: bool) -> None:
        self.module = backbone
        self.targets: list[str] = []
        for name, parameter in backbone.named_parameters():
            trains = name.endswith("bias") or (norms and parameter.ndim == 1)
            parameter.requires_grad_(trains)
            if trains:
                self.targets.append(name)

    def merge(self) -> nn.Module:
        return self.module
