"""`roadwork evaluate`: a labelled set measured as `predict` decides on it, and mistakes told in one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import roadwork_datasets
from PIL import Image
from sklearn.metrics import accuracy_score, matthews_corrcoef, roc_auc_score

from roadwork_core import component, hookimpl, option
from roadwork_core.cli import main
from roadwork_core.metrics.reward import expected_reward
from roadwork_core.plugins import Plugins
from tests.bundle import toy

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

#: Margin and true class of each picture; the toy bundle abstains within 1 of 0.
PICTURES = [(4.0, 1), (6.0, 1), (-3.0, 1), (0.4, 1), (2.0, 0), (-5.0, 0), (-2.5, 0), (-0.2, 0), (-7.0, 0), (5.0, 1)] * 3


@component("augmentation", "darker")
class Darker:
    """Level 0 changes nothing, level 1 leaves no picture at all."""

    batch: ClassVar[bool] = False
    level: Literal[0, 1] = option(default=0, help="how dark")

    def build(self, ctx: Any) -> Any:
        return lambda image: image if self.level == 0 else image * 0


@component("augmentation", "untouched")
class Untouched:
    """Neither level changes anything."""

    batch: ClassVar[bool] = False
    level: Literal[0, 1] = option(default=0, help="how little")

    def build(self, ctx: Any) -> Any:
        return lambda image: image


@component("augmentation", "tinted")
class Tinted:
    """One colour for the whole picture, drawn."""

    batch: ClassVar[bool] = False
    level: Literal[1] = option(default=1, help="how much")

    def build(self, ctx: Any) -> Any:
        import torch

        return lambda image: image * 0 + torch.randint(0, 256, (3, 1, 1), dtype=torch.uint8)


@component("augmentation", "unlevelled")
class Unlevelled:
    """Has no levels."""

    batch: ClassVar[bool] = False

    def build(self, ctx: Any) -> Any:
        return lambda image: image


class Distortions:
    @hookimpl
    def roadwork_components(self) -> list[type]:
        return [Darker, Tinted, Untouched, Unlevelled]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plugins = Plugins.of({"toy": toy.ToyPlugin(), "datasets": roadwork_datasets, "dark": Distortions()})
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, only=None: plugins))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with one folder per class, and beside it a manifest of the same pictures."""
    rng = np.random.default_rng(0)
    lines = ["path,label,group,split,weather"]
    for number, (margin, target) in enumerate(PICTURES):
        pixels = toy.picture(margin, size=(40, 40)).astype(np.int64)
        # Texture, the same in every colour, so that no two pictures look alike.
        pixels += np.kron(rng.integers(-25, 26, size=(5, 5)), np.ones((8, 8), dtype=np.int64))[..., None]
        path = tmp_path / "data" / toy.LABELS[target] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        split, weather = "late" if number >= 20 else "early", "rain" if number % 2 else "sun"
        lines.append(f"{path.relative_to(tmp_path)},{path.parent.name},g{number // 2},{split},{weather}")
    (tmp_path / "data.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


def run(capsys: pytest.CaptureFixture[str], *arguments: Any, command: str = "evaluate") -> tuple[int, str, str]:
    code = main([command, *(str(argument) for argument in arguments), "--device", "cpu"])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, out, err


def evaluated(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--bootstrap", 100, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def predicted(capsys: pytest.CaptureFixture[str], bundle: Path, data: Path, *more: str) -> list[dict[str, Any]]:
    _, out, _ = run(capsys, bundle, data, *more, "--json", command="predict")
    return [json.loads(line) for line in out.splitlines()]


def test_the_figures_are_scikit_learns_on_what_predict_says(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(capsys, bundle, "--data", data)
    lines = predicted(capsys, bundle, data)
    truth = np.array([Path(line["path"]).parent.name == "roadwork" for line in lines])
    answered = np.array([not line["abstain"] for line in lines])
    said = np.array([line["label"] == "roadwork" for line in lines])
    assert found["n"] == len(PICTURES) == len(lines)
    assert 0 < answered.sum() < len(lines)
    assert found["metrics"]["mcc"]["value"] == pytest.approx(matthews_corrcoef(truth[answered], said[answered]))
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(accuracy_score(truth[answered], said[answered]))
    assert found["metrics"]["coverage"]["value"] == pytest.approx(answered.mean())
    scores = [line["score"] for line in lines]
    assert found["metrics"]["auroc"]["value"] == pytest.approx(roc_auc_score(truth, scores))
    must = predicted(capsys, bundle, data, "--must-answer")
    said = np.array([line["label"] == "roadwork" for line in must])
    answers = found["policies"]["careful"]["must_answer"]
    assert answers["mcc"]["value"] == pytest.approx(matthews_corrcoef(truth, said))
    # The validator takes no abstention: the reward is that of the answers that must be given.
    assert found["reward"]["value"] == pytest.approx(expected_reward(said[truth].mean(), (~said[~truth]).mean())[0])


def test_the_folder_holds_every_decision_and_a_report(
    bundle: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(capsys, bundle, "--data", data)
    out = tmp_path / "evaluations" / "toy-data"
    assert found["out_dir"] == str(out.relative_to(tmp_path))
    assert json.loads((out / "metrics.json").read_bytes())["policies"] == found["policies"]
    page = (out / "report.html").read_text()
    assert "toy on data" in page
    assert 'src="http' not in page
    with (out / "decisions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["policy"] == "careful"]
    lines = {Path(line["path"]).name: line for line in predicted(capsys, bundle, data)}
    assert len(rows) == len(lines)
    for row in rows:
        line = lines[Path(row["path"]).name]
        assert (row["label"] or None, float(row["score"])) == (line["label"], line["score"])
    # The scores serve to fit a policy elsewhere, and to measure it.
    assert main(["policy", "fit", "--help"]) == 0
    assert (out / "scores.csv").read_text().startswith("index,label,group,logit_0,logit_1\n")


def test_a_manifest_brings_groups_tags_and_its_own_splits(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = evaluated(capsys, bundle, "--data", data.with_suffix(".csv"))
    assert (whole["n"], whole["groups"]) == (30, 15)
    assert sum(whole["groups_by_class"].values()) >= 15
    assert [(part["tag"], part["value"], part["n"]) for part in whole["slices"]] == [
        ("weather", "rain", 15),
        ("weather", "sun", 15),
    ]
    late = evaluated(capsys, bundle, "--data", data.with_suffix(".csv"), "--split", "late")
    assert (late["n"], late["groups"]) == (10, 5)
    _, _, err = run(capsys, bundle, "--data", data.with_suffix(".csv"))
    assert "the data come with splits (early 20, late 10), and all are measured; --split chooses" in err


def test_distorted_pictures_are_measured_beside_the_others(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(capsys, bundle, "--data", data, "--distort", "darker")
    same, black, mixed = (line["policies"]["threshold"] for line in found["robustness"]["levels"])
    plain = found["policies"]["threshold"]["metrics"]
    assert same["metrics"]["mcc"]["value"] == plain["mcc"]["value"]
    assert same["difference"]["mcc"]["value"] == 0.0
    assert same["difference"]["mcc"]["low"] < 0.0 < same["difference"]["mcc"]["high"]
    # Black pictures have margin 0, which the threshold calls roadwork.
    share = np.mean([target for _, target in PICTURES])
    assert black["metrics"]["accuracy"]["value"] == pytest.approx(share)
    assert black["difference"]["accuracy"]["value"] == pytest.approx(share - plain["accuracy"]["value"])
    assert mixed["metrics"]["accuracy"]["value"] == pytest.approx((share + plain["accuracy"]["value"]) / 2)
    assert mixed["difference"]["accuracy"]["value"] == pytest.approx((share - plain["accuracy"]["value"]) / 2)
    careful = found["robustness"]["levels"][1]["policies"]["careful"]
    assert careful["coverage"]["value"] == 0.0
    # Where it may not abstain it answers as the threshold does.
    assert careful["difference"]["accuracy"] == black["difference"]["accuracy"]


def test_a_picture_seen_at_two_levels_counts_as_one_picture(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(capsys, bundle, "--data", data.with_suffix(".csv"), "--distort", "untouched")
    mixed = found["robustness"]["levels"][-1]["policies"]["threshold"]["metrics"]["mcc"]
    plain = found["policies"]["threshold"]["metrics"]["mcc"]
    assert plain["low"] < plain["high"]
    assert [mixed[key] for key in ("value", "low", "high")] == [plain[key] for key in ("value", "low", "high")]


def test_distortions_are_drawn_anew_for_each_picture_and_alike_in_each_run(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluated(capsys, bundle, "--data", data, "--distort", "tinted")["robustness"]
    assert evaluated(capsys, bundle, "--data", data, "--distort", "tinted")["robustness"] == first
    # Of pictures that are tinted alike all or none would be answered.
    assert 0 < first["levels"][0]["policies"]["careful"]["coverage"]["value"] < 1


def test_the_same_command_gives_the_same_figures(bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = evaluated(capsys, bundle, "--data", data)
    (Path(first["out_dir"]) / "stale.txt").write_text("of the run before")
    assert evaluated(capsys, bundle, "--data", data) == first
    assert not (Path(first["out_dir"]) / "stale.txt").exists()


def test_people_read_intervals(bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, bundle, "--data", data, "--bootstrap", 100)
    assert code == 0
    assert out.startswith("data: 30 pictures in ")
    assert "mcc at 50 %" in out
    assert all("[" in line for line in out.splitlines()[2:])


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--data", "nowhere"], 2, "no such folder or manifest (or a dataset component: "),
        (["--data", "manifst"], 2, 'did you mean the dataset "manifest"?'),
        (["--data", "data/x.bin"], 2, "cannot tell how to read a .bin"),
        (["--data", "data", "--set", "rot='.'"], 2, 'unknown key "rot" of dataset image_folder (did you mean "root"?)'),
        (
            ["--data", "data.csv", "--split", "lat"],
            1,
            'the data have no split "lat" (they have "early" (20), "late" (10))',
        ),
        (["--data", "data", "--split", "late"], 1, "they name no splits: leave out --split"),
        (["--data", "data", "--distort", "darkr"], 2, 'did you mean "darker"?'),
        (["--data", "data", "--distort", "unlevelled"], 2, "has no levels to distort by"),
        (["--data", "data", "--prior", "1.5"], 2, "--prior must be between 0 and 1"),
        (["--data", "data", "--level", "nan"], 2, "--level must be between 0.5 and 1"),
        (["--data", "data", "--bootstrap", "5"], 2, "--bootstrap must be at least 100"),
        (["--data", "data", "--seed", "-1"], 2, "--seed must not be negative"),
        (["--data", "data", "--out", "data"], 2, "is there already and holds no evaluation (choose another --out)"),
        (["--data", "data", "--out", "data.csv"], 2, "is there already and holds no evaluation"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else None,
)
def test_a_mistake_is_one_line(
    bundle: Path, data: Path, arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "x.bin").write_bytes(b"")
    before = sorted(path for path in data.rglob("*"))
    found, out, err = run(capsys, bundle, *arguments)
    assert (found, out) == (code, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert sorted(path for path in data.rglob("*")) == before


def test_a_label_that_the_bundle_does_not_know_is_told_with_a_way_out(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = data.with_suffix(".csv")
    manifest.write_text(manifest.read_text().replace(",roadwork,", ",works,"))
    code, _, err = run(capsys, bundle, "--data", manifest)
    assert code == 1
    assert 'the label "works" (15 samples) is not a class of the bundle' in err
    found = evaluated(capsys, bundle, "--data", manifest, "--set", 'labels={ "works" = "roadwork" }')
    assert found["n"] == 30


def test_an_unreadable_picture_stops_or_is_left_out_by_name(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "roadwork" / "00.png").write_bytes(b"no picture")
    code, _, err = run(capsys, bundle, "--data", data)
    assert code == 1
    assert "1 of 30 images cannot be used" in err
    found = evaluated(capsys, bundle, "--data", data, "--on-bad-image", "skip")
    assert (found["n"], found["bad_images"]) == (29, 1)
    _, _, err = run(capsys, bundle, "--data", data, "--on-bad-image", "skip")
    assert "left out: " in err
    assert "00.png" in err


def test_one_class_alone_is_measured_as_far_as_it_can_be(
    bundle: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = data.with_suffix(".csv")
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line for line in lines if ",no_roadwork," not in line) + "\n")
    found = evaluated(capsys, bundle, "--data", manifest)
    assert found["n"] == 15
    assert found["prior_shift"] is None
    assert found["metrics"]["auroc"]["value"] is None
