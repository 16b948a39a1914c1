"""Metrics of decisions and scores against scikit-learn, published values and degenerate inputs."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from roadwork_core.metrics import COUNT_METRICS, Counts, auroc, average_precision, confusion, mcc, pr_curve, roc_curve

#: scikit-learn, whose stubs lag behind it.
oracle: Any = metrics

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)
SCORED = st.lists(st.tuples(st.booleans(), st.integers(-4, 4), st.integers(1, 3)), min_size=2, max_size=60)

ORACLES = {
    "mcc": oracle.matthews_corrcoef,
    "f1": lambda y, p: oracle.f1_score(y, p, zero_division=0),
    "balanced_accuracy": oracle.balanced_accuracy_score,
    "accuracy": oracle.accuracy_score,
    "precision": lambda y, p: oracle.precision_score(y, p, zero_division=0),
    "recall": lambda y, p: oracle.recall_score(y, p, zero_division=0),
    "specificity": lambda y, p: oracle.recall_score(y, p, pos_label=0, zero_division=0),
}


def counts_of(tp: float, fp: float, fn: float, tn: float) -> Counts:
    return Counts.from_columns(np.asarray([tp, fp, fn, tn], dtype=np.float64))


@given(PAIRS)
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_each_metric_of_decisions_agrees_with_scikit_learn(name: str, pairs: list[tuple[bool, bool]]) -> None:
    labels, predictions = (np.asarray(column, dtype=int) for column in zip(*pairs, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = ORACLES[name](labels, predictions)
    assert float(COUNT_METRICS[name](confusion(labels, predictions))) == pytest.approx(expected, abs=1e-12)


def test_youden_is_recall_plus_specificity_minus_one() -> None:
    assert float(COUNT_METRICS["youden"](counts_of(8, 3, 2, 7))) == pytest.approx(0.8 + 0.7 - 1)


def test_mcc_of_a_published_example() -> None:
    """Chicco and Jurman (2020), BMC Genomics 21:6, use case A1: TP 90, FN 1, TN 0, FP 9 gives MCC -0.03, F1 0.95."""
    counts = counts_of(90, 9, 1, 0)
    assert float(mcc(counts)) == pytest.approx(-0.03, abs=0.005)
    assert float(COUNT_METRICS["f1"](counts)) == pytest.approx(0.95, abs=0.005)
    assert float(COUNT_METRICS["accuracy"](counts)) == pytest.approx(0.90, abs=0.005)


def test_mcc_is_right_where_the_product_of_the_margins_overflows_int64() -> None:
    half = 60_000
    product = np.prod(np.full(4, half, dtype=object))
    assert product > np.iinfo(np.int64).max
    assert float(mcc(counts_of(half, 0, 0, half))) == pytest.approx(1.0, abs=1e-15)
    exact = (40_000 * 45_000 - 15_000 * 20_000) / math.sqrt(55_000 * 65_000 * 60_000 * 60_000)
    assert float(mcc(counts_of(40_000, 15_000, 20_000, 45_000))) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize("cells", [(5, 5, 0, 0), (0, 0, 5, 5), (5, 0, 5, 0), (0, 5, 0, 5), (0, 0, 0, 0)])
def test_mcc_of_a_matrix_with_an_empty_row_or_column_is_zero(cells: tuple[int, int, int, int]) -> None:
    assert float(mcc(counts_of(*cells))) == 0.0


def test_mcc_of_balanced_classes_depends_on_the_two_rates_alone() -> None:
    tpr, tnr = 0.9, 0.6
    expected = (tpr + tnr - 1) / math.sqrt(1 - (tpr - tnr) ** 2)
    weighted = counts_of(90, 8, 10, 12).reweighted(positive=0.5 / 100, negative=0.5 / 20)
    assert float(mcc(weighted)) == pytest.approx(expected, rel=1e-12)


@given(SCORED)
def test_ranking_metrics_agree_with_scikit_learn_with_ties_and_weights(rows: list[tuple[bool, int, int]]) -> None:
    labels, scores, weights = (np.asarray(column, dtype=float) for column in zip(*rows, strict=True))
    if labels.min() == labels.max():
        assert math.isnan(auroc(scores, labels, weights))
        return
    assert auroc(scores, labels, weights) == pytest.approx(
        oracle.roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12
    )
    assert average_precision(scores, labels, weights) == pytest.approx(
        oracle.average_precision_score(labels, scores, sample_weight=weights), abs=1e-12
    )
    fpr, tpr, thresholds = oracle.roc_curve(labels, scores, sample_weight=weights, drop_intermediate=False)
    for ours, theirs in zip(roc_curve(scores, labels, weights), (fpr, tpr, thresholds), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    precision, recall, cuts = oracle.precision_recall_curve(labels, scores, sample_weight=weights)
    for ours, theirs in zip(
        pr_curve(scores, labels, weights), (precision[-2::-1], recall[-2::-1], cuts[::-1]), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_average_precision_without_positives_is_nan() -> None:
    assert math.isnan(average_precision([0.1, 0.2], [0, 0]))
