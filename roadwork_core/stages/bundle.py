"""The stage that emits the bundle: only after it has given again what was scored, fitted and evaluated."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from roadwork_core import __version__
from roadwork_core.backends import onnx_can_be_written
from roadwork_core.bundle import golden
from roadwork_core.bundle.deciding import Decider, decider_of
from roadwork_core.bundle.format import ONNX
from roadwork_core.bundle.license import license_text
from roadwork_core.bundle.runtime import make_scorer
from roadwork_core.bundle.write import Contents, emit, serving_modes
from roadwork_core.component import component_info
from roadwork_core.errors import Problem, RoadworkError, VerificationError
from roadwork_core.extras import how_to_install
from roadwork_core.files import digest_json
from roadwork_core.policies import read_scores
from roadwork_core.report.card import Card, model_card
from roadwork_core.report.html import split_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roadwork_core.bundle.onnx_writing import CarriedNetwork
    from roadwork_core.inference import Scorer
    from roadwork_core.runs import StageContext

#: Pictures above this many pixels are kept as golden ones only where there are no others.
GOLDEN_PIXELS = 2_000_000


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes the bundle to `<spec.name>/`, verified at `replay`."""
    model = _read(ctx, "train", "model.json")
    tta = _read(ctx, "score", "tta.json")
    model["tta"] = {key: tta[key] for key in ("use", "options", "state", "digest") if key in tta}
    weights = ctx.input("train", "weights.safetensors")
    metrics = _read(ctx, "evaluate", "metrics.json")
    report = _read(ctx, "prepare", "report.json")
    policies = {name: _read(ctx, "fit", f"policies/{name}.json") for name in ctx.spec.policy}
    modes_of = {name: str(getattr(component, "mode", "fast")) for name, component in ctx.spec.policy.items()}
    active = active_policy(ctx)
    decider = decider_of(
        policies,
        ctx.plugins,
        active=active,
        fallback=ctx.spec.bundle.fallback,
        num_classes=len(model["classes"]),
        positive=model["positive"],
    )
    for name, reason in decider.broken.items():
        raise RoadworkError(f"the fitted policy {name} cannot be restored: {reason}")
    scorer = make_scorer(model, weights, ctx.plugins)
    pictures, logits = _golden(ctx, scorer, decider)
    expected = golden.expected_document(logits, decider, model["classes"])
    network = _in_onnx(ctx, scorer, decider, pictures, weights, expected, model["classes"])
    if network is not None:
        model["onnx"] = network.described
    contents = Contents(
        manifest=_manifest(ctx, model, metrics, report, scorer, active),
        model=model,
        weights=weights,
        policies=policies,
        modes_of=modes_of,
        golden_inputs=golden.write_pictures(pictures),
        golden_expected=expected,
        spec=_spec_text(ctx),
        card=model_card(_card(ctx, model, metrics, report, policies, modes_of, active)),
        license=license_text(ctx.spec.bundle.license),
        extra={} if network is None else {ONNX: network.content},
    )
    found = emit(contents, ctx.folder / ctx.spec.name, ctx.plugins)
    files = found.bundle.manifest["files"] if found.bundle else {}
    return {
        "bundle_id": found.bundle.id if found.bundle else None,
        "bytes": sum(entry["size"] for entry in files.values()),
        "golden": len(pictures),
        "onnx": None if network is None else network.described["difference"],
    }


def fingerprint_inputs(ctx: StageContext) -> Any:
    """What the bundle depends on beside the run: whether a network in ONNX can be had, where the spec leaves it to
    that."""
    return {"onnx": onnx_can_be_written()} if ctx.spec.bundle.onnx == "auto" else None


def _in_onnx(
    ctx: StageContext,
    scorer: Scorer,
    decider: Decider,
    pictures: Sequence[Any],
    weights: Path,
    expected: Mapping[str, Any],
    classes: Sequence[str],
) -> CarriedNetwork | None:
    """The network in ONNX, or None where the spec does not want it, or leaves it to what can be had.

    Raises RoadworkError where the spec wants it and it cannot be had, or decides otherwise on the golden pictures.
    """
    wanted = ctx.spec.bundle.onnx
    if wanted == "off":
        return None
    if wanted == "auto" and not onnx_can_be_written():
        ctx.console.warn(f"the bundle computes with torch alone: ONNX is not installed ({how_to_install('onnx')})")
        return None
    from roadwork_core.bundle.onnx_writing import carried_network
    from roadwork_core.inference import Scorer

    try:
        carried = carried_network(scorer, pictures, weights, golden.TOLERANCE)
        with_it = Scorer(carried.network, scorer.preprocessing, scorer.tta)
        if problems := golden.replay(expected, pictures, with_it, decider, classes):
            raise VerificationError("ONNX Runtime decides otherwise on the golden pictures", problems)
        return carried
    except Exception as error:
        # Nothing that only this part of a bundle has may cost a run its bundle.
        if wanted == "on":
            raise
        why = error.message if isinstance(error, RoadworkError) else f"{type(error).__name__}: {error}"
        ctx.console.warn(f"the bundle computes with torch alone: {why}")
        return None


def active_policy(ctx: StageContext) -> str:
    """The policy that decides by default: the one that the spec names, or the only one."""
    named = ctx.spec.bundle.active
    return str(named) if named is not None else next(iter(ctx.spec.policy))


def _read(ctx: StageContext, stage: str, name: str) -> Any:
    return json.loads(ctx.input(stage, name).read_bytes())


def _spec_text(ctx: StageContext) -> str:
    from roadwork_core.spec import dump_toml

    return dump_toml(ctx.resolved.experiment)


def _golden(ctx: StageContext, scorer: Scorer, decider: Decider) -> tuple[list[Any], NDArray[np.float64]]:
    """Pictures of val_calib, and their logits by the weights that go into the bundle.

    Raises VerificationError where these differ from the logits that the policies were fitted on.
    """
    import torch

    from roadwork_core.data.decode import decode

    rows = {row["index"]: row for row in map(json.loads, _lines(ctx))}
    scores = read_scores(ctx.input("score", "val_calib.csv"))
    indices = _indices(ctx)
    labels = np.asarray(scores.labels)
    usable = np.flatnonzero([_pixels(rows[index]) <= GOLDEN_PIXELS for index in indices])
    among = usable if len(usable) >= ctx.spec.bundle.golden else np.arange(len(indices))
    chosen = among[golden.choose(scores.logits[among], labels[among], decider, ctx.spec.bundle.golden)]
    pictures = []
    for place in chosen.tolist():
        path = rows[indices[place]]["path"]
        pixels = decode(Path(path), min_side=scorer.min_side, max_pixels=ctx.spec.data.max_pixels)
        pictures.append(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))))
    logits = scorer.logits(pictures)
    problems = [
        Problem(f"picture {rows[indices[chosen[row]]]['path']}: {reason}", hint="score again: delete the score stage")
        for row, reason in golden.logit_problems(scores.logits[chosen], logits, golden.TOLERANCE)
    ]
    if problems:
        raise VerificationError("the weights do not give the logits that the policies were fitted on", problems)
    return pictures, logits


def _lines(ctx: StageContext) -> Sequence[str]:
    return ctx.input("prepare", "samples/val_calib.jsonl").read_text().splitlines()


def _indices(ctx: StageContext) -> list[int]:
    """The sample numbers of the score file's rows, in its order."""
    with ctx.input("score", "val_calib.csv").open(newline="") as file:
        return [int(row["index"]) for row in csv.DictReader(file)]


def _pixels(row: Mapping[str, Any]) -> int:
    return int(row["width"]) * int(row["height"])


def _manifest(
    ctx: StageContext,
    model: Mapping[str, Any],
    metrics: Mapping[str, Any],
    report: Mapping[str, Any],
    scorer: Scorer,
    active: str,
) -> dict[str, Any]:
    labels, positive = model["classes"], model["classes"][model["positive"]]
    return {
        "name": ctx.spec.name,
        "description": ctx.spec.bundle.description or ctx.spec.description,
        "license": ctx.spec.bundle.license,
        "labels": labels,
        "positive": positive,
        "signature": {
            "input": {
                "kind": "image",
                "dtype": "uint8",
                "shape": [3, None, None],
                "range": [0, 255],
                "colour": "RGB",
                "min_side": scorer.min_side,
                "max_pixels": ctx.spec.data.max_pixels,
            },
            "output": {"dtype": "float64", "shape": [None, len(labels)], "meaning": "logits, one per label in order"},
        },
        "preprocessing": model["preprocessing"],
        "score": {"meaning": f"P({positive}) as the policy that decided sees it", "range": [0, 1]},
        "active": active,
        "fallback": ctx.spec.bundle.fallback,
        "provenance": _provenance(ctx, report),
        "evidence": {name: _evidence(policy, metrics) for name, policy in metrics["policies"].items()},
    }


def _evidence(policy: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("metrics_of", "coverage", "selective_risk", "audit", "must_answer")
    return {
        "split": metrics["split"],
        "n": policy["n"],
        "groups": metrics["groups"],
        "metrics": {**policy["metrics"], **policy["scores"]},
        **{key: policy[key] for key in kept if key in policy},
    }


def _provenance(ctx: StageContext, report: Mapping[str, Any]) -> dict[str, Any]:
    from roadwork_core.runs.fingerprint import components_of_run, git_state

    owners = [ctx.plugins.owner(component) for component in components_of_run(ctx.resolved)]
    git = git_state()
    return {
        "roadwork": __version__,
        "plugins": {
            owner.name: {"distribution": owner.distribution, "version": owner.version}
            for owner in sorted(owners, key=lambda owner: (owner.name, owner.distribution))
        },
        "data": {
            "digest": report["digest"],
            "splits": {row["split"]: row["n"] for row in split_rows(report)},
        },
        "spec": digest_json(ctx.resolved.experiment),
        "git_commit": None if git is None else git["commit"] + ("+changes" if git["dirty"] else ""),
    }


def _card(
    ctx: StageContext,
    model: Mapping[str, Any],
    metrics: Mapping[str, Any],
    report: Mapping[str, Any],
    policies: Mapping[str, Mapping[str, Any]],
    modes_of: Mapping[str, str],
    active: str,
) -> Card:
    options = ", ".join(f"{key} {value}" for key, value in model["backbone"]["options"].items() if value is not None)
    return Card(
        name=ctx.spec.name,
        description=ctx.spec.bundle.description or ctx.spec.description,
        license=ctx.spec.bundle.license,
        labels=model["classes"],
        positive=model["classes"][model["positive"]],
        metrics=metrics,
        policies=policies,
        modes=serving_modes(active, modes_of),
        active=active,
        fallback=ctx.spec.bundle.fallback,
        data=report,
        backbone=f"`{model['backbone']['use']}`" + (f" ({options})" if options else ""),
        tta=f"`{model['tta']['use']}`",
        version=__version__,
        dataset=f"`{_use(ctx.spec.data.component)}`",
        training=_training(ctx),
    )


def _use(component: Any) -> str:
    return component_info(component).name


def _training(ctx: StageContext) -> str:
    """Components by name, in the order in which they act, and how long."""
    spec = ctx.spec
    parts = [f"the adapter `{_use(spec.adapter)}`", f"the loss `{_use(spec.loss)}`"]
    parts.append(f"the optimizer `{_use(spec.optimizer.component)}`")
    if spec.adapt is not None:
        parts.insert(0, f"self-supervised adaptation by `{_use(spec.adapt.objective)}`")
    epochs = spec.train.epochs
    return f"{', '.join(parts)}, for {epochs} epoch{'s' if epochs != 1 else ''} of which val_select chose one"
