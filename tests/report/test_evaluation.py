"""Figures of decisions against independent implementations, with abstentions and groups taken seriously."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn import metrics as sk

from roadwork_core.decisions import Decisions
from roadwork_core.report.evaluation import DECISION_METRICS, SCORE_METRICS, Judge, headline

CLASSES = ["no_roadwork", "roadwork"]


def decisions(labels: NDArray[np.int64], scores: NDArray[np.float64], classes: int = 2) -> Decisions:
    sets = labels[:, None] == np.arange(classes)
    sets[labels == -1] = True
    return Decisions(labels=labels, scores=scores, sets=sets, reasons=["because"] * len(labels))


def sample(n: int = 400, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.7).astype(np.int64)
    return labels, 1 / (1 + np.exp(-rng.normal(2.0 * labels - 0.8, 1.3)))


def judge(labels: NDArray[np.int64], groups: Any = None, **changes: Any) -> Judge:
    options = {"classes": CLASSES, "positive": 1, "resamples": 200, **changes}
    return Judge(labels=labels, groups=groups, **options)


def test_decision_metrics_are_those_of_scikit_learn() -> None:
    labels, scores = sample()
    said = (scores >= 0.6).astype(np.int64)
    found = judge(labels).policy(decisions(said, scores))["metrics"]
    expected = {
        "mcc": sk.matthews_corrcoef(labels, said),
        "accuracy": sk.accuracy_score(labels, said),
        "f1": sk.f1_score(labels, said),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, said),
        "precision": sk.precision_score(labels, said),
        "recall": sk.recall_score(labels, said),
        "specificity": sk.recall_score(labels, said, pos_label=0),
    }
    assert set(found) == set(DECISION_METRICS)
    for name, value in expected.items():
        assert found[name]["value"] == pytest.approx(value, abs=1e-12)
        assert found[name]["low"] < value < found[name]["high"]


def test_score_metrics_are_those_of_scikit_learn() -> None:
    labels, scores = sample()
    found = judge(labels).score_metrics(scores)
    assert set(found) == set(SCORE_METRICS)
    assert found["auroc"]["value"] == pytest.approx(sk.roc_auc_score(labels, scores), abs=1e-12)
    assert found["average_precision"]["value"] == pytest.approx(sk.average_precision_score(labels, scores), abs=1e-12)
    assert found["nll"]["value"] == pytest.approx(sk.log_loss(labels, scores), abs=1e-9)
    assert found["brier"]["value"] == pytest.approx(sk.brier_score_loss(labels, scores), abs=1e-12)
    bins = np.clip(np.ceil(scores * 15).astype(int) - 1, 0, 14)
    gaps = [abs(scores[bins == b].sum() - labels[bins == b].sum()) for b in range(15)]
    assert found["ece"]["value"] == pytest.approx(sum(gaps) / len(labels), abs=1e-12)
    assert found["ece"]["null_mean"] < found["ece"]["null_95"]


def test_scores_of_zero_and_one_keep_every_figure_finite() -> None:
    labels = np.array([0, 1, 0, 1, 1, 0])
    found = judge(labels).score_metrics(np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0]))
    json.dumps(found, allow_nan=False)
    assert found["nll"]["value"] > 100


def test_an_abstaining_policy_is_measured_on_what_it_answers_and_says_how_much_that_is() -> None:
    labels, scores = sample()
    said = np.where(np.abs(scores - 0.5) < 0.2, -1, (scores >= 0.5).astype(np.int64))
    must = (scores >= 0.5).astype(np.int64)
    found = judge(labels).policy(decisions(said, scores), decisions(must, scores))
    answered = said != -1
    wrong = int((said[answered] != labels[answered]).sum())
    assert found["abstains"]
    assert found["metrics_of"] == "answered samples"
    assert found["answered"] == answered.sum()
    assert found["coverage"]["value"] == pytest.approx(answered.mean())
    assert found["abstention"]["value"] == pytest.approx(1 - answered.mean())
    assert found["selective_risk"]["value"] == pytest.approx(wrong / answered.sum())
    assert found["metrics"]["mcc"]["value"] == pytest.approx(sk.matthews_corrcoef(labels[answered], said[answered]))
    assert found["must_answer"]["mcc"]["value"] == pytest.approx(sk.matthews_corrcoef(labels, must))
    assert {"coverage", "selective_risk"} <= headline(found).keys()


def test_the_audit_holds_exact_bounds() -> None:
    labels, scores = sample()
    said = np.where(np.abs(scores - 0.5) < 0.2, -1, (scores >= 0.5).astype(np.int64))
    audit = judge(labels).policy(decisions(said, scores))["audit"]
    answered = said != -1
    k, n = int((said[answered] != labels[answered]).sum()), int(answered.sum())
    bounds = audit["error_of_answers"]
    assert (bounds["successes"], bounds["n"]) == (k, n)
    assert bounds["low"] == pytest.approx(beta.ppf(0.025, k, n - k + 1), abs=1e-9)
    assert bounds["high"] == pytest.approx(beta.ppf(0.975, k + 1, n - k), abs=1e-9)
    by_class = audit["error_of_answers_by_class"]
    assert sum(by_class[name]["successes"] for name in CLASSES) == k
    assert sum(by_class[name]["n"] for name in CLASSES) == n


def test_a_policy_that_always_answers_has_no_audit() -> None:
    labels, scores = sample()
    found = judge(labels).policy(decisions((scores >= 0.5).astype(np.int64), scores))
    assert "audit" not in found
    assert "must_answer" not in found
    assert "coverage" not in headline(found)


def test_a_policy_that_answers_nothing_has_no_figures_rather_than_good_ones() -> None:
    labels, scores = sample(50)
    found = judge(labels).policy(decisions(np.full(50, -1), scores))
    assert all(figure["value"] is None for figure in found["metrics"].values())
    assert found["selective_risk"]["value"] is None
    assert found["coverage"]["value"] == 0.0
    json.dumps(found, allow_nan=False)


def test_confusion_counts_abstentions_apart() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    said = np.array([0, 1, -1, 1, -1, -1])
    found = judge(labels).confusion(said)
    assert found == {"classes": CLASSES, "matrix": [[1, 1], [0, 1]], "abstained": [1, 2]}


def test_per_class_counts() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    said = np.array([0, 1, -1, 1, -1, -1])
    found = judge(labels).policy(decisions(said, np.full(6, 0.5)))["per_class"]
    assert [found["no_roadwork"][key] for key in ("n", "answered", "wrong")] == [3, 2, 1]
    assert [found["roadwork"][key] for key in ("n", "answered", "wrong")] == [3, 1, 0]
    assert found["no_roadwork"]["set_coverage"] == pytest.approx(2 / 3)


def test_whole_groups_make_wider_intervals() -> None:
    """Ten copies of each sample say no more than the sample."""
    labels, scores = sample(60)
    said = (scores >= 0.5).astype(np.int64)
    many = [np.repeat(array, 10) for array in (labels, said)]
    alone = judge(many[0], resamples=1000).decision_metrics(many[1], np.ones(600, dtype=bool))["accuracy"]
    grouped = judge(many[0], np.repeat(np.arange(60), 10), resamples=1000).decision_metrics(
        many[1], np.ones(600, dtype=bool)
    )["accuracy"]
    assert grouped["groups"] == 60
    assert grouped["high"] - grouped["low"] > 2.5 * (alone["high"] - alone["low"])


def test_accuracy_of_many_classes_counts_every_class() -> None:
    rng = np.random.default_rng(1)
    labels, said = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    many = judge(labels, classes=["a", "b", "c", "d"], positive=2)
    found = many.policy(decisions(said, rng.random(200), 4))["metrics"]
    assert found["accuracy"]["value"] == pytest.approx(sk.accuracy_score(labels, said))
    assert found["mcc"]["value"] == pytest.approx(sk.matthews_corrcoef(labels == 2, said == 2))


def test_the_same_seed_gives_the_same_figures_and_policies_share_scores() -> None:
    labels, scores = sample(120)
    said = decisions((scores >= 0.5).astype(np.int64), scores)
    first = judge(labels).policies({"a": (said, said), "b": (said, said)})
    assert first == judge(labels).policies({"a": (said, said), "b": (said, said)})
    assert first["a"] == first["b"] == judge(labels).policy(said, said)


def test_one_group_gives_values_without_intervals() -> None:
    labels, scores = sample(30)
    found = judge(labels, np.zeros(30)).policy(decisions((scores >= 0.5).astype(np.int64), scores))
    assert found["metrics"]["mcc"]["value"] is not None
    assert found["metrics"]["mcc"]["low"] is None
    json.dumps(found, allow_nan=False)
