"""Averaged weights: an exponential moving average, evaluated, selected and exported in place of the last step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from roadwork_core.errors import RoadworkError

from .shards import fill, own_share


def warmed_decay(decay: float, step: int) -> float:
    """min(decay, (1 + t) / (10 + t)) after t optimizer steps, so that the random start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))


class Ema:
    """The moving average of a module's trainable parameters and of its BatchNorm statistics, in their own dtype.

    Running mean and variance belong to the weights that produced them, so they are averaged alike; every other
    buffer (counters, position indices) is the live one. Weights that do not train are the live ones by definition.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters, self._statistics = _averaged(module)
        self._mean = [tensor.clone() for tensor in self._live()]

    def _live(self) -> list[Tensor]:
        # Asked for anew each time: whoever moves or wraps the module may give a parameter other memory.
        parameters = [parameter.detach() for parameter in self._parameters.values()]
        return parameters + [getattr(part, name) for part, name in self._statistics.values()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after optimizer step number `step` (from 1)."""
        means, live = ([own_share(tensor) for tensor in tensors] for tensors in (self._mean, self._live()))
        torch._foreach_lerp_(means, live, 1.0 - warmed_decay(self.decay, step))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module computes with the average; afterwards it has its own weights again, to the bit."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for live, mean in zip(self._live(), self._mean, strict=True):
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by the name of the parameter or buffer, divided as these are."""
        return dict(zip((*self._parameters, *self._statistics), self._mean, strict=True))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes back what `tensors` gave, whole. Raises RoadworkError where the names differ."""
        own = self.tensors()
        if own.keys() != tensors.keys():
            raise RoadworkError("the averaged weights are of another model")
        for name, mean in own.items():
            fill(mean, tensors[name])


def _averaged(module: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, tuple[nn.Module, str]]]:
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    statistics: dict[str, tuple[nn.Module, str]] = {}
    for prefix, part in module.named_modules():
        if isinstance(part, _NormBase) and part.running_mean is not None and part.running_var is not None:
            for name in ("running_mean", "running_var"):
                statistics[f"{prefix}.{name}" if prefix else name] = (part, name)
    return parameters, statistics
