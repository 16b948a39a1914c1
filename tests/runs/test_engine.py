"""A stage runs when something that it depends on changed, and only then; what is finished is never harmed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from roadwork_core.console import Console
from roadwork_core.errors import RoadworkError, RunLockedError
from roadwork_core.plugins import Plugins
from roadwork_core.runs import Outcome, Run, RunLock, StageContext, StageManifest, plan
from roadwork_core.runs.context import LeakageError
from roadwork_core.spec.model import SPLITS
from roadwork_core.stages import STAGES, Stage

from .conftest import World


def test_a_second_run_does_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go(monkeypatch)
    assert world.calls == ["first", "second", "third"]
    outcomes = world.go(monkeypatch)
    assert world.calls == []
    assert {outcome.outcome for outcome in outcomes} == {Outcome.SKIPPED}


def test_a_changed_key_reruns_from_the_stage_that_reads_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go(monkeypatch)
    world.values["policy"] = {"cut": 0.7}
    world.go(monkeypatch)
    assert world.calls == ["third"]
    assert (world.run.folder("third") / "out.txt").read_text() == "third 0.7"


def test_a_changed_output_reruns_what_reads_it_and_an_unchanged_one_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.go(monkeypatch)
    world.values["data"] = {"n": 3, "workers": 1}  # first runs again, but what it puts out depends on the seed alone
    world.go(monkeypatch)
    assert world.calls == ["first"]
    world.values["seed"] = 2
    world.go(monkeypatch)
    assert world.calls == ["first", "second", "third"]


@pytest.mark.parametrize("key", ["workers", "tracker"])
def test_keys_without_effect_on_results_rerun_nothing(world: World, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    world.go(monkeypatch)
    if key == "workers":
        world.values["data"] = {"n": 2, "workers": 7}
    else:
        world.values["tracker"] = [{"use": "csv"}]
    world.go(monkeypatch)
    assert world.calls == []


@pytest.mark.parametrize("damage", ["edited", "deleted", "manifest"])
def test_damaged_outputs_are_made_again(world: World, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    world.go(monkeypatch)
    folder = world.run.folder("second")
    if damage == "edited":
        (folder / "out.txt").write_text("second 9")
    elif damage == "deleted":
        (folder / "out.txt").unlink()
    else:
        (folder / "manifest.json").write_text("{")
    world.go(monkeypatch)
    assert "second" in world.calls
    assert (folder / "out.txt").read_text() == "second 1"


def test_a_failing_stage_leaves_its_last_result_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go(monkeypatch)

    def fail(ctx: Any) -> Any:
        (ctx.folder / "out.txt").write_text("half")
        raise RoadworkError("no")

    world.replace("second", fail)
    world.values["seed"] = 2
    with pytest.raises(RoadworkError, match="no"):
        world.go(monkeypatch)
    assert (world.run.folder("second") / "out.txt").read_text() == "second 1"
    assert StageManifest.read(world.run.folder("second")) is not None


def test_scratch_survives_a_failure_and_goes_when_the_fingerprint_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def interrupted(ctx: Any) -> Any:
        seen.append(sorted(path.name for path in ctx.scratch.iterdir()))
        (ctx.scratch / "checkpoint").write_text("epoch 1")
        raise KeyboardInterrupt

    world.replace("second", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            world.go(monkeypatch)
    world.values["seed"] = 5
    with pytest.raises(KeyboardInterrupt):
        world.go(monkeypatch)
    assert seen == [["fingerprint"], ["checkpoint", "fingerprint"], ["fingerprint"]]


def test_a_stage_cannot_read_what_it_did_not_declare(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def cheat(path: str) -> Any:
        return lambda ctx: {"stolen": ctx.input("first", path).read_text()}

    for path in ("secret.txt", "../first/secret.txt", "out.txt/../secret.txt"):
        world.replace("first", lambda ctx: [(ctx.folder / n).write_text("x") for n in ("out.txt", "secret.txt")] and {})
        world.replace("second", cheat(path))
        with pytest.raises(LeakageError, match="may not read"):
            world.go(monkeypatch)


def test_plan_says_what_would_run_and_does_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go(monkeypatch)
    world.values["policy"] = {"cut": 0.1}
    world.calls.clear()
    outcomes = plan(world.run, world.resolved, Plugins.of({}), world.console)
    assert [outcome.outcome for outcome in outcomes] == [Outcome.SKIPPED, Outcome.SKIPPED, Outcome.PENDING]
    assert world.calls == []


def test_the_manifest_says_what_went_in_and_came_out(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go(monkeypatch)
    document = json.loads((world.run.folder("second") / "manifest.json").read_bytes())
    assert document["metrics"] == {"length": 8}
    assert document["outputs"]["out.txt"]["size"] == 8
    first = json.loads((world.run.folder("first") / "manifest.json").read_bytes())
    assert document["inputs"] == {"first/out.txt": first["outputs"]["out.txt"]["sha256"]}
    assert {"python", "roadwork", "torch", "numpy"} <= set(document["versions"])


def test_a_kill_between_the_two_renames_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go(monkeypatch)
    folder = world.run.folder("second")
    folder.rename(world.run.fresh("second"))  # the state after the old folder moved away and before the new one came
    world.go(monkeypatch)
    assert world.calls == []
    folder.rename(folder.with_name(".second.old"))  # killed before the new one was complete
    world.go(monkeypatch)
    assert world.calls == []


def test_the_second_process_on_a_run_is_refused(tmp_path: Path) -> None:
    run = Run(name="trial", path=tmp_path / "trial")
    holder = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from roadwork_core.runs import Run, RunLock
        with RunLock(Run(name="trial", path=Path({str(run.path)!r}))):
            print("held", flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunLockedError, match=str(process.pid)), RunLock(run):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with RunLock(run):  # a killed holder does not keep the run locked
            pass
    finally:
        process.kill()
        process.wait()


def test_a_file_system_without_locks_is_not_taken_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        pytest.raises(RoadworkError, match="No locks available") as caught,
        RunLock(Run(name="t", path=tmp_path / "t")),
    ):
        pass
    assert not isinstance(caught.value, RunLockedError)
    assert "--runs-dir" in str(caught.value)


@pytest.mark.parametrize("mark", ["whole", "gone"])
def test_a_scratch_whose_removal_was_killed_goes_with_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    world.go(monkeypatch)
    scratch = world.run.scratch("second")
    scratch.mkdir()
    (scratch / "checkpoint").write_text("x")
    if mark == "whole":
        manifest = StageManifest.read(world.run.folder("second"))
        assert manifest is not None
        (scratch / "fingerprint").write_text(manifest.fingerprint)
    world.go(monkeypatch)
    assert world.calls == []
    assert not scratch.exists()


def test_a_scratch_of_another_spec_waits_for_that_spec(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.go(monkeypatch)
    scratch = world.run.scratch("second")
    scratch.mkdir()
    (scratch / "fingerprint").write_text("of another spec")
    world.go(monkeypatch)
    assert scratch.exists()


def test_an_interruption_during_writing_never_shows_a_part(tmp_path: Path) -> None:
    """SIGKILL at random moments while a file is replaced over and over: a reader finds one of the whole contents."""
    target = tmp_path / "state.json"
    writer = textwrap.dedent(
        f"""
        from pathlib import Path
        from roadwork_core.files import write_atomic
        number = 0
        while True:
            number += 1
            write_atomic(Path({str(target)!r}), (str(number % 10) * 200_000).encode())
        """
    )
    for wait in (0.3, 0.37, 0.45):
        process = subprocess.Popen([sys.executable, "-c", writer])
        deadline = time.monotonic() + 20
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(wait)
        process.kill()
        process.wait()
        content = target.read_text()
        assert len(content) == 200_000
        assert len(set(content)) == 1


SPLITS_SEEN = {
    "prepare": set(),
    "adapt": {"train"},
    "train": {"train", "val_select"},
    # Only a test-time augmentation that learns on train is given its logits.
    "score": {"train", "val_select", "val_calib", "test"},
    "fit": {"val_calib"},
    "evaluate": {"test"},
    "bundle": {"val_calib"},
}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_each_stage_of_a_run_sees_its_splits_and_no_others(tmp_path: Path, stage: Stage) -> None:
    run = Run(name="trial", path=tmp_path)
    files = [f"prepare/samples/{split}.jsonl" for split in SPLITS] + [f"score/{split}.csv" for split in SPLITS]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    context = StageContext(
        stage=stage.name,
        run=run,
        resolved=World(tmp_path).resolved,
        plugins=Plugins.of({}),
        console=Console(verbosity=-1),
        folder=tmp_path / "new",
        scratch=tmp_path / "scratch",
        reads=stage.reads,
    )
    seen = set()
    for name in files:
        try:
            context.input(*name.split("/", 1))
        except LeakageError:
            continue
        seen.add(Path(name).stem)
    assert seen == SPLITS_SEEN[stage.name]


def test_a_forked_process_that_outlives_its_killed_parent_does_not_hold_the_lock(tmp_path: Path) -> None:
    run = Run(name="trial", path=tmp_path / "trial")
    holder = textwrap.dedent(
        f"""
        import os, time
        from pathlib import Path
        from roadwork_core.runs import Run, RunLock
        with RunLock(Run(name="trial", path=Path({str(run.path)!r}))):
            if os.fork() == 0:
                print(os.getpid(), flush=True)
            time.sleep(60)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    try:
        with pytest.raises(RunLockedError), RunLock(run):
            pass
        process.kill()
        process.wait()
        with RunLock(run):
            pass
    finally:
        process.kill()
        os.kill(worker, signal.SIGKILL)
