"""Trackers write what they are told, once per step, where they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from roadwork_operations import Jsonl, Mlflow, Tensorboard
from roadwork_operations import trackers as module

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
    monkeypatch.setattr(module, "find_spec", lambda _: None)
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
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(RoadworkError, match=r"uv pip install '\.\[mlflow\]'"):
        Mlflow().build(TrackerContext(run_name="trial", folder=tmp_path))
