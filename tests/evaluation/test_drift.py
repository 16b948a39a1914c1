"""Drift as a whole: real policies, shifted and unshifted scores, late labels, and the command."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from roadwork_core.bundle.deciding import decider_of
from roadwork_core.cli import main
from roadwork_core.evaluation.drift import compare_served
from roadwork_core.evaluation.served import Served, read_served, served_of_store
from roadwork_core.feedback import FeedbackStore, Label, Seen
from roadwork_core.plugins import Plugins
from roadwork_core.policies import Scores
from tests.bundle import toy

CLASSES = ["no_roadwork", "roadwork"]


def scores(n: int, seed: int, *, quality: float = 1.5, shift: float = 0.0) -> Scores:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    margins = quality * (2 * labels - 1) + rng.normal(size=n) + shift
    return Scores(logits=np.stack([np.zeros(n), margins], axis=1), labels=labels, groups=None)


def write(path: Path, found: Scores, *, labelled: bool = True, features: np.ndarray[Any, Any] | None = None) -> Path:
    assert found.labels is not None
    names = ["logit_0", "logit_1", *(["label"] if labelled else [])]
    columns = [found.logits[:, 0], found.logits[:, 1], *([found.labels] if labelled else [])]
    for index in range(0 if features is None else features.shape[1]):
        names.append(f"feature_{index}")
        columns.append(features[:, index])  # type: ignore[index]
    rows = [",".join(map(str, row)) for row in zip(*(column.tolist() for column in columns), strict=True)]
    path.write_text("\n".join([",".join(names), *rows]) + "\n")
    return path


def fitted(folder: Path, use: str, *settings: str, seed: int = 0, n: int = 600) -> dict[str, Any]:
    calibration = write(folder / f"calib-{seed}.csv", scores(n, 1000 + seed))
    out = folder / f"{use}-{seed}.json"
    arguments = [part for setting in settings for part in ("--set", setting)]
    assert main(["policy", "fit", use, "--scores", str(calibration), "--out", str(out), *arguments, "-q"]) == 0
    document: dict[str, Any] = json.loads(out.read_bytes())
    return document


def drift(document: dict[str, Any], served: Scores, reference: Scores | None = None, **options: Any) -> dict[str, Any]:
    name = document["name"]
    decider = decider_of({name: document}, PLUGINS, active=name, fallback=None, num_classes=2, positive=1)
    before = None if reference is None else Served(scores=reference, features=None)
    settings = {"alpha": 0.01, "permutations": 500, **options}
    evidence = settings.pop("evidence", {})
    return compare_served(Served(scores=served, features=None), before, decider, document, evidence, **settings)


PLUGINS = Plugins.load()


@pytest.mark.parametrize(
    ("use", "settings"),
    [
        ("conformal", ["alpha=0.1"]),
        ("conformal", ["alpha=0.1", "class_conditional=true"]),
        ("scrc", ["alpha=0.1"]),
        ("selective_error", ["target_error=0.1"]),
    ],
)
def test_a_guarantee_stands_on_the_same_data_and_is_refuted_by_labels_that_break_it(
    tmp_path: Path, use: str, settings: list[str]
) -> None:
    document = fitted(tmp_path, use, *settings)
    same = drift(document, scores(400, 1), scores(400, 2))
    assert (same["drift"], same["guarantee"]) == (False, "stands")
    assert "no proof" in same["text"]
    broken = drift(document, scores(400, 3, quality=0.2))
    assert broken["guarantee"] == "refuted"
    assert broken["text"].startswith("The guarantee no longer stands: ")
    assert "is promised" in broken["text"]


def test_without_labels_a_shift_takes_the_ground_from_under_a_guarantee(tmp_path: Path) -> None:
    shifted = scores(400, 4, shift=2.0)
    unlabelled = Scores(logits=shifted.logits, labels=None, groups=None)
    found = drift(fitted(tmp_path, "conformal"), unlabelled, scores(400, 5))
    assert (found["drift"], found["guarantee"]) == (True, "unsupported")
    assert "no longer stands on its assumption" in found["text"]
    assert {row["check"] for row in found["checks"] if row["differs"]} >= {"scores"}


def test_coverage_below_the_target_by_chance_of_calibration_is_no_alarm(tmp_path: Path) -> None:
    """Given its calibration set the true coverage is Beta(k, n + 1 - k): small sets of it miss the target often."""
    alarms = 0
    for seed in range(25):
        document = fitted(tmp_path, "conformal", "alpha=0.1", seed=seed, n=60)
        found = drift(document, scores(2000, 50 + seed), alpha=0.05)
        alarms += found["drift"]
    assert stats.binomtest(alarms, 25, 0.05, alternative="greater").pvalue > 1e-3


def test_a_policy_without_a_guarantee_says_so(tmp_path: Path) -> None:
    found = drift(fitted(tmp_path, "threshold"), scores(300, 6), scores(300, 7))
    assert found["guarantee"] == "none"
    assert "has no guarantee" in found["text"]


def test_without_reference_scores_the_abstentions_are_held_against_the_evidence(tmp_path: Path) -> None:
    document = fitted(tmp_path, "conformal")
    served = Scores(logits=scores(300, 8, quality=0.1).logits, labels=None, groups=None)
    found = drift(document, served, evidence={"coverage": {"value": 1.0, "n": 300}})
    assert [row["check"] for row in found["checks"] if row["differs"]] == ["abstention"]
    assert "300 of 300 in the bundle's evidence" in found["checks"][0]["says"]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Plugins, "load", classmethod(lambda cls, only=None: toy.plugins()))
    return toy.make(tmp_path / "toy")


def test_the_command(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reference = write(tmp_path / "before.csv", scores(200, 1))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 3))
    now = write(tmp_path / "now.csv", scores(200, 2), labelled=False, features=features)
    moved = write(tmp_path / "moved.csv", scores(200, 3, shift=3.0), labelled=False, features=features + 2)
    with_features = write(tmp_path / "features.csv", scores(200, 1), features=rng.normal(size=(200, 3)))

    assert main(["drift", str(bundle), "--scores", str(now), "--reference", str(reference), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["drift"], found["n"]) == ("roadwork.drift/1", False, 200)

    assert main(["drift", str(bundle), "--scores", str(moved), "--reference", str(with_features)]) == 4
    said = capsys.readouterr().out
    assert "* features" in said
    assert "* scores" in said
    assert said.splitlines()[-1].startswith("The served samples differ from the evidence in scores")


def keep(path: Path, found: Scores, bundle_id: str, *, name: str, labelled: int, features: Any = None) -> Path:
    """A feedback store with these predictions, of which the first have labels."""
    assert found.labels is not None
    with FeedbackStore(path) as store:
        for row, logits in enumerate(found.logits.tolist()):
            key = f"{name}-{row}"
            seen: dict[str, Any] = {
                "time": time.time(),
                "policy": "p",
                "label": None,
                "score": 0.5,
                "path": f"{key}.png",
            }
            given = None if features is None else features[row].tolist()
            store.add([Seen(key=key, bundle_id=bundle_id, logits=logits, features=given, **seen)])
            if row < labelled:
                store.label([Label(key=key, label=CLASSES[found.labels[row]], time=time.time())])
    return path


def test_the_store_that_a_server_writes_is_held_against_the_evidence(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write(tmp_path / "before.csv", scores(200, 1), features=np.random.default_rng(0).normal(size=(200, 3)))
    identity = json.loads((bundle / "bundle.json").read_bytes())["bundle_id"]
    features = np.random.default_rng(1).normal(size=(200, 3))
    store = keep(tmp_path / "f.sqlite", scores(200, 2), identity, name="now", labelled=0, features=features)
    keep(store, scores(200, 3, shift=9.0), "another bundle", name="other", labelled=0)
    words = ["drift", str(bundle), "--scores", str(store), "--reference", str(reference), "--days", "1", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 200
    assert "features" in {row["check"] for row in found["checks"]}

    keep(store, scores(200, 3, shift=3.0), identity, name="moved", labelled=0, features=features + 2)
    assert main(words) == 4
    assert {"scores", "features"} <= {
        row["check"] for row in json.loads(capsys.readouterr().out)["checks"] if row["differs"]
    }


def test_features_are_held_against_a_store_of_a_time_when_all_was_well(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The evidence of a run has no features; what was served first has."""
    identity = json.loads((bundle / "bundle.json").read_bytes())["bundle_id"]
    features = np.random.default_rng(1).normal(size=(400, 3))
    before = keep(tmp_path / "before.sqlite", scores(200, 2), identity, name="n", labelled=0, features=features[:200])
    now = keep(tmp_path / "now.sqlite", scores(200, 3), identity, name="n", labelled=0, features=features[200:] + 1)
    assert main(["drift", str(bundle), "--scores", str(now), "--reference", str(before), "--json"]) == 4
    differing = [row["check"] for row in json.loads(capsys.readouterr().out)["checks"] if row["differs"]]
    assert differing == ["features"]


def test_labels_that_came_for_some_of_a_store_s_predictions_refute_a_guarantee(tmp_path: Path) -> None:
    document = fitted(tmp_path, "conformal", "alpha=0.1")
    decider = decider_of({"conformal": document}, PLUGINS, active="conformal", fallback=None, num_classes=2, positive=1)
    for quality, state in ((1.5, "stands"), (0.2, "refuted")):
        kept = keep(tmp_path / f"{state}.sqlite", scores(400, 5, quality=quality), "b", name="n", labelled=150)
        with FeedbackStore(kept) as store:
            served = served_of_store(store, CLASSES, bundle_id="b")
        assert served.labelled is not None
        assert (len(served.scores), len(served.labelled)) == (400, 150)
        found = compare_served(served, None, decider, document, {}, alpha=0.01, permutations=500)
        assert found["guarantee"] == state
        assert "of 150 sets" in found["checks"][-1]["says"]


def test_a_picture_that_is_asked_about_again_and_again_counts_as_one(tmp_path: Path) -> None:
    with FeedbackStore(tmp_path / "f.sqlite") as store:
        for row in range(6):
            seen: dict[str, Any] = {"bundle_id": "b", "policy": "p", "label": None, "score": 0.5, "logits": (0.0, 1.0)}
            store.add([Seen(key=str(row), time=row, sha256=("same", "other")[row % 2], **seen)])
        store.add([Seen(key="without", time=9, bundle_id="b", policy="p", label=None, score=0.5)])
        served = served_of_store(store, CLASSES, bundle_id="b")
    assert served.scores.groups is not None
    assert served.scores.groups.tolist() == [1, 0, 1, 0, 1, 0]


def test_a_store_of_nothing_that_could_be_compared_says_so(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = keep(tmp_path / "f.sqlite", scores(5, 2), "another bundle", name="n", labelled=5)
    assert main(["drift", str(bundle), "--scores", str(store)]) == 1
    said = capsys.readouterr().out
    assert said == "Nothing could be compared: what was served has no row with logits of this bundle.\n"
    good = write(tmp_path / "good.csv", scores(20, 1))
    assert main(["drift", str(bundle), "--scores", str(good), "--days", "3"]) == 2
    assert "--days is for a feedback store" in capsys.readouterr().err


def test_nothing_to_compare_with_is_no_absence_of_drift(tmp_path: Path) -> None:
    """Neither scores of the evidence nor its abstention rate, and no labels."""
    unlabelled = Scores(logits=scores(300, 1, shift=9.0).logits, labels=None, groups=None)
    for use, guarantee in (("threshold", "none"), ("conformal", "untested")):
        found = drift(fitted(tmp_path, use), unlabelled)
        assert (found["status"], found["drift"], found["checks"]) == ("not_compared", None, [])
        assert found["guarantee"] == guarantee
        assert found["text"].startswith("Nothing could be compared: there are no scores of the evidence")


@pytest.mark.parametrize(
    ("served", "status"), [(0, "not_compared"), (1, "not_compared"), (2, "not_compared"), (3, "drift")]
)
def test_so_few_rows_that_no_difference_would_show_are_not_compared(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], served: int, status: str
) -> None:
    """Two of 20 rows can be chosen in 190 ways, so no p-value is below 1/190, and there are three tests."""
    identity = json.loads((bundle / "bundle.json").read_bytes())["bundle_id"]
    reference = write(tmp_path / "before.csv", scores(18, 1))
    store = keep(tmp_path / "now.sqlite", scores(served, 2, shift=99.0), identity, name="n", labelled=0)
    words = ["drift", str(bundle), "--scores", str(store), "--reference", str(reference)]
    assert main([*words, "--json"]) == {"not_compared": 1, "drift": 4}[status]
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["status"], found["n"]) == ("roadwork.drift/1", status, served)
    assert found["drift"] is (True if status == "drift" else None)
    if served == 2:
        assert {row["p_least"] for row in found["checks"]} == {1 / 190}
        assert "of so few samples no difference, however large, has a p-value below 0.016" in found["text"]


def test_what_the_least_p_value_is_of_exact_tests(tmp_path: Path) -> None:
    """By SciPy: every answer wrong, no set with its label, all or none answered."""
    errors = drift(fitted(tmp_path, "selective_error", "target_error=0.1"), scores(30, 4))["checks"]
    answered = int(errors[-1]["says"].split(" of ")[1].split()[0])
    assert errors[-1]["p_least"] == pytest.approx(0.1**answered)
    evidence = {"coverage": {"value": 0.75, "n": 40}}
    unlabelled = Scores(logits=scores(12, 4).logits, labels=None, groups=None)
    (abstention,) = drift(fitted(tmp_path, "threshold"), unlabelled, evidence=evidence)["checks"]
    least = min(stats.fisher_exact([[now, 12 - now], [30, 10]]).pvalue for now in range(13))
    assert abstention["p_least"] == pytest.approx(least)


def test_of_many_rows_the_least_p_value_is_that_of_the_permutations_that_are_drawn(tmp_path: Path) -> None:
    """There are more ways to choose 700 of 1,400 rows than a float holds; 500 of them are drawn."""
    found = drift(fitted(tmp_path, "threshold"), scores(700, 5), scores(700, 6))
    assert {row["p_least"] for row in found["checks"]} == {1 / 501}


def test_a_damaged_bundle_and_drift_share_an_exit_code_and_no_status(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = write(tmp_path / "before.csv", scores(200, 1))
    moved = write(tmp_path / "moved.csv", scores(200, 3, shift=3.0))
    words = ["drift", str(bundle), "--scores", str(moved), "--reference", str(reference), "--json"]
    assert main(words) == 4
    assert json.loads(capsys.readouterr().out)["status"] == "drift"
    (bundle / "bundle.json").write_text("{")
    assert main(words) == 4
    document = json.loads(capsys.readouterr().out)
    assert (document["status"], document["exit_code"]) == ("error", 4)


def test_wrong_usage(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write(tmp_path / "good.csv", scores(20, 1))
    three = tmp_path / "three.csv"
    three.write_text("logit_0,logit_1,logit_2\n0,1,2\n1,2,3\n")
    odd = tmp_path / "odd.csv"
    odd.write_text("logit_0,logit_1,feature_0\n0,1,x\n0,1,y\n")
    for arguments, said in (
        (["--scores", str(three)], "3 columns of logits, the bundle 2 classes"),
        (["--scores", str(odd)], "features are not all numbers"),
        (["--scores", str(good), "--alpha", "0.9"], "--alpha must lie between"),
        (["--scores", str(good), "--days", "-3"], "--days must be above 0"),
        (["--scores", str(good), "--policy", "none"], "no policy 'none'"),
    ):
        assert main(["drift", str(bundle), *arguments]) == 2
        assert said in capsys.readouterr().err


def test_features_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("feature_10,feature_2,logit_0,logit_1\n1,2,0,0\n3,4,0,0\n")
    features = read_served(path, classes=2).features
    assert features is not None
    assert features.tolist() == [[2.0, 1.0], [4.0, 3.0]]
