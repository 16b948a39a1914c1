"""Under load, at its end and at a change of bundles, every accepted request is answered and every other is told."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from .conftest import TOKEN, Served, Site, png, toy

AUTHORISED = {"authorization": f"Bearer {TOKEN}"}


def wait_until(true: object, seconds: float = 30) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_overload_is_told_at_once_and_nothing_is_left_hanging(site: Site, bundle: Path) -> None:
    arguments = ("--workers", "2", "--queue", "2", "--verify", "load")
    with site.serve(bundle, *arguments, TOY_SECONDS="0.2") as server:

        def ask(_: int) -> tuple[int, str | None]:
            with server.client() as client:
                answer = client.post("/predict", content=png(3))
                return answer.status_code, answer.headers.get("retry-after")

        with ThreadPoolExecutor(24) as pool:
            found = list(pool.map(ask, range(72)))
        counts = Counter(status for status, _ in found)
        assert set(counts) == {200, 503}
        assert all(int(after or 0) >= 1 for status, after in found if status == 503)
        with server.client() as client:
            exposed = client.get("/metrics").text
        assert f'roadwork_refused_total{{cause="overloaded"}} {float(counts[503])}' in exposed
        assert "roadwork_in_flight 0.0" in exposed


def test_sigterm_answers_what_was_accepted_and_then_ends(site: Site, bundle: Path) -> None:
    arguments = ("--workers", "1", "--notice", "1.5", "--verify", "load")
    with site.serve(bundle, *arguments, TOY_SECONDS="0.5") as server:
        with ThreadPoolExecutor(6) as pool, server.client() as client:
            jobs = [pool.submit(httpx.post, f"{server.url}/predict", content=png(3), timeout=60) for _ in range(6)]
            wait_until(lambda: "roadwork_in_flight 6.0" in client.get("/metrics").text)
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.get("/readyz").status_code == 503, 1.4)
            assert client.get("/healthz").headers["connection"] == "close"
            assert [job.result().status_code for job in jobs] == [200] * 6
        assert server.process.wait(30) == 0
    assert server.events("draining")[0]["in_flight"] > 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/healthz")


class Load:
    """Requests from several threads, one after the other in each, until told to stop."""

    def __init__(self, server: Served, threads: int = 3) -> None:
        self.found: list[tuple[int, str]] = []
        self.lost: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(server,)) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, server: Served) -> None:
        with server.client(headers=AUTHORISED) as client:
            while not self._stop.is_set():
                try:
                    answer = client.post("/predict", content=png(0.3))
                    self.found.append((answer.status_code, answer.json()["bundle_id"]))
                except Exception as error:  # noqa: BLE001 - any failure of any kind is a lost request
                    self.lost.append(repr(error))

    def served_by(self, bundle_id: str) -> bool:
        return bool(self.found) and self.found[-1][1] == bundle_id


def point(link: Path, target: Path) -> None:
    """Makes a link lead elsewhere in one step."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A bundle with another active policy."""
    found: Path = toy().make(tmp_path / "second", active="threshold", fallback=None)
    return found


@pytest.mark.parametrize("how", ["watch", "signal", "request"])
def test_a_switch_there_and_back_loses_nothing(
    site: Site, bundle: Path, second: Path, tmp_path: Path, how: str
) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle)
    arguments = ("--watch",) if how == "watch" else ()
    with site.serve(link, *arguments, ROADWORK_SERVE_TOKEN=TOKEN) as server:
        first_id = server.facts["bundle_id"]
        with Load(server) as load:
            for target in (second, bundle):
                wait_until(lambda: len(load.found) > 5)
                point(link, target)
                if how == "signal":
                    server.process.send_signal(signal.SIGHUP)
                elif how == "request":
                    answer = httpx.post(f"{server.url}/admin/reload", headers=AUTHORISED, timeout=60)
                    assert answer.json()["switched"] is True
                expected = toy().json.loads((target / "bundle.json").read_bytes())["bundle_id"]
                wait_until(lambda expected=expected: load.served_by(expected))
        assert load.lost == []
        assert {status for status, _ in load.found} == {200}
        assert len({bundle_id for _, bundle_id in load.found}) == 2
        assert load.served_by(first_id)
        assert [event["after"] for event in server.events("switched")][-1] == first_id


def damage(bundle: Path) -> str:
    """Another byte among the weights; the file that a message names."""
    weights = bundle / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    return "weights.safetensors"


def forge(bundle: Path) -> str:
    """A policy that decides otherwise than the golden pictures say, with digests that are right."""
    toy().edit(bundle / "policies" / "threshold.json", lambda document: document["state"].update(cut=4.0))
    toy().reseal(bundle)
    return "golden"


@pytest.mark.parametrize("spoil", [damage, forge])
def test_a_damaged_bundle_changes_nothing(
    site: Site, bundle: Path, second: Path, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(second, damaged)
    named = spoil(damaged)
    link = tmp_path / "current"
    link.symlink_to(bundle)
    with site.serve(link, ROADWORK_SERVE_TOKEN=TOKEN) as server, server.client(headers=AUTHORISED) as client:
        point(link, damaged)
        answer = client.post("/admin/reload")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_switched")
        assert str(tmp_path) not in answer.text
        assert client.post("/predict", content=png(3)).json()["bundle_id"] == server.facts["bundle_id"]
        assert named in str(server.events("switch failed"))
        assert 'roadwork_switches_total{result="failed"} 1.0' in client.get("/metrics").text
