"""Optimizers: torch's own and Lion, with weight decay only where a parameter group allows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from roadwork_core import component, option, slot
from roadwork_core.errors import RoadworkError
from roadwork_core.kinds import OptimizerContext, ParamGroup

if TYPE_CHECKING:
    import torch

    from .lion import LionOptimizer
    from .muon import MuonWithAdamW
    from .sam import SharpnessAware

Implementation = Literal["auto", "fused", "foreach", "single"]

_LR_HELP = "learning rate at its highest, before each group's factor"
_DECAY_HELP = "decay of weights; never of biases and norms"
_BETAS_HELP = "decay of the running mean and of the running square"
_EPS_HELP = "added to the root of the running square"
_IMPLEMENTATION_HELP = "how a step is computed; auto: fused where torch has it for such weights, else foreach"


@component("optimizer", "adamw")
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019, arXiv 1711.05101)."""

    lr: float = option(default=3e-4, above=0, help=_LR_HELP)
    weight_decay: float = option(default=0.01, minimum=0, help=_DECAY_HELP)
    betas: tuple[float, float] = option(default=(0.9, 0.999), minimum=0, below=1, help=_BETAS_HELP)
    eps: float = option(default=1e-8, above=0, help=_EPS_HELP)
    implementation: Implementation = option(default="auto", help=_IMPLEMENTATION_HELP)

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

    lr: float = option(default=0.01, above=0, help=_LR_HELP)
    momentum: float = option(default=0.9, minimum=0, below=1, help="decay of the running gradient")
    nesterov: bool = option(default=False, help="look ahead along the momentum")
    weight_decay: float = option(default=0.0, minimum=0, help="L2 penalty on weights; never on biases and norms")
    implementation: Implementation = option(default="auto", help=_IMPLEMENTATION_HELP)

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


@component("optimizer", "nadam")
class NAdam:
    """Adam that looks ahead along its momentum (Dozat, 2016), with decoupled weight decay."""

    lr: float = option(default=3e-4, above=0, help=_LR_HELP)
    weight_decay: float = option(default=0.01, minimum=0, help=_DECAY_HELP)
    betas: tuple[float, float] = option(default=(0.9, 0.999), minimum=0, below=1, help=_BETAS_HELP)
    eps: float = option(default=1e-8, above=0, help=_EPS_HELP)
    momentum_decay: float = option(default=4e-3, minimum=0, help="how fast the momentum grows to its first beta")

    def build(self, ctx: OptimizerContext) -> torch.optim.NAdam:
        import torch

        return torch.optim.NAdam(
            ctx.param_groups(self.lr, self.weight_decay),
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            momentum_decay=self.momentum_decay,
            decoupled_weight_decay=True,
            foreach=True,
        )


@component("optimizer", "radam")
class RAdam:
    """Adam that waits for its running square to be worth something, in place of a warm-up (Liu et al., 2020).

    arXiv 1908.03265, with decoupled weight decay.
    """

    lr: float = option(default=3e-4, above=0, help=_LR_HELP)
    weight_decay: float = option(default=0.01, minimum=0, help=_DECAY_HELP)
    betas: tuple[float, float] = option(default=(0.9, 0.999), minimum=0, below=1, help=_BETAS_HELP)
    eps: float = option(default=1e-8, above=0, help=_EPS_HELP)

    def build(self, ctx: OptimizerContext) -> torch.optim.RAdam:
        import torch

        return torch.optim.RAdam(
            ctx.param_groups(self.lr, self.weight_decay),
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            decoupled_weight_decay=True,
            foreach=True,
        )


@component("optimizer", "adafactor")
class Adafactor:
    """Adam whose running square is kept as a row and a column of each matrix (Shazeer and Stern, 2018).

    arXiv 1804.04235: next to no memory beside the weights, for large backbones that train whole.
    """

    lr: float = option(default=1e-3, above=0, help="largest step, as a part of each weight's root mean square")
    weight_decay: float = option(default=0.0, minimum=0, help=_DECAY_HELP)
    beta2_decay: float = option(default=-0.8, maximum=0, help="power with which the running square forgets less")
    eps: float = option(default=1e-3, above=0, help="least root mean square that a weight is taken to have")
    clip: float = option(default=1.0, minimum=1, help="largest root mean square of an update")

    def build(self, ctx: OptimizerContext) -> torch.optim.Adafactor:
        import torch

        return torch.optim.Adafactor(
            ctx.param_groups(self.lr, self.weight_decay),
            lr=self.lr,
            beta2_decay=self.beta2_decay,
            eps=(None, self.eps),
            d=self.clip,
            weight_decay=self.weight_decay,
        )


@component("optimizer", "lion")
class Lion:
    """Steps of one length along the sign of the averaged gradient (Chen et al., 2023, arXiv 2302.06675).

    It wants a learning rate three to ten times lower than AdamW's, and a weight decay as many times higher.
    """

    lr: float = option(default=1e-4, above=0, help=_LR_HELP)
    weight_decay: float = option(default=0.1, minimum=0, help=_DECAY_HELP)
    betas: tuple[float, float] = option(
        default=(0.9, 0.99), minimum=0, below=1, help="weight of the past in the direction of a step, and in the mean"
    )

    def build(self, ctx: OptimizerContext) -> LionOptimizer:
        from .lion import LionOptimizer

        return LionOptimizer(
            ctx.param_groups(self.lr, self.weight_decay), lr=self.lr, betas=self.betas, weight_decay=self.weight_decay
        )


@component("optimizer", "muon")
class Muon:
    """Steps made orthogonal for the weight matrices before the head (Jordan, 2024), AdamW for all other weights.

    Steps are as long as AdamW's would be (Liu et al., 2025, arXiv 2502.16982), so that both share one learning rate
    and decay. Convolutions, embeddings, vectors and the head are AdamW's.
    """

    lr: float = option(default=3e-4, above=0, help=_LR_HELP)
    weight_decay: float = option(default=0.1, minimum=0, help=_DECAY_HELP)
    momentum: float = option(default=0.95, minimum=0, below=1, help="weight of the past in a matrix's running gradient")
    nesterov: bool = option(default=True, help="look ahead along the momentum")
    newton_schulz_steps: int = option(
        default=5, minimum=1, maximum=20, help="iterations that make a step orthogonal, more being nearer to it"
    )
    betas: tuple[float, float] = option(default=(0.9, 0.999), minimum=0, below=1, help=f"AdamW's {_BETAS_HELP}")
    eps: float = option(default=1e-8, above=0, help=f"AdamW's: {_EPS_HELP}")

    def build(self, ctx: OptimizerContext) -> MuonWithAdamW:
        from .muon import MuonWithAdamW

        matrices, others = _matrices_and_others(ctx.groups)
        if not matrices:
            raise RoadworkError(
                "muon: no weight matrix trains before the head (convolutions, vectors and the head are AdamW's)",
                hint='set optimizer.use = "adamw"',
            )
        groups = [OptimizerContext(groups=part).param_groups(self.lr, self.weight_decay) for part in (matrices, others)]
        return MuonWithAdamW(
            *groups,
            muon={
                "momentum": self.momentum,
                "nesterov": self.nesterov,
                "ns_steps": self.newton_schulz_steps,
                "adjust_lr_fn": "match_rms_adamw",
            },
            adamw={"betas": self.betas, "eps": self.eps, **_implementation("auto", OptimizerContext(groups=others))},
        )


@component("optimizer", "sam")
class Sam:
    """Any optimizer, by the gradient that is found a little uphill of the weights, which leads to flat minima.

    Sharpness-aware minimisation (Foret et al., 2021, arXiv 2010.01412). Each step costs two passes over its samples;
    BatchNorm's running statistics are those of the first.
    """

    rho: float = option(default=0.05, above=0, help="how far uphill, as a distance in the space of all weights")
    base: Any = slot("optimizer", default={"use": "adamw"}, help="the optimizer that steps")

    def build(self, ctx: OptimizerContext) -> SharpnessAware:
        from .sam import SharpnessAware

        base = self.base.build(ctx)
        if hasattr(base, "ascend"):
            raise RoadworkError("sam: its base looks uphill itself", hint='set optimizer.base = { use = "adamw" }')
        return SharpnessAware(base, self.rho)


#: What the training calls the groups of the head, whose last layer muon leaves to AdamW.
_HEAD = "head"


def _matrices_and_others(groups: Sequence[ParamGroup]) -> tuple[list[ParamGroup], list[ParamGroup]]:
    """Each group as up to two of its name: its weight matrices, and the rest. The head is rest as a whole."""
    matrices: list[ParamGroup] = []
    others: list[ParamGroup] = []
    for group in groups:
        in_head = group.name.split(".")[0] == _HEAD
        for chosen, is_matrix in ((matrices, True), (others, False)):
            params = [weight for weight in group.params if (weight.ndim == 2 and not in_head) is is_matrix]
            if params:
                chosen.append(ParamGroup(name=group.name, params=params, lr_scale=group.lr_scale, decay=group.decay))
    return matrices, others


#: Device types for which torch has fused kernels of both optimizers.
_FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})


def _implementation(name: Implementation, ctx: OptimizerContext) -> dict[str, Any]:
    if name == "auto":
        params = [parameter for group in ctx.groups for parameter in group.params]
        # Weights that are divided among processes (DTensor) have no fused step of every optimizer.
        fits = all(
            param.device.type in _FUSED_DEVICES and param.is_floating_point() and not hasattr(param, "device_mesh")
            for param in params
        )
        name = "fused" if fits else "foreach"
    return {"fused": True} if name == "fused" else {"foreach": name == "foreach"}
