"""What the service takes on, and what a switch that fails leaves."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from roadwork_serving import service as module
from roadwork_serving.refusals import Refusal
from roadwork_serving.server import _listen
from roadwork_serving.service import Service
from roadwork_serving.settings import Settings
from roadwork_serving.telemetry import Telemetry

from roadwork_core.errors import RoadworkError


def make_service(log: io.StringIO, **settings: Any) -> Service:
    loaded: Any = SimpleNamespace(bundle=SimpleNamespace(name="one", id="1" * 64))
    return Service(Path("nowhere"), loaded, Settings(**settings), workers=1, telemetry=Telemetry(log))


def test_no_more_are_taken_on_than_are_computed_and_may_wait() -> None:
    end = threading.Event()

    async def body() -> bytes:
        return b""

    async def ask_often() -> list[Any]:
        service = make_service(io.StringIO(), queue=2)
        jobs = [asyncio.create_task(service.answer(body, lambda *_: end.wait(30))) for _ in range(5)]
        done, _ = await asyncio.wait(jobs, timeout=10, return_when=asyncio.FIRST_EXCEPTION)
        assert len(done) == 2
        assert service.held == 3
        end.set()
        found = await asyncio.gather(*jobs, return_exceptions=True)
        assert service.held == 0
        await service.close()
        return found

    found = asyncio.run(ask_often())
    assert found[:3] == [True] * 3
    assert [(one.status, one.code) for one in found[3:] if isinstance(one, Refusal)] == [(503, "overloaded")] * 2


def test_whatever_a_plugin_raises_at_a_switch_is_logged_and_the_served_bundle_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no room for a second model")

    monkeypatch.setattr(module, "load_bundle", fail)
    log = io.StringIO()
    service = make_service(log)
    with pytest.raises(RoadworkError, match="MemoryError: no room"):
        asyncio.run(service.switch())
    assert service.current.bundle.name == "one"
    assert "no room for a second model" in log.getvalue()
    asyncio.run(service.close())


def test_the_body_of_an_answer_does_not_wait_for_its_headers_to_be_acknowledged() -> None:
    with _listen(Settings(port=0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
