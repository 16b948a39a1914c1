"""The optimizers and schedulers keep what their kinds promise."""

from __future__ import annotations

from typing import ClassVar

from roadwork_core.testing import OptimizerContract, SchedulerContract


class TestAdamW(OptimizerContract):
    component = "schedulers/adamw"
    options: ClassVar = {"lr": 0.02}
    variants = ({"implementation": "single"}, {"implementation": "foreach", "betas": [0.8, 0.95]})


class TestSgd(OptimizerContract):
    component = "schedulers/sgd"
    variants = ({"nesterov": True, "weight_decay": 0.01}, {"momentum": 0.0, "implementation": "single"})


class TestConstant(SchedulerContract):
    component = "schedulers/constant"
    variants = ({"warmup_ratio": 0.2},)


class TestCosine(SchedulerContract):
    component = "schedulers/cosine"
    variants = ({"min_lr_ratio": 0.1},)


class TestCosineWarmup(SchedulerContract):
    component = "schedulers/cosine_warmup"
    variants = ({"warmup_ratio": 0.0, "min_lr_ratio": 0.1},)


class TestLinear(SchedulerContract):
    component = "schedulers/linear"
    variants = ({"warmup_ratio": 0.25, "min_lr_ratio": 0.1},)


class TestOneCycle(SchedulerContract):
    component = "schedulers/one_cycle"
    variants = ({"peak_ratio": 0.5},)
