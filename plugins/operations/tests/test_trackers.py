"""Trackers write what they are told, once per step, where they are told."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from roadwork_operations import Jsonl, Mlflow, Tensorboard, Wandb

from roadwork_core import extras
from roadwork_core.errors import RoadworkError
from roadwork_core.kinds import TrackerContext


def track(component: Any, folder: Path, steps: range, **config: Any) -> None:
    tracker = component.build(TrackerContext(run_name="trial", folder=folder))
    accelerator = Accelerator(cpu=True, log_with=[tracker])
    accelerator.init_trackers("trial", config={"lr": 0.1, "name": "x", "none": None, **config})
    for step in steps:
        accelerator.log({"loss": 1 / (step + 1)}, step=step)
    accelerator.end_training()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_jsonl_has_a_line_a_step_and_the_configuration(tmp_path: Path) -> None:
    track(Jsonl(filename="m.jsonl"), tmp_path, range(3))
    assert lines(tmp_path / "m.jsonl") == [{"step": step, "loss": 1 / (step + 1)} for step in range(3)]
    document = json.loads((tmp_path / "config.json").read_text())
    assert document == {"run": "trial", "config": {"lr": 0.1, "name": "x", "none": None}}


def test_a_resumed_run_leaves_no_step_twice_and_no_half_line(tmp_path: Path) -> None:
    track(Jsonl(), tmp_path, range(5))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 5, "lo')
    track(Jsonl(), tmp_path, range(3, 7))
    assert [line["step"] for line in lines(path)] == list(range(7))


def test_values_that_json_lacks_are_named(tmp_path: Path) -> None:
    tracker = Jsonl().build(TrackerContext(run_name="trial", folder=tmp_path))
    tracker.start()
    tracker.log({"a": float("nan"), "b": float("-inf"), "c": {"d": (1, 2.5)}}, step=0)
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 0, "a": "nan", "b": "-inf", "c": {"d": [1, 2.5]}}]


def test_tensorboard_events_can_be_read_back(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    track(Tensorboard(), tmp_path, range(4))
    events = accumulator.EventAccumulator(str(tmp_path / "trial")).Reload()
    scalars = [(event.step, event.value) for event in events.Scalars("loss")]
    assert scalars == [(step, pytest.approx(1 / (step + 1))) for step in range(4)]


def test_tensorboard_that_is_not_installed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(RoadworkError, match="pip install tensorboard"):
        Tensorboard().build(TrackerContext(run_name="trial", folder=tmp_path))


@pytest.fixture
def mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, or a skip; nothing may be written where the command was called."""
    found = pytest.importorskip("mlflow")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    before = found.get_tracking_uri()
    yield found
    found.set_tracking_uri(before)
    assert list(elsewhere.iterdir()) == []


def history_of(mlflow: Any, run: Any) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")]


def test_mlflow_keeps_parameters_and_each_step_once_also_after_a_resumption(tmp_path: Path, mlflow: Any) -> None:
    folder = tmp_path / "a folder%20 with#odd?name"
    track(Mlflow(), folder, range(4), long="x" * 9000)
    # As a training does that was killed after its checkpoint of step 1.
    track(Mlflow(), folder, range(2, 6), long="x" * 9000)
    [run] = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.1", "name": "x", "long": "x" * 6000}
    assert history_of(mlflow, run) == [(step, 1 / (step + 1)) for step in range(6)]


def test_mlflow_begins_anew_for_another_configuration(tmp_path: Path, mlflow: Any) -> None:
    track(Mlflow(), tmp_path / "kept", range(3))
    track(Mlflow(), tmp_path / "kept", range(3), lr=0.2)
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert sorted(run.data.params["lr"] for run in runs) == ["0.1", "0.2"]
    assert all(len(history_of(mlflow, run)) == 3 for run in runs)


def test_mlflow_that_is_not_installed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(RoadworkError, match=r"uv pip install '\.\[mlflow\]'"):
        Mlflow().build(TrackerContext(run_name="trial", folder=tmp_path))


def records(path: Path) -> Iterator[Any]:
    """The records of an offline run of W&B: a LevelDB log of protocol buffers behind a header of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, start, part = path.read_bytes(), 7, b""
    while start + 7 <= len(content):
        if 32_768 - start % 32_768 < 7:
            start += 32_768 - start % 32_768
            continue
        _, length, kind = struct.unpack("<IHB", content[start : start + 7])
        part += content[start + 7 : start + 7 + length]
        start += 7 + length
        if kind in (1, 4):  # whole, or the last of several
            record = Record()
            record.ParseFromString(part)
            yield record
            part = b""


def told(folder: Path) -> list[tuple[str, dict[str, Any], list[Any]]]:
    """Of each offline run in the order of time: its id, its configuration and the steps with their loss."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda one: one.stat().st_mtime_ns):
        config: dict[str, Any] = {}
        steps = []
        for record in records(path):
            for update in (*record.run.config.update, *record.config.update):
                config[update.key or update.nested_key[0]] = json.loads(update.value_json)
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            if "loss" in items:
                steps.append((record.history.step.num, items["loss"]))
        found.append((path.stem.removeprefix("run-"), config, steps))
    return found


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder for a tracker; nothing may be written where the command was called."""
    pytest.importorskip("wandb")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return tmp_path / "kept"


def test_wandb_keeps_the_configuration_and_each_step_once_also_after_a_resumption(offline: Path) -> None:
    track(Wandb(), offline, range(4))
    # As a training does that was killed after its checkpoint of step 1.
    track(Wandb(), offline, range(2, 6))
    [(first, config, before), (second, _, after)] = told(offline)
    assert first == second
    assert {"lr": 0.1, "name": "x"}.items() <= config.items()
    assert [*before, *after] == [(step, pytest.approx(1 / (step + 1))) for step in range(6)]
    assert list((offline.parent / "elsewhere").iterdir()) == []


def test_wandb_begins_anew_for_another_configuration_and_tells_nothing_of_the_machine(offline: Path) -> None:
    track(Wandb(), offline, range(2))
    track(Wandb(), offline, range(2), lr=0.2)
    runs = told(offline)
    assert len({name for name, _, steps in runs if steps}) == 2
    assert [config["lr"] for _, config, steps in runs if steps] == [0.1, 0.2]
    content = b"".join(path.read_bytes() for path in offline.glob("wandb/offline-run-*/*.wandb"))
    assert str(Path(__file__)).encode() not in content
    assert not list(offline.rglob("requirements.txt"))
    assert not list(offline.rglob("wandb-metadata.json"))


def test_wandb_that_is_not_installed_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(RoadworkError, match=r"uv pip install '\.\[wandb\]'"):
        Wandb().build(TrackerContext(run_name="trial", folder=tmp_path))
