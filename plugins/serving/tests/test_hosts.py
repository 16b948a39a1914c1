"""At a loopback address a server answers only to the loopback's names: no page reaches it by a name of its own."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from roadwork_serving.hosts import hosts_of, parse_host

from roadwork_core.cli import main

from .conftest import TOKEN, Served, Site, png

LOOPBACK = (
    *("localhost", "LocalHost:8000", "localhost.", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000"),
    "[0:0:0:0:0:0:0:1]:9",
)
FOREIGN = (
    *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost"),
    *("192.0.2.1", "[2001:db8::1]:8000", "[::1", "::1", "localhost:80:80", "localhost:x", "user@localhost"),
    *("localhost/", "", "*", "."),
)
#: Those that a server with a token answers without one, and some others.
PATHS = ("/", "/healthz", "/readyz", "/v2/health/live", "/metrics", "/bundle", "/docs", "/openapi.json", "/nowhere")


@pytest.fixture(scope="module")
def open_to_all(site: Site, bundle: Path) -> Iterator[Served]:
    with site.serve(bundle, "--host", "0.0.0.0", "--verify", "load", "-q") as server:
        yield server


@pytest.fixture(scope="module")
def public(site: Site, bundle: Path) -> Iterator[Served]:
    """One in a container: reached by the name that a proxy passes on, and by its own health check."""
    words = ("--host", "0.0.0.0", "--allowed-host", "API.example.org", "--allowed-host", "*.pods.example.org")
    with site.serve(bundle, *words, "--verify", "load", "-q", ROADWORK_SERVE_TOKEN=TOKEN) as server:
        yield server


def ask(server: Served, host: str, path: str = "/healthz") -> httpx.Response:
    port = server.url.rpartition(":")[2]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        return client.get(path, headers={"host": host})


@pytest.mark.parametrize("host", LOOPBACK)
def test_at_a_loopback_address_its_names_are_answered(served: Served, host: str) -> None:
    assert ask(served, host).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
def test_at_a_loopback_address_no_other_host_is_answered(served: Served, host: str) -> None:
    answer = ask(served, host)
    assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host")
    assert "--allowed-host" in answer.json()["error"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_at_all_is_told_to_another_host(served: Served, path: str) -> None:
    assert ask(served, "evil.example", path).json().keys() == {"error", "code"}


def test_a_picture_of_another_host_is_not_decided_on(served: Served) -> None:
    with served.client(headers={"host": "evil.example"}) as client:
        answer = client.post("/predict", content=png(3))
    assert (answer.status_code, answer.json()["code"]) == (421, "unknown_host")
    assert [event["status"] for event in served.events("request")][-1] == 421


def test_a_request_without_a_host_is_refused(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(served.url.rpartition(":")[2]), timeout=60)
    connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
    connection.putrequest("GET", "/healthz", skip_host=True)
    connection.endheaders()
    assert connection.getresponse().status == 421
    connection.close()


def test_a_long_host_is_not_repeated_in_full(served: Served) -> None:
    assert len(ask(served, "a" * 5000).text) < 300


def test_its_openapi_document_has_the_refusal(served: Served, open_to_all: Served) -> None:
    for server, has in ((served, True), (open_to_all, False)):
        paths = ask(server, "localhost", "/openapi.json").json()["paths"]
        assert all(("421" in operation["responses"]) is has for item in paths.values() for operation in item.values())


@pytest.mark.parametrize("host", ["evil.example", "192.0.2.1:8000", "serve:8000", "localhost"])
def test_elsewhere_every_host_is_answered_unless_told(open_to_all: Served, host: str) -> None:
    assert ask(open_to_all, host).status_code == 200
    assert list(text_string_to_metric_families(ask(open_to_all, host, "/metrics").text))


def test_elsewhere_what_is_allowed_is_answered_and_a_health_check_within_the_machine(public: Served) -> None:
    for host in ("api.example.org", "API.Example.org:443", "7.a.pods.example.org", "127.0.0.1:8000", "localhost"):
        assert ask(public, host).status_code == 200, host
    for host in ("example.org", "pods.example.org", "evilpods.example.org", "api.example.org.evil", "192.0.2.1"):
        assert ask(public, host).status_code == 421, host
    # Of a host that it does not answer to, it does not ask for the token first.
    assert ask(public, "evil.example", "/bundle").status_code == 421
    assert ask(public, "api.example.org", "/bundle").status_code == 401


@pytest.mark.parametrize(
    ("address", "host", "allowed", "named", "answers"),
    [
        ("127.0.0.1", "127.0.0.1", (), "api.example.org", False),
        ("127.0.0.1", "127.0.0.1", ("api.example.org",), "api.example.org", True),
        ("127.0.0.1", "127.0.0.1", ("*",), "evil.example", True),
        ("127.0.1.1", "street", (), "street:8000", True),  # a name of the operator's own that leads to the loopback
        ("127.0.1.1", "street", (), "evil.example", False),
        ("::1", "::1", (), "[::1]:8000", True),
        ("::1", "::1", (), "evil.example", False),
        ("::", "::", (), "evil.example", True),
        ("192.0.2.7", "192.0.2.7", (), "evil.example", True),
        ("192.0.2.7", "192.0.2.7", ("[2001:db8:0::1]",), "192.0.2.7:80", True),
        ("192.0.2.7", "192.0.2.7", ("[2001:db8:0::1]",), "[2001:db8::1]:80", True),
        ("192.0.2.7", "192.0.2.7", ("api.example.org",), "192.0.2.8", False),
    ],
)
def test_who_is_answered_depends_on_where_it_listens(
    address: str, host: str, allowed: tuple[str, ...], named: str, answers: bool
) -> None:
    parsed = tuple(str(parse_host(name)) for name in allowed)
    assert hosts_of(address, host, parsed).answers([named]) is answers


def test_two_hosts_are_no_host() -> None:
    assert not hosts_of("127.0.0.1", "127.0.0.1", ()).answers(["localhost", "localhost"])


@given(st.text(max_size=40) | st.from_regex(r"[a-z0-9.\[\]:*@-]{0,20}", fullmatch=True))
def test_whatever_is_named_there_is_an_answer(text: str) -> None:
    hosts = hosts_of("127.0.0.1", "127.0.0.1", ("*.example.org",))
    name = text.lower().partition(":")[0].removesuffix(".")
    expected = name in ("localhost", "127.0.0.1") or name.endswith(".example.org")
    assert text.startswith("[") or not hosts.answers([text]) or expected


@pytest.mark.parametrize("text", ["api.example.org:8000", "http://api", "", "a b", "*example.org", "a.*.org", "ünder"])
def test_a_host_that_is_none_is_a_usage_error(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "somewhere", "--allowed-host", text]) == 2
    assert "must be a name or an address without a port" in capsys.readouterr().err
