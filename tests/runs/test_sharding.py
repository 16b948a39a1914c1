"""Who shares out the weights: the flag or the launcher, and only in ways that a run has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from roadwork_core.cli import main
from roadwork_core.errors import UsageError
from roadwork_core.runs import launch
from roadwork_core.runs.sharding import SHARED_WEIGHTS, settle_sharding, shares_weights

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set and taken away, so that what a test sets is taken away after it.
    monkeypatch.setenv(SHARED_WEIGHTS, "")
    for name in [name for name in os.environ if name.startswith(("FSDP_", "ACCELERATE_USE_"))]:
        monkeypatch.delenv(name)


def test_nobody_shares_weights_unasked() -> None:
    settle_sharding(False)
    assert not shares_weights()


def test_the_flag_does_it() -> None:
    settle_sharding(True)
    assert shares_weights()


def test_the_launcher_does_it_and_accelerate_and_transformers_leave_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    settle_sharding(False)
    assert shares_weights()
    assert "ACCELERATE_USE_FSDP" not in os.environ


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "FSDP_VERSION=2, not 1"),
        ({"ACCELERATE_USE_FSDP": "1", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "FSDP_OFFLOAD_PARAMS=false"),
        ({"ACCELERATE_USE_FSDP": "yes", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "CHECKPOINTING"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "MEGATRON_LM"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "PARALLELISM_CONFIG"),
    ],
)
def test_what_a_run_does_not_have_is_refused(
    settings: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said) as caught:
        settle_sharding(False)
    assert caught.value.hint
    assert not shares_weights()


def test_the_flag_reaches_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[str] = []

    def record(arguments: Sequence[str], processes: int) -> int:
        given.extend(arguments)
        return 0

    monkeypatch.setattr(launch, "launch", record)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    spec = str(ROOT / "specs" / "quickstart.toml")
    assert main(["run", spec, "--processes", "2", "--shard"]) == 0
    assert "--shard" in given
