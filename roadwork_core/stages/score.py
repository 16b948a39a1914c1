"""The stage score: logits of the held-out splits by the classifier as it was written, with the spec's TTA."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accelerate import PartialState
from accelerate.utils import parse_flag_from_env

from roadwork_core.data.loading import read_rows
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.evaluation.scoring import score_rows
from roadwork_core.files import digest_json, pretty_json, write_atomic
from roadwork_core.inference import Scorer, build_tta
from roadwork_core.model import load_weights, rebuild
from roadwork_core.spec import component_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from roadwork_core.data.sample import Row
    from roadwork_core.runs import StageContext

SPLITS = ("val_select", "val_calib", "test")


def run(ctx: StageContext) -> Mapping[str, Any]:
    """Writes <split>.csv (index, label, group, logit_0, ...) for each split, and tta.json with the TTA's digest.

    The model is made from train/model.json and train/weights.safetensors, never taken from memory, so its logits are
    those that a bundle will give. Raises NumericalError for a logit that is not finite.
    """
    document = json.loads(ctx.input("train", "model.json").read_bytes())
    scorer = _scorer(ctx, document)
    tta = _tta_document(ctx)
    write_atomic(ctx.folder / "tta.json", pretty_json(tta))
    samples = {}
    for split in SPLITS:
        rows = read_rows(ctx.input("prepare", f"samples/{split}.jsonl"))
        logits = score_rows(
            scorer,
            rows,
            classes=len(document["classes"]),
            name=split,
            console=ctx.console,
            max_pixels=ctx.spec.data.max_pixels,
            workers=ctx.spec.data.workers,
        )
        write_atomic(ctx.folder / f"{split}.csv", scores_csv(rows, logits))
        samples[split] = len(rows)
    return {"samples": samples, "views": len(scorer.tta.view_ids), "tta": tta["digest"], "device": str(scorer.device)}


def scores_csv(rows: Sequence[Row], logits: NDArray[np.float64]) -> bytes:
    """The scores file of a split: floats by repr, so that reading them gives the same bits back.

    `logits` float64 (n, C). `index` is the sample's number in the whole table, `label` its class index.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "label", "group", *(f"logit_{column}" for column in range(logits.shape[1]))])
    for row, values in zip(rows, logits.tolist(), strict=True):
        writer.writerow([row.index, row.target, row.group, *map(repr, values)])
    return text.getvalue().encode()


def _scorer(ctx: StageContext, document: Mapping[str, Any]) -> Scorer:
    model = rebuild(document, ctx.plugins)
    load_weights(model, ctx.input("train", "weights.safetensors"))
    preprocessing = Preprocessing.from_json(document["preprocessing"])
    tta = build_tta(ctx.spec.tta, preprocessing, len(document["classes"]))
    device = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device
    return Scorer(model, preprocessing, tta, device=device)


def _tta_document(ctx: StageContext) -> dict[str, Any]:
    part = {"use": ctx.plugins.use_name(ctx.spec.tta), "options": component_options(ctx.spec.tta)}
    return {**part, "digest": digest_json(part)}
