"""A test-time augmentation that learns is fitted in the run, carried by the bundle, and refused without its state."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attrs import frozen
from PIL import Image

from roadwork_core.bundle.format import bundle_id
from roadwork_core.cli import main
from roadwork_core.files import digest_json, pretty_json, sha256_file

from .tiny import tiny_spec

LEARNED = """
[tta]
use = "flip"
fusion = "learned"
[policy.threshold]
use = "threshold"
"""
ATTENTION = """
[tta]
use = "multiscale"
scales = [0.75]
flip = true
fusion = "attention"
attention = { samples = 60, steps = 60, lr = 0.05 }
[policy.threshold]
use = "threshold"
[policy.scrc]
use = "scrc"
alpha = 0.2
[bundle]
active = "threshold"
fallback = "threshold"
"""
CHOSEN = """
[tta]
use = "choose"
errors = 1000.0
candidates = [
  { use = "none" },
  { use = "multiscale", fusion = "attention", attention = { samples = 40, steps = 20 } },
  { use = "five_crop", select = "confident" },
]
[policy.threshold]
use = "threshold"
"""


@frozen
class Finished:
    spec: Path
    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "tiny"

    @property
    def bundle(self) -> Path:
        return self.run / "bundle" / "tiny"

    def read(self, name: str) -> Any:
        return json.loads((self.run / name).read_text())

    def again(self, *arguments: str) -> int:
        return main(["run", str(self.spec), "--runs-dir", str(self.folder / "runs"), *arguments])


def finished(folder: Path, extra: str) -> Finished:
    made = Finished(tiny_spec(folder, n=120, epochs=1, extra=extra), folder)
    assert made.again() == 0
    return made


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(tmp_path_factory.mktemp("learned"), LEARNED)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(tmp_path_factory.mktemp("chosen"), CHOSEN)


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(tmp_path_factory.mktemp("attentive"), ATTENTION)


def logits_of(run: Finished, split: str) -> Any:
    with (run.run / "score" / f"{split}.csv").open(newline="") as file:
        return np.array([[float(row["logit_0"]), float(row["logit_1"])] for row in csv.DictReader(file)])


def test_the_bundle_carries_the_state_and_the_digest_covers_it(learned: Finished) -> None:
    tta = learned.read("score/tta.json")
    assert tta["digest"] == digest_json({key: tta[key] for key in ("use", "options", "state")})
    assert set(tta["state"]["weights"]) == {"identity", "flip"}
    model = json.loads((learned.bundle / "model" / "model.json").read_text())
    assert model["tta"] == {key: tta[key] for key in ("use", "options", "state", "digest")}
    assert learned.read("fit/policies/threshold.json")["tta"] == tta["digest"]


def test_the_network_across_views_is_trained_and_travels_with_the_bundle(attentive: Finished) -> None:
    """It was trained on train, its views keep their names, and the policies were fitted on what it gives."""
    tta = attentive.read("score/tta.json")
    state = tta["state"]
    assert set(state["views"]) == {"identity", "flip", "size_24x24", "size_24x24_flip"}
    training = attentive.read("prepare/report.json")["splits"]["train"]["samples"]
    assert state["training"]["samples"] == min(training, 60)
    assert state["training"]["steps"] == 60
    assert state["training"]["nll"] <= state["training"]["mean_logit_nll"]
    model = json.loads((attentive.bundle / "model" / "model.json").read_text())
    assert model["tta"] == {key: tta[key] for key in ("use", "options", "state", "digest")}
    for name in ("threshold", "scrc"):
        assert attentive.read(f"fit/policies/{name}.json")["tta"] == tta["digest"]


@pytest.mark.parametrize("mode", ["accurate", "fast"])
def test_the_bundle_decides_through_the_network_as_the_run_did(attentive: Finished, mode: str, capsys: Any) -> None:
    policy = {"accurate": "scrc", "fast": "threshold"}[mode]
    document, scores = attentive.bundle / "policies" / f"{policy}.json", attentive.run / "score" / "test.csv"
    capsys.readouterr()
    assert main(["policy", "apply", str(document), "--scores", str(scores), "--json"]) == 0
    in_the_run = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [json.loads(line) for line in (attentive.run / "prepare/samples/test.jsonl").read_text().splitlines()]
    assert main(["predict", str(attentive.bundle), *(row["path"] for row in rows), "--mode", mode, "--json"]) == 0
    in_the_bundle = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    classes = attentive.read("prepare/classes.json")["classes"]
    for ran, decided in zip(in_the_run, in_the_bundle, strict=True):
        if decided["reason"].startswith("fallback"):
            continue
        assert decided["label"] == (None if ran["label"] is None else classes[ran["label"]])
        assert decided["abstain"] == ran["abstain"]


@pytest.mark.parametrize("which", ["learned", "chosen", "attentive"])
def test_the_bundle_replays_and_predicts(which: str, request: pytest.FixtureRequest, capsys: Any) -> None:
    run: Finished = request.getfixturevalue(which)
    assert main(["bundle", "verify", str(run.bundle), "--level", "replay"]) == 0
    rows = [json.loads(line) for line in (run.run / "prepare/samples/test.jsonl").read_text().splitlines()]
    capsys.readouterr()
    assert main(["predict", str(run.bundle), *(row["path"] for row in rows[:5]), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    logits = logits_of(run, "test")[:5]
    expected = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    np.testing.assert_allclose([line["score"] for line in lines], expected, atol=1e-5)


def test_nothing_is_done_again_and_another_pull_is_fitted_again(learned: Finished, capsys: Any) -> None:
    capsys.readouterr()
    assert learned.again("--dry-run", "--json") == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert {stage["status"] for stage in stages} == {"skipped"}
    assert learned.again("--dry-run", "--json", "--set", "tta.learned.l2=5.0") == 0
    stages = {stage["name"]: stage["status"] for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert (stages["train"], stages["score"]) == ("skipped", "pending")


def test_the_report_shows_the_candidates_and_what_they_cost(chosen: Finished) -> None:
    page = (chosen.run / "evaluate" / "report.html").read_text()
    table = chosen.read("evaluate/metrics.json")["tta"]["table"]
    assert [row[0] for row in table["rows"]] == ["none", "multiscale", "five_crop"]
    assert [row[1] for row in table["rows"]] == ["1", "3", "6"]
    for row in table["rows"]:
        assert f"<td>{row[3]}</td>" in page
    assert [row[-1] for row in table["rows"]].count("chosen") == 1


def test_the_policies_are_fitted_on_the_chosen_candidate_alone(chosen: Finished) -> None:
    """With so wide a margin the cheapest is taken, and the scores are those of a run whose spec has no TTA."""
    assert chosen.read("score/tta.json")["state"]["chosen"] == "none"
    assert chosen.again("--unset", "tta", "--set", 'name="plain"') == 0
    with (chosen.folder / "runs" / "plain" / "score" / "val_calib.csv").open(newline="") as file:
        plain = [[float(row["logit_0"]), float(row["logit_1"])] for row in csv.DictReader(file)]
    np.testing.assert_allclose(logits_of(chosen, "val_calib"), plain, atol=1e-5)


def damage(bundle: Path, edit: Any) -> None:
    """Changes model.json and everything that speaks for its bytes, as somebody who wants to deceive would."""
    path = bundle / "model" / "model.json"
    model = json.loads(path.read_text())
    edit(model["tta"])
    digest = digest_json({key: model["tta"][key] for key in ("use", "options", "state") if key in model["tta"]})
    model["tta"]["digest"] = digest
    path.write_bytes(pretty_json(model))
    policies = sorted((bundle / "policies").glob("*.json"))
    for policy in policies:
        policy.write_bytes(pretty_json({**json.loads(policy.read_text()), "tta": digest}))
    manifest = json.loads((bundle / "bundle.json").read_text())
    for name in ("model/model.json", *(f"policies/{policy.name}" for policy in policies)):
        manifest["files"][name] = {"sha256": sha256_file(bundle / name), "size": (bundle / name).stat().st_size}
    manifest["bundle_id"] = bundle_id(manifest)
    (bundle / "bundle.json").write_bytes(pretty_json(manifest))


def drop_state(tta: dict[str, Any]) -> None:
    del tta["state"]


def other_weights(tta: dict[str, Any]) -> None:
    tta["state"]["temperatures"] = {"identity": 5.0, "flip": 5.0}


def other_views(tta: dict[str, Any]) -> None:
    tta["state"]["weights"] = {"identity": 1.0}


def other_decoder(tta: dict[str, Any]) -> None:
    for view in tta["state"]["views"].values():
        view["log_temperature"] = 2.0


def other_names(tta: dict[str, Any]) -> None:
    tta["state"]["views"] = {f"old_{name}": view for name, view in tta["state"]["views"].items()}


@pytest.mark.parametrize(
    ("edit", "said"), [(drop_state, "never fitted"), (other_decoder, "golden"), (other_names, "views are not those")]
)
def test_a_bundle_without_its_own_network_is_refused(
    edit: Any, said: str, attentive: Finished, tmp_path: Path, capsys: Any
) -> None:
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(attentive.bundle, bundle)
    damage(bundle, edit)
    capsys.readouterr()
    assert main(["bundle", "verify", str(bundle), "--level", "replay"]) == 4
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


@pytest.mark.parametrize(
    ("edit", "said"),
    [(drop_state, "never fitted"), (other_weights, "golden"), (other_views, "views are not those")],
)
def test_a_bundle_without_its_own_state_is_refused(
    edit: Any, said: str, learned: Finished, tmp_path: Path, capsys: Any
) -> None:
    import shutil

    bundle = tmp_path / "bundle"
    shutil.copytree(learned.bundle, bundle)
    damage(bundle, edit)
    capsys.readouterr()
    assert main(["bundle", "verify", str(bundle), "--level", "replay"]) == 4
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_it_is_given_no_other_split(tmp_path: Path) -> None:
    """A foreign augmentation that asks for val_calib is told no, and sees nothing."""
    from types import SimpleNamespace

    from roadwork_core import component
    from roadwork_core.errors import RoadworkError
    from roadwork_core.plugins import Plugins
    from roadwork_core.stages import score, train
    from tests.prepared_run import stage_context, write_prepared
    from tests.training.test_stages import SPEC

    @component("tta", "greedy")
    class Greedy:
        """Asks for what it may not see."""

        def build(self, ctx: Any) -> Any:
            asked: Mapping[str, None] = {"val_calib": None}
            return SimpleNamespace(view_ids=("identity",), min_side=1, fits_on=asked)

    plugins = Plugins.load().extended({"greedy": SimpleNamespace(roadwork_components=lambda: [Greedy])})
    pictures = [(Image.new("RGB", (20, 20), (40 * number, 0, 0)), number % 2) for number in range(6)]
    prepared = write_prepared(tmp_path, dict.fromkeys(("train", "val_select", "val_calib", "test"), pictures))
    spec = SPEC.replace("epochs = 2", "epochs = 1") + '[tta]\nuse = "greedy"\n'
    train.run(stage_context("train", prepared, plugins, tmp_path / "run", spec))
    with pytest.raises(RoadworkError, match="asks to be fitted on val_calib"):
        score.run(stage_context("score", prepared, plugins, tmp_path / "run", spec))
