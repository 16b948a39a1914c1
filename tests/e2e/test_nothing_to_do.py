"""A run does what has to be done and no more: nothing twice, nothing half, nothing beside another process."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import frozen

from roadwork_core.files import sha256_file

from .forking import Server
from .pictures import draw
from .tiny import tiny_spec

POLICY = """
[policy.threshold]
use = "threshold"

[evaluate]
bootstrap = 100
"""
#: The lock is held by every process that looks at a run; it is no result.
NOT_RESULTS = {".lock"}


@frozen
class Runs:
    """A folder with the spec and its finished run."""

    folder: Path
    server: Server

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "tiny"

    def go(self, *settings: str) -> dict[str, str]:
        """Runs the spec; the status of each stage."""
        argv = ["run", "tiny.toml", "--json", *(f"--set={setting}" for setting in settings)]
        command = self.server.run(argv, self.folder)
        assert command.wait() == 0, command.stderr()
        return {stage["name"]: stage["status"] for stage in json.loads(command.stdout())["stages"]}

    def files(self) -> dict[str, tuple[int, str]]:
        """When each file was last written, and the digest of its bytes."""
        return {
            path.relative_to(self.run).as_posix(): (path.stat().st_mtime_ns, sha256_file(path))
            for path in sorted(self.run.rglob("*"))
            if path.is_file() and path.name not in NOT_RESULTS
        }


@pytest.fixture(scope="module")
def finished(roadwork: Server, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("finished")
    tiny_spec(folder, extra=POLICY, pictures=draw(folder / "data", sequences=10, frames=4))
    made = Runs(folder, roadwork)
    assert set(made.go().values()) == {"ran"}
    return made


@pytest.fixture
def runs(finished: Runs, tmp_path: Path) -> Runs:
    """A finished run of one's own, of the same pictures."""
    shutil.copytree(finished.run, tmp_path / "runs" / "tiny")
    shutil.copy(finished.folder / "tiny.toml", tmp_path)
    return Runs(tmp_path, finished.server)


def ran(statuses: Mapping[str, str]) -> list[str]:
    return [name for name, status in statuses.items() if status == "ran"]


@pytest.mark.slow
def test_a_second_run_changes_no_file_and_says_that_there_is_nothing_to_do(runs: Runs) -> None:
    before = runs.files()
    command = runs.server.run(["run", "tiny.toml"], runs.folder)
    assert command.wait() == 0
    assert "nothing to do: every stage is up to date" in command.stderr()
    assert str(runs.run) in command.stdout()
    assert set(runs.go().values()) == {"skipped"}
    assert runs.files() == before


@pytest.mark.slow
def test_another_policy_is_fitted_without_training_or_scoring(runs: Runs) -> None:
    before = runs.files()
    statuses = runs.go('policy.threshold.metric="f1"')
    assert ran(statuses) == ["fit", "evaluate", "bundle"]
    after = runs.files()
    kept = [name for name in before if name.startswith(("prepare/", "train/", "score/"))]
    assert "train/weights.safetensors" in kept
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["fit/policies/threshold.json"][1] != before["fit/policies/threshold.json"][1]


@pytest.mark.slow
def test_another_training_prepares_nothing_again(runs: Runs) -> None:
    before = runs.files()
    statuses = runs.go("train.epochs=1")
    assert ran(statuses) == ["train", "score", "fit", "evaluate", "bundle"]
    after = runs.files()
    assert {name: after[name] for name in before if name.startswith("prepare/")} == {
        name: before[name] for name in before if name.startswith("prepare/")
    }
    assert after["train/weights.safetensors"][1] != before["train/weights.safetensors"][1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train/weights.safetensors", "bundle/tiny/model/weights.safetensors"])
def test_one_wrong_bit_is_noticed_told_and_mended(runs: Runs, name: str) -> None:
    path = runs.run / name
    before = runs.files()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    command = runs.server.run(["run", "tiny.toml", "--json"], runs.folder)
    assert command.wait() == 0, command.stderr()
    stage, _, output = name.partition("/")
    assert f"warning: {stage}: {output} is not as it was written; the stage runs again" in command.stderr()
    statuses = {item["name"]: item["status"] for item in json.loads(command.stdout())["stages"]}
    # The report shows how long the epochs took.
    assert ran(statuses) == ([stage, "evaluate"] if stage == "train" else [stage])
    after = runs.files()
    results = [name for name in before if name.startswith(("score/", "fit/", "bundle/tiny/")) or "weights" in name]
    assert path.relative_to(runs.run).as_posix() in results
    assert {name: after[name][1] for name in results} == {name: before[name][1] for name in results}


@pytest.mark.slow
def test_a_second_process_on_a_run_is_refused_and_harms_nobody(runs: Runs, finished: Runs) -> None:
    shutil.rmtree(runs.run / "train")
    first = runs.server.start(["run", "tiny.toml", "--json"], runs.folder)
    assert first.until((runs.run / ".train.new").exists)
    first.send(signal.SIGSTOP)  # so that it is surely still at it
    try:
        second = runs.server.run(["run", "tiny.toml"], runs.folder)
    finally:
        first.send(signal.SIGCONT)
    assert second.wait() == 1
    [line] = second.stderr().splitlines()
    assert line.startswith(f"error: {runs.run}: another process (id {first.pid}) is working on this run")
    assert second.stdout() == ""
    assert first.wait() == 0, first.stderr()
    weights = "train/weights.safetensors"
    assert sha256_file(runs.run / weights) == sha256_file(finished.run / weights)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_exports_nothing(roadwork: Server, tmp_path: Path) -> None:
    tiny_spec(tmp_path, extra=POLICY, pictures=draw(tmp_path / "data", sequences=10, frames=4))
    argv = ["run", "tiny.toml", "--json", '--set=optimizer={use="sgd", lr=1e30}']
    command = roadwork.run(argv, tmp_path)
    assert command.wait() == 3
    [line] = [line for line in command.stderr().splitlines() if line.startswith("error: ")]
    assert "(optimizer step " in line
    assert "in epoch 1" in line or "after epoch 1" in line
    document = json.loads(command.stdout())
    assert document["exit_code"] == 3
    run = tmp_path / "runs" / "tiny"
    assert sorted(path.name for path in run.iterdir() if path.is_dir() and not path.name.startswith(".")) == ["prepare"]
    assert list(run.rglob("weights.safetensors")) == []
    recorded = json.loads((run / "run.json").read_bytes())["result"]
    assert (recorded["status"], recorded["bundle_dir"]) == ("failed", None)
