"""The ONNX folder decides as the bundle does, in a process that cannot import torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roadwork_core.cli import main

from .bundles import checkpoint, make_bundle, smooth_pictures

for name in ("onnx", "onnxruntime", "onnxscript", "roadwork_backbones", "roadwork_tta"):
    pytest.importorskip(name)

#: In a process of its own: nothing that computes gradients can be imported.
WITHOUT_TORCH = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "transformers", "accelerate", "onnx", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
from roadwork_core.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
sys.exit(code)
"""
MANY = {"use": "multiview", "scales": [0.5, 1.0], "flip": True, "tiles": 2, "fusion": "mean_probability"}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle with views of several sizes, and its export."""
    folder = tmp_path_factory.mktemp("onnx")
    bundle = make_bundle(folder, tta=MANY)
    assert main(["export", str(bundle), "--to", "onnx", "--out", str(folder / "out")]) == 0
    return bundle, folder / "out"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index, size in enumerate([(40, 50), (130, 90), (32, 32), (40, 60), (64, 48)]):
        for number, pixels in enumerate(smooth_pictures(4, *size, seed=index)):
            Image.fromarray(pixels).save(folder / f"{index}-{number}.{'jpg' if number % 2 else 'png'}")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def predict_without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, "predict-onnx", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("options", [[], ["--mode", "fast"], ["--policy", "scrc"], ["--must-answer"]], ids=" ".join)
def test_decisions_without_torch_are_the_bundles(
    options: list[str], exported: tuple[Path, Path], pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = exported
    assert main(["predict", str(bundle), str(pictures), "--json", *options]) == 1
    want = lines(capsys.readouterr().out)
    done = predict_without_torch(str(out), str(pictures), "--json", *options)
    assert done.returncode == 1, done.stderr
    got = lines(done.stdout)
    assert len(got) == 21
    for ours, theirs in zip(want, got, strict=True):
        if "error" in ours:
            assert ours == theirs
            continue
        assert abs(ours.pop("score") - theirs.pop("score")) < 1e-5
        ours.pop("reason"), theirs.pop("reason")  # holds scores to four digits
        assert ours == theirs
    answers = {line.get("label") for line in want if "error" not in line}
    assert len(answers) > 1, "pictures that are all decided alike would prove nothing"


def test_a_view_that_needs_torch_is_one_line(exported: tuple[Path, Path], tmp_path: Path) -> None:
    Image.fromarray(smooth_pictures(1, 30, 200)[0]).save(tmp_path / "panorama.png")
    done = predict_without_torch(str(exported[1]), str(tmp_path), "--json")
    assert done.returncode == 1
    (line,) = lines(done.stdout)
    assert line["error"] == "the test-time augmentation needs torchvision for a picture of 200 x 30"


def test_the_export_says_what_it_is(exported: tuple[Path, Path]) -> None:
    import onnx

    bundle, out = exported
    document = json.loads((out / "export.json").read_text())
    model = onnx.load(out / "model.onnx")
    assert {item.domain: item.version for item in model.opset_import}[""] == document["network"]["opset"] == 18
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert document["bundle_id"] == json.loads((bundle / "bundle.json").read_text())["bundle_id"]
    assert document["network"]["sizes"] == [[32, 32], [16, 16]]
    assert document["parity"]["pictures"] < 1e-4
    assert str(out.parent).encode() not in (out / "model.onnx").read_bytes()


@pytest.mark.parametrize("file", ["policies/threshold.json", "model.onnx", "golden/expected.json"])
def test_a_changed_file_is_refused(file: str, exported: tuple[Path, Path], tmp_path: Path) -> None:
    import shutil

    out = shutil.copytree(exported[1], tmp_path / "out")
    content = bytearray((out / file).read_bytes())
    content[len(content) // 2] ^= 1
    (out / file).write_bytes(content)
    done = predict_without_torch(str(out), str(tmp_path))
    assert done.returncode == 4
    assert f"{file}: has changed" in done.stderr


def test_nothing_in_the_folder_tells_where_it_was_written(exported: tuple[Path, Path]) -> None:
    for path in (path for path in exported[1].rglob("*") if path.is_file()):
        content = path.read_bytes()
        for place in (sys.prefix, str(Path.cwd()), str(Path.home())):
            assert place.encode() not in content, path


def test_a_network_that_answers_otherwise_is_never_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from roadwork_exporters import onnx_export

    from roadwork_core.bundle import onnx_writing

    bundle = make_bundle(tmp_path)
    write = onnx_writing.write_network

    def spoil(model: Any, path: Path, **options: Any) -> None:
        bias = model.head.linear.bias
        with torch.no_grad():
            bias[1] += 0.01
        write(model, path, **options)
        with torch.no_grad():
            bias[1] -= 0.01

    monkeypatch.setattr(onnx_export, "write_network", spoil)
    assert main(["export", str(bundle), "--to", "onnx", "--out", str(tmp_path / "out")]) == 4
    assert "from torch's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_head_that_pools_tokens_is_part_of_the_network(tmp_path: Path) -> None:
    """On the golden pictures, at each size of the views, ONNX Runtime and torch give the same."""
    bundle = make_bundle(tmp_path, head={"use": "attention_pool"}, tta={"use": "multiscale", "scales": [1.5]})
    out = tmp_path / "out"
    assert main(["export", str(bundle), "--to", "onnx", "--out", str(out)]) == 0
    document = json.loads((out / "export.json").read_text())
    assert document["network"]["sizes"] == [[32, 32], [48, 48]]
    assert document["parity"]["pictures"] < 1e-4


@pytest.mark.slow
def test_a_vision_transformer_keeps_its_decisions_at_several_sizes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    source = checkpoint(tmp_path / "checkpoint", config)
    backbone = {"use": "transformers", "model": str(source), "pretrained": False}
    bundle = make_bundle(tmp_path, backbone=backbone, tta={"use": "multiscale", "scales": [1.5]}, size=(60, 80))
    out = tmp_path / "out"
    assert main(["export", str(bundle), "--to", "onnx", "--out", str(out)]) == 0
    assert json.loads((out / "export.json").read_text())["network"]["sizes"] == [[56, 56], [84, 84]]


def test_exporting_over_something_is_refused(exported: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, out = exported
    assert main(["export", str(bundle), "--to", "onnx", "--out", str(out)]) == 2
    assert "is already there" in capsys.readouterr().err


def test_an_unknown_format_names_the_known_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), "--to", "onx", "--out", str(tmp_path / "out")]) == 2
    assert "onnx" in capsys.readouterr().err


def test_logits_do_not_depend_on_the_batch(exported: tuple[Path, Path]) -> None:
    from roadwork_exporters.onnx_runtime import load
    from roadwork_exporters.pictures import picture

    made = [picture(pixels) for pixels in smooth_pictures(5, 70, 45, seed=9)]
    alone, together = load(exported[1], batch_size=1), load(exported[1], batch_size=64)
    assert np.allclose(alone.logits(made), together.logits(made), atol=1e-5)


def test_it_computes_only_where_float32_is_kept(exported: tuple[Path, Path]) -> None:
    from roadwork_exporters.onnx_runtime import load, providers

    assert load(exported[1]).session.get_providers() == ["CPUExecutionProvider"]
    found = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CoreMLExecutionProvider", "CPUExecutionProvider"]
    assert providers(found) == [("CUDAExecutionProvider", {"use_tf32": "0"}), ("CPUExecutionProvider", {})]
