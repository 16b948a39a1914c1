"""From a bundle to a listening process, and from a signal to its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from roadwork_core.backends import NAMES
from roadwork_core.compute_threads import cores
from roadwork_core.errors import ExitCode, RoadworkError

from .app import make_app
from .hosts import hosts_of, is_loopback
from .recorder import Recorder, prepare
from .service import Service, load_bundle
from .settings import TOKEN_VARIABLE, Settings
from .telemetry import LogHandler, Telemetry

if TYPE_CHECKING:
    from roadwork_core.console import Console

_BACKLOG = 512
_CONNECTIONS = 2048
_KEEP_ALIVE = 30


def serve(path: Path, settings: Settings, console: Console) -> int:
    """Serves the bundle at `path` until SIGTERM or SIGINT, and returns the exit code.

    Raises RoadworkError where the bundle cannot be used or the address not be had.
    """
    prepare(settings.feedback, settings.feedback_pictures)
    workers = _share_cores(settings)
    listener = _listen(settings)
    with listener:
        loaded = load_bundle(path, settings)
        telemetry = Telemetry(console.stderr, access_log=settings.access_log)
        if settings.token is None and not is_loopback(listener.getsockname()[0]):
            console.warn(f"open to whoever reaches {settings.host}, without a token ({TOKEN_VARIABLE} sets one)")
        recorder = None
        if settings.feedback is not None:
            recorder = Recorder(settings.feedback, settings.feedback_pictures, telemetry)
        service = Service(path, loaded, settings, workers=workers, telemetry=telemetry, recorder=recorder)
        return asyncio.run(_run(service, listener, console))


def _share_cores(settings: Settings) -> int:
    """How many workers there are; threads that begin from here on compute with so many of torch's."""
    import torch

    torch.set_num_threads(settings.threads)
    return settings.workers or max(1, cores() // settings.threads)


def _listen(settings: Settings) -> socket.socket:
    where = f"{settings.host}:{settings.port}"
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
        # asyncio sets it only on sockets that name their protocol, which these do not: the body of an answer would wait
        # some 40 ms for the client to acknowledge its headers. What is accepted inherits it.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        hint = "is another server there? --port takes another, 0 any free one" if settings.port else None
        raise RoadworkError(f"cannot listen on {where}: {error.strerror or error}", hint=hint) from None


async def _run(service: Service, listener: socket.socket, console: Console) -> int:
    settings = service.settings
    logger = logging.getLogger("uvicorn")
    logger.addHandler(LogHandler(service.telemetry))
    logger.propagate = False
    config = uvicorn.Config(
        make_app(service, hosts_of(listener.getsockname()[0], settings.host, settings.allowed_hosts)),
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="none",
        http="h11",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.drain)),
    )
    server = _Server(config, service, lambda: _announce(service, listener, console))
    await server.serve(sockets=[listener])
    service.telemetry.event("stopped")
    return ExitCode.OK


def _announce(service: Service, listener: socket.socket, console: Console) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    bundle, backend = service.current.bundle, service.current.predictor.backend
    if console.as_json:
        facts = {"url": url, "pid": os.getpid(), "bundle": bundle.name, "bundle_id": bundle.id, "backend": backend}
        console.json({"schema": "roadwork.serve/1", **facts, "workers": service.workers})
    else:
        console.out(f"{bundle.name} on {url} ({service.workers} workers, {NAMES[backend]}; Ctrl-C ends it)")
        console.stdout.flush()


class _Server(uvicorn.Server):
    """Gives notice before it closes: SIGTERM makes /readyz say no first; a second signal does not wait."""

    def __init__(self, config: uvicorn.Config, service: Service, on_listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._service = service
        self._on_listening = on_listening
        self._loop: asyncio.AbstractEventLoop | None = None
        self._kept: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGHUP"):
            self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        await super().startup(sockets)
        if self.started:
            self._on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # In a signal handler: only the loop may touch what follows.
        if self._loop is None:
            self.should_exit = True
        else:
            self._loop.call_soon_threadsafe(self._leave, sig)

    def _leave(self, sig: int) -> None:
        if self._service.draining:
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT or self.force_exit
            return
        self._service.draining = True
        self._service.telemetry.event("draining", signal=signal.Signals(sig).name, in_flight=self._service.held)
        if sig == signal.SIGTERM and self._service.settings.notice > 0 and self._loop is not None:
            self._loop.call_later(self._service.settings.notice, self._stop)
        else:
            self.should_exit = True

    def _stop(self) -> None:
        self.should_exit = True

    def _reload(self) -> None:
        async def switch() -> None:
            try:
                if not await self._service.switch():
                    self._service.telemetry.event("unchanged", bundle_id=self._service.current.bundle.id)
            except RoadworkError:
                return  # the service has told the log

        task = asyncio.ensure_future(switch())
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)
