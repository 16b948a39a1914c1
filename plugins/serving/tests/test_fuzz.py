"""Whatever fits the server's own OpenAPI document, or does not, is answered with a status that the document lists."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import Served, png

FUZZ = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_picture = st.sampled_from([png(3), png(0), b"", b"nonsense", png(1)[:40]])
_text_of_picture = st.one_of(_picture.map(lambda data: base64.b64encode(data).decode()), st.text(max_size=12))


@pytest.fixture(scope="module")
def api(served: Served) -> Iterator[tuple[httpx.Client, dict[str, Any]]]:
    with served.client() as client:
        yield client, client.get("/openapi.json").json()


def of_schema(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that fit a schema, and now and then one that does not."""
    return st.one_of(_fitting(schema, document), _fitting(schema, document), _anything)


def _fitting(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return of_schema(document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], document)
    if "anyOf" in schema:
        return st.one_of(*(of_schema(part, document) for part in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {})
        required = set(schema.get("required", ()))
        parts = {name: of_schema(part, document) for name, part in properties.items()}
        optional = {name: part for name, part in parts.items() if name not in required}
        return st.fixed_dictionaries({name: parts[name] for name in required}, optional=optional)
    if kind == "array":
        return st.lists(of_schema(schema.get("items", {}), document), max_size=4)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        "string": st.one_of(
            _text_of_picture, st.sampled_from(["image", "pixels", "BYTES", "UINT8", "fast", "threshold"])
        ),
        "integer": st.integers(-2, 40),
        "number": st.floats(),
        "boolean": st.booleans(),
        "null": st.none(),
    }
    return simple.get(kind, _anything)


def check(answer: httpx.Response, operation: dict[str, Any]) -> None:
    listed = set(operation["responses"])
    assert str(answer.status_code) in listed, (answer.status_code, answer.text)
    body = answer.json()
    if answer.status_code != 200:
        assert set(body) == {"error", "code"}
        assert body["error"].isprintable()


POSTS = ("/predict", "/ImageSynapse", "/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer")


@pytest.mark.parametrize("path", POSTS)
def test_documents(api: tuple[httpx.Client, dict[str, Any]], path: str) -> None:
    client, document = api
    operation = document["paths"][path]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    place = path.replace("{name}", "toy").replace("{version}", client.get("/bundle").json()["bundle_id"])

    @FUZZ
    @given(value=of_schema(schema, document))
    def fuzz(value: Any) -> None:
        body = json.dumps(value).encode()
        check(client.post(place, content=body, headers={"content-type": "application/json"}), operation)

    fuzz()


@pytest.mark.parametrize("path", POSTS)
def test_bytes_of_any_kind(api: tuple[httpx.Client, dict[str, Any]], path: str) -> None:
    client, document = api
    operation = document["paths"][path]["post"]
    kinds = st.sampled_from(
        ["application/json", "multipart/form-data; boundary=x", "image/png", "", "\x7f", "text/html"]
    )
    sizes = st.none() | st.integers(-5, 200).map(str) | st.text("0123456789abc", max_size=20)

    @FUZZ
    @given(body=st.binary(max_size=200) | _picture, kind=kinds, size=sizes)
    def fuzz(body: bytes, kind: str, size: str | None) -> None:
        headers = {"content-type": kind, **({} if size is None else {"inference-header-content-length": size})}
        place = path.replace("{name}", "toy").replace("{version}", "1")
        check(client.post(place, content=body, headers=headers), operation)

    fuzz()


def test_forms(api: tuple[httpx.Client, dict[str, Any]]) -> None:
    client, document = api
    names = st.sampled_from(["image", "mode", "policy", "must_answer", "other"]) | st.text(max_size=8)
    files = st.lists(st.tuples(names, st.tuples(st.text(max_size=8), _picture)), min_size=1, max_size=4)

    @FUZZ
    @given(files=files, data=st.dictionaries(names, st.text(max_size=8), max_size=3))
    def fuzz(files: Any, data: dict[str, str]) -> None:
        check(client.post("/predict", files=files, data=data), document["paths"]["/predict"]["post"])

    fuzz()


@FUZZ
@given(mode=st.text(max_size=8), policy=st.text(max_size=8), must=st.text(max_size=6) | st.booleans().map(str))
def test_queries(api: tuple[httpx.Client, dict[str, Any]], mode: str, policy: str, must: str) -> None:
    client, document = api
    query = {"mode": mode, "policy": policy, "must_answer": must}
    check(client.post("/predict", params=query, content=png(3)), document["paths"]["/predict"]["post"])


def test_after_all_this_it_is_well(api: tuple[httpx.Client, dict[str, Any]], served: Served) -> None:
    client, _ = api
    assert client.post("/predict", content=png(3)).status_code == 200
    assert served.events("failure") == []
