"""Bundles of installed components with random weights, fitted policies and pictures to be exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from roadwork_core.bundle.deciding import decider_of
from roadwork_core.bundle.format import ONNX
from roadwork_core.bundle.golden import TOLERANCE, expected_document, write_pictures
from roadwork_core.bundle.onnx_writing import carried_network
from roadwork_core.bundle.runtime import make_scorer
from roadwork_core.bundle.write import emit
from roadwork_core.files import digest_json
from roadwork_core.kinds import BackboneContext, HeadContext, Kind
from roadwork_core.model import Classifier, reads_tokens, save_weights
from roadwork_core.plugins import Plugins
from roadwork_core.policies import Scores, fit_policies
from roadwork_core.spec import component_options, resolve_component
from tests.bundle import toy

SMALL_CNN = {"use": "small_cnn", "width": 8, "stages": 3, "depth": 1, "image_size": 32}


def checkpoint(folder: Path, config: Any) -> Path:
    """A checkpoint folder of transformers without weights."""
    config.save_pretrained(folder)
    return folder


def smooth_pictures(count: int, height: int, width: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Colourful pictures, uint8 (height, width, 3), that differ from one another."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((count, 3, 5, 5)))
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return [(picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for picture in fine]


def make_bundle(
    folder: Path,
    *,
    backbone: Mapping[str, Any] = SMALL_CNN,
    head: Mapping[str, Any] | None = None,
    tta: Mapping[str, Any] | None = None,
    size: tuple[int, int] = (40, 50),
    active: str = "hybrid",
    onnx: bool = False,
) -> Path:
    """Emits a bundle with the policies threshold, scrc and hybrid, fitted around its own logits; with `onnx` it carries
    its network in ONNX."""
    plugins = Plugins.load()
    folder.mkdir(parents=True, exist_ok=True)

    def part(kind: Kind, table: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        component = resolve_component(kind, dict(table), plugins)
        options = {key: value for key, value in component_options(component).items() if value is not None}
        return component, {"use": table["use"], "options": options}

    torch.manual_seed(0)
    backbone_component, backbone_part = part(Kind.BACKBONE, backbone)
    head_component, head_part = part(Kind.HEAD, head or {"use": "linear"})
    _, tta_part = part(Kind.TTA, tta or {"use": "none"})
    made = backbone_component.build(BackboneContext())
    token_dim = made.token_dim if reads_tokens(head_component) else None
    made_head = head_component.build(HeadContext(feature_dim=made.feature_dim, num_classes=2, token_dim=token_dim))
    with torch.no_grad():
        # Batch norms see data first; otherwise random networks answer the same to everything.
        made.train()
        for _ in range(20):
            made(torch.rand(8, 3, *made.preprocessing.size) * 4 - 2)
        made.eval()
        made_head.linear.weight.mul_(20.0)
    save_weights(Classifier(made, made_head), folder / "weights.safetensors")
    digest = digest_json(tta_part)
    model = {
        "schema": "roadwork.model/1",
        "backbone": {**backbone_part, "architecture": dict(made.architecture)},
        "head": head_part,
        "feature_dim": made.feature_dim,
        "classes": toy.LABELS,
        "positive": 1,
        "preprocessing": made.preprocessing.to_json(),
        "tta": {**tta_part, "digest": digest},
    }
    golden = [torch.from_numpy(p.transpose(2, 0, 1).copy()) for p in smooth_pictures(6, *size)]
    scorer = make_scorer(model, folder / "weights.safetensors", plugins)
    logits = scorer.logits(golden)
    carried = carried_network(scorer, golden, folder / "weights.safetensors", TOLERANCE) if onnx else None
    if carried is not None:
        model["onnx"] = carried.described
    policies = _policies(logits[:, 1] - logits[:, 0], digest, plugins)
    decider = decider_of(policies, plugins, active=active, fallback="threshold", num_classes=2, positive=1)
    (folder / "toy").mkdir()
    plain = toy.contents(folder / "toy")
    contents = attrs.evolve(
        plain,
        manifest={
            **plain.manifest,
            "preprocessing": model["preprocessing"],
            "active": active,
            "fallback": "threshold",
            "evidence": {},
        },
        model=model,
        weights=folder / "weights.safetensors",
        policies=policies,
        modes_of={"threshold": "fast", "scrc": "accurate", "hybrid": "hybrid"},
        golden_inputs=write_pictures(golden),
        golden_expected=expected_document(logits, decider, toy.LABELS),
        extra={} if carried is None else {ONNX: carried.content},
    )
    emit(contents, folder / "bundle", plugins)
    return folder / "bundle"


def _policies(margins: NDArray[np.float64], digest: str, plugins: Plugins) -> dict[str, dict[str, Any]]:
    """Fitted on margins spread as the golden ones are, of which the larger are positive more often."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    spread = max(float(margins.std()), 1e-6)
    drawn = float(np.median(margins)) + spread * rng.normal(1.5 * (2 * labels - 1), 1.0)
    logits = np.stack([np.zeros(300), drawn], axis=1)
    tables: dict[str, dict[str, Any]] = {
        "threshold": {"use": "threshold", "bootstrap": 20},
        "scrc": {"use": "scrc", "alpha": 0.2},
        "hybrid": {"use": "hybrid"},
    }
    components = {name: resolve_component(Kind.POLICY, table, plugins) for name, table in tables.items()}
    scores = Scores(logits=logits, labels=labels, groups=None)
    fitted = fit_policies(
        components, scores, classes=toy.LABELS, positive=1, seed=0, plugins=plugins, split="val_calib", tta=digest
    )
    return {name: document for name, (document, _) in fitted.items()}
