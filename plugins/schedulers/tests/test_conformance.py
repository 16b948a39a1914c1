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


class TestNAdam(OptimizerContract):
    component = "schedulers/nadam"
    options: ClassVar = {"lr": 0.02}


class TestRAdam(OptimizerContract):
    component = "schedulers/radam"
    options: ClassVar = {"lr": 0.05}


class TestAdafactor(OptimizerContract):
    component = "schedulers/adafactor"
    options: ClassVar = {"lr": 0.05}
    variants = ({"weight_decay": 0.01},)


class TestLion(OptimizerContract):
    component = "schedulers/lion"
    options: ClassVar = {"lr": 0.01}
    variants = ({"betas": [0.5, 0.9]},)


class TestMuon(OptimizerContract):
    component = "schedulers/muon"
    options: ClassVar = {"lr": 0.02}
    variants = ({"nesterov": False, "newton_schulz_steps": 3},)


class TestSam(OptimizerContract):
    component = "schedulers/sam"
    options: ClassVar = {"base": {"use": "adamw", "lr": 0.02}}
    variants = ({"rho": 0.2}, {"base": {"use": "muon", "lr": 0.02}})


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


class TestWsd(SchedulerContract):
    component = "schedulers/wsd"
    variants = (
        {"decay": "linear", "min_lr_ratio": 0.1},
        {"decay": "cosine", "warmup_ratio": 0.0, "decay_ratio": 1.0},
    )
