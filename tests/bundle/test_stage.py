"""The stages evaluate and bundle on a run made by hand: what is served is what was evaluated, fitted and scored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from roadwork_core import component
from roadwork_core.bundle import load, verify
from roadwork_core.bundle.format import ONNX
from roadwork_core.bundle.onnx_network import OnnxNetwork
from roadwork_core.bundle.runtime import make_scorer
from roadwork_core.console import Console
from roadwork_core.data.sample import Row
from roadwork_core.data.table import write_rows
from roadwork_core.errors import RoadworkError, UsageError, VerificationError
from roadwork_core.policies import scores_csv
from roadwork_core.runs import Run, StageContext
from roadwork_core.spec.model import Evaluate
from roadwork_core.stages import STAGES
from roadwork_core.stages import bundle as bundle_stage
from roadwork_core.stages import evaluate as evaluate_stage

from . import toy

PER_SPLIT = 40


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def make_run(folder: Path) -> Run:
    """A run up to the stage fit: coloured pictures, the toy model, its scores and two policies."""
    rng = np.random.default_rng(0)
    run = Run(name="toy", path=folder / "runs" / "toy")
    model = {key: value for key, value in toy.model_document().items() if key != "tta"}
    tta = toy.model_document()["tta"]
    write(run.path / "train/model.json", model)
    toy.weights(run.path / "train/weights.safetensors")
    lines = [{"epoch": epoch, "train_loss": 1.0 / epoch, "mcc": 0.1 * epoch} for epoch in (1, 2)]
    write(run.path / "train/history.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    write(run.path / "prepare/classes.json", {"classes": toy.LABELS, "positive": 1})
    split = {"samples": PER_SPLIT, "groups": PER_SPLIT // 2, "classes": dict.fromkeys(toy.LABELS, PER_SPLIT // 2)}
    write(run.path / "prepare/report.json", {"digest": "0" * 64, "splits": {"val_calib": split, "test": split}})
    write(run.path / "score/tta.json", tta)
    scorer = make_scorer({**model, "tta": tta}, run.path / "train/weights.safetensors", toy.plugins())
    for number, name in enumerate(("val_calib", "test")):
        rows, pictures = [], []
        for index in range(PER_SPLIT):
            target = index % 2
            pixels = toy.picture(float(np.clip(rng.normal(3.0 * target - 1.5, 2.0), -11, 11)))
            path = folder / "pictures" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            pictures.append(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
            rows.append(
                Row(
                    index=100 * number + index,
                    path=str(path),
                    label=toy.LABELS[target],
                    target=target,
                    split=name,
                    group=f"{name}-{index // 2}",
                    sha256="0" * 64,
                    phash="0" * 16,
                    width=10,
                    height=12,
                )
            )
        (run.path / "prepare/samples").mkdir(parents=True, exist_ok=True)
        write_rows(run.path / f"prepare/samples/{name}.jsonl", rows)
        write(run.path / f"score/{name}.csv", scores_csv(rows, scorer.logits(pictures)).decode())
    for name, policy in toy.standard_policies().items():
        write(run.path / f"fit/policies/{name}.json", policy)
    curve = "threshold,probability,value\n-1.0,0.27,0.5\n0.0,0.5,0.8\n1.0,0.73,0.6\n"
    write(run.path / "fit/sweeps/threshold.csv", curve)
    return run


def named(kind: str, name: str) -> Any:
    """A component of which only the name is asked."""

    @component(kind, name)
    class Named:
        """Builds nothing."""

        def build(self, ctx: Any) -> None: ...

    return Named()


def context(run: Run, stage: str, onnx: str = "off") -> StageContext:
    spec = SimpleNamespace(
        name="toy",
        seed=1,
        description="Colours.",
        policy={"threshold": toy.CutPolicy(), "careful": toy.BandPolicy(member="threshold")},
        evaluate=Evaluate(bootstrap=100),
        train=SimpleNamespace(select_by="mcc", epochs=3),
        adapt=None,
        adapter=named("adapter", "whole"),
        loss=named("loss", "likelihood"),
        optimizer=SimpleNamespace(component=named("optimizer", "descent")),
        data=SimpleNamespace(max_pixels=1_000_000, component=named("dataset", "colours")),
        bundle=SimpleNamespace(
            active="careful", fallback="threshold", license="MIT", description="Red or blue.", golden=6, onnx=onnx
        ),
    )
    folder = run.fresh(stage)
    folder.mkdir(parents=True)
    resolved: Any = SimpleNamespace(spec=spec, values={"name": "toy"}, experiment={"name": "toy"})
    return StageContext(
        stage=stage,
        run=run,
        resolved=resolved,
        plugins=toy.plugins(),
        console=Console(verbosity=-1),
        folder=folder,
        scratch=run.scratch(stage),
        reads=next(known.reads for known in STAGES if known.name == stage),
    )


def carry_out(run: Run, stage: str, onnx: str = "off") -> Any:
    ctx = context(run, stage, onnx)
    result = (evaluate_stage if stage == "evaluate" else bundle_stage).run(ctx)
    ctx.folder.rename(run.folder(stage))
    return result


@pytest.fixture(scope="module", params=["off", "on"])
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """With and without a network in ONNX, which then is what computes."""
    run = make_run(tmp_path_factory.mktemp("run"))
    carry_out(run, "evaluate")
    carry_out(run, "bundle", request.param)
    backend = load(run.folder("bundle") / "toy", plugins=toy.plugins(), device="cpu").backend
    assert backend == {"off": "torch", "on": "onnx"}[request.param]
    return run


@pytest.fixture
def evaluated(tmp_path: Path) -> Run:
    run = make_run(tmp_path)
    carry_out(run, "evaluate")
    return run


def test_evaluation_writes_metrics_report_and_plots(finished: Run) -> None:
    names = {path.name for path in finished.folder("evaluate").iterdir()}
    assert {"metrics.json", "report.html", "confusion.png", "roc.png", "reliability.png", "training.png"} <= names
    metrics = json.loads((finished.folder("evaluate") / "metrics.json").read_bytes())
    assert metrics["active"] == "careful"
    assert metrics["test"]["mcc"] == metrics["policies"]["careful"]["metrics"]["mcc"]
    assert metrics["n"] == PER_SPLIT
    assert metrics["groups"] == PER_SPLIT // 2
    assert sum(map(sum, metrics["confusion"]["matrix"])) + sum(metrics["confusion"]["abstained"]) == PER_SPLIT


def test_the_bundle_of_a_run_is_sound_and_carries_the_evidence(finished: Run) -> None:
    found = verify(finished.folder("bundle") / "toy", "replay", toy.plugins())
    assert found.ok, found.failures
    assert found.bundle is not None
    manifest = found.bundle.manifest
    metrics = json.loads((finished.folder("evaluate") / "metrics.json").read_bytes())
    for name, evidence in manifest["evidence"].items():
        assert evidence["metrics"]["mcc"] == metrics["policies"][name]["metrics"]["mcc"]
        assert evidence["split"] == "test"
    assert manifest["modes"] == {"accurate": "careful", "fast": "threshold"}
    assert manifest["mode"] == "accurate"
    assert manifest["license"] == "MIT"
    assert manifest["provenance"]["data"]["splits"] == {"val_calib": PER_SPLIT, "test": PER_SPLIT}


def test_the_bundle_predicts_what_was_scored_and_evaluated(finished: Run) -> None:
    """The decisions on test that the metrics count are the decisions that the bundle gives."""
    predictor = load(finished.folder("bundle") / "toy", plugins=toy.plugins(), device="cpu")
    rows = [json.loads(line) for line in (finished.folder("prepare") / "samples/test.jsonl").read_text().splitlines()]
    metrics = json.loads((finished.folder("evaluate") / "metrics.json").read_bytes())
    for name in ("careful", "threshold"):
        predictions = predictor.predict([row["path"] for row in rows], policy=name)
        matrix = np.zeros((2, 3), dtype=int)
        for row, prediction in zip(rows, predictions, strict=True):
            column = 2 if prediction.abstain else toy.LABELS.index(str(prediction.label))
            matrix[row["target"], column] += 1
        confusion = metrics["policies"][name]["confusion"]
        assert matrix[:, :2].tolist() == confusion["matrix"]
        assert matrix[:, 2].tolist() == confusion["abstained"]


def test_the_stages_are_deterministic(finished: Run, tmp_path: Path) -> None:
    def content(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    for stage in ("evaluate", "bundle"):
        onnx = "on" if (finished.folder("bundle") / "toy" / ONNX).exists() else "off"
        ctx = context(finished, stage, onnx)
        (evaluate_stage if stage == "evaluate" else bundle_stage).run(ctx)
        assert content(ctx.folder) == content(finished.folder(stage))
        ctx.folder.rename(tmp_path / stage)


def scale_head(run: Run) -> None:
    path = run.path / "train/weights.safetensors"
    tensors = load_file(path)
    tensors["head.weight"] = tensors["head.weight"] * np.float32(1.02)
    save_file(tensors, path)


def swap_scores(run: Run) -> None:
    path = run.path / "score/val_calib.csv"
    header, *lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    moved = [[*row[:3], *other[3:]] for row, other in zip(cells, [*cells[1:], cells[0]], strict=True)]
    path.write_text("\n".join([header, *(",".join(row) for row in moved)]) + "\n")


@pytest.mark.parametrize("tamper", [scale_head, swap_scores])
def test_weights_that_the_policies_were_not_fitted_on_are_refused(
    evaluated: Run, tamper: Callable[[Run], None]
) -> None:
    tamper(evaluated)
    ctx = context(evaluated, "bundle")
    with pytest.raises(VerificationError, match=r"the logits are .* from the expected ones"):
        bundle_stage.run(ctx)
    assert list(ctx.folder.iterdir()) == []


def test_a_policy_fitted_on_another_tta_is_refused(evaluated: Run) -> None:
    toy.edit(evaluated.path / "fit/policies/careful.json", lambda d: d.update(tta="1" * 64))
    ctx = context(evaluated, "bundle")
    with pytest.raises(VerificationError, match="another test-time augmentation"):
        bundle_stage.run(ctx)
    assert list(ctx.folder.iterdir()) == []


@pytest.mark.parametrize("stage", ["evaluate", "bundle"])
def test_a_policy_that_cannot_be_restored_stops_the_stage(evaluated: Run, stage: str) -> None:
    toy.edit(evaluated.path / "fit/policies/careful.json", lambda d: d["state"].update(fault="restore"))
    with pytest.raises(RoadworkError, match="careful cannot be restored"):
        carry_out(evaluated, stage)


def test_fallbacks_on_test_are_counted_in_the_evidence(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    toy.edit(run.path / "fit/policies/careful.json", lambda d: d["state"].update(fault="empty_set"))
    carry_out(run, "evaluate")
    metrics = json.loads((run.folder("evaluate") / "metrics.json").read_bytes())
    careful = metrics["policies"]["careful"]
    assert list(careful["fallbacks"]) == ["careful gave an empty set"]
    assert careful["answered"] == PER_SPLIT


def test_a_fallback_that_itself_fails_on_test_stops_the_evaluation(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    toy.edit(run.path / "fit/policies/threshold.json", lambda d: d["state"].update(fault="nan_score"))
    with pytest.raises(RoadworkError, match="no decision on sample 0 of test: threshold gave a score"):
        carry_out(run, "evaluate")


@pytest.mark.parametrize(
    "fault",
    [
        UsageError("torch cannot write this network as ONNX: Unsupported: an operator"),
        OSError(28, "No space left on device"),
        RuntimeError("whatever a library raises"),
    ],
)
def test_a_network_that_cannot_be_had_in_onnx_is_left_out_unless_the_spec_asks_for_it(
    fault: Exception, evaluated: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise fault

    monkeypatch.setattr("roadwork_core.bundle.onnx_writing._exported", refuse)
    with pytest.raises(type(fault)):
        carry_out(evaluated, "bundle", "on")
    shutil.rmtree(evaluated.fresh("bundle"))
    assert carry_out(evaluated, "bundle", "auto")["onnx"] is None
    assert "the bundle computes with torch alone: " in capsys.readouterr().err
    assert not (evaluated.folder("bundle") / "toy" / ONNX).exists()


def test_a_network_that_decides_otherwise_costs_a_run_no_bundle(
    evaluated: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within the tolerance of logits, on the other side of a cut: what is compared is what is decided."""
    monkeypatch.setattr("roadwork_core.bundle.onnx_writing.parity", lambda *_: 0.0)
    honest = OnnxNetwork.__call__
    monkeypatch.setattr(OnnxNetwork, "__call__", lambda self, inputs: (-honest(self, inputs)[0], None))
    assert carry_out(evaluated, "bundle", "auto")["onnx"] is None
    assert "ONNX Runtime decides otherwise on the golden pictures" in capsys.readouterr().err


def test_auto_asks_for_what_is_installed_and_so_does_the_fingerprint(
    evaluated: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inputs(onnx: str) -> Any:
        ctx = context(evaluated, "bundle", onnx)
        shutil.rmtree(ctx.folder)
        return bundle_stage.fingerprint_inputs(ctx)

    there = inputs("auto")
    monkeypatch.setattr("roadwork_core.backends._are_there", lambda *_: False)
    assert inputs("auto") != there
    assert inputs("on") == inputs("off")
    assert carry_out(evaluated, "bundle", "auto")["onnx"] is None
