"""Trackers write what they are told, once per step, where they are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator
from roadwork_operations import Jsonl, Tensorboard
from roadwork_operations import trackers as module

from roadwork_core.errors import RoadworkError
from roadwork_core.kinds import TrackerContext


def track(component: Any, folder: Path, steps: range) -> None:
    tracker = component.build(TrackerContext(run_name="trial", folder=folder))
    accelerator = Accelerator(cpu=True, log_with=[tracker])
    accelerator.init_trackers("trial", config={"lr": 0.1, "name": "x", "none": None})
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
