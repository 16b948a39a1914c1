"""Faults of losses, heads, optimizers, schedulers, augmentations, datasets and trackers."""

from __future__ import annotations

import random
import uuid
from pathlib import Path
from typing import Any

from roadwork_core.data.sample import Sample
from roadwork_core.testing import (
    AugmentationContract,
    DatasetContract,
    HeadContract,
    LossContract,
    OptimizerContract,
    SchedulerContract,
    TrackerContract,
)

from .faulty import Case, gives, made

# --- losses ---


def each(logits: Any, target: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits, target, reduction="none")


def naive(logits: Any, target: Any) -> Any:
    return -logits.softmax(dim=-1).gather(1, target[:, None])[:, 0].log()


def fails_in_half(logits: Any, target: Any) -> Any:
    import torch

    return each(logits, target) / (0.0 if torch.is_autocast_enabled("cpu") else 1.0)


def twice_for_soft(logits: Any, target: Any) -> Any:
    return each(logits, target) * (2.0 if target.is_floating_point() else 1.0)


def overwrites(logits: Any, target: Any) -> Any:
    logits.data.mul_(2.0)
    return each(logits, target)


def loss(check: str, fault: str, function: Any, said: str, **body: Any) -> Case:
    return Case(contract=LossContract, check=check, cls=made("loss", gives(function), **body), said=said, fault=fault)


LOSSES = [
    loss("test_reduces", "a sum", lambda x, t: each(x, t).sum(), "a mean, not a sum"),
    loss(
        "test_reduces",
        "a column",
        lambda x, t: each(x, t)[:, None],
        r"not \(\) or \(N,\)",
    ),
    loss("test_reduces", "a count", lambda x, t: t.sum() * 0, "int64"),
    loss(
        "test_reduces",
        "out of order",
        lambda x, t: each(x, t).sort().values,
        "another loss|follow their samples",
    ),
    loss("test_prefers_the_right_answer", "the wrong sign", lambda x, t: -each(x, t), "no less than a confident wrong"),
    loss("test_is_finite_in_fp32", "log of softmax", naive, "not finite"),
    loss("test_is_finite_in_bf16", "overflow", fails_in_half, "bf16 autocast"),
    loss(
        "test_takes_soft_targets_if_it_says_so",
        "another scale",
        twice_for_soft,
        "cost something else",
        soft_targets=True,
    ),
    loss("test_leaves_its_arguments_alone", "in place", overwrites, "writes into its arguments"),
]


# --- heads ---


def head_of(change: str) -> Any:
    def build(self: Any, ctx: Any) -> Any:
        import torch
        from torch import nn

        class Head(nn.Linear):
            def __init__(self) -> None:
                super().__init__(ctx.feature_dim, ctx.num_classes + (change == "one more"))
                if change == "unused":
                    self.spare = nn.Parameter(torch.zeros(3))
                self.prior = 0.0 if ctx.class_counts is None else 1.0

            def forward(self, features: Any) -> Any:
                logits = super().forward(features)
                if change == "batch":
                    logits = logits - logits.mean(dim=0)
                return logits + self.prior if change == "prior" else logits

        return Head()

    return build


def token_head_of(change: str) -> Any:
    def build(self: Any, ctx: Any) -> Any:
        from torch import nn

        class Head(nn.Linear):
            reads_tokens = change != "undeclared"

            def __init__(self) -> None:
                super().__init__(ctx.token_dim, ctx.num_classes)

            def pool(self, tokens: Any) -> Any:
                if change == "no pooling":
                    return tokens
                if change == "across the batch":
                    return tokens.mean(dim=(0, 1))
                if change == "not a number":
                    return tokens.mean(dim=1) / 0.0
                return tokens.mean(dim=1)

        return Head()

    return build


def token_head(change: str, said: str) -> Case:
    cls = made("head", token_head_of(change), reads_tokens=True)
    return Case(contract=HeadContract, check="test_pools_tokens_if_it_says_so", cls=cls, said=said, fault=change)


def head(check: str, change: str, said: str) -> Case:
    return Case(contract=HeadContract, check=check, cls=made("head", head_of(change)), said=said, fault=change)


HEADS = [
    head("test_gives_one_logit_per_class", "one more", "logits of the shape"),
    head("test_gives_one_logit_per_class", "batch", "depend on the rest of its batch"),
    head("test_is_finite_in_fp32_and_bf16", "unused", "no gradient reaches spare"),
    head("test_is_rebuilt_from_its_weights", "prior", "not in the state dict"),
    token_head("undeclared", "reads_tokens is True, and its module has no"),
    token_head("no pooling", r"pooled to the shape \(5, 1, 16\)"),
    token_head("across the batch", r"pooled to the shape \(16,\)"),
    token_head("not a number", "not finite"),
]


# --- optimizers and schedulers ---


def first_group_only(self: Any, ctx: Any) -> Any:
    import torch

    return torch.optim.SGD(ctx.param_groups(0.01)[:1])


def climbs(self: Any, ctx: Any) -> Any:
    import torch

    return torch.optim.SGD(ctx.param_groups(0.01), maximize=True)


def one_rate(self: Any, ctx: Any) -> Any:
    import torch

    return torch.optim.SGD([{**group, "lr": 0.01} for group in ctx.param_groups(0.01)], lr=0.01)


def decays_all(self: Any, ctx: Any) -> Any:
    import torch

    return torch.optim.SGD([{**group, "weight_decay": 0.1} for group in ctx.param_groups(0.01)], lr=0.01)


def loses_groups(self: Any, ctx: Any) -> Any:
    import torch

    return torch.optim.SGD([parameter for group in ctx.groups for parameter in group.params], lr=0.01)


def forgets(self: Any, ctx: Any) -> Any:
    import torch

    class Forgets(torch.optim.SGD):
        def state_dict(self) -> dict[str, Any]:
            return {**super().state_dict(), "state": {}}

    return Forgets(ctx.param_groups(0.01), lr=0.01, momentum=0.9)


def holds_an_object(self: Any, ctx: Any) -> Any:
    import torch

    return torch.optim.SGD([{**group, "made": Path()} for group in ctx.param_groups(0.01)], lr=0.01)


def optimizer(check: str, build: Any, said: str) -> Case:
    return Case(contract=OptimizerContract, check=check, cls=made("optimizer", build), said=said, fault=build.__name__)


def scheduler_of(factor: Any, *, forgets: bool = False, equal: bool = False) -> Any:
    def build(self: Any, ctx: Any) -> Any:
        from torch.optim.lr_scheduler import LambdaLR

        class Scheduler(LambdaLR):
            def get_lr(self) -> Any:
                rates = super().get_lr()
                return [rates[0]] * len(rates) if equal else rates

            def load_state_dict(self, state: Any) -> None:
                if not forgets:
                    super().load_state_dict(state)

        return Scheduler(ctx.optimizer, lambda step: factor(step, ctx))

    return build


def scheduler(check: str, fault: str, build: Any, said: str) -> Case:
    return Case(contract=SchedulerContract, check=check, cls=made("scheduler", build), said=said, fault=fault)


OPTIMIZERS = [
    optimizer("test_trains_every_parameter_and_lowers_the_loss", first_group_only, "25 steps leave"),
    optimizer("test_trains_every_parameter_and_lowers_the_loss", climbs, "25 steps take the loss"),
    optimizer("test_keeps_the_groups", loses_groups, "are lost; use ctx.param_groups"),
    optimizer("test_keeps_the_groups", one_rate, "lr_scale does not scale"),
    optimizer("test_keeps_the_groups", decays_all, "decay = False"),
    optimizer("test_goes_on_from_its_state", forgets, "it trains otherwise"),
    optimizer("test_goes_on_from_its_state", holds_an_object, "cannot be stored without pickle"),
    scheduler(
        "test_gives_a_rate_at_every_step",
        "below zero",
        scheduler_of(lambda step, ctx: 1 - step / 10),
        "learning rate is -",
    ),
    scheduler(
        "test_counts_optimizer_steps",
        "epochs",
        scheduler_of(lambda step, ctx: max(0.0, 1 - step * ctx.steps_per_epoch / ctx.total_steps)),
        "the curves differ by",
    ),
    scheduler(
        "test_keeps_the_ratio_of_the_groups",
        "one rate",
        scheduler_of(lambda step, ctx: 1.0, equal=True),
        "groups at 1 and 0.1 of the learning rate",
    ),
    scheduler(
        "test_goes_on_from_its_state",
        "forgets",
        scheduler_of(lambda step, ctx: 1 - step / (2 * ctx.total_steps), forgets=True),
        "gives other learning rates",
    ),
]


# --- augmentations ---


def augmentation(check: str, fault: str, function: Any, said: str, **body: Any) -> Case:
    cls = made("augmentation", gives(function), **body)
    return Case(contract=AugmentationContract, check=check, cls=cls, said=said, fault=fault)


def darken(image: Any) -> Any:
    image //= 2
    return image


def seeds(image: Any) -> Any:
    import torch

    torch.manual_seed(0)
    return image.roll(int(torch.randint(3, ())), dims=2)


AUGMENTATIONS = [
    augmentation("test_keeps_the_format", "floats", lambda image: image / 255, "a uint8 picture becomes torch.float32"),
    augmentation("test_keeps_the_format", "grey", lambda image: image[:1], r"becomes \(1, "),
    augmentation("test_keeps_the_format", "no probabilities", lambda x, t: (x, t * 0.5), "must sum to 1", batch=True),
    augmentation("test_keeps_the_format", "targets alone", lambda x, t: t, "gives images and targets", batch=True),
    augmentation(
        "test_draws_from_torch_alone", "random", lambda x: x.roll(random.randrange(9), dims=2), "only torch's"
    ),
    augmentation("test_does_not_seed", "seeds", seeds, "seeds torch's generator"),
    augmentation("test_leaves_its_arguments_alone", "in place", darken, "writes into its arguments"),
]


# --- datasets and trackers ---


def samples_of(fault: str) -> Any:
    def build(self: Any, ctx: Any) -> Any:
        import torch
        from PIL import Image

        names = ["a.png", "b.png", "c.png"]
        for name in names:
            Image.new("RGB", (8, 8)).save(ctx.cache_dir / name)
        if fault == "twice":
            names.append("a.png")
        if fault == "draws":
            torch.rand(1)
        if fault == "shuffled":
            names = [*names, uuid.uuid4().hex]
        folder = ctx.cache_dir / ("missing" if fault == "missing" else "")
        label = "" if fault == "no label" else "x"
        return [] if fault == "empty" else [Sample(path=folder / name, label=label) for name in names]

    return build


def dataset(check: str, fault: str, said: str) -> Case:
    return Case(contract=DatasetContract, check=check, cls=made("dataset", samples_of(fault)), said=said, fault=fault)


def writes_here(self: Any, ctx: Any) -> Any:
    from accelerate.tracking import GeneralTracker

    class Tracker(GeneralTracker):  # type: ignore[misc]
        name = "here"
        requires_logging_directory = False
        tracker = None

        def log(self, values: Any, step: Any = None, **_: Any) -> None:
            Path("log.txt").write_text("here")

    return Tracker()


TRACKERS = [
    Case(
        contract=TrackerContract,
        check="test_is_a_tracker",
        cls=made("tracker", lambda self, ctx: object()),
        said="no GeneralTracker",
        fault="an object",
    ),
    Case(
        contract=TrackerContract,
        check="test_is_a_tracker",
        cls=made("tracker", lambda self, ctx: "paper"),
        said="'paper' is no tracker of accelerate",
        fault="an unknown name",
    ),
    Case(
        contract=TrackerContract,
        check="test_writes_into_its_own_folder",
        cls=made("tracker", writes_here),
        said="writes log.txt into the current directory",
        fault="here",
    ),
]
DATASETS = [
    dataset("test_lists_labelled_pictures", "empty", "at least one sample"),
    dataset("test_lists_labelled_pictures", "missing", "does not exist"),
    dataset("test_lists_labelled_pictures", "no label", "has no label"),
    dataset("test_lists_labelled_pictures", "twice", "is listed twice"),
    dataset("test_lists_the_same_again", "shuffled", "a second listing differs"),
    dataset("test_leaves_the_random_generators_alone", "draws", "draws from a global random generator"),
]
CASES = [*LOSSES, *HEADS, *OPTIMIZERS, *AUGMENTATIONS, *DATASETS, *TRACKERS]
