"""A head that pools tokens runs whole, to a bundle whose replay gives the bits that the run was fitted on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from roadwork_core.bundle import Level, load
from roadwork_core.cli import main
from roadwork_core.data.decode import decode
from roadwork_core.errors import SpecError
from roadwork_core.model import rebuild
from roadwork_core.plugins import Plugins

from .tiny import tiny_spec

POOL = """
[head]
use = "attention_pool"
heads = 2
[policy.threshold]
use = "threshold"
"""


def vit_spec(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        patch_size=8,
        image_size=32,
    )
    config.save_pretrained(folder / "checkpoint")
    path = tiny_spec(folder, n=100, epochs=1, extra=POOL)
    backbone = f'use = "transformers"\nmodel = "{folder / "checkpoint"}"\npretrained = false'
    path.write_text(path.read_text().replace('use = "small_cnn"', backbone))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["small_cnn", "vit"])
def test_a_run_ends_in_a_bundle_that_replays_and_shows_pooled_features(
    backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = vit_spec(tmp_path) if backbone == "vit" else tiny_spec(tmp_path, n=100, epochs=1, extra=POOL)
    assert main(["run", str(spec), "--runs-dir", str(tmp_path / "runs")]) == 0
    run = tmp_path / "runs" / "tiny"
    bundle = run / "bundle" / "tiny"
    capsys.readouterr()
    assert main(["bundle", "verify", str(bundle), "--level", "replay"]) == 0
    scorer = load(bundle, Level.LOAD, device="cpu", backend="torch").runtime.scorer
    rows = [json.loads(line) for line in (run / "prepare/samples/test.jsonl").read_text().splitlines()][:5]
    pictures = [decode(Path(row["path"]), min_side=scorer.min_side) for row in rows]
    scored = scorer.scored([torch.from_numpy(pixels).permute(2, 0, 1) for pixels in pictures])
    # One vector for each picture, as wide as a token: what mining and drift compare.
    assert scored.features is not None
    assert scored.features.shape == (5, 16 if backbone == "vit" else 128)
    kept = (run / "score" / "test.csv").read_text().splitlines()[1:6]
    logits = np.array([[float(value) for value in line.split(",")[3:]] for line in kept])
    np.testing.assert_array_equal(scored.logits, logits)


def test_a_model_with_the_former_attention_pool_is_refused_in_one_line() -> None:
    """It divided a pooled vector into `parts`: another network under the same name."""
    small = {"width": 4, "stages": 2, "depth": 1, "image_size": 32, "norm": "batch"}
    document = {
        "backbone": {"use": "small_cnn", "options": small, "architecture": small},
        "head": {"use": "attention_pool", "options": {"parts": 2, "heads": 4}},
        "feature_dim": 8,
        "classes": ["clear", "roadwork"],
    }
    with pytest.raises(SpecError) as caught:
        rebuild(document, Plugins.load())
    [problem] = caught.value.problems()
    assert problem.message == 'unknown key "parts" of head attention_pool'
