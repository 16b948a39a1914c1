"""An epoch is chosen on val_select by the metric that the spec names; of equal epochs the earlier one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from roadwork_core.errors import DataError
from roadwork_core.training.selection import Best, best_epoch, epoch_metrics, out_of_patience


def scores(n: int, classes: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, classes)) + 1.2 * np.eye(classes)[labels], labels


def test_two_classes_are_judged_at_their_best_cut_as_trying_every_cut_would() -> None:
    logits, labels = scores(200, 2, 0)
    logits[:, 1] += 3.0
    found = epoch_metrics(logits, labels, positive=1)
    margins = logits[:, 1] - logits[:, 0]
    for name, metric in (("mcc", reference.matthews_corrcoef), ("f1", reference.f1_score)):
        assert found[name] == pytest.approx(max(metric(labels, margins >= cut) for cut in margins))
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(labels, margins))
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(labels, margins))
    shifted = logits.argmax(axis=1)
    assert found["mcc"] is not None
    assert found["mcc"] > reference.matthews_corrcoef(labels, shifted)


def test_the_positive_class_may_be_the_first() -> None:
    logits, labels = scores(200, 2, 1)
    mirrored = epoch_metrics(logits[:, ::-1], 1 - labels, positive=0)
    assert mirrored == pytest.approx(epoch_metrics(logits, labels, positive=1))


def test_more_classes_are_judged_by_argmax_as_scikit_learn_does() -> None:
    logits, labels = scores(300, 4, 2)
    found = epoch_metrics(logits, labels, positive=2)
    predicted = logits.argmax(axis=1)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found["mcc"] == pytest.approx(reference.matthews_corrcoef(labels, predicted))
    assert found["f1"] == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert found["nll"] == pytest.approx(reference.log_loss(labels, probabilities))
    assert found["auroc"] == pytest.approx(reference.roc_auc_score(labels == 2, probabilities[:, 2]))


def test_a_split_of_one_class_leaves_undefined_metrics_undefined() -> None:
    logits, _ = scores(20, 2, 3)
    found = epoch_metrics(logits, np.zeros(20, dtype=np.int64), positive=1)
    assert found["mcc"] is None
    assert found["auroc"] is None
    assert found["nll"] is not None


def lines(*values: float | None, name: str = "mcc") -> list[dict[str, Any]]:
    return [{"epoch": number, name: value} for number, value in enumerate(values, start=1)]


def test_of_equal_epochs_the_earlier_is_chosen() -> None:
    assert best_epoch(lines(0.1, 0.7, 0.7, 0.2), "mcc") == Best(epoch=2, value=0.7)


def test_of_nll_the_lowest_is_chosen() -> None:
    assert best_epoch(lines(0.5, 0.3, 0.4, name="nll"), "nll") == Best(epoch=2, value=0.3)


def test_an_undefined_metric_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r'train\.select_by = "nll"'):
        best_epoch(lines(None), "mcc")


def test_patience_counts_epochs_since_the_best_one() -> None:
    assert not out_of_patience(lines(0.1, 0.7, 0.6), "mcc", 2)
    assert out_of_patience(lines(0.1, 0.7, 0.6, 0.7), "mcc", 2)
    assert not out_of_patience(lines(0.1, 0.7, 0.6, 0.7), "mcc", None)
    assert not out_of_patience([], "mcc", 1)
