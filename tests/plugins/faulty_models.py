"""Faults of backbones, adapters and objectives."""

from __future__ import annotations

import socket
from typing import Any

from roadwork_core.testing import AdapterContract, BackboneContract, ObjectiveContract

from .faulty import Case, made


def backbone_of(fault: str) -> Any:
    def build(self: Any, ctx: Any) -> Any:
        import torch

        from roadwork_core.testing.stand_ins import StandInBackbone

        class Backbone(StandInBackbone):
            def __init__(self) -> None:
                super().__init__()
                self.offset = 1.0 if ctx.architecture is None and fault == "hidden weight" else 0.0
                if fault == "no preprocessing":
                    self.preprocessing = None  # type: ignore[assignment]
                if fault == "another dimension":
                    self.feature_dim = 99
                if fault == "a path":
                    self.architecture = {"weights": "/home/somebody/weights"}
                if fault == "an object":
                    self.architecture = {"dtype": torch.float32}
                if fault == "other keys" and ctx.architecture is not None:
                    self.extra = torch.nn.Linear(1, 1)

            def forward(self, pixel_values: Any) -> Any:
                features = super().forward(pixel_values)
                if fault == "batch":
                    features = features - features.mean(dim=0)
                if fault == "detached":
                    features = features.detach().requires_grad_()
                if fault == "not finite in half" and torch.is_autocast_enabled("cpu"):
                    features = features / 0.0
                return features + self.offset

            def tokens(self, pixel_values: Any) -> Any:
                tokens = super().tokens(pixel_values)
                if fault == "other tokens":
                    return tokens[:, :, 1:]
                if fault == "tokens of a batch":
                    return tokens - tokens.mean(dim=0)
                if fault == "detached tokens":
                    return tokens.detach().requires_grad_()
                return tokens * (1.0 + self.offset)

            def blocks(self) -> Any:
                return [] if fault == "no blocks" else super().blocks()

            def state_dict(self, *arguments: Any, **named: Any) -> Any:
                state = super().state_dict(*arguments, **named)
                if fault == "not stored":
                    del state["norm.bias"]
                return state

        if fault == "a connection" and ctx.architecture is not None:
            with socket.socket() as connection:
                connection.connect(("127.0.0.1", 9))
        return Backbone()

    return build


def backbone(check: str, fault: str, said: str, **body: Any) -> Case:
    cls = made("backbone", backbone_of(fault), **body)
    return Case(contract=BackboneContract, check=check, cls=cls, said=said, fault=fault)


def tokens(fault: str, said: str, *, says: bool = True) -> Case:
    return backbone("test_gives_tokens_if_it_says_so", fault, said, gives_tokens=says)


BACKBONES = [
    backbone("test_says_what_it_is", "no preprocessing", "it has no `preprocessing`"),
    backbone("test_says_what_it_is", "no blocks", r"blocks\(\) must list modules"),
    backbone("test_gives_features_of_its_dimension", "another dimension", "feature_dim is 99"),
    backbone("test_gives_features_of_its_dimension", "batch", "depend on the rest of its batch"),
    tokens("unsaid tokens", "gives_tokens is False, and the module has a token_dim", says=False),
    tokens("other tokens", r"make \(2, 16, 15\) tokens; token_dim is 16"),
    tokens("tokens of a batch", "tokens depend on the rest of its batch"),
    tokens("detached tokens", "no gradient of its tokens"),
    tokens("hidden weight", "it gives other tokens"),
    backbone("test_learns_in_fp32_and_bf16", "detached", "no gradient reaches"),
    backbone("test_learns_in_fp32_and_bf16", "not finite in half", "not finite in bf16"),
    backbone("test_is_rebuilt_offline_from_its_architecture", "hidden weight", "not in the state dict"),
    backbone("test_is_rebuilt_offline_from_its_architecture", "a path", "names a path of this machine: /home"),
    backbone("test_is_rebuilt_offline_from_its_architecture", "an object", "no JSON value"),
    backbone("test_is_rebuilt_offline_from_its_architecture", "other keys", "other state-dict keys"),
    backbone("test_is_rebuilt_offline_from_its_architecture", "a connection", "opens a network connection"),
    backbone("test_every_weight_can_be_stored", "not stored", "not in the state dict: norm.bias"),
]


def adapter_of(fault: str) -> Any:
    def build(self: Any, ctx: Any) -> Any:
        import torch
        from torch import nn

        class Wrapped(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.backbone = ctx.backbone
                self.shift = nn.Parameter(torch.full((), 0.5 if fault == "starts elsewhere" else 0.0))

            def forward(self, pixel_values: Any) -> Any:
                features = self.backbone(pixel_values) + self.shift
                if fault == "not finite in half" and torch.is_autocast_enabled("cpu"):
                    features = features * float("inf")
                if fault == "moves" and self.training:
                    with torch.no_grad():
                        self.backbone.norm.bias.add_(0.1)
                return features

        class Adapted:
            def __init__(self) -> None:
                ctx.backbone.requires_grad_(False)
                self.module = Wrapped()
                self.targets = [] if fault == "unnamed" else ["shift"]
                if fault == "nothing trains":
                    self.module.requires_grad_(False)

            def merge(self) -> Any:
                if fault == "not merged":
                    return self.module
                if fault == "lost attribute":
                    ctx.backbone.norm.bias.data += self.module.shift.data
                    ctx.backbone.feature_dim = None
                return ctx.backbone

        return Adapted()

    return build


def adapter(check: str, fault: str, said: str) -> Case:
    return Case(contract=AdapterContract, check=check, cls=made("adapter", adapter_of(fault)), said=said, fault=fault)


ADAPTERS = [
    adapter("test_answers_like_its_base", "starts elsewhere", "before any training its features differ"),
    adapter("test_trains_what_it_says", "nothing trains", "leaves nothing to train"),
    adapter("test_trains_what_it_says", "unnamed", "does not name its targets"),
    adapter("test_trains_what_it_says", "moves", "frozen parameters moved: backbone.norm.bias"),
    adapter("test_trains_in_bf16", "not finite in half", "missing or not finite"),
    adapter("test_merges_to_a_plain_backbone", "not merged", "other state-dict keys"),
    adapter("test_merges_to_a_plain_backbone", "forgets to fold", "merged, its features differ"),
    adapter("test_merges_to_a_plain_backbone", "lost attribute", "lost the backbone's feature_dim"),
]


def objective_of(fault: str) -> Any:
    def build(self: Any, ctx: Any) -> Any:
        import torch
        from torch import nn

        class Objective(nn.Module):
            views = 0 if fault == "no views" else 2

            def __init__(self) -> None:
                super().__init__()
                self.project = nn.Linear(ctx.feature_dim, 4)
                self.calls = 0

            def forward(self, views: Any) -> Any:
                self.calls += 1
                features = ctx.backbone(views[0])
                if fault == "no gradient":
                    features = features.detach()
                loss = (self.project(features) - 1).square().mean()
                if fault == "a vector":
                    loss = (self.project(features) - 1).square().mean(dim=1)
                if fault == "counts in itself":
                    loss = loss * self.calls
                if fault == "blows up" and self.calls > 3:
                    loss = loss / 0.0
                if fault == "not finite in half" and torch.is_autocast_enabled("cpu"):
                    loss = loss * float("nan")
                return loss, features if fault == "a live graph" else features.detach()

            def after_step(self, step: int) -> None: ...

        return Objective()

    return build


def objective(check: str, fault: str, said: str) -> Case:
    cls = made("objective", objective_of(fault))
    return Case(contract=ObjectiveContract, check=check, cls=cls, said=said, fault=fault)


OBJECTIVES = [
    objective("test_gives_a_finite_loss_and_features", "no views", "not a number of views"),
    objective("test_gives_a_finite_loss_and_features", "a vector", "no finite scalar"),
    objective("test_gives_a_finite_loss_and_features", "a live graph", "carry a gradient"),
    objective("test_gives_a_finite_loss_and_features", "no gradient", "no gradient reaches the backbone"),
    objective("test_gives_a_finite_loss_and_features", "not finite in half", "no finite scalar in bf16"),
    objective("test_trains", "blows up", "within six steps the loss is not finite"),
    objective("test_goes_on_from_its_state", "counts in itself", "resumed from its state dict it goes on otherwise"),
]
CASES = [*BACKBONES, *ADAPTERS, *OBJECTIVES]
