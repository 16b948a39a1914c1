"""A challenger trains on the champion's splits and what was mined, and is promoted only where it is better."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roadwork_core.cli import main
from roadwork_core.data.table import read_rows
from roadwork_core.deployment import Deployment
from roadwork_core.errors import DataError, UsageError
from roadwork_core.retraining import judge, mix
from tests.e2e.pictures import draw
from tests.e2e.tiny import tiny_spec

SETTINGS = (
    *("--set", "data.splits={ train = 0.3, val_select = 0.1, val_calib = 0.2, test = 0.4 }"),
    *("--set", "evaluate.bootstrap=100"),
)
#: A run that learns nothing.
CRIPPLED = ("--set", "train.epochs=1", "--set", "optimizer.lr=1e-9")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Triangles and discs, which a small network tells apart in some epochs."""
    folder = tmp_path_factory.mktemp("spec")
    pictures = draw(folder / "pictures", sequences=20, frames=3)
    return tiny_spec(folder, pictures=pictures, extra='[policy.threshold]\nuse = "threshold"\n')


@pytest.fixture(scope="module")
def champion(spec: Path) -> Path:
    """The run of a champion that has hardly learned anything."""
    runs = spec.parent / "runs"
    assert main(["run", str(spec), "--runs-dir", str(runs), "--quiet", *SETTINGS, *CRIPPLED, "--set", "seed=7"]) == 0
    return runs / "tiny"


def hard_negatives(folder: Path, count: int = 4, labels: tuple[str, ...] = ("roadwork", "no_roadwork")) -> Path:
    rng, lines = np.random.default_rng(0), ["path,label,split,source,error"]
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (36, 48, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        kind = ("false_negative", "false_positive")[number >= count // 2]
        lines.append(f"{number}.png,{labels[number % len(labels)]},train,mined,{kind}")
    (folder / "hard.csv").write_text("\n".join(lines) + "\n")
    return folder / "hard.csv"


def comparison(**difference: Any) -> dict[str, Any]:
    line = {"difference": {"value": 0.02, "low": 0.01, "high": 0.03} | difference}
    return {"only_first": 0, "only_second": 0, "level": 0.95, "metrics": {"mcc": line, "nll": line}}


@pytest.mark.parametrize(
    ("metric", "margin", "difference", "promoted"),
    [
        ("mcc", 0.0, {}, True),
        ("mcc", 0.01, {}, False),
        ("mcc", 0.0, {"low": 0.0}, False),
        ("mcc", 0.0, {"low": None}, False),
        ("nll", 0.0, {}, False),
        ("nll", 0.0, {"value": -0.2, "low": -0.3, "high": -0.1}, True),
        ("nll", 0.1, {"value": -0.2, "low": -0.3, "high": -0.1}, False),
        ("auroc", 0.0, {}, False),
    ],
)
def test_only_a_whole_interval_beyond_the_margin_promotes(
    metric: str, margin: float, difference: dict[str, Any], promoted: bool
) -> None:
    assert judge(comparison(**difference), metric, margin, used=1).promoted is promoted


def test_another_test_split_promotes_nothing() -> None:
    verdict = judge(comparison() | {"only_second": 1}, "mcc", 0.0, used=1)
    assert not verdict.promoted
    assert "not tested on the same samples" in verdict.reason


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_the_reason_says_where_no_hard_negative_was_new(margin: float) -> None:
    some, none = (judge(comparison(), "mcc", margin, used=used) for used in (1, 0))
    assert none.promoted is some.promoted
    assert none.reason == f"{some.reason}; no hard negative was new, so only its spec can make a difference"


def test_splits_stay_and_hard_negatives_are_in_train_alone(champion: Path, tmp_path: Path) -> None:
    found = mix(champion, hard_negatives(tmp_path), share=0.5)
    rows = list(csv.DictReader(io.StringIO(found.manifest.decode())))
    assert {row["split"] for row in rows if row["source"] == "mined"} == {"train"}
    for split in ("train", "val_select", "val_calib", "test"):
        before = [row.path for row in read_rows(champion / "prepare" / "samples" / f"{split}.jsonl")]
        assert [row["path"] for row in rows if row["split"] == split and row["source"] != "mined"] == before
    assert found.used == 4


def test_hard_negatives_do_not_outgrow_their_share_and_types_come_in_turn(champion: Path, tmp_path: Path) -> None:
    hard = hard_negatives(tmp_path, 60)
    found = mix(champion, hard, share=0.1)
    assert found.used == int(0.1 * found.train / 0.9)
    mined = [row for row in csv.DictReader(io.StringIO(found.manifest.decode())) if row["source"] == "mined"]
    assert [Path(row["path"]).stem for row in mined[:4]] == ["0", "30", "1", "31"]


def test_a_hard_negative_of_the_test_split_is_refused(champion: Path, tmp_path: Path) -> None:
    hard = hard_negatives(tmp_path)
    taken = read_rows(champion / "prepare" / "samples" / "test.jsonl")[0]
    (tmp_path / "1.png").write_bytes(Path(taken.path).read_bytes())
    with pytest.raises(DataError, match="is in the split test"):
        mix(champion, hard, share=0.3)


def test_a_label_that_the_champion_does_not_know_is_refused(champion: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no class of the champion"):
        mix(champion, hard_negatives(tmp_path, labels=("cat",)), share=0.3)
    with pytest.raises(UsageError, match="not the directory of a run"):
        mix(tmp_path, hard_negatives(tmp_path), share=0.3)


def retrain(spec: Path, champion: Path, folder: Path, *more: str) -> int:
    words = ["--champion", champion / "bundle" / "tiny", "--hard-negatives", hard_negatives(folder)]
    words += ["--margin", 0.05, "--runs-dir", folder / "runs", "--record", folder / "record.json", "--quiet"]
    return main(["retrain", *map(str, [spec, *words]), *SETTINGS, *more])


def test_a_worse_challenger_is_refused_with_a_reason_and_a_better_one_passes_the_gate(
    spec: Path, champion: Path, tmp_path: Path
) -> None:
    live, bundle = tmp_path / "live", champion / "bundle" / "tiny"
    assert main(["deploy", str(bundle), "--to", str(live), "--quiet"]) == 0
    assert retrain(spec, champion, tmp_path, *CRIPPLED) == 4
    refused = json.loads((tmp_path / "record.json").read_bytes())
    assert json.loads((Path(refused["challenger"]["run_dir"]) / "challenge.json").read_bytes()) == refused
    assert (refused["status"], refused["promoted"]) == ("not_promoted", False)
    assert refused["comparison"]["only_first"] == refused["comparison"]["only_second"] == 0
    gate = ["--to", str(live), "--champion-gate", str(tmp_path / "record.json"), "--quiet"]
    assert main(["deploy", refused["challenger"]["bundle_dir"], *gate]) == 4

    assert retrain(spec, champion, tmp_path, "--set", "train.epochs=12") == 0
    better = json.loads((tmp_path / "record.json").read_bytes())
    difference = better["comparison"]["metrics"]["mcc"]["difference"]
    assert difference["level"] == 0.95
    assert difference["low"] > 0.05
    assert (better["status"], better["promoted"]) == ("promoted", True)
    assert better["hard_negatives"]["used"] == 4
    assert main(["deploy", better["challenger"]["bundle_dir"], *gate]) == 0
    assert Deployment(live).current() == better["challenger"]["bundle_id"][:12]
    assert main(["deploy", "--to", str(live), "--rollback", "--quiet"]) == 0
    assert Deployment(live).current() == refused["champion"]["bundle_id"][:12]


def test_a_bundle_of_another_run_is_no_champion(spec: Path, champion: Path, tmp_path: Path) -> None:
    words = ["--hard-negatives", str(hard_negatives(tmp_path)), "--champion-run", str(tmp_path)]
    assert main(["retrain", str(spec), "--champion", str(champion / "bundle" / "tiny"), *words, "--quiet"]) == 2


def test_a_record_that_cannot_be_written_is_said_before_anything_is_trained(
    spec: Path, champion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert retrain(spec, champion, tmp_path, "--record", str(tmp_path)) == 2
    assert "--record names a file" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_list_without_anything_new_is_told_before_the_training(
    spec: Path, champion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise DataError("enough seen")

    monkeypatch.setattr("roadwork_core.cli.retrain.execute", stop)
    words = ["--champion", str(champion / "bundle" / "tiny"), "--runs-dir", str(tmp_path / "runs"), "--quiet"]
    for count, told in ((0, True), (2, False)):
        listed = ["--hard-negatives", str(hard_negatives(tmp_path, count))]
        assert main(["retrain", str(spec), *words, *listed, *SETTINGS]) == 1
        assert ("has nothing new" in capsys.readouterr().err) == told


def test_a_deployed_copy_of_no_run_there_is_no_champion(
    spec: Path, champion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", str(champion / "bundle" / "tiny"), "--to", str(tmp_path / "live"), "--quiet"]) == 0
    words = ["--champion", str(tmp_path / "live" / "current"), "--hard-negatives", str(hard_negatives(tmp_path))]
    assert main(["retrain", str(spec), *words, "--runs-dir", str(tmp_path / "runs"), "--quiet"]) == 2
    assert "no run there made the bundle" in capsys.readouterr().err
