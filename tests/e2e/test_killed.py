"""A run that is killed or interrupted anywhere goes on, and ends with the bytes of one that was left alone."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from safetensors import safe_open

from roadwork_core.files import sha256_file
from roadwork_core.stages import STAGES

from .forking import Server, Started
from .pictures import draw
from .tiny import tiny_spec

NAMES = [stage.name for stage in STAGES]
EPOCHS = 6
CHECKPOINT = "checkpoint.safetensors"


@frozen
class Place:
    """A folder to run the tiny spec in; its run directory is `run`."""

    folder: Path
    server: Server

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "tiny"

    @property
    def scratch(self) -> Path:
        return self.run / ".train.scratch"

    def start(self) -> Started:
        return self.server.start(["run", "tiny.toml", "--json"], self.folder)

    def finish(self) -> dict[str, str]:
        """Runs to the end; the status of each stage."""
        command = self.start()
        assert command.wait() == 0, command.stderr()
        return {stage["name"]: stage["status"] for stage in json.loads(command.stdout())["stages"]}

    def results(self) -> dict[str, str]:
        """Digests of what a run is for: the weights of each stage, the scores, the policies, the whole bundle."""
        wanted = (
            "adapt/*.safetensors",
            "train/*.safetensors",
            "score/*.csv",
            "fit/policies/*.json",
            "bundle/tiny/**/*",
        )
        files = sorted(path for pattern in wanted for path in self.run.glob(pattern) if path.is_file())
        return {path.relative_to(self.run).as_posix(): sha256_file(path) for path in files}

    def kill(self, command: Started, seen: Callable[[], bool]) -> None:
        """Ends it by SIGKILL as soon as `seen()`."""
        assert command.until(seen), f"the command ended before it could be killed:\n{command.stderr()}"
        command.send(signal.SIGKILL)
        assert command.wait() == -signal.SIGKILL

    def position(self) -> Mapping[str, Any]:
        """How far the checkpoint of the stage train is."""
        with safe_open(self.scratch / CHECKPOINT, framework="np") as file:
            position: Mapping[str, Any] = json.loads(file.metadata()["roadwork"])["position"]
        return position


FAST = """
[evaluate]
bootstrap = 100
"""
POLICY = """
[policy.threshold]
use = "threshold"
"""


@pytest.fixture(scope="module")
def whole(roadwork: Server, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A run that was left alone."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_spec(folder, everything=True, epochs=EPOCHS, extra=FAST, pictures=draw(folder / "data"))
    made = Place(folder, roadwork)
    made.finish()
    return made


def weights_written(scratch: Path) -> bool:
    try:
        return any(scratch.rglob("weights.safetensors"))
    except FileNotFoundError:  # what the killed process left is removed at this moment
        return False


def up_to(stage: str, whole: Place, folder: Path) -> Place:
    """A copy of the run that has finished the stages before `stage`, and nothing else."""
    made = Place(folder, whole.server)
    made.run.mkdir(parents=True)
    shutil.copy(whole.folder / "tiny.toml", folder)
    for name in NAMES[: NAMES.index(stage)]:
        shutil.copytree(whole.run / name, made.run / name)
    return made


def spent(command: Started, seconds: float) -> Callable[[], bool]:
    """Whether the command has computed for so long from now on: its own time, so that a busy machine is no matter."""
    until = command.cpu_seconds() + seconds
    return lambda: command.cpu_seconds() >= until


def said(command: Started, text: str) -> Callable[[], bool]:
    return lambda: text in command.stderr()


@pytest.mark.slow
def test_killed_in_prepare(roadwork: Server, tmp_path: Path) -> None:
    """While pictures are drawn, and while they are looked at. Neither that nor where they lie changes the bundle."""
    whole, moved = (Place(tmp_path / name, roadwork) for name in ("whole", "moved"))
    for each in (whole, moved):
        each.folder.mkdir()
        tiny_spec(each.folder, n=100, epochs=1, extra=POLICY + FAST)
    whole.finish()
    drawn = moved.run.parent / ".cache" / "datasets"
    moved.kill(moved.start(), lambda: sum(1 for _ in drawn.rglob("frame-*.png")) >= 30)
    moved.kill(moved.start(), (moved.run / ".prepare.new").exists)
    assert not (moved.run / "prepare").exists()
    assert set(moved.finish().values()) == {"ran"}
    assert moved.results() == whole.results()


@pytest.mark.slow
def test_killed_in_adapt(whole: Place, tmp_path: Path) -> None:
    run = up_to("adapt", whole, tmp_path)
    for seconds in (0.0, 0.3):
        command = run.start()
        assert command.until((run.run / ".adapt.scratch").exists)
        run.kill(command, spent(command, seconds))
    run.kill(run.start(), (run.run / ".adapt.scratch" / CHECKPOINT).exists)
    assert not (run.run / "adapt").exists()
    assert run.finish()["prepare"] == "skipped"
    assert run.results() == whole.results()


@pytest.mark.slow
def test_killed_again_and_again_in_train(whole: Place, tmp_path: Path) -> None:
    """In the first steps, in mid-epoch, and between the best weights and the checkpoint that names them."""
    run = up_to("train", whole, tmp_path)
    run.kill(run.start(), run.scratch.exists)
    command = run.start()
    assert command.until(said(command, f"epoch 1/{EPOCHS}"))
    run.kill(command, spent(command, 0.05))
    before = len(run.position()["history"])
    command = run.start()
    names = {path.name for path in run.scratch.iterdir()}
    run.kill(command, lambda: any(path.name not in names for path in run.scratch.iterdir()))
    assert len(run.position()["history"]) >= before, "the last attempt began anew instead of going on"
    assert not (run.run / "train").exists()
    statuses = run.finish()
    assert (statuses["prepare"], statuses["adapt"], statuses["train"]) == ("skipped", "skipped", "ran")
    assert run.results() == whole.results()


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written(whole: Place, tmp_path: Path) -> None:
    """What such a kill leaves is the checkpoint before and half of the next one beside it; it may not be mistaken."""
    run = up_to("train", whole, tmp_path)
    checkpoint = run.scratch / CHECKPOINT
    run.kill(run.start(), checkpoint.exists)
    content = checkpoint.read_bytes()
    for name in (f".{CHECKPOINT}.partial", ".best-2.safetensors.partial"):
        (run.scratch / name).write_bytes(content[: len(content) // 2])
    run.finish()
    assert run.results() == whole.results()
    assert not run.scratch.exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["score", "fit", "evaluate", "bundle"])
def test_killed_in_a_later_stage(whole: Place, tmp_path: Path, stage: str) -> None:
    run = up_to(stage, whole, tmp_path)
    run.kill(run.start(), (run.run / f".{stage}.new").exists)
    assert not (run.run / stage).exists()
    if stage == "bundle":
        run.kill(run.start(), lambda: weights_written(run.run / ".bundle.new"))
    run.finish()
    assert run.results() == whole.results()
    assert sorted(path.name for path in run.run.iterdir() if path.name.startswith(".")) == [".lock"]


@pytest.mark.slow
def test_ctrl_c_in_training_says_how_to_go_on_and_goes_on(whole: Place, tmp_path: Path) -> None:
    run = up_to("train", whole, tmp_path)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        command = run.start()
        assert command.until(said(command, f"/{EPOCHS}  loss"))
        command.send(signal_number)
        assert command.wait() == 130
        last = command.stderr().splitlines()[-1]
        position = run.position()
        assert position["window"] > 0
        assert last.startswith(f"error: interrupted in epoch {position['epoch'] + 1} after {position['window']} of ")
        assert last.endswith(f"; the same command goes on from here ({run.run})")
        assert "Traceback" not in command.stderr()
        assert json.loads((run.run / "run.json").read_bytes())["result"]["status"] == "interrupted"
    run.finish()
    assert run.results() == whole.results()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["adapt", "score", "bundle"])
def test_ctrl_c_in_any_stage_says_how_to_go_on(whole: Place, tmp_path: Path, stage: str) -> None:
    run = up_to(stage, whole, tmp_path)
    command = run.start()
    assert command.until((run.run / f".{stage}.new").exists)
    command.send(signal.SIGINT)
    assert command.wait() == 130
    last = command.stderr().splitlines()[-1]
    assert last.startswith("error: interrupted")
    assert last.endswith(f"the same command goes on from here ({run.run})")
    assert last.count("goes on from here") == 1
    assert "Traceback" not in command.stderr()
    run.finish()
    assert run.results() == whole.results()
