"""The stage score: logits of the held-out splits by the classifier as it was written, with the spec's TTA."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from roadwork_core.bundle.format import tta_digest
from roadwork_core.data.loading import read_rows
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.errors import DataError, RoadworkError
from roadwork_core.evaluation.kept_logits import KeptLogits
from roadwork_core.evaluation.scoring import score_rows, score_views
from roadwork_core.files import pretty_json, write_atomic
from roadwork_core.inference import Scorer, build_tta, fused, unfitted
from roadwork_core.learned_tta import TtaFitContext, ViewScores
from roadwork_core.model import load_weights, reads_tokens, rebuild
from roadwork_core.policies import scores_csv
from roadwork_core.runs.fingerprint import library_versions, plugin_versions
from roadwork_core.spec import component_options
from roadwork_core.training.features import FEATURES_FOLDER, FeatureCache

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from roadwork_core.data.sample import Row
    from roadwork_core.learned_tta import LearnedTta
    from roadwork_core.runs import StageContext

SPLITS = ("val_select", "val_calib", "test")
#: What a test-time augmentation may be fitted on: never what policies are fitted on or what is reported.
FIT_SPLITS = ("train", "val_select")


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes <split>.csv (index, label, group, logit_0, ...) for each split, and tta.json with the TTA's digest.

    A TTA that learns is fitted first, on each view's logits of `train` or `val_select`; then all splits are scored
    with it, and tta.json holds its state.

    The model is made from train/model.json and train/weights.safetensors, never taken from memory, so its logits are
    those that a bundle will give. Raises NumericalError for a logit that is not finite, RoadworkError for a TTA that
    asks for a split that is not its to see.
    """
    document = json.loads(ctx.input("train", "model.json").read_bytes())
    scorer = _scorer(ctx, document)
    tta = _tta_document(ctx)
    kept: dict[str, NDArray[np.float64]] = {}
    if wanted := unfitted(scorer.tta):
        scorer, state, kept = _fitted(ctx, scorer, document, wanted)
        tta |= {"state": state}
    tta |= {"digest": tta_digest(tta)}
    summary = {"summary": scorer.tta.summary()} if hasattr(scorer.tta, "summary") else {}
    write_atomic(ctx.folder / "tta.json", pretty_json({**tta, **summary}))
    features = _kept_features(ctx, scorer, document)
    samples = {}
    for split in SPLITS:
        rows = read_rows(ctx.input("prepare", f"samples/{split}.jsonl"))
        if split in kept:
            logits = fused(scorer.tta, kept[split])
        elif features and features.serves(rows):
            logits = features.logits(rows, name=split)
        else:
            logits = score_rows(scorer, rows, name=split, **_reading(ctx, document))
        write_atomic(ctx.folder / f"{split}.csv", scores_csv(rows, logits))
        samples[split] = len(rows)
    return {
        "samples": samples,
        "views": len(scorer.tta.view_ids),
        "tta": tta["digest"],
        "device": str(scorer.device),
        "features": {"kept": features.features, "computed": features.computed} if features else None,
    }


def _kept_features(ctx: StageContext, scorer: Scorer, document: Mapping[str, Any]) -> KeptLogits | None:
    """Features in place of pictures, where no weight of the backbone trained and the spec does not forbid it.

    They change no logit, so what is read of the spec here is no part of what the stage depends on.
    """
    train = ctx.spec.train
    if document["adapter"]["modules"] or train.feature_cache == "off" or reads_tokens(ctx.spec.head):
        return None
    return KeptLogits(
        scorer=scorer,
        cache=FeatureCache(ctx.cache_dir / FEATURES_FOLDER, limit=int(train.feature_cache_gib * 2**30)),
        made_by={
            "architecture": document["backbone"]["architecture"],
            "versions": {**library_versions(), **plugin_versions([ctx.spec.backbone], ctx.plugins)},
        },
        console=ctx.console,
        workers=ctx.spec.data.workers,
        max_pixels=ctx.spec.data.max_pixels,
    )


def _scorer(ctx: StageContext, document: Mapping[str, Any]) -> Scorer:
    model = rebuild(document, ctx.plugins)
    load_weights(model, ctx.input("train", "weights.safetensors"))
    preprocessing = Preprocessing.from_json(document["preprocessing"])
    tta = build_tta(ctx.spec.tta, preprocessing, len(document["classes"]))
    device = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device
    return Scorer(model, preprocessing, tta, device=device)


def _reading(ctx: StageContext, document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "classes": len(document["classes"]),
        "console": ctx.console,
        "max_pixels": ctx.spec.data.max_pixels,
        "workers": ctx.spec.data.workers,
    }


def _fitted(
    ctx: StageContext, scorer: Scorer, document: Mapping[str, Any], wanted: Mapping[str, int | None]
) -> tuple[Scorer, Mapping[str, Any], dict[str, NDArray[np.float64]]]:
    """The scorer with its TTA fitted, the state, and the views' logits of the splits that need no second look."""
    if refused := sorted(set(wanted) - set(FIT_SPLITS)):
        raise RoadworkError(
            f"the TTA {ctx.plugins.use_name(ctx.spec.tta)} asks to be fitted on {', '.join(refused)}",
            hint=f"a TTA is fitted on {' or '.join(FIT_SPLITS)}; the other splits are not its to see",
        )
    rows, scores = {}, {}
    for split, limit in wanted.items():
        rows[split] = _drawn(read_rows(ctx.input("prepare", f"samples/{split}.jsonl")), limit, ctx.spec.seed)
        if not rows[split]:
            raise DataError(f"{split} has no samples, on which the test-time augmentation would be fitted")
        _, groups = np.unique([row.group for row in rows[split]], return_inverse=True)
        scores[split] = ViewScores(
            logits=score_views(scorer, rows[split], name=f"{split}, each view", **_reading(ctx, document)),
            labels=np.array([row.target for row in rows[split]], dtype=np.int64),
            groups=groups.astype(np.int64),
        )
    learned = cast("LearnedTta", scorer.tta)
    made = learned.fit(
        TtaFitContext(splits=scores, positive=document["positive"], seed=ctx.spec.seed, report=ctx.console.detail)
    )
    # Through JSON, so that what is used here is what a bundle will read.
    state = json.loads(json.dumps(made, allow_nan=False))
    tta = build_tta(ctx.spec.tta, scorer.preprocessing, len(document["classes"]), state)
    fitted = Scorer(scorer.model, scorer.preprocessing, tta, device=scorer.device)
    alike = list(tta.view_ids) == list(scorer.tta.view_ids) and fitted.min_side == scorer.min_side
    kept = {split: scores[split].logits for split in wanted if split in SPLITS and wanted[split] is None and alike}
    return fitted, state, kept


def _drawn(rows: Sequence[Row], limit: int | None, seed: int) -> Sequence[Row]:
    """At most `limit` of the rows, drawn by the seed, in their order."""
    if limit is None or len(rows) <= limit:
        return rows
    chosen = np.random.default_rng(seed).choice(len(rows), size=limit, replace=False)
    return [rows[index] for index in np.sort(chosen)]


def _tta_document(ctx: StageContext) -> dict[str, Any]:
    return {"use": ctx.plugins.use_name(ctx.spec.tta), "options": component_options(ctx.spec.tta, ctx.plugins)}
