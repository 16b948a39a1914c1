"""The elite spec runs whole, and what it ships is what it trained: adapters, views, policies, weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from safetensors.numpy import load_file

from roadwork_core.files import sha256_file
from roadwork_core.plugins import Plugins
from roadwork_core.policies import load_policies, read_scores

from .elite import BLOCKS, MLP, RANK, SMALL, SPEC, WIDTH, dinov2
from .forking import Server
from .pictures import CLASSES, draw

STAGES = ["prepare", "adapt", "train", "score", "fit", "evaluate", "bundle"]
POLICY_OF_MODE = {"fast": "threshold", "accurate": "scrc", "hybrid": "hybrid"}


@frozen
class Elite:
    """The finished run: its directory, the document that it printed, and what it said meanwhile."""

    path: Path
    document: dict[str, Any]
    told: str
    checkpoint: Path

    @property
    def bundle(self) -> Path:
        return Path(self.document["bundle_dir"])

    def read(self, name: str) -> Any:
        return json.loads((self.path / name).read_bytes())


@pytest.fixture(scope="module")
def elite(roadwork: Server, tmp_path_factory: pytest.TempPathFactory) -> Elite:
    folder = tmp_path_factory.mktemp("elite")
    checkpoint = dinov2(folder / "dinov2")
    settings = [f'backbone.model="{checkpoint}"', *SMALL]
    argv = ["run", SPEC, "--json", "-v", *(f"--set={setting}" for setting in settings)]
    command = roadwork.run(argv, folder, {"ROADWORK_DATA": str(draw(folder / "data"))})
    assert command.wait() == 0, command.stderr()
    return Elite(folder / "runs" / "elite", json.loads(command.stdout()), command.stderr(), checkpoint)


@pytest.mark.slow
def test_every_stage_runs(elite: Elite) -> None:
    assert elite.document["status"] == "ok"
    assert [(stage["name"], stage["status"]) for stage in elite.document["stages"]] == [
        (name, "ran") for name in STAGES
    ]
    assert elite.document["metrics"]["test"]["mcc"]["value"] is not None


@pytest.mark.slow
def test_the_adapters_are_dora(elite: Elite) -> None:
    """DoRA has A (r x in), B (out x r) and a magnitude per output; LoRA would have no magnitudes."""
    dora = RANK * WIDTH + WIDTH * RANK + WIDTH
    linear_maps = 4  # query, key, value and output
    head = 2 * WIDTH * len(CLASSES) + len(CLASSES)
    train = elite.read("train/manifest.json")["metrics"]
    assert train["parameters"]["trainable"] == BLOCKS * linear_maps * dora + head
    assert len(train["adapted"]) == BLOCKS * linear_maps
    block = linear_maps * (WIDTH * WIDTH + WIDTH) + (2 * WIDTH * MLP + MLP + WIDTH) + 2 * 2 * WIDTH + 2 * WIDTH
    adapt = elite.read("adapt/manifest.json")["metrics"]
    assert adapt["parameters"]["trainable"] == linear_maps * dora + block


@pytest.mark.slow
def test_each_stage_goes_on_from_the_weights_of_the_one_before(elite: Elite) -> None:
    """The checkpoint's into adapt, adapt's into train; what an adapter leaves alone is the same to the bit."""
    origin = load_file(elite.checkpoint / "model.safetensors")
    adapted = {
        name.removeprefix("model."): value
        for name, value in load_file(elite.path / "adapt" / "weights.safetensors").items()
    }
    trained = {
        name.removeprefix("backbone.model."): value
        for name, value in load_file(elite.path / "train" / "weights.safetensors").items()
        if name.startswith("backbone.")
    }
    assert set(trained) == set(adapted)
    shared = adapted.keys() & origin.keys()
    patches = [name for name in shared if "patch_embeddings" in name]
    assert len(patches) == 2
    assert all((origin[name] == adapted[name]).all() for name in patches)
    touched = {name for name in shared if (adapted[name] != trained[name]).any()}
    assert touched == {name for name in shared if ".attention." in name and name.endswith(".weight")}


@pytest.mark.slow
def test_the_bundle_has_its_views_and_three_policies(elite: Elite) -> None:
    manifest, model = (json.loads((elite.bundle / name).read_bytes()) for name in ("bundle.json", "model/model.json"))
    assert model["tta"]["use"] == "multiview"
    assert elite.read("score/manifest.json")["metrics"]["views"] == 3 * 2 + 3 * 3
    assert set(manifest["policies"]) == set(POLICY_OF_MODE.values())
    assert (manifest["active"], manifest["fallback"], manifest["mode"]) == ("hybrid", "threshold", "hybrid")
    assert manifest["modes"] == POLICY_OF_MODE
    fitted_with = {name: elite.read(f"fit/policies/{name}.json")["tta"] for name in manifest["policies"]}
    assert set(fitted_with.values()) == {model["tta"]["digest"]}


@pytest.mark.slow
def test_the_bundle_replays(elite: Elite, roadwork: Server) -> None:
    command = roadwork.run(["bundle", "verify", elite.bundle, "--level", "replay", "--json"], elite.path)
    assert command.wait() == 0, command.stderr()


@pytest.mark.slow
def test_the_weights_that_were_scored_are_those_exported(elite: Elite) -> None:
    assert sha256_file(elite.bundle / "model" / "weights.safetensors") == sha256_file(
        elite.path / "train" / "weights.safetensors"
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", POLICY_OF_MODE)
def test_predictions_are_the_decisions_on_the_recorded_logits(elite: Elite, roadwork: Server, mode: str) -> None:
    """From pixels through the bundle, and from the logits that the run wrote down: the same answers."""
    rows = [json.loads(line) for line in (elite.path / "prepare/samples/test.jsonl").read_text().splitlines()]
    paths = {row["index"]: row["path"] for row in rows}
    scores = read_scores(elite.path / "score" / "test.csv")
    with (elite.path / "score" / "test.csv").open(newline="") as file:
        scored = [paths[int(row["index"])] for row in csv.DictReader(file)]
    documents = {name: elite.read(f"fit/policies/{name}.json") for name in POLICY_OF_MODE.values()}
    policy = load_policies(documents, Plugins.load())[POLICY_OF_MODE[mode]]
    expected = list(policy.decide(scores.logits).rows())
    argv = ["predict", elite.bundle, *scored, "--mode", mode, "--json", "--device", "cpu"]
    command = roadwork.run(argv, elite.path)
    assert command.wait() == 0, command.stderr()
    answers = [json.loads(line) for line in command.stdout().splitlines()]
    assert [answer["path"] for answer in answers] == scored
    assert len(scored) >= 10
    for answer, row in zip(answers, expected, strict=True):
        label = None if row["label"] is None else CLASSES[row["label"]]
        assert (answer["label"], answer["abstain"]) == (label, row["abstain"])
        assert answer["set"] == [CLASSES[member] for member in row["set"]]
        assert answer["score"] == pytest.approx(row["score"], abs=1e-5)


@pytest.mark.slow
def test_the_fast_mode_is_a_cut_on_the_margin(elite: Elite, roadwork: Server) -> None:
    """Computed by hand from the recorded logits and the threshold in the policy's file."""
    logits = read_scores(elite.path / "score" / "test.csv").logits
    document = elite.read("fit/policies/threshold.json")
    argv = ["policy", "apply", elite.path / "fit/policies/threshold.json", "--scores", elite.path / "score/test.csv"]
    command = roadwork.run([*argv, "--json"], elite.path)
    assert command.wait() == 0, command.stderr()
    answers = [json.loads(line) for line in command.stdout().splitlines()]
    margins = logits[:, 1] - logits[:, 0]
    assert [answer["label"] for answer in answers] == [int(m >= document["state"]["threshold"]) for m in margins]
