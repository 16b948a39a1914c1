"""Two deciders compared: against scipy, against a bootstrap of its own, and where there is nothing to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from roadwork_core.decisions import Decisions
from roadwork_core.errors import DataError
from roadwork_core.evaluation.compare import Answers, compare, mcnemar


def answers(truth: np.ndarray, scores: np.ndarray, *, groups: Any = None, first: int = 0, band: float = 0.0) -> Answers:
    labels = (scores >= 0.5).astype(np.int64)
    n = len(truth)
    return Answers(
        keys=[f"picture {number}" for number in range(first, first + n)],
        targets=truth,
        groups=np.arange(n) if groups is None else groups,
        answering=Decisions(labels=labels, scores=scores, sets=labels[:, None] == np.arange(2), reasons=[""] * n),
        answered=np.abs(scores - 0.5) >= band,
    )


def sample(seed: int = 0, n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    shared = rng.normal(size=n)
    weak, strong = (1 / (1 + np.exp(-(s * (truth - 0.5) + shared + rng.normal(size=n) / 2))) for s in (2.0, 3.5))
    return truth, weak, strong


def test_the_values_are_scikit_learns() -> None:
    truth, weak, strong = sample()
    found = compare(answers(truth, weak), answers(truth, strong), positive=1, resamples=200)
    oracles: dict[str, Callable[[Any], Any]] = {
        "mcc": lambda scores: sk.matthews_corrcoef(truth, scores >= 0.5),
        "auroc": lambda scores: sk.roc_auc_score(truth, scores),
        "nll": lambda scores: sk.log_loss(truth, scores),
        "brier": lambda scores: sk.brier_score_loss(truth, scores),
    }
    for name, expected in oracles.items():
        line = found["metrics"][name]
        assert line["first"] == pytest.approx(expected(weak))
        assert line["second"] == pytest.approx(expected(strong))
        assert line["difference"]["value"] == pytest.approx(expected(strong) - expected(weak))
        assert line["difference"]["low"] < line["difference"]["value"] < line["difference"]["high"]


def test_pairing_makes_the_interval_of_like_deciders_narrow() -> None:
    """The interval of the difference is that of a bootstrap of samples, not of two separate ones."""
    truth, weak, _ = sample(n=400)
    rng = np.random.default_rng(3)
    nearly = np.where(rng.random(400) < 0.03, 1 - weak, weak)
    found = compare(answers(truth, weak), answers(truth, nearly), positive=1)["metrics"]["accuracy"]["difference"]
    right = ((nearly >= 0.5) == truth).astype(float) - ((weak >= 0.5) == truth)
    drawn = rng.integers(0, 400, size=(4000, 400))
    low, high = np.quantile(right[drawn].mean(axis=1), [0.025, 0.975])
    assert (found["low"], found["high"]) == (pytest.approx(low, abs=0.005), pytest.approx(high, abs=0.005))


def test_areas_that_no_resample_tells_apart_may_differ_by_the_pairs_that_were_not_seen() -> None:
    """Both order all 20 positives above all 30 negatives: 0 of 20 pairs were seen otherwise."""
    truth = (np.arange(50) < 20).astype(np.int64)
    weak, strong = (0.5 + width * (truth - 0.5) for width in (0.5, 0.9))
    found = compare(answers(truth, weak), answers(truth, strong), positive=1, resamples=200)["metrics"]
    share = binomtest(0, 20).proportion_ci().high
    change = found["auroc"]["difference"]
    assert [change["low"], change["value"], change["high"]] == pytest.approx([-share, 0.0, share], abs=1e-9)
    change = found["average_precision"]["difference"]
    assert change["low"] < -0.1 < 0.1 < change["high"]
    same = compare(answers(truth, weak), answers(truth, weak), positive=1, resamples=200)["metrics"]
    for name in ("nll", "brier"):
        assert same[name]["difference"]["low"] < 0.0 < same[name]["difference"]["high"]


def test_frames_of_one_street_count_as_one() -> None:
    truth, weak, strong = (np.repeat(values, 5) for values in sample(n=60))
    alone = compare(answers(truth, weak), answers(truth, strong), positive=1)["metrics"]["mcc"]["difference"]
    groups = np.repeat(np.arange(60), 5)
    tied = compare(answers(truth, weak, groups=groups), answers(truth, strong, groups=groups), positive=1)
    width = tied["metrics"]["mcc"]["difference"]["high"] - tied["metrics"]["mcc"]["difference"]["low"]
    assert tied["groups"] == 60
    assert width > 1.6 * (alone["high"] - alone["low"])


def test_only_shared_samples_count_whatever_their_order() -> None:
    truth, weak, strong = sample()
    whole, late = answers(truth, weak), answers(truth[100:], strong[100:], first=100)
    turned = Answers(
        keys=late.keys[::-1],
        targets=late.targets[::-1],
        groups=late.groups[::-1],
        answering=answers(truth[100:][::-1], strong[100:][::-1]).answering,
        answered=late.answered[::-1],
    )
    found = compare(whole, turned, positive=1, resamples=100)
    assert (found["n"], found["only_first"], found["only_second"]) == (200, 100, 0)
    assert found["metrics"]["mcc"]["second"] == pytest.approx(sk.matthews_corrcoef(truth[100:], strong[100:] >= 0.5))


def test_coverage_is_compared_as_the_deciders_are() -> None:
    truth, weak, strong = sample()
    found = compare(answers(truth, weak, band=0.2), answers(truth, strong, band=0.1), positive=1, resamples=100)
    line = found["metrics"]["coverage"]
    assert line["first"] == pytest.approx((np.abs(weak - 0.5) >= 0.2).mean())
    assert line["second"] == pytest.approx((np.abs(strong - 0.5) >= 0.1).mean())


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (7, 2), (40, 40), (3, 30)])
def test_mcnemar_is_scipys_binomial_test(gained: int, lost: int) -> None:
    first = np.array([False] * gained + [True] * lost + [True] * 10)
    second = np.array([True] * gained + [False] * lost + [True] * 10)
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(first, second) == {"gained": gained, "lost": lost, "p_value": pytest.approx(expected)}


def test_mcnemar_takes_as_many_samples_as_there_are() -> None:
    first = np.array([False] * 5300 + [True] * 5000)
    found = mcnemar(first, ~first)
    assert found["p_value"] == pytest.approx(binomtest(5300, 10_300).pvalue, rel=1e-6)


def test_accuracy_of_many_classes_counts_every_class() -> None:
    rng = np.random.default_rng(7)
    truth, said = rng.integers(0, 4, 300), [rng.integers(0, 4, 300) for _ in range(2)]
    pair = [attrs.evolve(answers(truth, rng.random(300)), answering=labelled(labels)) for labels in said]
    line = compare(pair[0], pair[1], positive=2, resamples=100)["metrics"]["accuracy"]
    assert line["first"] == pytest.approx(sk.accuracy_score(truth, said[0]))
    assert line["second"] == pytest.approx(sk.accuracy_score(truth, said[1]))
    assert line["difference"]["value"] == pytest.approx(line["second"] - line["first"])


def labelled(labels: np.ndarray) -> Decisions:
    n = len(labels)
    return Decisions(labels=labels, scores=np.full(n, 0.5), sets=labels[:, None] == np.arange(4), reasons=[""] * n)


def test_what_cannot_be_compared_is_told() -> None:
    truth, weak, _ = sample()
    with pytest.raises(DataError, match="share no sample"):
        compare(answers(truth, weak), answers(truth, weak, first=1000), positive=1)
    with pytest.raises(DataError, match="300 of 300 shared samples have another label"):
        compare(answers(truth, weak), answers(1 - truth, weak), positive=1)
