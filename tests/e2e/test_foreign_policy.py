"""A policy that no one here knows goes the whole way: fitted, bundled, verified, asked, served and compared."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from attrs import frozen
from numpy.typing import NDArray

from roadwork_core import component, hookimpl, option
from roadwork_core.cli import main
from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.plugins import Plugins

from .tiny import tiny_spec

SPEC = """
[policy.threshold]
use = "threshold"
[policy.odd]
use = "every_second"
offset = 1
[bundle]
active = "odd"
fallback = "threshold"
"""


@frozen(eq=False)
class Fitted:
    """Abstains on every second step of the margin: a rule like none of those in the tree."""

    offset: int
    width: float
    positive: int

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        margins = logits[:, self.positive] - logits[:, 1 - self.positive]
        unsure = (np.floor(margins / self.width) + self.offset) % 2 == 0
        labels = np.where(margins >= 0, self.positive, 1 - self.positive)
        sets = (labels[:, None] == np.arange(2)) | unsure[:, None]
        reasons = ["even" if even else "odd" for even in unsure.tolist()]
        scores = 1 / (1 + np.exp(-margins))
        return Decisions(labels=np.where(unsure, ABSTAIN, labels), scores=scores, sets=sets, reasons=reasons)

    def state(self) -> Mapping[str, Any]:
        return {"width": self.width}

    def summary(self) -> Mapping[str, Any]:
        return {"width": self.width}

    def guarantee(self) -> Mapping[str, Any]:
        return {"kind": "none", "text": "Nothing that anyone would want."}


@component("policy", "every_second")
class EverySecond:
    """Abstains on every second step of the margin."""

    mode: ClassVar[str] = "accurate"

    offset: int = option(default=0, minimum=0, help="which steps")

    def build(self, ctx: Any) -> Fitted:
        width = float(np.std(ctx.logits[:, 1] - ctx.logits[:, 0])) / 3
        return Fitted(self.offset, width, ctx.positive)

    def restore(self, state: Mapping[str, Any], ctx: Any) -> Fitted:
        return Fitted(self.offset, float(state["width"]), ctx.positive)

    def requires(self) -> Sequence[str]:
        return ()


class Foreign:
    @staticmethod
    @hookimpl
    def roadwork_components() -> list[type]:
        return [EverySecond]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A finished run whose active policy is the foreign one, with the plugin installed as long as the tests last."""
    folder = tmp_path_factory.mktemp("foreign")
    known = Plugins.load().extended({"foreign": Foreign()})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plugins, "load", classmethod(lambda cls, only=None: known))
        assert (
            main(["run", str(tiny_spec(folder, n=120, epochs=1, extra=SPEC)), "--runs-dir", str(folder / "runs")]) == 0
        )
        run = folder / "runs" / "tiny"
        rows = [json.loads(line) for line in (run / "prepare" / "samples" / "test.jsonl").read_text().splitlines()]
        yield SimpleNamespace(run=run, bundle=run / "bundle" / "tiny", rows=rows)


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def said_by(made: Any, capsys: pytest.CaptureFixture[str], *options: str) -> list[dict[str, Any]]:
    paths = [row["path"] for row in made.rows]
    return [
        json.loads(line) for line in printed(capsys, "predict", made.bundle, *paths, "--json", *options).splitlines()
    ]


def test_it_is_fitted_evaluated_and_verified(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((made.run / "evaluate" / "metrics.json").read_text())
    assert metrics["active"] == "odd"
    assert metrics["policies"]["odd"]["abstains"]
    assert "Nothing that anyone would want." in (made.run / "evaluate" / "report.html").read_text()
    printed(capsys, "bundle", "verify", made.bundle, "--level", "replay")


def test_it_decides_alike_in_the_run_and_in_the_bundle(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = said_by(made, capsys)
    metrics = json.loads((made.run / "evaluate" / "metrics.json").read_text())["policies"]["odd"]
    assert sum(not line["abstain"] for line in found) == metrics["answered"]
    assert {line["reason"] for line in found} == {"even", "odd"}
    assert {line["policy"] for line in found} == {"odd"}
    assert said_by(made, capsys, "--mode", "accurate") == found
    assert {line["policy"] for line in said_by(made, capsys, "--mode", "fast")} == {"threshold"}
    assert not any(line["abstain"] for line in said_by(made, capsys, "--must-answer"))


def test_it_is_served_as_predict_says(made: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("roadwork_serving", reason="the server is not installed")
    from roadwork_serving.app import make_app
    from roadwork_serving.service import Service, load_bundle
    from roadwork_serving.settings import Settings
    from roadwork_serving.telemetry import Telemetry
    from starlette.testclient import TestClient

    settings = Settings(device="cpu", verify="load")
    telemetry = Telemetry(io.StringIO())
    service = Service(made.bundle, load_bundle(made.bundle, settings), settings, workers=1, telemetry=telemetry)
    path = made.rows[0]["path"]
    picture = Path(path).read_bytes()
    expected = said_by(made, capsys)[0]
    with TestClient(make_app(service)) as client:
        header = {"content-type": "application/octet-stream"}
        answers = [
            client.post("/predict", content=picture, headers=header, params=asked).json()["predictions"][0]
            for asked in ({}, {"policy": "odd"}, {"mode": "fast"})
        ]
    for answer in answers[:2]:
        for key in ("label", "abstain", "set", "policy", "reason"):
            assert answer[key] == expected[key]
        assert answer["score"] == pytest.approx(expected["score"], abs=1e-6)
    assert answers[2]["policy"] == "threshold"


def test_it_is_compared_with_the_others_and_applied_to_scores_alone(
    made: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    manifest = tmp_path / "test.csv"
    lines = ["path,label,group", *(f"{row['path']},{row['label']},{row['group']}" for row in made.rows)]
    manifest.write_text("\n".join(lines) + "\n")
    found = json.loads(printed(capsys, "bundle", "compare-policies", made.bundle, "--data", manifest, "--json"))
    assert set(found["policies"]) == {"odd", "threshold"}
    assert found["policies"]["odd"]["coverage"]["value"] < 1.0
    assert found["policies"]["threshold"]["difference"]["mcc"]["value"] is not None
    scores = made.run / "score" / "test.csv"
    applied = printed(capsys, "policy", "apply", made.bundle / "policies" / "odd.json", "--scores", scores, "--json")
    assert [json.loads(line)["abstain"] for line in applied.splitlines()] == [
        line["abstain"] for line in said_by(made, capsys)
    ]
