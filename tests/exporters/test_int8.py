"""int8 is measured and never taken for float32: guarantees are withdrawn, decisions are compared, its cost is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roadwork_core.bundle import load
from roadwork_core.cli import main
from roadwork_core.metrics import confusion, mcc

from .bundles import checkpoint, make_bundle, smooth_pictures

for name in ("onnx", "onnxruntime", "onnxscript", "roadwork_backbones", "roadwork_tta"):
    pytest.importorskip(name)
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    config = transformers.Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    source = checkpoint(folder / "checkpoint", config)
    return make_bundle(folder, backbone={"use": "transformers", "model": str(source), "pretrained": False})


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of both classes, labelled at random, three of a sequence."""
    folder = tmp_path_factory.mktemp("labelled")
    draws = np.random.default_rng(3)
    rows = ["path,label,group"]
    for number, pixels in enumerate(smooth_pictures(60, 40, 50, seed=11)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{('no_roadwork', 'roadwork')[draws.integers(2)]},{number // 3}")
    (folder / "set.csv").write_text("\n".join(rows) + "\n")
    return folder / "set.csv"


def export(bundle: Path, out: Path, *settings: str) -> int:
    words = [part for setting in settings for part in ("--set", setting)]
    return main(["export", str(bundle), "--to", "onnx", "--out", str(out), *words])


@pytest.fixture(scope="module")
def exported(bundle: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "out"
    assert export(bundle, out, 'quantize="int8"', f"labelled={json.dumps(str(labelled))}", "agreement=0") == 0
    return out


@pytest.fixture(scope="module")
def float32(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("float32") / "out"
    assert export(bundle, out) == 0
    return out


def document(out: Path) -> Mapping[str, Any]:
    return json.loads((out / "export.json").read_text())


def test_its_matrix_products_are_of_integers_and_its_weights_smaller(exported: Path) -> None:
    import onnx

    found = document(exported)["quantization"]
    operators = {node.op_type for node in onnx.load(exported / "model.onnx").graph.node}
    assert "MatMulInteger" in operators
    assert not operators & {"ConvInteger", "Gemm"}
    assert found["share"] > 0.7
    assert found["bytes"]["int8"] == (exported / "model.onnx").stat().st_size < 0.55 * found["bytes"]["float32"]
    assert document(exported)["parity"]["pictures"] < 1e-4, "the graph was right before it was quantised"


def test_no_guarantee_is_carried_over(bundle: Path, exported: Path, tmp_path: Path, capsys: Any) -> None:
    ours = json.loads((bundle / "policies/scrc.json").read_text())
    theirs = json.loads((exported / "policies/scrc.json").read_text())
    assert ours["guarantee"]["kind"] != "none"
    assert theirs.pop("guarantee") == {
        "kind": "none",
        "text": "none: it was fitted on the logits of the float32 network, and this network is quantised to int8,"
        " whose logits differ.",
    }
    assert theirs == {key: value for key, value in ours.items() if key != "guarantee"}
    assert document(exported)["quantization"]["policies_fitted_on"] == "logits of the float32 network"
    assert "no guarantee below holds for this folder" in (exported / "README.md").read_text()
    Image.fromarray(smooth_pictures(1, 40, 50)[0]).save(tmp_path / "one.png")
    capsys.readouterr()
    assert main(["predict-onnx", str(exported), str(tmp_path), "--json"]) == 0
    said = capsys.readouterr()
    assert "none of their guarantees holds" in said.err
    assert json.loads(said.out)["score"] >= 0


def test_a_float32_export_says_nothing_of_the_kind(float32: Path) -> None:
    from roadwork_exporters.onnx_runtime import load as load_export

    assert load_export(float32).notice is None
    assert "quantization" not in document(float32)
    assert json.loads((float32 / "policies/scrc.json").read_text())["guarantee"]["kind"] != "none"


def test_an_answer_does_not_depend_on_the_pictures_beside_it(exported: Path) -> None:
    from roadwork_exporters.onnx_runtime import load as load_export
    from roadwork_exporters.pictures import picture

    predictor = load_export(exported, batch_size=64)
    made = [picture(pixels) for pixels in smooth_pictures(5, 70, 45, seed=9)]
    alone = [predictor.logits([one])[0] for one in made]
    assert np.array_equal(alone, predictor.logits(made))


def test_the_cost_in_mcc_is_that_of_the_decisions_of_both(bundle: Path, exported: Path, labelled: Path) -> None:
    from roadwork_exporters.onnx_runtime import load as load_export

    rows = [line.split(",") for line in labelled.read_text().splitlines()[1:]]
    truth = np.array([label == "roadwork" for _, label, _ in rows])
    paths = [labelled.parent / name for name, _, _ in rows]
    told = document(exported)["quantization"]["labelled"]
    assert (told["n"], told["groups"]) == (60, 20)
    before, after = load(bundle), load_export(exported)
    for policy in ("threshold", "scrc", "hybrid"):
        values, answers = [], []
        for predictor in (before, after):
            made: Any = predictor.predict(paths, policy=policy, must_answer=True)
            values.append(float(mcc(confusion(truth, [one.label == "roadwork" for one in made]))))
            answers.append([(one.label, one.labels) for one in predictor.predict(paths, policy=policy)])
        figures = told["policies"][policy]
        assert [figures["mcc"]["first"], figures["mcc"]["second"]] == pytest.approx(values)
        change = figures["mcc"]["difference"]
        assert change["value"] == pytest.approx(values[1] - values[0])
        assert change["low"] <= change["value"] <= change["high"]
        assert figures["agreement"] == np.mean([one == other for one, other in zip(*answers, strict=True)])
    assert "On 60 pictures of set.csv MCC changes by" in (exported / "README.md").read_text()


def test_decisions_that_change_too_often_are_refused(
    bundle: Path, float32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from roadwork_exporters import onnx_export
    from roadwork_exporters.quantization_cost import on_golden as measured

    def otherwise(*arguments: Any) -> Any:
        found = measured(*arguments)
        return {**found, "agreement": {**found["agreement"], "scrc": 0.5}}

    def written(model: Any, path: Path, **options: Any) -> None:
        shutil.copyfile(float32 / "model.onnx", path)

    monkeypatch.setattr(onnx_export, "write_network", written)
    monkeypatch.setattr("roadwork_exporters.onnx_export.on_golden", otherwise)
    assert export(bundle, tmp_path / "out", 'quantize="int8"') == 4
    assert "with int8 scrc decides 50% of the golden pictures otherwise, more than 10%" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_convolutions_are_left_alone_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import onnx

    bundle = make_bundle(tmp_path)
    assert export(bundle, tmp_path / "out", 'quantize="int8"') == 2
    said = capsys.readouterr().err
    assert "of this network's weights: the others are not of matrix products" in said
    assert '"int8_all"' in said
    assert export(bundle, tmp_path / "out", 'quantize="int8_all"', "agreement=0") == 0
    assert "ConvInteger" in {node.op_type for node in onnx.load(tmp_path / "out/model.onnx").graph.node}


def test_a_network_above_two_gigabytes_keeps_its_weights_beside_the_graph(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from roadwork_exporters.onnx_runtime import load as load_export

    from roadwork_core.bundle import onnx_writing

    monkeypatch.setattr(onnx_writing, "ONE_FILE", 1000)
    out = tmp_path / "out"
    assert export(bundle, out, 'quantize="int8"', "agreement=0") == 0
    assert sorted(path.name for path in out.glob("model*")) == ["model.onnx", "model.onnx.data"]
    assert (out / "model.onnx").stat().st_size < (out / "model.onnx.data").stat().st_size
    assert document(out)["quantization"]["share"] > 0.7
    assert load_export(out).predict(smooth_pictures(1, 40, 50))[0].error is None


def test_labelled_pictures_without_int8_are_refused(bundle: Path, tmp_path: Path, capsys: Any) -> None:
    assert export(bundle, tmp_path / "out", 'labelled="anything"') == 2
    assert "labelled pictures measure the cost of int8" in capsys.readouterr().err
