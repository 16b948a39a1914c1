"""A picture's logits are the same to the bit by every way in, whatever else is asked with it."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from roadwork_serving.miner import balanced

from roadwork_core.bundle import Prediction, Predictor, Source, load
from roadwork_core.cli import main
from tests.exporters.bundles import checkpoint, make_bundle, smooth_pictures

KEYS = ("label", "abstain", "score", "set", "policy", "reason")
SIZES = ((40, 50), (64, 48), (33, 90), (120, 120))


def vit(folder: Path) -> dict[str, Any]:
    from transformers import ViTConfig

    config = ViTConfig(
        image_size=32, patch_size=8, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
    )
    return {"use": "transformers", "model": str(checkpoint(folder / "vit", config)), "pretrained": False}


@pytest.fixture(scope="module", params=["small_cnn", "vit", "small_cnn in onnx", "vit in onnx"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    network, _, computed = request.param.partition(" in ")
    if network == "small_cnn":
        return make_bundle(folder / "made", tta={"use": "flip"}, onnx=bool(computed))
    return make_bundle(folder / "made", backbone=vit(folder), onnx=bool(computed))


@pytest.fixture(scope="module")
def arrays() -> list[NDArray[np.uint8]]:
    return [array for height, width in SIZES for array in smooth_pictures(5, height, width, seed=height)]


@pytest.fixture(scope="module")
def files(arrays: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return load(bundle, device="cpu")


@pytest.fixture(scope="module")
def alone(predictor: Predictor, files: list[Path]) -> list[Prediction]:
    """Each picture asked by itself."""
    return [predictor.predict([path])[0] for path in files]


def test_the_offline_answers_do_not_depend_on_the_company(
    predictor: Predictor, bundle: Path, files: list[Path], alone: list[Prediction]
) -> None:
    assert predictor.predict(files) == alone
    order = np.random.default_rng(0).permutation(len(files))
    shuffled = predictor.predict([files[place] for place in order])
    assert [shuffled[place] for place in np.argsort(order)] == alone
    for held in (1, 3, 64):
        assert list(predictor.stream([Source(str(path)) for path in files], batch_size=held)) == alone
    assert load(bundle, device="cpu", workers=3).predict(files) == alone
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        assert predictor.predict(files) == alone
        assert predictor.predict(files[:1]) == alone[:1]
    finally:
        torch.set_num_threads(before)


def test_batches_do_depend_on_it_so_that_these_tests_can_fail(
    bundle: Path, files: list[Path], alone: list[Prediction]
) -> None:
    batched = load(bundle, device="cpu", batch_size=64)
    together = batched.predict(files)
    assert [one.label for one in together] == [one.label for one in alone]
    if batched.backend == "onnx":
        # It happens to add in one order whatever the batch; torch adds in another.
        together = load(bundle, device="cpu", backend="torch").predict(files)
    assert [one.logits for one in together] != [one.logits for one in alone]
    np.testing.assert_allclose([one.logits for one in together], [one.logits for one in alone], atol=1e-4)


def test_a_folder_on_the_command_line(
    bundle: Path, files: list[Path], alone: list[Prediction], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(bundle), str(files[0].parent), "--device", "cpu", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [one.to_json() for one in alone]


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[httpx.Client]:
    words = ["serve", str(bundle), "--port", "0", "--json", "-q", "--device", "cpu", "--verify", "load"]
    process = subprocess.Popen(
        [sys.executable, "-m", "roadwork_core", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        url = json.loads(process.stdout.readline())["url"]
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            yield client
    finally:
        process.kill()
        process.communicate()


def rows(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [{key: row[key] for key in KEYS} for row in answer.json()["predictions"]]


def scores(answer: httpx.Response) -> list[float]:
    assert answer.status_code == 200, answer.text
    return next(tensor["data"] for tensor in answer.json()["outputs"] if tensor["name"] == "score")


def test_every_way_into_the_server(
    client: httpx.Client,
    predictor: Predictor,
    files: list[Path],
    arrays: list[NDArray[np.uint8]],
    alone: list[Prediction],
) -> None:
    expected = [{key: one.to_json()[key] for key in KEYS} for one in alone]
    contents = [path.read_bytes() for path in files]
    texts = [base64.b64encode(content).decode() for content in contents]
    assert [row for content in contents for row in rows(client.post("/predict", content=content))] == expected
    assert rows(client.post("/predict", files=[("image", ("x.png", content)) for content in contents])) == expected
    assert rows(client.post("/predict", json={"images": texts})) == expected
    assert rows(client.post("/predict", json={"image": texts[3]})) == expected[3:4]
    name = client.get("/bundle").json()["bundle"]
    of_files = {"name": "image", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
    found = scores(client.post(f"/v2/models/{name}/infer", json={"inputs": [of_files]}))
    assert found == [one.score for one in alone]
    of_pixels = {"name": "pixels", "datatype": "UINT8", "shape": [5, *SIZES[0], 3]}
    of_pixels["data"] = np.stack(arrays[:5]).ravel().tolist()
    assert scores(client.post(f"/v2/models/{name}/infer", json={"inputs": [of_pixels]})) == found[:5]
    for text, path in zip(texts, files, strict=True):
        offline = balanced(predictor.predict([path], must_answer=True)[0], predictor.bundle)
        assert client.post("/ImageSynapse", json={"image": text}).json() == {"prediction": offline}


def test_jpegs_too(client: httpx.Client, predictor: Predictor, arrays: list[NDArray[np.uint8]]) -> None:
    contents = []
    for array in arrays:
        stream = io.BytesIO()
        Image.fromarray(array).resize((300, 200)).save(stream, "JPEG", quality=75)
        contents.append(stream.getvalue())
    found = rows(client.post("/predict", files=[("image", ("x.jpg", content)) for content in contents]))
    assert [row["score"] for row in found] == [predictor.predict([content])[0].score for content in contents]
