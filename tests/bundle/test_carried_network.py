"""A bundle that carries its network in ONNX: what a CPU computes with, the same decisions, verified like the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from roadwork_core import backends
from roadwork_core.bundle import Level, load, verify
from roadwork_core.bundle.format import MANIFEST, MODEL, ONNX, WEIGHTS
from roadwork_core.bundle.onnx_network import OnnxNetwork
from roadwork_core.bundle.onnx_writing import carried_network
from roadwork_core.bundle.runtime import make_onnx_scorer
from roadwork_core.bundle.write import seal
from roadwork_core.cli import main
from roadwork_core.errors import RoadworkError, UsageError, VerificationError
from roadwork_core.files import pretty_json
from roadwork_core.plugins import Plugins
from tests.e2e.test_same_bits import vit
from tests.exporters.bundles import checkpoint, make_bundle, smooth_pictures

PICTURES = smooth_pictures(12, 60, 44, seed=3)


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("cnn") / "made", tta={"use": "flip"}, onnx=True)


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    return make_bundle(folder / "made", backbone=vit(folder), tta={"use": "multiscale"}, onnx=True)


@pytest.fixture
def copy(convolutions: Path, tmp_path: Path) -> Path:
    return shutil.copytree(convolutions, tmp_path / "copy")


def sealed(bundle: Path) -> Path:
    """With a bundle.json that fits what lies there now, as one who means harm would write it."""
    manifest = json.loads((bundle / MANIFEST).read_bytes())
    seal(bundle, {key: value for key, value in manifest.items() if key not in ("files", "bundle_id")})
    return bundle


def rewritten(bundle: Path, change: Callable[[Any], None]) -> Path:
    graph = onnx.load(bundle / ONNX, load_external_data=False)
    change(graph)
    (bundle / ONNX).write_bytes(graph.SerializeToString())
    return sealed(bundle)


def refuse(*_: object) -> None:
    raise AssertionError("this was not to be asked for")


def failures(bundle: Path, level: Level = Level.REPLAY) -> list[tuple[str, str]]:
    return [(str(found.origin), found.message) for found in verify(bundle, level).failures]


@pytest.mark.parametrize("name", ["convolutions", "transformer"])
def test_a_cpu_computes_with_it_and_comes_to_the_same(name: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(name)
    fast, plain = load(bundle, device="cpu"), load(bundle, device="cpu", backend="torch")
    assert (fast.backend, plain.backend) == ("onnx", "torch")
    ours, theirs = fast.predict(PICTURES, features=True), plain.predict(PICTURES, features=True)
    assert [one.label for one in ours] == [one.label for one in theirs]
    assert len({one.label for one in ours}) > 1
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.logits, other.logits, rtol=1e-4, atol=1e-4)
        assert mine.features is not None
        assert other.features is not None
        np.testing.assert_allclose(mine.features, other.features, rtol=1e-4, atol=1e-4)
    # Not by the same sums: were they equal to the bit, torch would have computed both.
    assert [one.logits for one in ours] != [one.logits for one in theirs]


def test_neither_backbone_nor_head_is_built_for_it(convolutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roadwork_core.model.rebuild", refuse)
    predictor = load(convolutions, Level.REPLAY, device="cpu")
    assert predictor.predict(PICTURES[:1])[0].label is not None
    with pytest.raises(RoadworkError, match="without its torch module"):
        _ = predictor.runtime.scorer.model


def test_threads_and_company_change_no_bit(transformer: Path) -> None:
    predictor = load(transformer, device="cpu", workers=2)
    alone = [predictor.predict([picture])[0] for picture in PICTURES]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda picture: predictor.predict([picture])[0], PICTURES * 3))
    assert together == alone * 3
    two = load(transformer, device="cpu", threads=2, workers=2)
    by_two = [two.predict([picture])[0] for picture in PICTURES]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda picture: two.predict([picture])[0], PICTURES * 3)) == by_two * 3


def test_a_transformer_s_weights_lie_there_once(transformer: Path) -> None:
    """The graph refers to the safetensors file, also for the matrices that it needs transposed."""
    graph = onnx.load(transformer / ONNX, load_external_data=False)
    outside = [tensor for tensor in graph.graph.initializer if tensor.external_data]
    held = sum(len(tensor.raw_data) for tensor in graph.graph.initializer)
    weights = (transformer / WEIGHTS).stat().st_size
    referred = sum(int(entry.value) for tensor in outside for entry in tensor.external_data if entry.key == "length")
    assert referred > 0.9 * weights
    assert held < 0.05 * weights
    assert any(node.op_type == "Transpose" for node in graph.graph.node)


@pytest.mark.parametrize("name", ["convolutions", "transformer"])
def test_the_file_holds_no_trace_of_the_machine_and_is_always_the_same(
    name: str, request: pytest.FixtureRequest
) -> None:
    bundle = request.getfixturevalue(name)
    content = (bundle / ONNX).read_bytes()
    assert b".py" not in content
    for place in (sys.prefix, str(Path.cwd()), str(Path.home())):
        assert place.encode() not in content
    predictor = load(bundle, device="cpu", backend="torch")
    pictures = [torch.from_numpy(picture.transpose(2, 0, 1).copy()) for picture in PICTURES[:2]]
    again = carried_network(predictor.runtime.scorer, pictures, bundle / WEIGHTS, 1e-3)
    assert again.content == content


def test_both_networks_are_replayed_and_each_failure_names_its_file(copy: Path) -> None:
    assert verify(copy).ok
    assert set(verify(copy).runtimes) == {"torch", "onnx"}

    def spoil(graph: Any) -> None:
        [head] = [tensor for tensor in graph.graph.initializer if tensor.name.endswith("head.linear.weight")]
        head.CopyFrom(onnx.numpy_helper.from_array(np.float32(-2) * onnx.numpy_helper.to_array(head), head.name))

    rewritten(copy, spoil)
    assert not failures(copy, Level.LOAD)
    found = failures(copy)
    assert found
    assert all(origin == ONNX and text.startswith(("with ONNX Runtime, ", "on noise ")) for origin, text in found)
    assert any(text.startswith("on noise of 32 x 32 its logits are ") for _, text in found)
    with pytest.raises(VerificationError, match="with ONNX Runtime"):
        load(copy, Level.REPLAY, device="cpu")
    # What does not compute with it does not ask for it.
    assert load(copy, Level.REPLAY, device="cpu", backend="torch").predict(PICTURES[:1])


@pytest.mark.parametrize("location", ["../bundle.json", "/etc/passwd", "model.json", "weights.safetensors"])
def test_a_graph_may_refer_to_nothing_but_its_own_weights(copy: Path, location: str) -> None:
    def refer(graph: Any) -> None:
        tensor = next(tensor for tensor in graph.graph.initializer if len(tensor.raw_data) > 100)
        # The last one is the right file, but beyond its end.
        length = len(tensor.raw_data) if location != "weights.safetensors" else 2**40
        onnx.external_data_helper.set_external_data(tensor, location, offset=0, length=length)
        tensor.ClearField("raw_data")

    rewritten(copy, refer)
    [(origin, text)] = failures(copy, Level.LOAD)
    assert origin == ONNX
    assert "what is not in weights.safetensors" in text
    for level in (Level.SCHEMA, Level.LOAD):
        with pytest.raises(VerificationError, match="what is not in"):
            load(copy, level, device="cpu")


def test_a_reference_is_found_in_a_graph_within_the_graph(copy: Path) -> None:
    def hide(graph: Any) -> None:
        tensor = onnx.TensorProto(name="hidden", data_type=onnx.TensorProto.FLOAT, dims=[4], raw_data=b"")
        onnx.external_data_helper.set_external_data(tensor, "../spec.toml", offset=0, length=16)
        inner = onnx.helper.make_node("Constant", [], ["out"], value=tensor)
        body = onnx.helper.make_graph([inner], "body", [], [])
        graph.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body))

    rewritten(copy, hide)
    assert any("refers for 'hidden'" in text for _, text in failures(copy, Level.LOAD))


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"no protobuf", b"\x08\x07\x12"])
def test_what_is_no_network_is_a_failure(copy: Path, content: bytes) -> None:
    (copy / ONNX).write_bytes(content)
    sealed(copy)
    found = failures(copy, Level.LOAD)
    assert found
    assert {origin for origin, _ in found} == {ONNX}


def document(bundle: Path, **changes: object) -> Path:
    """With another description of its network in ONNX."""
    model = json.loads((bundle / MODEL).read_bytes())
    (bundle / MODEL).write_bytes(pretty_json({**model, "onnx": {**model["onnx"], **changes}}))
    return sealed(bundle)


def test_the_ends_are_named_in_their_order(copy: Path) -> None:
    [(origin, text)] = failures(document(copy, outputs=["features", "logits"]), Level.SCHEMA)
    assert origin == MODEL
    assert "must be" in text


def test_the_graph_is_held_against_what_is_said_of_it(copy: Path) -> None:
    document(copy, opset=7)
    assert failures(copy, Level.LOAD) == [
        (ONNX, "uses the operators {'': 18}, not version 7 of the standard ones alone")
    ]
    document(copy, opset=18)

    def widen(graph: Any) -> None:
        graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5

    rewritten(copy, widen)
    assert (ONNX, "does not give 2 logits") in failures(copy, Level.LOAD)


def test_a_graph_holds_standard_operators_in_a_row_and_nothing_else(copy: Path) -> None:
    def loop(graph: Any) -> None:
        body = onnx.helper.make_graph([], "body", [], [])
        graph.graph.node.append(onnx.helper.make_node("Loop", ["", ""], ["never"], body=body))
        graph.graph.node.append(onnx.helper.make_node("FusedGemm", ["a"], ["b"], domain="com.microsoft"))
        graph.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))

    rewritten(copy, loop)
    told = [text for _, text in failures(copy, Level.LOAD)]
    assert "uses Loop, which is not a standard operator without a graph of its own" in told
    assert "uses FusedGemm, which is not a standard operator without a graph of its own" in told
    assert any("com.microsoft" in text and text.startswith("uses the operators") for text in told)


def test_numbers_that_are_not_finite_are_found_in_the_graph(copy: Path) -> None:
    def spoil(graph: Any) -> None:
        [head] = [tensor for tensor in graph.graph.initializer if tensor.name.endswith("head.linear.weight")]
        values = onnx.numpy_helper.to_array(head).copy()
        values[0, 0] = np.nan
        head.CopyFrom(onnx.numpy_helper.from_array(values, head.name))

    rewritten(copy, spoil)
    assert failures(copy, Level.LOAD) == [
        (ONNX, "holds numbers in 'classifier.head.linear.weight' that are not finite")
    ]


def test_weights_that_are_not_finite_stop_a_cpu_too(copy: Path) -> None:
    tensors = load_file(copy / WEIGHTS)
    tensors["head.linear.weight"][0, 0] = np.inf
    save_file(tensors, copy / WEIGHTS)
    sealed(copy)
    for backend in ("onnx", "torch"):
        with pytest.raises(VerificationError, match="1 weights are not finite, the first is head"):
            load(copy, device="cpu", backend=backend)


def test_what_was_loaded_is_not_looked_at_again(tmp_path: Path) -> None:
    """Not even mapped: a bundle that is copied over, or cut off, while it is served changes no answer."""
    wide = vit(tmp_path) | {"model": str(checkpoint(tmp_path / "wide", wide_config()))}
    bundle = make_bundle(tmp_path / "made", backbone=wide, onnx=True)
    predictor = load(bundle, device="cpu")
    before = predictor.predict(PICTURES)
    maps = Path("/proc/self/maps")
    assert not maps.exists() or str(bundle) not in maps.read_text()
    for path in (bundle / WEIGHTS, bundle / ONNX):
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.write(b"\xff" * size)
        assert predictor.predict(PICTURES) == before
        with path.open("r+b") as file:
            file.truncate(size // 2)
        assert predictor.predict(PICTURES) == before
    with pytest.raises(VerificationError, match="has changed"):
        make_onnx_scorer(predictor.bundle, Plugins.load())


def wide_config() -> Any:
    from transformers import ViTConfig

    # Biases of more than a kilobyte lie outside the graph too, and are what would be mapped.
    sizes = {"hidden_size": 320, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 640}
    return ViTConfig(image_size=32, patch_size=8, **sizes)


def test_an_input_of_a_size_that_was_never_tried_is_refused(transformer: Path) -> None:
    """A graph may have taken in what held for the sizes that it was written with; torch computes any."""
    network = load(transformer, device="cpu").runtime.scorer.network
    with pytest.raises(RoadworkError, match="never tried with inputs of 48 x 48"):
        network(torch.zeros(1, 3, 48, 48))
    with pytest.raises(RoadworkError, match="ONNX Runtime cannot compute"):
        network(torch.zeros(1, 4, 32, 32))


def test_nobody_is_told_what_runs_where(tmp_path: Path, convolutions: Path) -> None:
    """ONNX Runtime's wheels tell their makers, unless they are told not to; a fresh home shows it."""
    ask = (
        "import sys; from roadwork_core.bundle import load\n"
        "load(sys.argv[1], device='cpu').predict([sys.argv[2]])\n"
        "import threading, time; time.sleep(1)"
    )
    picture = tmp_path / "picture.png"
    Image.fromarray(PICTURES[0]).save(picture)
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", ask, str(convolutions), str(picture)], env=environment, check=True)
    assert [path for path in home.rglob("*") if "onnx" in path.name.lower() or "microsoft" in path.name.lower()] == []


def test_a_graph_with_other_ends_is_a_failure(copy: Path) -> None:
    rewritten(copy, lambda graph: graph.graph.output.pop())
    assert failures(copy, Level.LOAD) == [
        (ONNX, "takes ['pixel_values'] and gives ['logits'], not ['pixel_values'] and ['logits', 'features']")
    ]


def test_file_and_document_speak_of_it_together_or_not_at_all(copy: Path) -> None:
    shutil.copyfile(copy / ONNX, copy / "model/other.onnx")
    sealed(copy)
    assert failures(copy, Level.SCHEMA) == [
        ("model/other.onnx", f"is not {ONNX}, the only ONNX file that a bundle holds")
    ]
    (copy / "model/other.onnx").unlink()
    (copy / ONNX).unlink()
    sealed(copy)
    assert failures(copy, Level.SCHEMA) == [(MODEL, f"speaks of a network in ONNX, and {ONNX} does not")]


def test_a_document_without_it_is_a_failure(copy: Path) -> None:
    document = json.loads((copy / MODEL).read_bytes())
    del document["onnx"]
    (copy / MODEL).write_bytes(pretty_json(document))
    sealed(copy)
    assert failures(copy, Level.SCHEMA) == [(ONNX, f"speaks of a network in ONNX, and {MODEL} does not")]


def test_it_is_shown(convolutions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for bundle, told in ((convolutions, "torch, on a CPU also ONNX Runtime"), (make_bundle(tmp_path), "torch")):
        assert main(["bundle", "show", str(bundle)]) == 0
        [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("computed by")]
        assert line.split(maxsplit=2)[2] == told


def test_where_onnx_runtime_is_missing_torch_computes(
    convolutions: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backends, "_are_there", lambda *_: False)
    assert load(convolutions, device="cpu").backend == "torch"
    found = verify(convolutions)
    assert found.ok
    assert [warning.partition(" was not tried")[0] for warning in found.warnings] == [ONNX]
    assert main(["predict", str(convolutions), "x.png", "--device", "cpu", "--backend", "onnx"]) == 2
    assert "needs ONNX Runtime" in capsys.readouterr().err


def test_what_cannot_be_had_is_a_usage_error(convolutions: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not on cuda:0"):
        backends.resolve("onnx", carries_onnx=True, device="cuda:0")
    with pytest.raises(UsageError, match="there is no backend 'tpu'"):
        load(convolutions, device="cpu", backend="tpu")
    with pytest.raises(UsageError, match="carries no network in ONNX"):
        load(make_bundle(tmp_path), device="cpu", backend="onnx")
    assert backends.resolve("auto", carries_onnx=True, device="cuda") == "torch"
    assert backends.resolve("auto", carries_onnx=False, device="cpu") == "torch"


def test_a_network_that_computes_otherwise_is_not_carried(convolutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = load(convolutions, device="cpu", backend="torch").runtime.scorer
    pictures = [torch.from_numpy(PICTURES[0].transpose(2, 0, 1).copy())]
    honest = OnnxNetwork.__call__
    monkeypatch.setattr(OnnxNetwork, "__call__", lambda self, inputs: (honest(self, inputs)[0] + 0.1, None))
    with pytest.raises(VerificationError, match=r"from torch's, more than 0\.001"):
        carried_network(scorer, pictures, convolutions / WEIGHTS, 1e-3)


def test_a_graph_too_large_for_one_file_is_not_carried(convolutions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = load(convolutions, device="cpu", backend="torch").runtime.scorer
    pictures = [torch.from_numpy(PICTURES[0].transpose(2, 0, 1).copy())]
    monkeypatch.setattr("roadwork_core.bundle.onnx_writing.ONE_FILE", 1000)
    # What a message of more than 2 GiB does when it is asked for its size.
    monkeypatch.setattr(onnx.ModelProto, "ByteSize", refuse, raising=False)
    with pytest.raises(UsageError, match="too much for one file"):
        carried_network(scorer, pictures, convolutions / WEIGHTS, 1e-3)


def test_the_plugins_that_made_it_are_asked_for_all_the_same(convolutions: Path) -> None:
    """What is served without them could not be verified, exported or trained again."""
    with pytest.raises(VerificationError, match="small_cnn"):
        load(convolutions, device="cpu", plugins=Plugins.of({}))
