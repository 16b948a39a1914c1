"""The same values of an option, and no others, by every way in."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from .conftest import Served, png

PICTURE = png(0.2)  # near the cut: the active policy abstains
TEXT = base64.b64encode(PICTURE).decode()
BYTES = {"content-type": "application/octet-stream"}
Ask = Callable[[httpx.Client, str, Any], httpx.Response]


def by_query(client: httpx.Client, name: str, value: Any) -> httpx.Response:
    return client.post("/predict", content=PICTURE, headers=BYTES, params={name: value})


def by_form(client: httpx.Client, name: str, value: Any) -> httpx.Response:
    return client.post("/predict", files={"image": ("x.png", PICTURE)}, data={name: value})


def by_document(client: httpx.Client, name: str, value: Any) -> httpx.Response:
    return client.post("/predict", json={"image": TEXT, name: value})


def by_parameter(client: httpx.Client, name: str, value: Any) -> httpx.Response:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [TEXT]}
    return client.post("/v2/models/toy/infer", json={"inputs": [tensor], "parameters": {name: value}})


def abstained(answer: httpx.Response) -> bool:
    assert answer.status_code == 200, answer.text
    document = answer.json()
    if "predictions" in document:
        return bool(document["predictions"][0]["abstain"])
    return next(bool(output["data"][0]) for output in document["outputs"] if output["name"] == "abstain")


@pytest.mark.parametrize("ask", [by_query, by_form])
def test_a_text_says_true_or_false(client: httpx.Client, ask: Ask) -> None:
    assert not abstained(ask(client, "must_answer", "true"))
    assert abstained(ask(client, "must_answer", "false"))


@pytest.mark.parametrize("ask", [by_document, by_parameter])
def test_a_document_says_true_or_false_or_null_for_neither(client: httpx.Client, ask: Ask) -> None:
    assert not abstained(ask(client, "must_answer", True))
    assert abstained(ask(client, "must_answer", False))
    assert abstained(ask(client, "must_answer", None))


TEXTS = ("yes", "no", "on", "off", "1", "0", "t", "y", "True", "TRUE", "False", "", " true", "null", "2", "true,true")


@pytest.mark.parametrize("value", TEXTS)
@pytest.mark.parametrize("ask", [by_query, by_form, by_document, by_parameter])
def test_no_other_spelling_is_taken_by_any_way(client: httpx.Client, ask: Ask, value: str) -> None:
    answer = ask(client, "must_answer", value)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), answer.text
    assert "must_answer" in answer.json()["error"]


@pytest.mark.parametrize("value", [1, 0, 1.0, "true", "false", [], {}], ids=repr)
@pytest.mark.parametrize("ask", [by_document, by_parameter])
def test_a_document_takes_nothing_that_resembles_it(client: httpx.Client, ask: Ask, value: Any) -> None:
    answer = ask(client, "must_answer", value)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), answer.text


@pytest.mark.parametrize("name", ["mode", "policy"])
@pytest.mark.parametrize("ask", [by_document, by_parameter])
def test_a_name_is_text(client: httpx.Client, ask: Ask, name: str) -> None:
    answer = ask(client, name, 1)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), answer.text


@pytest.mark.parametrize("ask", [by_query, by_form])
@pytest.mark.parametrize("name", ["mode", "policy", "must_answer"])
def test_an_option_that_is_given_twice_is_refused(client: httpx.Client, ask: Ask, name: str) -> None:
    answer = ask(client, name, ["true", "false"])
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), answer.text


def test_the_document_comes_before_the_query(client: httpx.Client) -> None:
    for body, query, expected in ((True, "false", False), (False, "true", True)):
        document = {"image": TEXT, "must_answer": body}
        assert abstained(client.post("/predict", json=document, params={"must_answer": query})) is expected


def test_openapi_says_so(served: Served, client: httpx.Client) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
    schemas = {parameter["name"]: parameter["schema"] for parameter in operation["parameters"]}
    assert schemas == {"mode": {"type": "string"}, "policy": {"type": "string"}, "must_answer": {"type": "boolean"}}
    assert not any(parameter["required"] for parameter in operation["parameters"])
