"""A bundle of a tiny model that knows red from blue, made of in-memory components."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from roadwork_core import component, hookimpl, option
from roadwork_core.bundle.deciding import decider_of
from roadwork_core.bundle.golden import expected_document, write_pictures
from roadwork_core.bundle.license import license_text
from roadwork_core.bundle.runtime import make_scorer
from roadwork_core.bundle.write import Contents, emit, seal
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.decisions import Decisions
from roadwork_core.errors import Problem
from roadwork_core.files import digest_json, pretty_json
from roadwork_core.model import Classifier, save_weights
from roadwork_core.plugins import Plugins

LABELS = ["no_roadwork", "roadwork"]
PREPROCESSING = Preprocessing(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), min_side=8)


class MeanColour(nn.Module):
    """Mean colour, then one linear layer."""

    feature_dim = 4

    def __init__(self) -> None:
        super().__init__()
        self.preprocessing = PREPROCESSING
        self.architecture: Mapping[str, Any] = {"width": 4}
        self.mix = nn.Linear(3, 4)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.mix(pixel_values.mean(dim=(2, 3)))

    def blocks(self) -> Sequence[nn.Module]:
        return [self.mix]


@component("backbone", "mean_colour")
class MeanColourBackbone:
    """Looks at the mean colour."""

    def build(self, ctx: Any) -> nn.Module:
        if ctx.architecture is not None and ctx.architecture["width"] != 4:
            raise ValueError("the width must be 4")
        return MeanColour()


@component("head", "plain")
class PlainHead:
    """One linear layer."""

    def build(self, ctx: Any) -> nn.Module:
        return nn.Linear(ctx.feature_dim, ctx.num_classes)


class _Identity:
    view_ids = ("identity",)
    min_side = 8

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx

    def views(self, image: Tensor) -> Sequence[Tensor]:
        return [self.ctx.to_input(image, self.ctx.image_size)]

    def fuse(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return logits[0]


@component("tta", "one_view")
class OneView:
    """The picture as it is."""

    def build(self, ctx: Any) -> _Identity:
        return _Identity(ctx)


@attrs.frozen
class ToyPolicy:
    """Positive where the margin is at least `cut`, abstaining within `band` of it; `fault` makes it misbehave."""

    cut: float
    band: float
    fault: str = ""

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        margin = logits[:, 1] - logits[:, 0]
        if self.fault == "raise":
            raise ValueError("out of order")
        if self.fault == "raise_on_large" and (margin > 5).any():
            raise ValueError("a large margin")
        labels = (margin >= self.cut).astype(np.int64)
        unsure = np.abs(margin - self.cut) < self.band
        sets = labels[:, None] == np.arange(2)
        sets[unsure] = self.fault != "empty_set"
        scores = 1 / (1 + np.exp(-margin))
        if self.fault == "nan_score":
            scores = np.full_like(scores, np.nan)
        return Decisions(
            labels=np.where(unsure, -1, labels), scores=scores, sets=sets, reasons=[f"cut {self.cut}"] * len(labels)
        )

    def state(self) -> Mapping[str, Any]:
        return {"cut": self.cut, "band": self.band, "fault": self.fault}

    def summary(self) -> Mapping[str, Any]:
        return {}

    def guarantee(self) -> Mapping[str, Any] | None:
        return None


def _restore(state: Mapping[str, Any]) -> ToyPolicy:
    if state["fault"] == "restore":
        raise ValueError("a policy of another time")
    return ToyPolicy(float(state["cut"]), float(state["band"]), state["fault"])


@component("policy", "cut")
class CutPolicy:
    """A cut."""

    mode: ClassVar[str] = "fast"

    def build(self, ctx: Any) -> ToyPolicy:
        return ToyPolicy(0.0, 0.0)

    def restore(self, state: Mapping[str, Any], ctx: Any) -> ToyPolicy:
        return _restore(state)

    def requires(self) -> Sequence[str]:
        return ()


@component("policy", "band")
class BandPolicy:
    """A cut with a band around it in which it abstains."""

    mode: ClassVar[str] = "accurate"

    member: str | None = option(default=None, help="a policy that it needs")

    def build(self, ctx: Any) -> ToyPolicy:
        return ToyPolicy(0.0, 1.0)

    def restore(self, state: Mapping[str, Any], ctx: Any) -> ToyPolicy:
        if self.member is not None:
            ctx.members[self.member].decide(np.zeros((1, 2)))
        return _restore(state)

    def requires(self) -> Sequence[str]:
        return () if self.member is None else (self.member,)


class ToyPlugin:
    """The plugin; `problems` are what its bundle check answers."""

    def __init__(self, problems: Sequence[Problem] = ()) -> None:
        self.problems = problems
        self.seen: list[Any] = []

    @hookimpl
    def roadwork_components(self) -> Sequence[type]:
        return [MeanColourBackbone, PlainHead, OneView, CutPolicy, BandPolicy]

    @hookimpl
    def roadwork_bundle_check(self, bundle: Any) -> Sequence[Problem]:
        self.seen.append(bundle)
        return self.problems


def plugins(plugin: ToyPlugin | None = None) -> Plugins:
    return Plugins.of({"toy": plugin or ToyPlugin()})


def policy_document(
    name: str, use: str, *, cut: float = 0.0, band: float = 0.0, fault: str = "", member: str | None = None
) -> dict[str, Any]:
    return {
        "schema": "roadwork.policy/1",
        "name": name,
        "use": use,
        "options": {} if use == "cut" else {"member": member},
        "classes": LABELS,
        "positive": 1,
        "state": {"cut": cut, "band": band, "fault": fault},
        "summary": {},
        "guarantee": None,
        "members": [] if member is None else [member],
        "fitted_on": {"split": "val_calib", "n": 40, "groups": 40, "digest": "0" * 64},
        "tta": digest_json({"use": "one_view", "options": {}}),
    }


def standard_policies() -> dict[str, dict[str, Any]]:
    return {
        "threshold": policy_document("threshold", "cut"),
        "careful": policy_document("careful", "band", band=1.0, member="threshold"),
    }


def weights(path: Path) -> Path:
    """Weights with margin = 6 x (red - blue) of the normalised mean colour."""
    backbone = MeanColour()
    head = nn.Linear(4, 2)
    model = Classifier(backbone, head)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        backbone.mix.weight[0] = torch.tensor([1.0, 0.0, -1.0])
        head.weight[1, 0] = 6.0
    save_weights(model, path)
    return path


def picture(margin: float, size: tuple[int, int] = (12, 10)) -> NDArray[np.uint8]:
    """A picture, uint8 (H, W, 3), whose margin is near the asked one (at most 12 either way)."""
    # The margin is 12 x (red - blue) of colours in [0, 1].
    red, blue = 0.5 + margin / 24, 0.5 - margin / 24
    pixels = np.zeros((*size, 3), dtype=np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = round(255 * red), 90, round(255 * blue)
    return pixels


def model_document() -> dict[str, Any]:
    return {
        "schema": "roadwork.model/1",
        "backbone": {"use": "mean_colour", "options": {}, "architecture": {"width": 4}},
        "head": {"use": "plain", "options": {}},
        "feature_dim": 4,
        "classes": LABELS,
        "positive": 1,
        "preprocessing": PREPROCESSING.to_json(),
        "tta": {"use": "one_view", "options": {}, "digest": digest_json({"use": "one_view", "options": {}})},
    }


def contents(
    folder: Path,
    *,
    policies: Mapping[str, Mapping[str, Any]] | None = None,
    active: str = "careful",
    fallback: str | None = "threshold",
) -> Contents:
    """What `emit` takes, for a bundle of the toy model."""
    policies = standard_policies() if policies is None else policies
    model = model_document()
    scorer = make_scorer(model, weights(folder / "weights.safetensors"), plugins())
    decider = decider_of(policies, plugins(), active=active, fallback=fallback, num_classes=2, positive=1)
    golden = [torch.from_numpy(picture(margin).transpose(2, 0, 1).copy()) for margin in (-5, -2, -0.5, 0.5, 3, 7)]
    manifest = {
        "name": "toy",
        "description": "Red or blue.",
        "license": "Apache-2.0",
        "labels": LABELS,
        "positive": "roadwork",
        "signature": {
            "input": {
                "kind": "image",
                "dtype": "uint8",
                "shape": [3, None, None],
                "range": [0, 255],
                "colour": "RGB",
                "min_side": 8,
                "max_pixels": 1_000_000,
            },
            "output": {"dtype": "float64", "shape": [None, 2], "meaning": "logits"},
        },
        "preprocessing": model["preprocessing"],
        "score": {"meaning": "P(roadwork)", "range": [0, 1]},
        "active": active,
        "fallback": fallback,
        "provenance": {
            "roadwork": "0.1.0",
            "plugins": {"toy": {"distribution": "(in memory)", "version": "0"}},
            "data": {"digest": None, "splits": {"train": 10}},
            "spec": "0" * 64,
            "git_commit": None,
        },
        "evidence": {
            name: {"split": "test", "n": 100, "metrics": {"mcc": {"value": 0.9, "low": 0.8, "high": 0.95}}}
            for name in policies
        },
    }
    return Contents(
        manifest=manifest,
        model=model,
        weights=folder / "weights.safetensors",
        policies=policies,
        modes_of={name: "fast" if policy["use"] == "cut" else "accurate" for name, policy in policies.items()},
        golden_inputs=write_pictures(golden),
        golden_expected=expected_document(scorer.logits(golden), decider, LABELS),
        spec='spec_version = 1\nname = "toy"\n',
        card="# toy\n",
        license=license_text("Apache-2.0"),
    )


def make(folder: Path, **changes: Any) -> Path:
    """Emits a toy bundle below `folder` and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    emit(contents(folder, **changes), folder / "toy", plugins())
    return folder / "toy"


def copy(bundle: Path, target: Path) -> Path:
    shutil.copytree(bundle, target, symlinks=True)
    return target


def edit(path: Path, change: Any) -> None:
    """Rewrites a JSON document of a bundle after `change(document)`, without sealing."""
    document = json.loads(path.read_bytes())
    change(document)
    path.write_bytes(pretty_json(document))


def reseal(bundle: Path) -> None:
    """Makes sizes, digests and id right again: what a forger would do."""
    seal(bundle, json.loads((bundle / "bundle.json").read_bytes()))
