"""Whatever fits the server's own OpenAPI document, or does not, gets an answer that the document describes."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from roadwork_serving.tensors import OUTPUTS
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import TOKEN, Served, Site, png

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
AUTHORISED = {"authorization": f"Bearer {TOKEN}"}
#: Each operation that the document must have.
OPERATIONS = (
    "GET /bundle",
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /v2/models/{name}",
    "GET /v2/models/{name}/ready",
    "GET /v2/models/{name}/versions/{version}",
    "GET /v2/models/{name}/versions/{version}/ready",
    "POST /ImageSynapse",
    "POST /admin/reload",
    "POST /feedback",
    "POST /predict",
    "POST /v2/models/{name}/infer",
    "POST /v2/models/{name}/versions/{version}/infer",
)
#: Those that are given something that can be wrong.
REFUSING = tuple(label for label in OPERATIONS if label.startswith("POST") and label != "POST /admin/reload")


@pytest.fixture(scope="module")
def keeping(site: Site, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("feedback")
    words = ("--feedback", str(folder / "f.sqlite"), "--feedback-pictures", str(folder / "pictures"))
    with site.serve(bundle, *words, ROADWORK_SERVE_TOKEN=TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def api(keeping: Served) -> BaseSchema:
    pictures = st.sampled_from([png(3), png(0, form="JPEG"), png(1)[:40]]) | st.binary(max_size=64)
    for kind in ("image/png", "image/jpeg", "application/octet-stream"):
        schemathesis.openapi.media_type(kind, pictures)
    return schemathesis.openapi.from_url(f"{keeping.url}/openapi.json")


@pytest.fixture(scope="module")
def known(keeping: Served) -> Mapping[str, Any]:
    """What a client knows and a generator cannot guess, by the names that the document gives it."""
    with keeping.client(headers=AUTHORISED) as client:
        key = client.post("/predict", content=png(3)).json()["predictions"][0]["key"]
    text = base64.b64encode(png(3)).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    return {
        "name": "toy",
        "version": keeping.facts["bundle_id"],
        "image": text,
        "images": [text, text],
        "key": key,
        "label": "roadwork",
        "mode": None,
        "policy": "threshold",
        "inputs": [tensor],
        "outputs": [{"name": name} for name in OUTPUTS],
        "parameters": {"must_answer": True},
        "must_answer": True,
    }


def check_refusal(body: Mapping[str, str]) -> None:
    assert body.keys() == {"error", "code"}
    assert body["error"].isprintable()
    assert not any(part in body["error"] for part in ("Traceback", ".py", "/site", "/feedback"))


def test_every_operation_is_tried(api: BaseSchema) -> None:
    found = [result.ok().label for result in api.get_all_operations() if isinstance(result, Ok)]
    assert sorted(found) == sorted(OPERATIONS)


@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_as_documented(api: BaseSchema, known: Mapping[str, Any], label: str) -> None:
    method, path = label.split()
    operation = api[path][method]
    cases = st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode])
    met: Counter[int] = Counter()

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases, informed=st.sampled_from([{*known}, {*known}, {"label"}, set()]))
    def ask(case: Case[Any], informed: set[str]) -> None:
        if "inputs" in informed:
            case.headers.pop("Inference-Header-Content-Length", None)  # a drawn number is never that of the body
        for given_to in (case.path_parameters, case.body):
            if isinstance(given_to, dict):
                given_to.update((name, known[name]) for name in given_to.keys() & informed)
        if label == "POST /predict" and "image" in informed:
            case.query = {}  # options there come twice, or are names that no bundle has
            if isinstance(case.body, dict) and case.body.keys() >= {"image", "images"}:
                del case.body["images"]
        answer = case.call_and_validate(checks=CHECKS, headers=AUTHORISED)
        met[answer.status_code] += 1
        if answer.status_code >= 400:
            check_refusal(answer.json())

    ask()
    # Draws that reach nothing but refusals, or none, show little.
    assert 200 in met, met
    assert label not in REFUSING or met.keys() & {400, 404, 422}, met


@pytest.mark.parametrize("label", [label for label in OPERATIONS if label.startswith("POST")])
def test_bytes_of_any_kind(keeping: Served, known: Mapping[str, Any], label: str) -> None:
    """What no generator of documents makes: bodies that are not of their content type, and sizes that are none."""
    place = label.removeprefix("POST ")
    kinds = st.sampled_from(
        ["application/json", "multipart/form-data; boundary=x", "image/png", "", "\x7f", "text/html"]
    )
    bodies = st.binary(max_size=200) | st.sampled_from([png(3), b"nonsense", png(1)[:40], b'{"image": "'])
    sizes = st.none() | st.integers(-5, 200).map(str) | st.text("0123456789abc", max_size=20)
    with keeping.client(headers=AUTHORISED) as client:
        listed = client.get("/openapi.json").json()["paths"][place]["post"]["responses"]

        @settings(max_examples=60, deadline=None, derandomize=True, database=None)
        @given(body=bodies, kind=kinds, size=sizes)
        def ask(body: bytes, kind: str, size: str | None) -> None:
            headers = {"content-type": kind, **({} if size is None else {"inference-header-content-length": size})}
            answer = client.post(place.format_map(known), content=body, headers=headers)
            assert str(answer.status_code) in listed, answer.text
            if answer.status_code >= 400:
                check_refusal(answer.json())

        ask()


def test_after_all_this_it_is_well(keeping: Served) -> None:
    with keeping.client(headers=AUTHORISED) as client:
        assert client.post("/predict", content=png(3)).status_code == 200
    assert keeping.events("failure") == []
    assert keeping.events("feedback failed") == []
