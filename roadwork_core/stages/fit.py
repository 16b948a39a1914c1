"""The stage that fits every policy of the spec on val_calib, and on nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from roadwork_core.files import pretty_json, write_atomic
from roadwork_core.policies import fit_policies, read_scores, sweep_csv

if TYPE_CHECKING:
    from roadwork_core.runs import StageContext


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes policies/<name>.json, and sweeps/<name>.csv for each policy that swept a threshold."""
    scores_path = ctx.input("score", "val_calib.csv")
    classes = json.loads(ctx.input("prepare", "classes.json").read_bytes())
    tta = json.loads(ctx.input("score", "tta.json").read_bytes())
    fitted = fit_policies(
        ctx.spec.policy,
        read_scores(scores_path),
        classes=classes["classes"],
        positive=classes["positive"],
        seed=ctx.spec.seed,
        plugins=ctx.plugins,
        split="val_calib",
        tta=tta["digest"],
    )
    metrics = {}
    for name, (document, policy) in fitted.items():
        write_atomic(ctx.folder / "policies" / f"{name}.json", pretty_json(document))
        if (curve := sweep_csv(policy)) is not None:
            write_atomic(ctx.folder / "sweeps" / f"{name}.csv", curve)
        metrics[name] = document["summary"]
    return metrics
