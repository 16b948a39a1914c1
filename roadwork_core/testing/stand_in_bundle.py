"""A small bundle that exporters are tried on. Imports torch: only contracts import this, when they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__, component, hookimpl
from ..bundle import Level, load
from ..bundle.deciding import decider_of
from ..bundle.format import tta_digest
from ..bundle.golden import expected_document, write_pictures
from ..bundle.license import license_text
from ..bundle.runtime import Runtime, make_scorer
from ..bundle.write import Contents, emit
from ..decisions import Decisions
from ..kinds import BackboneContext, HeadContext, PolicyContext, PolicyRestoreContext, TtaContext
from ..model import Classifier, save_weights
from ..plugins import Plugins
from .stand_ins import SIDE, StandInBackbone, backbone, pictures

LABELS = ("no_roadwork", "roadwork")


@component("backbone", "stand_in")
class _Backbone:
    """The tiny vision transformer of the stand-ins."""

    gives_tokens: ClassVar[bool] = True

    def build(self, ctx: BackboneContext) -> nn.Module:
        return StandInBackbone()


@component("head", "stand_in")
class _Head:
    """One linear layer."""

    def build(self, ctx: HeadContext) -> nn.Module:
        return nn.Linear(ctx.feature_dim, ctx.num_classes)


@frozen
class _OneView:
    ctx: TtaContext
    view_ids: Sequence[str] = ("identity",)
    min_side: int = SIDE

    def views(self, image: Tensor) -> Sequence[Tensor]:
        return [self.ctx.to_input(image, self.ctx.image_size)]

    def fuse(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return logits[0]


@component("tta", "stand_in")
class _Tta:
    """The evaluation transform alone."""

    def build(self, ctx: TtaContext) -> _OneView:
        return _OneView(ctx)


@frozen
class _Cut:
    cut: float

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        margins = logits[:, 1] - logits[:, 0]
        labels = (margins >= self.cut).astype(np.int64)
        return Decisions(
            labels=labels,
            scores=1.0 / (1.0 + np.exp(-margins)),
            sets=labels[:, None] == np.arange(2),
            reasons=[f"margin against {self.cut}"] * len(labels),
        )

    def state(self) -> Mapping[str, Any]:
        return {"cut": self.cut}

    def summary(self) -> Mapping[str, Any]:
        return {"threshold": self.cut}

    def guarantee(self) -> None:
        return None


@component("policy", "stand_in")
class _Policy:
    """One cut on the margin."""

    mode: ClassVar[str] = "fast"

    def build(self, ctx: PolicyContext) -> _Cut:
        return _Cut(0.0)

    def restore(self, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> _Cut:
        return _Cut(float(state["cut"]))

    def requires(self) -> Sequence[str]:
        return ()


class _Plugin:
    @hookimpl
    def roadwork_components(self) -> Sequence[type]:
        return [_Backbone, _Head, _Tta, _Policy]


def with_stand_ins(plugins: Plugins) -> Plugins:
    """These plugins and one that supplies the parts of the stand-in bundle."""
    return plugins.extended({"stand_in": _Plugin()})


def runtime(folder: Path, plugins: Plugins) -> Runtime:
    """Emits the bundle below `folder` and brings it to life; `plugins` are those of `with_stand_ins`.

    Two classes, one view, one policy that cuts at the median of the golden pictures.
    """
    model = Classifier(backbone(), nn.Linear(16, 2)).eval()
    with torch.no_grad():
        weight = torch.linspace(-1.0, 1.0, 32).reshape(2, 16)
        model.head.weight.copy_(weight.sin() * 3.0)  # type: ignore[operator]
        model.head.bias.zero_()  # type: ignore[operator]
    use = plugins.use_name
    tta = {"use": use(_Tta()), "options": {}}
    document = {
        "schema": "roadwork.model/1",
        "backbone": {"use": use(_Backbone()), "options": {}, "architecture": {"stand_in": 1}},
        "head": {"use": use(_Head()), "options": {}},
        "feature_dim": 16,
        "classes": list(LABELS),
        "positive": 1,
        "preprocessing": model.backbone.preprocessing.to_json(),  # type: ignore[operator, union-attr]
        "tta": {**tta, "digest": tta_digest(tta)},
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / "weights.safetensors")
    golden = list(pictures(6, 48, 40))
    logits = make_scorer(document, folder / "weights.safetensors", plugins).logits(golden)
    ordered = np.sort(logits[:, 1] - logits[:, 0])
    cut = float((ordered[2] + ordered[3]) / 2)
    policy = {
        "schema": "roadwork.policy/1",
        "name": "threshold",
        "use": use(_Policy()),
        "options": {},
        "classes": list(LABELS),
        "positive": 1,
        "state": {"cut": cut},
        "summary": {"threshold": cut},
        "guarantee": None,
        "members": [],
        "fitted_on": {"split": "val_calib", "n": 6, "groups": 6, "digest": "0" * 64},
        "tta": tta_digest(tta),
    }
    decider = decider_of({"threshold": policy}, plugins, active="threshold", fallback=None, num_classes=2, positive=1)
    contents = Contents(
        manifest=_manifest(document),
        model=document,
        weights=folder / "weights.safetensors",
        policies={"threshold": policy},
        modes_of={"threshold": "fast"},
        golden_inputs=write_pictures(golden),
        golden_expected=expected_document(logits, decider, LABELS),
        spec='spec_version = 1\nname = "stand_in"\n',
        card="# stand_in\n\nA stand-in.\n",
        license=license_text("Apache-2.0"),
    )
    emit(contents, folder / "stand_in", plugins)
    return load(folder / "stand_in", Level.LOAD, plugins=plugins, device="cpu").runtime


def _manifest(model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "stand_in",
        "description": "A stand-in.",
        "license": "Apache-2.0",
        "labels": list(LABELS),
        "positive": LABELS[1],
        "signature": {
            "input": {
                "kind": "image",
                "dtype": "uint8",
                "shape": [3, None, None],
                "range": [0, 255],
                "colour": "RGB",
                "min_side": SIDE,
                "max_pixels": 1_000_000,
            },
            "output": {"dtype": "float64", "shape": [None, 2], "meaning": "logits"},
        },
        "preprocessing": model["preprocessing"],
        "score": {"meaning": f"P({LABELS[1]})", "range": [0, 1]},
        "active": "threshold",
        "fallback": None,
        "provenance": {
            "roadwork": __version__,
            "plugins": {"stand_in": {"distribution": "(in memory)", "version": "0"}},
            "data": {"digest": None, "splits": {"train": 10}},
            "spec": "0" * 64,
            "git_commit": None,
        },
        "evidence": {
            "threshold": {"split": "test", "n": 6, "metrics": {"mcc": {"value": 0.9, "low": 0.8, "high": 0.95}}}
        },
    }
