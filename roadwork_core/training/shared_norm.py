"""BatchNorm over the shares of all processes, so that a batch has the statistics that it has in one process."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def share_batch_norm(model: nn.Module) -> None:
    """Puts a `SharedBatchNorm` in place of every BatchNorm below `model`, with its weights and running statistics.

    Names in the state dict stay as they are.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, SharedBatchNorm):
                setattr(parent, name, SharedBatchNorm.of(child))


class SharedBatchNorm(_BatchNorm):
    """BatchNorm, inputs float (N, C, ...), whose mean and variance in training are those of all processes' inputs.

    Ioffe and Szegedy (arXiv 1502.03167). On any device; torch's own SyncBatchNorm knows GPUs alone.
    """

    @classmethod
    def of(cls, plain: _BatchNorm) -> SharedBatchNorm:
        """Shares parameters and buffers with `plain`."""
        made = cls(plain.num_features, plain.eps, plain.momentum, plain.affine, plain.track_running_stats)
        made.weight, made.bias = plain.weight, plain.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(made, name, getattr(plain, name))
        made.training = plain.training
        return made

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2 dimensions, got {input.ndim}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training and self.track_running_stats:
            return super().forward(input)
        values = input.float()
        axes = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        count = values.new_full((1,), values.numel() / values.shape[1])
        total = _over_all(torch.cat([values.sum(axes), count]))
        mean, number = total[:-1] / total[-1], total[-1].detach()
        centred = values - mean.reshape(shape)
        variance = _over_all((centred * centred).sum(axes)) / number
        self._track(mean, variance * number / (number - 1).clamp_min(1))
        out = centred * torch.rsqrt(variance + self.eps).reshape(shape)
        if self.affine:
            out = out * self.weight.reshape(shape) + self.bias.reshape(shape)
        return out.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        cast(Tensor, self.num_batches_tracked).add_(1)
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(cast(Tensor, self.num_batches_tracked))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, value: Tensor) -> Tensor:
        return _reduced(value)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        return _reduced(gradient)


def _reduced(value: Tensor) -> Tensor:
    import torch.distributed as dist

    total = value.detach().clone().contiguous()
    dist.all_reduce(total)
    return total


def _over_all(value: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(value)
    return total
