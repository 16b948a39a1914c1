"""What a month of a served model needs: streets, a spec, commands in one folder, a server and its customers."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from attrs import define, field, frozen

from .forking import Server, Started

SIZE = (96, 72)
#: Of each split: pictures, pictures of one street, the seed of the streets, the weather when they were taken.
KNOWN: dict[str, tuple[int, int, int, tuple[str, ...] | None]] = {
    "train": (600, 2, 1, ("clear",)),
    "val_select": (80, 2, 2, None),
    "val_calib": (100, 2, 3, None),
    "test": (800, 1, 4, None),
}
SPEC = """\
spec_version = 1
name = "month"
seed = 3

[data]
use = "manifest"
path = "known.csv"
near_duplicates = "ignore"

[[augment]]
use = "horizontal_flip"

[backbone]
use = "small_cnn"
width = 16
image_size = 64

[optimizer]
use = "adamw"
lr = 0.004
weight_decay = 0.02

[scheduler]
use = "one_cycle"

[train]
epochs = {epochs}
batch_size = 32

[evaluate]
bootstrap = 100

[policy.threshold]
use = "threshold"
[policy.promise]
use = "conformal"
alpha = 0.2

[bundle]
active = "threshold"

[leaderboard]
use = "file"
path = "board.csv"
entry = "mine"
alert_drop = 2
"""
PATIENCE = 240.0


@frozen
class Street:
    """A picture as a camera sends it, and what is true of it."""

    content: bytes
    label: str
    group: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def streets(n: int, seed: int, weather: Sequence[str] | None = None, *, frames: int = 1) -> list[Street]:
    """Rendered scenes, half of them with roadworks, `frames` of each street."""
    from roadwork_datasets.synthetic import plan, render

    found = []
    for frame in plan(n, positive_fraction=0.5, frames_per_sequence=frames, seed=seed, weather=weather):
        stream = io.BytesIO()
        render(frame, width=SIZE[0], height=SIZE[1]).save(stream, "PNG")
        label = "roadwork" if frame.label else "no_roadwork"
        found.append(Street(stream.getvalue(), label, f"{seed}-{frame.sequence}"))
    return found


def draw_known(folder: Path, *, share: float = 1.0) -> Path:
    """Writes the labelled pictures that there are when the month begins, and a manifest of them with their splits."""
    folder.mkdir(parents=True)
    with (folder / "known.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["path", "label", "group", "split"])
        table.writeheader()
        for split, (n, frames, seed, weather) in KNOWN.items():
            for number, street in enumerate(streets(round(n * share), seed, weather, frames=frames)):
                path = folder / f"{split}-{number:03d}.png"
                path.write_bytes(street.content)
                table.writerow({"path": str(path), "label": street.label, "group": street.group, "split": split})
    return folder / "known.csv"


@frozen
class Site:
    """A folder with the spec, in which commands are given."""

    folder: Path
    roadwork: Server

    @classmethod
    def make(cls, folder: Path, roadwork: Server, known: Path, *, epochs: int) -> Site:
        folder.mkdir()
        (folder / "known.csv").write_bytes(known.read_bytes())
        (folder / "month.toml").write_text(SPEC.format(epochs=epochs))
        return cls(folder, roadwork)

    def run(self, *words: object, code: int = 0) -> Started:
        """Runs a command to its end, which is the exit code `code`."""
        done = self.roadwork.run(words, self.folder)
        assert done.wait() == code, f"roadwork {' '.join(map(str, words))}\n{done.stdout()}\n{done.stderr()}"
        return done

    def json(self, *words: object, code: int = 0) -> dict[str, Any]:
        """The document that a command prints."""
        document: dict[str, Any] = json.loads(self.run(*words, "--json", code=code).stdout())
        return document

    def killed(self, *words: object, before: Sequence[int], code: int = 0) -> int:
        """Gives a command again and again, each time killed before another change of a file, and then runs it to its
        end; how often it was killed."""
        kills = 0
        for limit in before:
            ended = self.roadwork.run(words, self.folder, kill_before=limit).wait()
            assert ended in (-signal.SIGKILL, code)
            kills += ended == -signal.SIGKILL
        self.run(*words, code=code)
        return kills

    def board(self, *names: str) -> None:
        """A leaderboard of these entries, the best first."""
        rows = [f"{name},{1 - 0.1 * place:.1f}" for place, name in enumerate(names)]
        (self.folder / "board.csv").write_text("\n".join(["name,score", *rows]) + "\n")

    def served(self) -> str:
        """The id of the bundle that `live/current` leads to."""
        return str(json.loads((self.folder / "live" / "current" / "bundle.json").read_bytes())["bundle_id"])

    def history(self) -> list[tuple[str, str]]:
        lines = (self.folder / "live" / "history.jsonl").read_text().splitlines()
        return [(entry["event"], entry["bundle_id"]) for entry in map(json.loads, lines)]

    @contextmanager
    def serve(self) -> Iterator[Live]:
        """`roadwork serve live/current` on a free port, which keeps what it says, until the block ends."""
        words = ["serve", "live/current", "--watch", "--feedback", "feedback.sqlite", "--feedback-pictures", "kept"]
        process = self.roadwork.start([*words, "--port", 0, "--workers", 1, "--json"], self.folder)
        deadline = time.monotonic() + PATIENCE
        while not process.stdout().endswith("\n"):
            assert not process.ended(), process.stderr()
            assert time.monotonic() < deadline, process.stderr()
            time.sleep(0.1)
        url = json.loads(process.stdout())["url"]
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            try:
                yield Live(process, url, client)
            finally:
                if not process.ended():
                    process.send(signal.SIGKILL)
                    process.wait()


@frozen
class Live:
    """A server that runs."""

    process: Started
    url: str
    client: httpx.Client

    def ask(self, pictures: Sequence[Street], *, together: int = 16) -> list[str]:
        """The keys by which the answers can be labelled."""
        keys: list[str] = []
        for start in range(0, len(pictures), together):
            files = [("image", (f"{n}.png", one.content)) for n, one in enumerate(pictures[start : start + together])]
            answer = self.client.post("/predict", files=files)
            assert answer.status_code == 200, answer.text
            keys += [prediction["key"] for prediction in answer.json()["predictions"]]
        return keys

    def label(self, key: str, label: str) -> None:
        """Returns when the label is acknowledged."""
        answer = self.client.post("/feedback", json={"key": key, "label": label})
        assert answer.status_code == 200, answer.text

    def kill(self) -> None:
        self.process.send(signal.SIGKILL)
        assert self.process.wait() == -signal.SIGKILL

    def terminate(self) -> int:
        self.process.send(signal.SIGTERM)
        return self.process.wait()


@define
class Customers:
    """Asks one picture after the other all the while; every answer that is none is a failure."""

    url: str
    picture: Street
    answers: list[str] = field(factory=list)
    failures: list[str] = field(factory=list)
    _stop: threading.Event = field(factory=threading.Event, init=False)
    _thread: threading.Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Customers:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)

    @property
    def bundles(self) -> list[str]:
        """The ids of the bundles that answered, in turn."""
        return [name for name, _ in groupby(list(self.answers))]

    def until(self, bundle_id: str) -> None:
        """Waits for an answer of this bundle."""
        deadline = time.monotonic() + PATIENCE
        while self.answers[-1:] != [bundle_id]:
            assert self._thread.is_alive()
            assert time.monotonic() < deadline, f"{bundle_id} never answered: {self.bundles}, {self.failures}"
            time.sleep(0.05)

    def _ask(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60, trust_env=False) as client:
            while not self._stop.wait(0.05):
                try:
                    answer = client.post("/predict", content=self.picture.content)
                    if answer.status_code == 200:
                        self.answers.append(answer.json()["bundle_id"])
                    else:
                        self.failures.append(answer.text)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
