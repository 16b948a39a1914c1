"""Optimizers: torch's own, with weight decay only where a parameter group allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from roadwork_core import component, option
from roadwork_core.kinds import OptimizerContext

if TYPE_CHECKING:
    import torch

Implementation = Literal["auto", "fused", "foreach", "single"]


@component("optimizer", "adamw")
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101)."""

    lr: float = option(default=3e-4, above=0, help="learning rate at its highest, before each group's factor")
    weight_decay: float = option(default=0.01, minimum=0, help="decay of weights; never of biases and norms")
    betas: tuple[float, float] = option(
        default=(0.9, 0.999), minimum=0, below=1, help="decay of the running mean and of the running square"
    )
    eps: float = option(default=1e-8, above=0, help="added to the root of the running square")
    implementation: Implementation = option(
        default="auto", help="how a step is computed; auto: fused where the device has it, else foreach"
    )

    def build(self, ctx: OptimizerContext) -> torch.optim.AdamW:
        import torch

        return torch.optim.AdamW(
            ctx.param_groups(self.lr, self.weight_decay),
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            **_implementation(self.implementation, ctx),
        )


@component("optimizer", "sgd")
class Sgd:
    """Stochastic gradient descent with momentum."""

    lr: float = option(default=0.01, above=0, help="learning rate at its highest, before each group's factor")
    momentum: float = option(default=0.9, minimum=0, below=1, help="decay of the running gradient")
    nesterov: bool = option(default=False, help="look ahead along the momentum")
    weight_decay: float = option(default=0.0, minimum=0, help="L2 penalty on weights; never on biases and norms")
    implementation: Implementation = option(
        default="auto", help="how a step is computed; auto: fused where the device has it, else foreach"
    )

    def __attrs_post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")

    def build(self, ctx: OptimizerContext) -> torch.optim.SGD:
        import torch

        return torch.optim.SGD(
            ctx.param_groups(self.lr, self.weight_decay),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            **_implementation(self.implementation, ctx),
        )


#: Device types for which torch has fused kernels of both optimizers.
_FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


def _implementation(name: Implementation, ctx: OptimizerContext) -> dict[str, Any]:
    if name == "auto":
        params = [parameter for group in ctx.groups for parameter in group.params]
        fits = all(param.device.type in _FUSED_DEVICES and param.is_floating_point() for param in params)
        name = "fused" if fits else "foreach"
    return {"fused": True} if name == "fused" else {"foreach": name == "foreach"}
