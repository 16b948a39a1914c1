"""Every way in gives the answer of `roadwork predict`, to the bit."""

from __future__ import annotations

import argparse
import base64
import json
import math
import shlex
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from .conftest import Served, Site, pixels, png

MARGINS = (-7.3, -2.0, -0.4, -0.1, 0.0, 0.3, 0.9, 2.5, 6.0)
CHOICES: tuple[list[str], ...] = (
    [],
    ["--mode", "fast"],
    ["--mode", "accurate"],
    ["--policy", "threshold"],
    ["--must-answer"],
    ["--mode", "accurate", "--must-answer"],
)
KEYS = ("label", "abstain", "score", "set", "policy", "reason")


@pytest.fixture(scope="session")
def offline(site: Site, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What `roadwork predict` says of the pictures, one call for all or one for each."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{number}.png" for number in range(len(MARGINS))]
    for path, margin in zip(paths, MARGINS, strict=True):
        path.write_bytes(png(margin))

    calls = [[*options, "--batch-size", str(batch)] for options in CHOICES for batch in (1, 32)]
    arguments = [["predict", str(bundle), *map(str, paths), "--json", *options] for options in calls]
    done = site.roadwork(arguments=arguments)
    assert done.returncode == 0, done.stderr
    rows = [{key: row[key] for key in KEYS} for row in map(json.loads, done.stdout.splitlines())]
    found = {tuple(call): rows[n * len(paths) : (n + 1) * len(paths)] for n, call in enumerate(calls)}
    return lambda *options, batch=32: found[*options, "--batch-size", str(batch)]


def decisions(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [{key: row[key] for key in KEYS} for row in answer.json()["predictions"]]


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def curl(command: str) -> tuple[str, dict[str, Any]]:
    """The path and what httpx posts for a line of curl: its options as its manual says, files made up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-H", dest="headers", action="append", default=[])
    parser.add_argument("-F", dest="form", action="append", default=[])
    parser.add_argument("--data-binary")
    given = parser.parse_args(shlex.split(command)[1:])
    headers = dict(header.split(": ", 1) for header in given.headers)
    if given.data_binary is not None:
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return given.url, {"headers": kind | headers, "content": png(2.0)}
    fields = [part.split("=", 1) for part in given.form]
    files = [(name, (value[1:], png(2.0))) for name, value in fields if value.startswith("@")]
    plain = {name: value for name, value in fields if not value.startswith("@")}
    return given.url, {"headers": headers, "files": files, "data": plain}


@pytest.mark.parametrize("page", ["serve", "run-in-production"])
def test_what_the_pages_tell_to_type_is_answered(client: httpx.Client, page: str) -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / f"{page}.md").read_text()
    commands = [line for line in text.splitlines() if line.startswith("curl ") and "/predict" in line]
    assert commands
    for command in commands:
        url, request = curl(command)
        answer = client.post(url.removeprefix("http://127.0.0.1:8000"), **request)
        assert (answer.status_code, command) == (200, command), answer.text


def test_bytes_one_by_one(client: httpx.Client, offline: Any) -> None:
    found = []
    for margin in MARGINS:
        headers = {"content-type": "image/png"}
        found += decisions(client.post("/predict", content=png(margin), headers=headers))
    assert found == offline(batch=1)
    assert {row["abstain"] for row in found} == {True, False}


def test_a_form_of_several(client: httpx.Client, offline: Any) -> None:
    files = [("image", (f"{margin}.png", png(margin))) for margin in MARGINS]
    answer = client.post("/predict", files=files)
    assert decisions(answer) == offline()
    assert [row["path"] for row in answer.json()["predictions"]] == [f"{margin}.png" for margin in MARGINS]


def test_json_of_several(client: httpx.Client, offline: Any) -> None:
    document = {"images": [as_base64(png(margin)) for margin in MARGINS]}
    assert decisions(client.post("/predict", json=document)) == offline()


@pytest.mark.parametrize(
    ("chosen", "options"),
    [
        ({"mode": "fast"}, CHOICES[1]),
        ({"mode": "accurate"}, CHOICES[2]),
        ({"policy": "threshold"}, CHOICES[3]),
        ({"must_answer": True}, CHOICES[4]),
        ({"mode": "accurate", "must_answer": True}, CHOICES[5]),
    ],
    ids=str,
)
def test_who_decides_is_chosen_by_request(
    client: httpx.Client, offline: Any, chosen: dict[str, Any], options: list[str]
) -> None:
    expected = offline(*options)
    pictures = [png(margin) for margin in MARGINS]
    document = {"images": [as_base64(picture) for picture in pictures]}
    assert decisions(client.post("/predict", json={**document, **chosen})) == expected
    assert decisions(client.post("/predict", json=document, params=chosen)) == expected
    form = {name: str(value).lower() for name, value in chosen.items()}
    files = [("image", ("x.png", picture)) for picture in pictures]
    assert decisions(client.post("/predict", files=files, data=form)) == expected


def tensors(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    columns = {tensor["name"]: tensor for tensor in answer.json()["outputs"]}
    data = {name: np.array(tensor["data"]).reshape(tensor["shape"]).tolist() for name, tensor in columns.items()}
    labels = ("no_roadwork", "roadwork")
    data["label"] = [label or None for label in data["label"]]
    data["set"] = [[label for label, member in zip(labels, row, strict=True) if member] for row in data["set"]]
    return [dict(zip(KEYS, row, strict=True)) for row in zip(*(data[key] for key in KEYS), strict=True)]


def test_tensors_of_files_and_of_pixels(client: httpx.Client, offline: Any) -> None:
    files = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [len(MARGINS)],
        "data": [as_base64(png(m)) for m in MARGINS],
    }
    array = np.stack([pixels(margin) for margin in MARGINS])
    nested = {"name": "pixels", "datatype": "UINT8", "shape": list(array.shape), "data": array.tolist()}
    flat = {**nested, "data": array.ravel().tolist()}
    expected = offline()
    for tensor in (files, nested, flat):
        assert tensors(client.post("/v2/models/toy/infer", json={"inputs": [tensor]})) == expected
    answer = client.post("/v2/models/toy/infer", json={"id": "7", "inputs": [files], "parameters": {"mode": "fast"}})
    assert tensors(answer) == offline("--mode", "fast")
    assert answer.json()["id"] == "7"


@pytest.mark.parametrize("binary", [True, False])
def test_a_client_of_triton(served: Served, offline: Any, binary: bool) -> None:
    http = pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")
    client = http.InferenceServerClient(served.url.removeprefix("http://"))
    try:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("toy")
        assert not client.is_model_ready("another")
        described = client.get_model_metadata("toy")
        assert described["versions"] == [served.facts["bundle_id"]]
        array = np.stack([pixels(margin) for margin in MARGINS])
        tensor = http.InferInput("pixels", list(array.shape), "UINT8")
        tensor.set_data_from_numpy(array, binary_data=binary)
        names = [output["name"] for output in described["outputs"]]
        wanted = [http.InferRequestedOutput(name, binary_data=binary) for name in names]
        found = client.infer("toy", [tensor], outputs=wanted)
        expected = offline()
        assert found.as_numpy("score").tolist() == [row["score"] for row in expected]
        assert found.as_numpy("abstain").tolist() == [row["abstain"] for row in expected]
        assert found.as_numpy("set").shape == (len(MARGINS), 2)
        said = [text.decode() if isinstance(text, bytes) else text for text in found.as_numpy("label").tolist()]
        assert said == [row["label"] or "" for row in expected]
        data = [png(m) if binary else as_base64(png(m)).encode() for m in MARGINS]
        files = http.InferInput("image", [len(MARGINS)], "BYTES")
        files.set_data_from_numpy(np.array(data, dtype=object), binary_data=binary)
        assert client.infer("toy", [files]).as_numpy("score").tolist() == [row["score"] for row in expected]
        with pytest.raises(Exception, match="no such model"):
            client.infer("another", [files])
    finally:
        client.close()


def test_the_synapse_of_the_miner_cuts_at_one_half(client: httpx.Client, offline: Any) -> None:
    expected = offline("--must-answer", batch=1)
    for margin, row in zip(MARGINS, expected, strict=True):
        document = {"image": as_base64(png(margin)), "prediction": -1.0, "testnet_label": -1, "timeout": 9.0}
        answer = client.post("/ImageSynapse", json=document)
        assert answer.status_code == 200, answer.text
        value = answer.json()["prediction"]
        assert math.isfinite(value)
        assert np.round(value) == (row["label"] == "roadwork")
        # The toy's cut is at 0: its score stays as it is, but for the tie.
        assert value == pytest.approx(row["score"], abs=1e-12)


def test_a_picture_that_cannot_be_read_costs_only_itself(client: httpx.Client) -> None:
    files = [("image", ("good.png", png(3))), ("image", ("bad.png", b"not a picture"))]
    answer = client.post("/predict", files=files)
    good, bad = answer.json()["predictions"]
    assert answer.status_code == 200
    assert (good["label"], bad["path"]) == ("roadwork", "bad.png")
    assert "not a picture" in bad["error"]
    alone = client.post("/predict", content=b"not a picture")
    assert (alone.status_code, alone.json()["code"]) == (422, "bad_image")


def test_jpegs_with_a_reduced_scale_are_those_of_predict(
    client: httpx.Client, site: Site, bundle: Path, tmp_path: Path
) -> None:
    large = png(1.5, (640, 480), form="JPEG")
    (tmp_path / "large.jpg").write_bytes(large)
    done = site.roadwork(arguments=[["predict", str(bundle), str(tmp_path / "large.jpg"), "--json"]])
    expected = [{key: json.loads(done.stdout)[key] for key in KEYS}]
    assert decisions(client.post("/predict", content=large)) == expected


def test_health_description_and_page(client: httpx.Client, served: Served) -> None:
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/toy/ready"):
        assert client.get(path).status_code == 200
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/bundle").json()["bundle_id"] == served.facts["bundle_id"]
    version = f"/v2/models/toy/versions/{served.facts['bundle_id']}"
    assert client.get(version).json() == client.get("/v2/models/toy").json()
    assert client.get("/v2/models/toy/versions/2").status_code == 404
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not any(f"{name}=" in page.text for name in ("src", "href")), "the page needs nothing from elsewhere"


def test_metrics_are_what_prometheus_reads(client: httpx.Client, served: Served) -> None:
    def scraped() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        text = client.get("/metrics").text
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    before = scraped()
    client.post("/predict", content=png(3))
    after = scraped()
    decided = ("roadwork_decisions_total", (("outcome", "roadwork"), ("policy", "careful")))
    assert after[decided] - before.get(decided, 0) == 1
    requests = ("roadwork_requests_total", (("method", "POST"), ("route", "/predict"), ("status", "200")))
    assert after[requests] - before.get(requests, 0) == 1
    info = ("roadwork_bundle_info", (("bundle_id", served.facts["bundle_id"]), ("name", "toy")))
    assert after[info] == 1


def test_the_log_has_a_line_for_every_request(client: httpx.Client, served: Served) -> None:
    answer = client.post("/predict?policy=threshold", content=png(3), headers={"x-request-id": "mine-1"})
    assert answer.headers["x-request-id"] == "mine-1"
    client.get("/healthz", headers={"x-request-id": "bad id\x7f"})
    logged = next(event for event in served.events("request") if event["request_id"] == "mine-1")
    assert (logged["route"], logged["status"], logged["bytes"]) == ("/predict", 200, len(png(3)))
    assert not any("bad id" in event["request_id"] for event in served.events("request"))
