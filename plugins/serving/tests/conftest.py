"""A bundle that knows red from blue behind a real server process on loopback."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
from attrs import define, field
from PIL import Image

from roadwork_core.feedback import FeedbackStore, Recorded

TOY = Path(__file__).parents[3] / "tests" / "bundle" / "toy.py"
TOKEN = "a-token-of-some-length"
_PLUGIN = """
import os, time, toy
from roadwork_core import hookimpl

forward = toy.MeanColour.forward

def slowly(self, pixel_values):
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    return forward(self, pixel_values)

toy.MeanColour.forward = slowly

@hookimpl
def roadwork_components():
    return toy.ToyPlugin().roadwork_components()
"""
_EACH = "import json, sys; from roadwork_core.cli import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"
_MAIN = "import sys; from roadwork_core.cli import main; sys.exit(main())"


def toy() -> ModuleType:
    """The core's own toy of a bundle."""
    if "serving_toy" not in sys.modules:
        spec = importlib.util.spec_from_file_location("serving_toy", TOY)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["serving_toy"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["serving_toy"]


def png(margin: float, size: tuple[int, int] = (12, 10), *, form: str = "PNG") -> bytes:
    """The bytes of a picture whose margin is near the asked one."""
    stream = io.BytesIO()
    Image.fromarray(pixels(margin, size)).save(stream, form)
    return stream.getvalue()


def pixels(margin: float, size: tuple[int, int] = (12, 10)) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture, uint8 (height, width, 3), with noise in the channel that the toy does not look at."""
    found: np.ndarray[Any, np.dtype[np.uint8]] = toy().picture(margin, size)
    found[..., 1] = np.random.default_rng(round(1000 * margin) + 10_000).integers(0, 256, size)
    return found


@define
class Served:
    """A server process."""

    process: subprocess.Popen[str]
    facts: dict[str, Any]
    log: list[dict[str, Any]] = field(factory=list)

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in list(self.log) if event["event"] == kind]


@define
class Site:
    """Where the toy is installed as a plugin, and processes that see it."""

    folder: Path

    def environment(self, **variables: str) -> dict[str, str]:
        path = os.pathsep.join([str(self.folder), *(part for part in sys.path if part)])
        return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}

    def roadwork(self, *, arguments: Sequence[Sequence[str]], **variables: str) -> subprocess.CompletedProcess[str]:
        """Several commands, one after the other in one process, with the worst exit code."""
        return subprocess.run(
            [sys.executable, "-c", _EACH, json.dumps(arguments)],
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextlib.contextmanager
    def serve(self, bundle: Path, *arguments: str, **variables: str) -> Iterator[Served]:
        """`roadwork serve` on a free port, until the block ends."""
        process = subprocess.Popen(
            [sys.executable, "-c", _MAIN, "serve", str(bundle), "--port", "0", "--json", *arguments],
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        log: list[dict[str, Any]] = []
        reader = threading.Thread(target=_read, args=(process.stderr, log), daemon=True)
        reader.start()
        try:
            line = process.stdout.readline()
            assert line, f"the server did not start: {log}"
            yield Served(process, json.loads(line), log)
        finally:
            process.kill()
            process.wait()
            reader.join()
            process.stdout.close()
            process.stderr.close()


def _read(stream: Any, log: list[dict[str, Any]]) -> None:
    for line in stream:
        try:
            log.append(json.loads(line))
        except ValueError:
            log.append({"event": "text", "text": line})


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(TOY, folder / "toy.py")
    (folder / "toy_plugin.py").write_text(_PLUGIN)
    info = folder / "toy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[roadwork]\ntoy_plugin = toy_plugin\n")
    return Site(folder)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose active policy abstains near the cut, with a fallback."""
    found: Path = toy().make(tmp_path_factory.mktemp("toy"))
    return found


@pytest.fixture(scope="session")
def served(site: Site, bundle: Path) -> Iterator[Served]:
    """A server with the limits that it has by default."""
    with site.serve(bundle) as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def stored(path: Path) -> dict[str, Recorded]:
    """What a feedback store holds, by key."""
    with FeedbackStore(path, create=False) as store:
        return {found.seen.key: found for found in store.read()}
