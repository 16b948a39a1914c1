"""The trackers and leaderboards keep what their kind promises."""

from __future__ import annotations

import atexit
import json
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from roadwork_core.testing import LeaderboardContract, TrackerContract
from roadwork_core.testing.stand_in_board import StandInBoard, stand_in_board

_OPEN = ExitStack()
atexit.register(_OPEN.close)
QUICK = {"attempts": 1, "timeout": 5.0, "backoff": 0.0}
MINERS = [
    {"hotkey": "5F", "incentive": 0.6, "dividends": 0.0},
    {"hotkey": "5G", "incentive": 0.4, "dividends": 0.0},
    {"hotkey": "5V", "incentive": 0.0, "dividends": 0.9},
]


class TestJsonl(TrackerContract):
    component = "operations/jsonl"
    variants = ({"filename": "log.jsonl"},)


class TestMlflow(TrackerContract):
    component = "operations/mlflow"


class TestTensorboard(TrackerContract):
    component = "operations/tensorboard"


class TestWandb(TrackerContract):
    component = "operations/wandb"
    variants = ({"project": "streets", "entity": "us"},)


def _server() -> StandInBoard:
    return _OPEN.enter_context(stand_in_board())


def _folder() -> Path:
    return Path(_OPEN.enter_context(tempfile.TemporaryDirectory()))


class TestHttp(LeaderboardContract):
    component = "operations/http"
    variants = ({"token_env": "TOKEN"}, {"token_env": "TOKEN", "authorization": "plain"})
    broken = ({"entries": "rows"}, {"url": "http://127.0.0.1:9/"}, {"max_mib": 0.000001}, {"score": "points"})

    def base_options(self) -> Mapping[str, Any]:
        return {"url": _server().url, **QUICK}


class TestFile(LeaderboardContract):
    component = "operations/file"
    broken = ({"path": "/nowhere/board.json"}, {"entries": "rows"}, {"name": "who"}, {"max_mib": 0.000001})

    def base_options(self) -> Mapping[str, Any]:
        path = _folder() / "board.json"
        path.write_text(json.dumps([{"name": "a", "score": 1.0}, {"name": "b", "score": 2.0}]))
        return {"path": str(path)}


class TestMetagraph(LeaderboardContract):
    component = "operations/metagraph"
    broken = ({"file": "/nowhere/metagraph.json"}, {"url": "http://127.0.0.1:9/"}, {"netuid": 34})

    def base_options(self) -> Mapping[str, Any]:
        board = _server()
        rows = [{**miner, "hotkey": {"ss58": miner["hotkey"]}, "netuid": 72} for miner in MINERS]
        body = json.dumps({"data": rows})
        board.answers = [lambda request: request.say(200, body.encode())]
        return {"url": board.url, **QUICK}

    @property
    def variants(self) -> Any:  # type: ignore[override]
        path = _folder() / "metagraph.json"
        path.write_text(json.dumps({"netuid": 72, "uids": MINERS}))
        return ({"file": str(path)},)
