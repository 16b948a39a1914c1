"""A bundle of installed components predicts in a bare process: no run, no spec, no data, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image

from roadwork_core.bundle.deciding import decider_of
from roadwork_core.bundle.golden import expected_document, write_pictures
from roadwork_core.bundle.runtime import make_scorer
from roadwork_core.bundle.write import emit
from roadwork_core.data.preprocessing import Preprocessing
from roadwork_core.files import digest_json
from roadwork_core.kinds import BackboneContext, HeadContext, Kind
from roadwork_core.model import Classifier, save_weights
from roadwork_core.plugins import Plugins
from roadwork_core.policies import Scores, fit_policies
from roadwork_core.spec import component_options, resolve_component

from . import toy

#: Put on the path of the bare process: whatever opens a connection ends it.
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise SystemExit("tried to reach the network")
socket.socket.connect = refuse
socket.create_connection = refuse
socket.getaddrinfo = refuse
"""


def make_bundle(folder: Path) -> Path:
    plugins = Plugins.load()
    torch.manual_seed(0)

    def part(kind: Kind, use: str, **options: Any) -> tuple[Any, dict[str, Any]]:
        component = resolve_component(kind, {"use": use, **options}, plugins)
        return component, {"use": use, "options": component_options(component)}

    backbone_component, backbone_part = part(Kind.BACKBONE, "small_cnn", width=8, stages=3, depth=1, image_size=32)
    head_component, head_part = part(Kind.HEAD, "linear")
    _, tta_part = part(Kind.TTA, "flip")
    backbone = backbone_component.build(BackboneContext())
    head = head_component.build(HeadContext(feature_dim=backbone.feature_dim, num_classes=2))
    weights = folder / "weights.safetensors"
    save_weights(Classifier(backbone, head), weights)
    preprocessing: Preprocessing = backbone.preprocessing
    digest = digest_json(tta_part)
    model = {
        "schema": "roadwork.model/1",
        "backbone": {**backbone_part, "architecture": dict(backbone.architecture)},
        "head": head_part,
        "feature_dim": backbone.feature_dim,
        "classes": toy.LABELS,
        "positive": 1,
        "preprocessing": preprocessing.to_json(),
        "tta": {**tta_part, "digest": digest},
    }
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    logits = np.stack([np.zeros(300), rng.normal(3.0 * labels - 1.5, 1.5)], axis=1)
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
    policies = {name: document for name, (document, _) in fitted.items()}
    scorer = make_scorer(model, weights, plugins)
    decider = decider_of(policies, plugins, active="hybrid", fallback="threshold", num_classes=2, positive=1)
    golden = [torch.from_numpy(rng.integers(0, 256, (3, 40, 50), dtype=np.uint8)) for _ in range(3)]
    (folder / "toy").mkdir()
    plain = toy.contents(folder / "toy")
    contents = attrs.evolve(
        plain,
        manifest={
            **plain.manifest,
            "preprocessing": model["preprocessing"],
            "active": "hybrid",
            "fallback": "threshold",
            "evidence": {},
        },
        model=model,
        weights=weights,
        policies=policies,
        modes_of={"threshold": "fast", "scrc": "accurate", "hybrid": "hybrid"},
        golden_inputs=write_pictures(golden),
        golden_expected=expected_document(scorer.logits(golden), decider, toy.LABELS),
    )
    emit(contents, folder / "bundle", plugins)
    return folder / "bundle"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle on "another machine": elsewhere, and all that it was made from is gone."""
    folder = tmp_path_factory.mktemp("made")
    bundle = make_bundle(folder)
    target = tmp_path_factory.mktemp("elsewhere") / "renamed"
    shutil.move(bundle, target)
    shutil.rmtree(folder)
    return target


def bare(commands: list[list[str]], home: Path) -> list[dict[str, Any]]:
    """Runs commands in one bare process; their exit codes and what they printed."""
    (home / "sitecustomize.py").write_text(NO_NETWORK)
    program = f"""
import contextlib, io, json
from roadwork_core.cli import main
for command in {commands!r}:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command)
    print(json.dumps({{"code": code, "out": out.getvalue(), "err": err.getvalue()}}))
"""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=home, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_replays_and_predicts_alone(moved: Path, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    served = {"fast": "threshold", "accurate": "scrc", "hybrid": "hybrid"}
    predict = ["predict", str(moved), "a.png", "--json", "--must-answer", "--mode"]
    verified, *predicted = bare([["bundle", "verify", str(moved)], *([*predict, mode] for mode in served)], tmp_path)
    assert (verified["code"], verified["out"]) == (0, f"{moved}: verified at replay\n"), verified["err"]
    for policy, result in zip(served.values(), predicted, strict=True):
        assert result["code"] == 0, result["err"]
        line = json.loads(result["out"])
        assert line["label"] in toy.LABELS
        assert line["policy"] in (policy, "threshold")


def test_it_holds_no_path_of_where_it_was_made(moved: Path) -> None:
    for path in moved.rglob("*"):
        if path.is_file():
            assert b"/made" not in path.read_bytes(), path
