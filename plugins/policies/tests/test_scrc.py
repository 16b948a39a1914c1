"""The SCRC policy keeps its promise, exactly where theory is exact, and says so when it cannot."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from roadwork_policies import Identity, Temperature
from roadwork_policies.conformal import (
    ceil_count,
    conformal_rank,
    inductive_count,
    jitter,
    quantile,
    smallest_n,
    top_cut,
    transductive_count,
)
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from roadwork_core.decisions import ABSTAIN
from roadwork_core.errors import DataError, InfeasibleError
from roadwork_core.metrics import softmax


class Raw:
    """Leaves the logits as they are, but unlike `none` is given a part of the samples to fit."""

    def build(self, ctx: Any) -> Any:
        return Identity().build(ctx)


def selective_rule(
    confidence: np.ndarray, scores: np.ndarray, jitters: np.ndarray, alpha: float, xi: float
) -> tuple[bool, bool, int, int]:
    """Fit on all but the last sample; whether the last is selected and covered, K, and how many were used."""
    n = confidence.size - 1
    k = transductive_count(n, xi)
    cut = top_cut(confidence[:n], jitters[:n], k)
    used = cut.selects(confidence[:n], jitters[:n])
    bound = quantile(scores[:n][used], alpha)
    return bool(cut.selects(confidence, jitters)[n]), bool(scores[n] <= bound), k, int(used.sum())


def draws(n: int, count: int, levels: int | None, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confidence, nonconformity and jitter, (count, n + 1) each; `levels` makes ties."""
    rng = np.random.default_rng(seed)
    confidence = rng.exponential(size=(count, n + 1))
    scores = rng.normal(size=(count, n + 1)) * 2 - confidence
    if levels is not None:
        confidence = np.floor(confidence * levels) / levels
    return confidence, scores, rng.integers(0, 2**63, size=(count, n + 1)).astype(np.uint64)


@pytest.mark.parametrize(("n", "alpha", "xi"), [(30, 0.1, 0.8), (57, 0.2, 0.5), (19, 0.05, 1.0)])
def test_a_fresh_sample_is_selected_and_covered_exactly_as_often_as_the_closed_form_says(
    n: int, alpha: float, xi: float
) -> None:
    rows = [selective_rule(*row, alpha, xi) for row in zip(*draws(n, 6000, None, 0), strict=True)]
    selected, covered = np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows])
    k, used = rows[0][2:]
    assert used == k - 1
    chance = min(k / (n + 1), 1.0)
    assert stats.binomtest(int(selected.sum()), 6000, chance).pvalue > 0.001
    exact = conformal_rank(used, alpha) / (used + 1)
    assert 1 - alpha <= exact <= 1 - alpha + 1 / k
    assert stats.binomtest(int((selected & covered).sum()), int(selected.sum()), exact).pvalue > 0.001


def test_ties_keep_both_promises_because_the_jitter_breaks_them() -> None:
    n, alpha, xi = 40, 0.1, 0.6
    rows = [selective_rule(*row, alpha, xi) for row in zip(*draws(n, 6000, 2, 1), strict=True)]
    selected, covered = np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows])
    k = rows[0][2]
    assert stats.binomtest(int(selected.sum()), 6000, k / (n + 1)).pvalue > 0.001
    assert stats.binomtest(int((selected & covered).sum()), int(selected.sum()), 1 - alpha, "less").pvalue > 0.001


def test_samples_that_are_alike_to_the_last_bit_lower_the_selection_but_never_the_coverage() -> None:
    n, alpha, xi = 40, 0.1, 0.6
    confidence, scores, jitters = draws(n, 4000, 2, 2)
    rows = [selective_rule(*row, alpha, xi) for row in zip(confidence, scores, np.zeros_like(jitters), strict=True)]
    selected, covered = np.asarray([row[0] for row in rows]), np.asarray([row[1] for row in rows])
    assert selected.mean() < rows[0][2] / (n + 1)
    assert stats.binomtest(int((selected & covered).sum()), int(selected.sum()), 1 - alpha, "less").pvalue > 0.001


def test_given_the_calibration_set_coverage_follows_the_beta_distribution() -> None:
    """Split conformal (xi = 1): coverage given n scores is Beta(k, n + 1 - k)."""
    n, alpha = 50, 0.1
    rng = np.random.default_rng(3)
    coverage = [stats.norm.cdf(quantile(rng.normal(size=n), alpha)) for _ in range(2000)]
    k = conformal_rank(n, alpha)
    assert stats.kstest(coverage, stats.beta(k, n + 1 - k).cdf).pvalue > 0.001


def test_the_inductive_rule_selects_too_few_no_more_often_than_delta() -> None:
    n, xi, delta = 200, 0.5, 0.1
    k = inductive_count(n, xi, delta)
    rng = np.random.default_rng(4)
    shares = []
    for _ in range(1500):
        confidence = rng.random(n)
        cut = top_cut(confidence, np.zeros(n, dtype=np.uint64), k)
        shares.append(1 - (cut.confidence or 0.0))
    failures = int(np.sum(np.asarray(shares) < xi))
    assert stats.binomtest(failures, 1500, delta, "greater").pvalue > 0.001
    assert transductive_count(n, xi) < k


def test_the_share_that_no_sample_can_reach_selects_everything() -> None:
    cut = top_cut(np.asarray([1.0, 2.0]), np.zeros(2, dtype=np.uint64), 3)
    assert cut.confidence is None
    assert cut.selects(np.asarray([-5.0]), np.zeros(1, dtype=np.uint64)).tolist() == [True]


@pytest.mark.parametrize(
    ("share", "n", "expected"), [(0.1, 30, 3), (0.7, 10, 7), (0.8, 501, 401), (0.15, 40, 6), (1.0, 7, 7)]
)
def test_counts_are_not_thrown_off_by_the_last_bit_of_a_product(share: float, n: int, expected: int) -> None:
    assert ceil_count(share, n) == expected


@pytest.mark.parametrize(("alpha", "xi"), [(0.1, 0.8), (0.05, 0.5), (0.01, 1.0), (0.3, 0.05)])
def test_the_sample_size_that_an_infeasible_result_names_is_the_least_that_works(alpha: float, xi: float) -> None:
    def finite(n: int) -> bool:
        k = math.ceil(xi * (n + 1) - 1e-9)
        return k * alpha >= 1 - 1e-9

    needed = smallest_n(alpha, lambda n: transductive_count(n, xi))
    assert finite(needed)
    assert not any(finite(n) for n in range(1, needed))


def test_the_sample_size_of_a_tiny_alpha_is_found_at_once() -> None:
    assert smallest_n(1e-6, lambda n: n + 1) == 999_999


def test_too_few_samples_are_infeasible_and_the_named_number_is_enough(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    logits, labels = draw(20)
    with pytest.raises(InfeasibleError, match=r"INFEASIBLE.*at least 11 conformal samples") as error:
        scrc(alpha=0.1, xi=0.8).build(context(logits, labels))
    assert error.value.hint is not None
    enough = draw(22)
    assert scrc(alpha=0.1, xi=0.8).build(context(*enough)).guarantee()["n"] == 11


def test_without_a_calibrator_to_fit_every_sample_is_conformal(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    policy = scrc(calibrator=Identity()).build(context(*draw(300)))
    assert policy.guarantee()["n"] == 300
    assert "held_out" not in policy.summary()


@pytest.mark.parametrize("classes", [2, 3])
def test_the_false_negative_rate_of_the_selected_is_kept_where_positives_are_rare(
    classes: int, draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    """Sets of selected positives hold them 1 - alpha of the time; miscoverage alone neglects the rare class."""
    options = {"alpha": 0.1, "xi": 0.8, "calibrator": Identity()}
    missed: dict[str, list[tuple[int, int]]] = {"miscoverage": [], "false_negative_rate": []}
    exact = []
    for seed in range(100):
        logits, labels = draw(1000, prior=0.3, distance=1.5, classes=classes, seed=seed)
        logits[:, 1] -= 2.5
        for loss, found in missed.items():
            policy = scrc(loss=loss, **options).build(context(logits[:600], labels[:600]))
            decisions = policy.decide(logits[600:])
            chosen = ~np.asarray([reason.startswith("not selected") for reason in decisions.reasons])
            positives = chosen & (labels[600:] == 1)
            found.append((int((positives & ~decisions.sets[:, 1]).sum()), int(positives.sum())))
        exact.append(policy.guarantee()["coverage_without_ties"])
    rates = {loss: np.asarray(found)[:, 0] / np.asarray(found)[:, 1] for loss, found in missed.items()}
    kept = rates["false_negative_rate"]
    assert 1 - kept.mean() == pytest.approx(np.mean(exact), abs=4 * kept.std() / math.sqrt(kept.size))
    assert rates["miscoverage"].mean() > 0.2


def test_too_few_selected_positives_are_infeasible_by_their_own_count(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    logits, labels = draw(200, prior=0.05)
    with pytest.raises(InfeasibleError, match=r"of positives from \d of them among \d+ selected of 200"):
        scrc(loss="false_negative_rate", calibrator=Identity()).build(context(logits, labels))


def test_one_sample_a_group_makes_the_promise_exact_where_all_of_them_break_it(
    context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    """12 groups of 40 whose samples share their luck: coverage of a new group's sample, over 400 draws."""

    def grouped(groups: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        labels = rng.integers(0, 2, size=groups * 40)
        luck = np.repeat(3 * rng.normal(size=groups), 40)
        m = (2 * labels - 1) * (3 + luck + 0.3 * rng.normal(size=labels.size))
        return np.stack([-m / 2, m / 2], axis=1), labels, np.repeat(np.arange(groups), 40)

    hits: dict[str, int] = {"all": 0, "one": 0}
    exact = 0.0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        logits, labels, groups = grouped(12, rng)
        fresh, truth, _ = grouped(1, rng)
        for how in hits:
            ctx = context(logits, labels, groups=groups, seed=seed)
            policy = scrc(alpha=0.1, xi=1.0, calibrator=Identity(), per_group=how).build(ctx)
            hits[how] += int(policy.decide(fresh[:1]).sets[0, truth[0]])
        exact = policy.guarantee()["coverage_without_ties"]
        assert policy.guarantee()["n"] == policy.guarantee()["groups"] == 12
    assert exact == 12 / 13
    assert stats.binomtest(hits["one"], 400, exact).pvalue > 0.001
    assert stats.binomtest(hits["all"], 400, 0.9, "less").pvalue < 0.05
    assert "random sample of a new group" in policy.guarantee()["text"]


def test_one_group_cannot_be_divided(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    with pytest.raises(InfeasibleError, match="one group"):
        scrc().build(context(*draw(200), groups=np.zeros(200, dtype=np.int64)))


def test_no_group_is_in_both_parts(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    logits, labels = draw(400)
    groups = np.arange(400) // 8
    seen: list[np.ndarray] = []

    class Watching:
        def build(self, ctx: Any) -> Any:
            seen.append(ctx.logits)
            return Temperature().build(ctx)

    policy = scrc(calibrator=Watching()).build(context(logits, labels, groups=groups))
    fits = (logits[:, None] == seen[0][None]).all(axis=2).any(axis=1)
    assert not set(groups[fits]) & set(groups[~fits])
    assert policy.guarantee()["n"] == (~fits).sum() == 200
    assert policy.guarantee()["groups"] == 25


def test_sets_are_those_of_lac_in_probabilities(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    """An independent LAC: y is in the set iff 1 - p_y <= the rank-th smallest 1 - p of the calibration labels."""
    logits, labels = draw(600, classes=4)
    policy = scrc(alpha=0.1, xi=1.0, calibrator=Identity()).build(context(logits, labels))
    fresh, _ = draw(20_000, classes=4, seed=1)
    p = softmax(logits)
    own = np.sort(1 - p[np.arange(p.shape[0]), labels])
    bound = own[math.ceil((own.size + 1) * 0.9) - 1]
    assert np.array_equal(policy.decide(fresh).sets, 1 - softmax(fresh) <= bound + 1e-12)


def test_two_class_decisions_do_not_change_under_temperature(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    logits, labels = draw(500)
    fresh, _ = draw(5000, seed=1)
    first, second = (
        scrc(calibrator=calibrator).build(context(logits, labels)).decide(fresh)
        for calibrator in (Raw(), Temperature())
    )
    assert np.array_equal(first.labels, second.labels)
    assert np.array_equal(first.sets, second.sets)
    assert not np.array_equal(first.scores, second.scores)


def test_a_label_is_given_exactly_for_selected_sets_of_one(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    policy = scrc(alpha=0.05).build(context(*draw(500, classes=3, distance=1.5)))
    decisions = policy.decide(draw(2000, classes=3, distance=1.5, seed=1)[0])
    size = decisions.sets.sum(axis=1)
    refused = np.asarray([reason.startswith("not selected") for reason in decisions.reasons])
    assert refused.any()
    assert (size > 1)[~refused].any()
    assert np.array_equal(decisions.labels != ABSTAIN, ~refused & (size == 1))
    answered = decisions.labels != ABSTAIN
    assert np.array_equal(decisions.sets[answered].argmax(axis=1), decisions.labels[answered])
    assert decisions.sets[refused].all()


def test_bf16_logits_with_many_ties_are_selected_at_the_promised_share(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    shares = []
    for seed in range(60):
        logits, labels = draw(2400, seed=seed)
        logits = np.round(logits * 8) / 8
        policy = scrc(xi=0.7, calibrator=Identity()).build(context(logits[:400], labels[:400]))
        reasons = policy.decide(logits[400:]).reasons
        shares.append(np.mean([not reason.startswith("not selected") for reason in reasons]))
    assert np.mean(shares) == pytest.approx(0.7, abs=4 * np.std(shares) / math.sqrt(60))


def test_the_jitter_is_a_function_of_the_row_alone_and_spread_evenly() -> None:
    rng = np.random.default_rng(5)
    logits = rng.integers(-3, 4, size=(5000, 2)) + rng.integers(0, 1000, size=(5000, 1)) / 8
    values = jitter(logits, 7)
    assert np.array_equal(values[::-1], jitter(logits[::-1], 7))
    assert not np.array_equal(values, jitter(logits, 8))
    assert jitter(np.asarray([[0.0, -0.0]]), 7) == jitter(np.asarray([[-0.0, 0.0]]), 7)
    unique = np.unique(logits, axis=0)
    assert stats.kstest(jitter(unique, 7) / 2**64, "uniform").pvalue > 0.001


def test_the_guarantee_is_stated_in_numbers_and_in_words(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    promise = scrc(alpha=0.1, xi=0.8).build(context(*draw(1000))).guarantee()
    assert {key: promise[key] for key in ("kind", "alpha", "xi", "delta", "n", "groups", "K", "selected")} == {
        "kind": "scrc_t",
        "alpha": 0.1,
        "xi": 0.8,
        "delta": None,
        "n": 500,
        "groups": 500,
        "K": 401,
        "selected": 400,
    }
    assert promise["loss"] == "miscoverage"
    assert promise["assumption"] == "exchangeability"
    assert len(promise["digest"]) == 64
    assert "at least 0.9" in promise["text"]
    inductive = scrc(variant="inductive", delta=0.2).build(context(*draw(1000))).guarantee()
    assert inductive["kind"] == "scrc_i"
    assert inductive["delta"] == 0.2
    assert "covers the selection alone" in inductive["text"]
    # Hoeffding's bound counts independent draws, and equal rows are selected together or not.
    assert "takes samples to be independent, and none to be equal" in inductive["text"]
    assert inductive["assumption"] == "exchangeability; of the selection independent samples"


def test_equal_rows_can_leave_the_inductive_share_below_xi_as_its_words_say(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    """Four rows in ten are one row, and the cut falls on it."""
    logits, labels = draw(1000)
    logits[np.random.default_rng(0).random(1000) < 0.4] = [0.3, -0.3]
    policy = scrc(variant="inductive", xi=0.8, calibrator=Identity()).build(context(logits, labels))
    selected = [not reason.startswith("not selected") for reason in policy.decide(logits).reasons]
    assert np.mean(selected) < 0.7


def test_the_digest_names_the_conformal_samples(
    draw: Callable[..., Any], context: Callable[..., Any], scrc: Callable[..., Any]
) -> None:
    logits, labels = draw(200)
    digests = {scrc().build(context(logits, labels, seed=seed)).guarantee()["digest"] for seed in (0, 0, 1)}
    assert len(digests) == 2


def test_on_digits_selection_and_coverage_are_what_theory_says() -> None:
    """Digits >= 5 against < 5, 200 splits, n = 500: selection 401/501, coverage of the selected 361/401."""
    bunch: Any = load_digits()
    pixels, digit = bunch.data, bunch.target
    labels = (digit >= 5).astype(int)
    order = np.random.default_rng(6).permutation(labels.size)
    train, rest = order[:700], order[700:]
    model = LogisticRegression(C=0.01, max_iter=500).fit(pixels[train] / 16, labels[train])
    m = model.decision_function(pixels[rest] / 16)
    confidence, score = np.abs(m), np.where(labels[rest] == 1, -m, m)
    selection, coverage = [], []
    for split in range(200):
        shuffled = np.random.default_rng(split).permutation(m.size)
        fit, new = shuffled[:500], shuffled[500:]
        none = np.zeros(m.size, dtype=np.uint64)
        cut = top_cut(confidence[fit], none[fit], transductive_count(500, 0.8))
        bound = quantile(score[fit][cut.selects(confidence[fit], none[fit])], 0.1)
        chosen = cut.selects(confidence[new], none[new])
        selection.append(chosen.mean())
        coverage.append((score[new][chosen] <= bound).mean())
    for values, exact in ((selection, 401 / 501), (coverage, 361 / 401)):
        assert np.mean(values) == pytest.approx(exact, abs=4 * np.std(values) / math.sqrt(200))


def test_an_scrc_file_without_a_finite_bound_is_refused(scrc: Callable[..., Any]) -> None:
    from roadwork_core.kinds import PolicyRestoreContext

    with pytest.raises(DataError, match="not an scrc policy"):
        scrc().restore(
            {"bound": float("inf"), "cut": {"confidence": 0.0, "jitter": "0"}},
            PolicyRestoreContext(classes=("a", "b"), positive=1),
        )
