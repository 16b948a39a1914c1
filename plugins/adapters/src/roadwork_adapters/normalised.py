"""DoRA with a learned term in its normaliser, plain or with generated factors (DoRAN, arXiv 2510.04331)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from attrs import frozen
from torch import Tensor, nn

from .low_rank import seeded, show_geometry, trained
from .roles import layer_roles
from .targets import target_names

if TYPE_CHECKING:
    from roadwork_core.kinds import AdapterContext

    from .adapters import TauOptions

Layer = nn.Linear | nn.Conv2d
#: Second moment of tanh of a standard normal number.
_TANH_POWER = 0.394


class Factors(nn.Module):
    """B (out, rank) and A (rank, in) as weights: B starts at zero, A as LoRA's."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, inputs).uniform_(-1.0, 1.0) / math.sqrt(inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.b, self.a


class FirstLayers(nn.Module):
    """First layers of the networks that make A and B, shared by the projections of one attention."""

    def __init__(self, inputs: int, rank: int, hidden: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(hidden, inputs))
        self.b = nn.Parameter(torch.randn(hidden, rank))


class GeneratedFactors(nn.Module):
    """A = second_a tanh(first_a), B = second_b tanh(first_b); B starts at zero, A with the variance of LoRA's."""

    def __init__(self, first: FirstLayers, outputs: int) -> None:
        super().__init__()
        hidden, inputs = first.a.shape
        rank = first.b.shape[1]
        self.first = first
        self.second_a = nn.Parameter(torch.randn(rank, hidden) / math.sqrt(3.0 * inputs * hidden * _TANH_POWER))
        self.second_b = nn.Parameter(torch.zeros(outputs, hidden))

    def forward(self) -> tuple[Tensor, Tensor]:
        return self.second_b @ torch.tanh(self.first.b), self.second_a @ torch.tanh(self.first.a)


class NormalisedUpdate(nn.Module):
    """A layer with the weight m (W + s B A) / (||W + s B A|| + tau), a norm and an m for each output.

    W is (out, in) of a linear layer, or (out, in, height, width) of a convolution, flattened after the first axis.
    tau = exp(log_tau) stays above 0; m starts at ||W|| + tau, so that the layer starts as it was. Gradients flow
    through the norm as well.
    """

    def __init__(self, base_layer: Layer, factors: nn.Module, *, scale: float, tau: float, dropout: float) -> None:
        super().__init__()
        self.base_layer = base_layer.requires_grad_(False)
        self.factors = factors
        self.scale = scale
        self.dropout = nn.Dropout(dropout)
        weight = base_layer.weight.detach()
        # A vector of one: what has no axis cannot be shared out among processes (FSDP2).
        self.log_tau = nn.Parameter(torch.tensor([math.log(tau)], device=weight.device))
        self.magnitude = nn.Parameter(torch.linalg.vector_norm(weight.float().flatten(1), dim=1) + self.log_tau.exp())
        self.magnitude.requires_grad_(True)
        self.to(weight.device)

    @property
    def weight(self) -> Tensor:
        """The weight of the adapted layer, in the shape of its base's."""
        base, update = self._scaled()
        return base + update

    @property
    def bias(self) -> Tensor | None:
        return self.base_layer.bias

    def forward(self, inputs: Tensor) -> Tensor:
        if not (self.training and self.dropout.p):
            return self._layer(inputs, self.weight, self.bias)
        base, update = self._scaled()
        return self._layer(inputs, base, self.bias) + self._layer(self.dropout(inputs), update, None)

    def _scaled(self) -> tuple[Tensor, Tensor]:
        """W and s B A, each times m / (||W + s B A|| + tau), in float32 also under autocast."""
        weight = self.base_layer.weight
        with torch.autocast(weight.device.type, enabled=False):
            b, a = self.factors()
            base, update = weight.flatten(1), self.scale * (b @ a)
            norm = torch.linalg.vector_norm(base + update, dim=1)
            ratio = (self.magnitude / (norm + self.log_tau.exp())).unsqueeze(1)
            return (ratio * base).view_as(weight), (ratio * update).view_as(weight)

    def _layer(self, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if isinstance(self.base_layer, nn.Linear):
            return nn.functional.linear(inputs, weight, bias)
        layer = self.base_layer
        return nn.functional.conv2d(inputs, weight, bias, layer.stride, layer.padding)

    @torch.no_grad()
    def merged(self) -> Layer:
        """The base layer, with the weight of the adapted one."""
        self.base_layer.weight.copy_(self.weight)
        return self.base_layer


@frozen
class Normalised:
    """A backbone with normalised updates in place of some of its layers."""

    module: nn.Module
    targets: Sequence[str]
    _names: Sequence[str]

    def merge(self) -> nn.Module:
        """Folds the updates into the layers and puts these back."""
        for name in self._names:
            layer = self.module.get_submodule(name)
            if isinstance(layer, NormalisedUpdate):
                _put(self.module, name, layer.merged())
        return self.module


def adapt(ctx: AdapterContext, options: TauOptions, *, hidden: int | None) -> Normalised:
    """Freezes the backbone and normalises the layers that play the roles; with `hidden`, networks make A and B.

    Raises UsageError where a role is played by no layer, or by layers that the network does not call.
    """
    backbone = ctx.backbone
    names = target_names(backbone, options.targets, options.unfreeze_blocks)
    backbone.requires_grad_(False)
    scale = (options.rank if options.alpha is None else options.alpha) / options.rank
    with seeded(ctx.seed, backbone):
        factors = _factors(backbone, names, options.rank, hidden)
        for name in names:
            layer = cast(Layer, backbone.get_submodule(name))
            update = NormalisedUpdate(layer, factors[name], scale=scale, tau=options.tau, dropout=options.dropout)
            _put(backbone, name, update.train(layer.training))
    show_geometry(backbone, names)
    return Normalised(backbone, trained(backbone, names, options), tuple(names))


def _factors(backbone: nn.Module, names: Sequence[str], rank: int, hidden: int | None) -> Mapping[str, nn.Module]:
    roles = layer_roles(backbone)
    shared: dict[tuple[str, int], FirstLayers] = {}
    made: dict[str, nn.Module] = {}
    for name in names:
        outputs, inputs = cast(Layer, backbone.get_submodule(name)).weight.flatten(1).shape
        if hidden is None:
            made[name] = Factors(inputs, outputs, rank)
            continue
        # Queries, keys and values are made of the same tokens by neighbours in one attention.
        projection = bool({"query", "key", "value"} & set(roles[name]))
        key = (name.rpartition(".")[0] if projection else name, inputs)
        if key not in shared:
            shared[key] = FirstLayers(inputs, rank, hidden)
        made[name] = GeneratedFactors(shared[key], outputs)
    return made


def _put(backbone: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(backbone.get_submodule(parent), own, layer)
