"""The order of a run: each stage with the part of the spec that it depends on and the inputs that it may see."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from roadwork_core.runs import StageContext
    from roadwork_core.spec import Spec


@frozen(kw_only=True)
class Stage:
    """One step of a run. `spec_keys` are dotted keys of the resolved spec; `reads` are "stage/path" patterns.

    Where a run has several processes, all of them carry out a stage that is `shared`; the first one does the others.
    """

    name: str
    spec_keys: tuple[str, ...]
    reads: tuple[str, ...] = ()
    optional: bool = False
    shared: bool = False

    def wanted(self, spec: Spec) -> bool:
        """Whether this spec has the stage at all."""
        return not self.optional or getattr(spec, self.name) is not None

    def run(self, ctx: StageContext) -> Mapping[str, Any]:
        """Carries the stage out; returns the metrics for its manifest."""
        return self._module().run(ctx)

    def outside(self, ctx: StageContext) -> Any:
        """JSON value of what the stage depends on outside the run directory: data, what is installed."""
        module = self._module() if self.name in ("prepare", "bundle") else None
        return module.fingerprint_inputs(ctx) if module else None

    def _module(self) -> Any:
        return importlib.import_module(f"{__name__}.{self.name}")


STAGES = (
    Stage(name="prepare", spec_keys=("seed", "data", "adapt.data", "adapt.with_train")),
    Stage(
        name="adapt",
        spec_keys=("seed", "adapt", "backbone", "optimizer", "data.fit", "data.max_pixels", "train.precision"),
        reads=("prepare/samples/train.jsonl", "prepare/samples/unlabelled.jsonl", "prepare/classes.json"),
        optional=True,
        shared=True,
    ),
    Stage(
        name="train",
        spec_keys=(
            *("seed", "data.fit", "data.max_pixels", "augment", "backbone", "adapter", "head"),
            *("loss", "optimizer", "scheduler", "train"),
        ),
        reads=(
            "prepare/samples/train.jsonl",
            "prepare/samples/val_select.jsonl",
            "prepare/classes.json",
            "adapt/weights.safetensors",
        ),
        shared=True,
    ),
    Stage(
        name="score",
        spec_keys=("seed", "data.max_pixels", "tta"),
        reads=(
            # Only a test-time augmentation that learns on train is given its logits.
            "prepare/samples/train.jsonl",
            "prepare/samples/val_select.jsonl",
            "prepare/samples/val_calib.jsonl",
            "prepare/samples/test.jsonl",
            "train/weights.safetensors",
            "train/model.json",
        ),
    ),
    Stage(
        name="fit",
        spec_keys=("seed", "policy"),
        reads=("score/val_calib.csv", "score/tta.json", "prepare/classes.json"),
    ),
    Stage(
        name="evaluate",
        spec_keys=("seed", "name", "description", "evaluate", "policy", "bundle.active", "bundle.fallback"),
        reads=(
            "score/test.csv",
            "score/tta.json",
            "fit/policies/*.json",
            "fit/sweeps/*.csv",
            "prepare/samples/test.jsonl",
            "prepare/classes.json",
            "prepare/report.json",
            "train/history.jsonl",
            "train/model.json",
        ),
    ),
    Stage(
        name="bundle",
        spec_keys=(
            *("name", "description", "seed", "data", "augment", "backbone", "adapt", "adapter", "head", "loss"),
            *("optimizer", "scheduler", "train", "tta", "policy", "evaluate", "bundle"),
        ),
        reads=(
            "train/weights.safetensors",
            "train/model.json",
            "score/tta.json",
            "score/val_calib.csv",
            "fit/policies/*.json",
            "evaluate/metrics.json",
            "prepare/samples/val_calib.jsonl",
            "prepare/classes.json",
            "prepare/report.json",
        ),
    ),
)
