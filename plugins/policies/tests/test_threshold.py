"""The threshold policy: exact where it says exact, better where it says better, honest about its sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from roadwork_policies import Temperature
from roadwork_policies.threshold import Samples, choose
from scipy.stats import norm

from roadwork_core.decisions import ABSTAIN
from roadwork_core.errors import DataError
from roadwork_core.metrics import COUNT_METRICS, Counts, confusion, margin, mcc, sigmoid, sweep


def binary(m: np.ndarray) -> np.ndarray:
    return np.stack([np.zeros_like(m), m], axis=1)


def normal_samples(n: int, prior: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = (rng.random(n) < prior).astype(np.int64)
    return binary(2 * (rng.normal(size=n) + 2 * labels)), labels


def true_mcc(threshold: float, prior: float) -> float:
    """The population MCC of a cut on `normal_samples`."""
    tpr, fpr = norm.sf(threshold / 2 - 2), norm.sf(threshold / 2)
    cells = [prior * tpr, (1 - prior) * fpr, prior * (1 - tpr), (1 - prior) * (1 - fpr)]
    return float(mcc(Counts.from_columns(np.asarray(cells))))


@pytest.mark.parametrize("metric", ["mcc", "f1", "balanced_accuracy", "accuracy", "youden"])
def test_the_empirical_cut_is_the_best_of_all_cuts_on_its_samples(
    metric: str, draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(120, prior=0.3)
    policy = threshold(method="empirical", metric=metric).build(context(logits, labels))
    m = margin(logits)
    cuts = [*np.sort(m), np.inf]
    best = max(float(COUNT_METRICS[metric](confusion(labels == 1, m >= cut))) for cut in cuts)
    reached = float(COUNT_METRICS[metric](confusion(labels == 1, policy.decide(logits).labels == 1)))
    assert reached == pytest.approx(best, abs=1e-12)
    assert policy.summary()["in_sample"]["value"] == pytest.approx(best, abs=1e-12)


def test_plug_in_beats_the_empirical_cut_outside_a_small_sample(
    context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    """5 % positives, n = 300: measured .466 empirical and .485 plug-in over 200 draws, .493 attainable."""
    rng = np.random.default_rng(0)
    gains = []
    for _ in range(60):
        logits, labels = normal_samples(300, 0.05, rng)
        if labels.sum() < 5:
            continue
        cuts = [
            threshold(method=method, folds=2).build(context(logits, labels)).threshold
            for method in ("plug_in", "empirical")
        ]
        gains.append(true_mcc(cuts[0], 0.05) - true_mcc(cuts[1], 0.05))
    assert np.mean(gains) > 2 * np.std(gains) / math.sqrt(len(gains))


def test_the_cross_fitted_estimate_is_near_the_truth_and_the_one_in_the_sample_above_it(
    context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(1)
    in_sample, cross, truth = [], [], []
    for _ in range(60):
        logits, labels = normal_samples(300, 0.1, rng)
        policy = threshold(method="empirical").build(context(logits, labels))
        summary = policy.summary()
        in_sample.append(summary["in_sample"]["value"])
        cross.append(summary["cross_fitted"]["value"])
        truth.append(true_mcc(policy.threshold, 0.1))
    error = np.std(cross) / math.sqrt(60)
    assert np.mean(in_sample) > np.mean(truth) + 0.03
    assert abs(np.mean(cross) - np.mean(truth)) < 3 * error + 0.01


def test_the_interval_of_the_cross_fitted_estimate_holds_the_truth_about_as_often_as_it_says(
    context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(60):
        logits, labels = normal_samples(300, 0.3, rng)
        policy = threshold().build(context(logits, labels))
        interval = policy.summary()["cross_fitted"]
        hits += interval["low"] <= true_mcc(policy.threshold, 0.3) <= interval["high"]
    assert hits >= 52  # Binomial(60, .95): 51 or fewer below 0.4 %


def test_the_decision_is_margin_at_or_above_t_with_its_score_shown_as_a_probability(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    policy = threshold().build(context(*draw(200)))
    t = policy.threshold
    at = binary(np.asarray([t, np.nextafter(t, -np.inf)]))
    decisions = policy.decide(at)
    assert decisions.labels.tolist() == [1, 0]
    assert decisions.scores[0] == sigmoid(t)
    assert policy.summary()["threshold_probability"] == float(sigmoid(t))
    assert decisions.reasons[0].startswith("score ")
    assert ">=" in decisions.reasons[0]


def test_the_positive_class_may_be_any(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(200)
    first = threshold(method="empirical").build(context(logits, labels, positive=1))
    flipped = threshold(method="empirical").build(context(logits[:, ::-1], 1 - labels, positive=0))
    assert flipped.threshold == first.threshold
    assert np.array_equal(flipped.decide(logits[:, ::-1]).labels, 1 - first.decide(logits).labels)


def test_with_more_classes_a_negative_is_the_likeliest_other_class(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(400, classes=4)
    policy = threshold().build(context(logits, labels))
    decided = policy.decide(logits).labels
    negative = decided != 1
    others = np.delete(logits, 1, axis=1)
    assert np.array_equal(decided[negative], np.asarray([0, 2, 3])[others.argmax(axis=1)[negative]])


@pytest.mark.parametrize("method", ["plug_in", "empirical", "bootstrap"])
def test_a_target_prior_moves_the_cut_as_resampling_the_classes_does(
    method: str, context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    rng = np.random.default_rng(3)
    logits, labels = normal_samples(6000, 0.85, rng)
    balanced_logits, balanced_labels = normal_samples(6000, 0.5, rng)
    options = {"method": method, "bootstrap": 30}
    moved = threshold(target_prior=0.5, **options).build(context(logits, labels)).threshold
    direct = threshold(**options).build(context(balanced_logits, balanced_labels)).threshold
    plain = threshold(**options).build(context(logits, labels)).threshold
    assert abs(moved - direct) < 0.5
    assert moved - plain > 0.8


def test_the_abstain_band_withholds_the_answer_near_the_cut_and_nowhere_else(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(300, classes=3)
    plain = threshold().build(context(logits, labels))
    banded = threshold(abstain_band=0.8).build(context(logits, labels))
    assert banded.threshold == plain.threshold
    near = np.abs(margin(logits) - plain.threshold) < 0.8
    decisions = banded.decide(logits)
    assert near.any()
    assert np.array_equal(decisions.labels == ABSTAIN, near)
    assert np.array_equal(decisions.labels[~near], plain.decide(logits).labels[~near])
    assert (decisions.sets.sum(axis=1) == np.where(near, 2, 1)).all()
    assert decisions.sets[near, 1].all()
    assert "abstain band" in decisions.reasons[int(np.flatnonzero(near)[0])]


def test_costs_move_the_cut_towards_the_cheaper_error(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    samples = context(*draw(500))
    cuts = [threshold(metric="cost", fn_cost=cost).build(samples).threshold for cost in (0.2, 1.0, 5.0)]
    assert cuts[0] > cuts[1] > cuts[2]


def test_recall_at_precision_keeps_the_precision_on_its_samples(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(400)
    policy = threshold(metric="recall_at_precision", method="empirical", min_precision=0.97).build(
        context(logits, labels)
    )
    counts = confusion(labels == 1, policy.decide(logits).labels == 1)
    assert counts.tp / counts.predicted >= 0.97


def test_a_precision_that_no_cut_reaches_is_a_clear_error(
    context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits = binary(np.asarray([3.0, 2.0, 1.0, 0.0]))
    options = {"metric": "recall_at_precision", "min_precision": 0.9, "method": "empirical"}
    with pytest.raises(DataError, match="no cut reaches the constraint of recall_at_precision"):
        threshold(**options).build(context(logits, np.asarray([0, 1, 0, 0])))


def test_groups_widen_the_intervals(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(60, prior=0.5, seed=5)
    repeated = np.repeat(logits, 10, axis=0), np.repeat(labels, 10)
    options = {"bootstrap": 100, "method": "plug_in"}
    alone = threshold(**options).build(context(*repeated)).summary()
    grouped = threshold(**options).build(context(*repeated, groups=np.repeat(np.arange(60), 10))).summary()
    for key in ("threshold_interval", "cross_fitted"):
        widths = [summary[key]["high"] - summary[key]["low"] for summary in (alone, grouped)]
        assert widths[1] > 1.5 * widths[0]
    assert grouped["groups"] == 60


def test_one_group_gives_a_cut_but_no_estimate(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(50)
    summary = threshold().build(context(logits, labels, groups=np.zeros(50, dtype=np.int64))).summary()
    assert summary["cross_fitted"] is None


def test_the_curve_is_of_the_asked_resolution_and_the_cut_is_exact_whatever_it_is(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    samples = context(*draw(2000))
    coarse, fine = (threshold(method="empirical", n_thresholds=size).build(samples) for size in (10, 5000))
    assert coarse.threshold == fine.threshold
    for policy, most in ((coarse, 10), (fine, 5000)):
        curve = policy.curve()
        assert curve is not None
        assert {len(column) for column in curve.values()} == {len(curve["threshold"])}
        assert len(curve["threshold"]) <= most
        assert curve["value"].max() == policy.summary()["in_sample"]["best"]


def test_temperature_may_calibrate_the_plug_in_of_more_than_two_classes(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(400, classes=3)
    assert math.isfinite(threshold(calibrator=Temperature()).build(context(logits, labels)).threshold)


def test_a_threshold_file_without_a_finite_cut_is_refused(threshold: Callable[..., Any]) -> None:
    from roadwork_core.kinds import PolicyRestoreContext

    ctx = PolicyRestoreContext(classes=("a", "b"), positive=1)
    with pytest.raises(DataError, match="not a threshold policy"):
        threshold().restore({"threshold": float("nan"), "abstain_band": 0.0}, ctx)


def confident_errors(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores that no logistic curve fits: one positive in eight looks like a sure negative, negatives have tails."""
    labels = (rng.random(n) < 0.8).astype(np.int64)
    positive = np.where(rng.random(n) < 0.12, rng.normal(-3, 1, n), rng.normal(4, 2, n))
    return binary(np.where(labels == 1, positive, 1.5 * rng.standard_t(3, n) - 3)), labels


def test_a_plug_in_whose_calibrator_does_not_fit_is_warned_of_and_auto_avoids_it(
    context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    samples = context(*confident_errors(1500, np.random.default_rng(7)))
    plug_in, bootstrap, auto = (threshold(method=method).build(samples) for method in ("plug_in", "bootstrap", "auto"))
    assert "the empirical cut gains" in plug_in.summary()["warning"]
    assert auto.summary()["method"] == "bootstrap"
    assert auto.threshold == bootstrap.threshold
    assert auto.summary()["warning"] is None


def test_auto_takes_the_plug_in_cut_only_where_it_gains_by_a_standard_error(
    threshold: Callable[..., Any],
) -> None:
    rng = np.random.default_rng(8)
    taken = {"fits": 0, "does not": 0}
    for seed in range(15):
        for scores, drawn in (("fits", normal_samples(300, 0.2, rng)), ("does not", confident_errors(300, rng))):
            samples = Samples.sorted(margin(drawn[0]), drawn[1] == 1, np.arange(300))
            taken[scores] += choose(samples, threshold(), "auto", seed).method == "plug_in"
    assert taken["fits"] >= 3
    assert taken["does not"] <= 1


def test_scores_that_no_calibrator_fits_get_the_empirical_cut_and_say_so(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    logits, labels = draw(200)
    backwards = threshold(method="plug_in").build(context(logits, 1 - labels))
    exact = threshold(method="empirical").build(context(logits, 1 - labels))
    assert backwards.threshold == exact.threshold
    assert backwards.summary()["method"] == "empirical"
    assert "not plug_in: " in backwards.summary()["note"]


def test_the_bootstrap_cut_is_the_median_of_the_best_cuts_of_resamples_of_whole_groups(
    draw: Callable[..., Any], context: Callable[..., Any], threshold: Callable[..., Any]
) -> None:
    """Against resamples that are really drawn, row by row: the same distribution, so medians within its spread."""
    logits, labels = draw(120, prior=0.3)
    groups = np.arange(120) // 4
    ours = threshold(method="bootstrap", bootstrap=400).build(context(logits, labels, groups=groups)).threshold
    rng, cuts = np.random.default_rng(1), []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(groups == group) for group in rng.integers(0, 30, size=30)])
        cuts.append(sweep(margin(logits[rows]), labels[rows], n_thresholds=0).threshold)
    assert ours == pytest.approx(np.median(cuts), abs=float(4 * 1.25 * np.std(cuts) / math.sqrt(400)))


def test_where_no_resample_has_both_classes_the_cut_is_the_empirical_one_and_says_so(
    context: Callable[..., Any], threshold: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_group(margins: Any, positive: Any, codes: Any, *_: Any) -> list[tuple[Any, ...]]:
        return [(margins, 1.0 * (positive & (codes == 0)), 1.0 * (~positive & (codes == 0)))]

    monkeypatch.setattr("roadwork_policies.threshold.resampled_counts", first_group)
    policy = threshold().build(context(binary(np.asarray([-1.0, 1.0])), np.asarray([0, 1])))
    assert policy.threshold == 0.0
    assert policy.summary()["method"] == "empirical"
    assert policy.summary()["note"].startswith("not bootstrap: ")
