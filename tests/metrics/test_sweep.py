"""The sweep is exactly optimal, decides at `margin >= t`, and says so plainly when it cannot."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics

from roadwork_core.metrics import OBJECTIVES, InvalidScores, Objective, best_cut, confusion, sweep

#: scikit-learn, whose stubs lag behind it.
oracle: Any = metrics

MARGINS = st.one_of(
    st.integers(-3, 3).map(float),
    st.floats(-50, 50, allow_nan=False),
    st.sampled_from([1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0), 5e-324, 0.0, -5e-324]),
)


@st.composite
def samples(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    margins = draw(hnp.arrays(np.float64, st.integers(2, 40), elements=MARGINS))
    labels = draw(hnp.arrays(np.bool_, margins.shape))
    labels[0], labels[-1] = True, False
    return margins, labels


def naive(name: str, y: np.ndarray, predicted: np.ndarray, weights: np.ndarray, o: Objective) -> float:
    """The metric of one cut from its textbook formula; -inf where the constraint fails; higher is better."""
    tp, fp = float(weights @ (y & predicted)), float(weights @ (~y & predicted))
    fn, tn = float(weights @ (y & ~predicted)), float(weights @ (~y & ~predicted))
    precision = tp / (tp + fp) if predicted.any() else 0.0
    recall, specificity = tp / (tp + fn), tn / (tn + fp)
    match name:
        case "mcc":
            product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
            return (tp * tn - fp * fn) / math.sqrt(product) if product > 1e-12 else 0.0
        case "f1":
            return 2 * precision * recall / (precision + recall) if tp else 0.0
        case "balanced_accuracy":
            return (recall + specificity) / 2
        case "accuracy":
            return (tp + tn) / float(weights.sum())
        case "youden":
            return recall + specificity - 1
        case "cost":
            return -(o.fp_cost * fp + o.fn_cost * fn) / float(weights.sum())
        case "recall_at_precision":
            return recall if predicted.any() and precision >= o.min_precision else -math.inf
        case "precision_at_recall":
            return precision if recall >= o.min_recall else -math.inf
    raise AssertionError(name)


@given(data=samples(), prior=st.sampled_from([None, 0.5, 0.1]))
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_no_cut_at_all_beats_the_chosen_one(
    name: str, data: tuple[np.ndarray, np.ndarray], prior: float | None
) -> None:
    margins, labels = data
    objective = Objective(metric=name, fp_cost=1.0, fn_cost=3.0, min_precision=0.617, min_recall=0.713)
    share = labels.mean()
    weights = np.ones(labels.size)
    if prior is not None:
        weights = np.where(labels, prior / share, (1 - prior) / (1 - share))
    every_cut = [margins >= cut for cut in np.append(np.unique(margins), np.inf)]
    best = max(naive(name, labels, predicted, weights, objective) for predicted in every_cut)
    if best == -math.inf:
        with pytest.raises(InvalidScores, match="no cut reaches"):
            sweep(margins, labels, objective, target_prior=prior)
        return
    result = sweep(margins, labels, objective, target_prior=prior)
    reached = naive(name, labels, margins >= result.threshold, weights, objective)
    assert reached == pytest.approx(best, abs=1e-9)
    assert abs(result.value) == pytest.approx(abs(reached), abs=1e-9)


@given(samples())
def test_counts_along_the_whole_curve_agree_with_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    margins, labels = data
    curve = sweep(margins, labels).curve
    assert curve is not None
    tn, fp, fn, tp, _ = oracle.confusion_matrix_at_thresholds(labels, margins)
    counts = curve.counts
    for ours, theirs in zip((counts.tn, counts.fp, counts.fn, counts.tp), (tn, fp, fn, tp), strict=True):
        assert np.array_equal(ours[1:], theirs)
    assert counts.tp[0] == counts.fp[0] == 0
    for threshold, hits in zip(curve.threshold, counts.tp, strict=True):
        assert ((margins >= threshold) & labels).sum() == hits


@given(samples())
def test_every_threshold_of_the_plateau_decides_like_the_chosen_one(data: tuple[np.ndarray, np.ndarray]) -> None:
    margins, labels = data
    result = sweep(margins, labels)
    low, high = result.plateau
    assert low < result.threshold <= high
    chosen = margins >= result.threshold
    for threshold in (np.nextafter(low, np.inf), min(high, 1e300)):
        assert np.array_equal(margins >= threshold, chosen)


@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_is_no_matter(data: tuple[np.ndarray, np.ndarray], random: object) -> None:
    margins, labels = data
    order = np.asarray(random.sample(range(margins.size), margins.size))  # type: ignore[attr-defined]
    assert sweep(margins, labels).threshold == sweep(margins[order], labels[order]).threshold


def test_the_cut_is_the_midpoint_of_the_gap() -> None:
    result = sweep([-2.0, -1.0, 3.0, 4.0], [0, 0, 1, 1])
    assert (result.threshold, result.value, result.plateau) == (1.0, 1.0, (-1.0, 3.0))


def test_of_equally_good_cuts_the_widest_gap_wins() -> None:
    margins, labels = [0.0, 1.0, 2.0, 7.0, 8.0, 8.5], [0, 1, 0, 1, 0, 1]
    values = {cut: float(oracle.accuracy_score(labels, np.asarray(margins) >= cut)) for cut in (0.5, 4.5, 8.25)}
    assert len(set(values.values())) == 1
    assert sweep(margins, labels, "accuracy").threshold == 4.5


def test_between_adjacent_floats_the_cut_is_the_upper_one() -> None:
    low = 1.0
    high = float(np.nextafter(low, 2.0))
    result = sweep([low, high], [0, 1])
    assert result.threshold == high
    assert result.value == 1.0


def test_the_best_cut_may_predict_nothing_or_everything() -> None:
    nothing = sweep([3.0, 1.0, 1.0], [0, 1, 0], Objective(metric="cost", fp_cost=9.0))
    assert nothing.threshold == 4.0
    assert nothing.plateau == (3.0, math.inf)
    everything = sweep([3.0, 3.0, 1.0], [0, 1, 1], Objective(metric="cost", fn_cost=9.0))
    assert everything.threshold == 0.0
    assert everything.plateau == (-math.inf, 1.0)


def test_the_metric_is_exact_beyond_the_size_where_integer_products_overflow() -> None:
    n = 240_000
    labels = np.arange(n) % 2 == 1
    margins = np.random.default_rng(0).normal(size=n) + labels
    result = sweep(margins, labels, n_thresholds=0)
    assert result.value == pytest.approx(
        float(oracle.matthews_corrcoef(labels, margins >= result.threshold)), rel=1e-12
    )
    assert result.value > 0.37


def test_margins_keep_the_cut_that_saturated_probabilities_lose() -> None:
    margins = np.asarray([38.0, 39.0, 40.0, 41.0])
    labels = np.asarray([0, 0, 1, 1])
    probabilities = 1 / (1 + np.exp(-margins))
    assert np.unique(probabilities).size == 1
    assert sweep(margins, labels).value == 1.0
    assert sweep(probabilities, labels).value == 0.0


def test_the_curve_has_at_most_n_thresholds_points_and_holds_the_optimum_and_both_ends() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(3000) < 0.3
    margins = rng.normal(size=3000) + labels
    for size in (3, 50, 5000):
        result = sweep(margins, labels, n_thresholds=size)
        assert result.curve is not None
        rows = result.curve.rows()
        assert len(rows) <= size
        assert result.threshold in result.curve.threshold
        assert max(row["value"] for row in rows) == result.value
        assert rows[0]["tp"] + rows[0]["fp"] == 0
        assert rows[-1]["fn"] + rows[-1]["tn"] == 0
    assert sweep(margins, labels, n_thresholds=50).threshold == sweep(margins, labels, n_thresholds=5000).threshold


def test_probabilities_as_weights_maximise_the_expected_counts() -> None:
    rng = np.random.default_rng(2)
    margins = rng.normal(size=12)
    p = 1 / (1 + np.exp(-margins))
    result = best_cut(margins, p, 1 - p, Objective())
    expected = []
    for k in range(13):
        top = np.argsort(-margins)[:k]
        chosen = np.isin(np.arange(12), top)
        tp, fp, fn, tn = p[chosen].sum(), (1 - p[chosen]).sum(), p[~chosen].sum(), (1 - p[~chosen]).sum()
        roots = math.sqrt((tp + fp) * (fn + tn) * (tp + fn) * (fp + tn))
        expected.append((tp * tn - fp * fn) / roots if roots else 0.0)
    assert result.value == pytest.approx(max(expected), rel=1e-12)
    assert (margins >= result.threshold).sum() == int(np.argmax(expected))


@given(samples(), hnp.arrays(np.int64, 40, elements=st.integers(0, 3)))
def test_weights_count_samples(data: tuple[np.ndarray, np.ndarray], counts: np.ndarray) -> None:
    margins, labels = data
    counts = counts[: margins.size].copy()
    counts[0] = counts[-1] = 1
    repeated = sweep(np.repeat(margins, counts), np.repeat(labels, counts))
    weighted = sweep(margins, labels, weights=counts)
    assert weighted.threshold == repeated.threshold
    assert weighted.value == pytest.approx(repeated.value, abs=1e-12)


@pytest.mark.parametrize(
    ("margins", "labels", "message"),
    [
        ([], [], "there are no margins"),
        ([1.0, 2.0], [1, 1], "all 2 samples are of one class, positive"),
        ([1.0, 2.0], [0, 0], "all 2 samples are of one class, negative"),
        ([1.0, math.nan], [0, 1], "1 of 2 are not, the first at index 1"),
        ([math.inf, 0.0], [0, 1], "must be finite"),
        ([1.0, 2.0], [0, 2], "labels must be 0 or 1"),
        ([1.0, 2.0], [0, 1, 1], r"labels must have shape \(2,\)"),
        ([[1.0, 2.0]], [0], "one-dimensional"),
    ],
)
def test_what_cannot_be_swept_is_a_clear_error(margins: list[float], labels: list[int], message: str) -> None:
    with pytest.raises(InvalidScores, match=message):
        sweep(margins, labels)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, 1.5])
def test_a_target_prior_outside_zero_and_one_is_refused(prior: float) -> None:
    with pytest.raises(InvalidScores, match="target_prior"):
        sweep([0.0, 1.0], [0, 1], target_prior=prior)


def test_an_unknown_metric_names_those_there_are() -> None:
    with pytest.raises(InvalidScores, match=r"no metric 'mmc'.*mcc"):
        sweep([0.0, 1.0], [0, 1], "mmc")


def test_all_small_samples_with_ties_by_brute_force() -> None:
    """Every labelling of every multiset of four scores: nothing is left to chance."""
    for margins in itertools.combinations_with_replacement([0.0, 1.0, 2.0], 4):
        for labels in itertools.product([0, 1], repeat=4):
            if sum(labels) in (0, 4):
                continue
            m, y = np.asarray(margins), np.asarray(labels)
            best = max(float(oracle.matthews_corrcoef(y, m >= cut)) for cut in (-0.5, 0.5, 1.5, 2.5))
            result = sweep(m, y)
            got = confusion(y, m >= result.threshold)
            assert float(oracle.matthews_corrcoef(y, m >= result.threshold)) == pytest.approx(best, abs=1e-12)
            assert (got.tp, got.fp) == (result.counts.tp, result.counts.fp)
