"""How good decisions are on a split: every figure with its interval, and for abstaining policies an exact audit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from ..decisions import ABSTAIN, Decisions
from ..metrics import (
    COUNT_METRICS,
    Binning,
    Counts,
    Estimate,
    bootstrap,
    bootstrap_counts,
    clopper_pearson,
    coverage_by_class,
    debiased_ece,
    ece,
    ece_with_null,
    group_counts,
    paired_difference,
    score_estimates,
)

Floats = NDArray[np.float64]

#: Metrics of decisions in the order in which they are shown.
DECISION_METRICS = ("mcc", "accuracy", "f1", "balanced_accuracy", "precision", "recall", "specificity")
#: Metrics of P(positive) in the order in which they are shown.
SCORE_METRICS = ("auroc", "average_precision", "nll", "brier", "ece", "aurc")
ECE_BINS = 15
NOTHING: Mapping[str, Any] = {"value": None, "low": None, "high": None}


@frozen(kw_only=True)
class Judge:
    """A labelled split: `labels` int64 (n,), `groups` (n,) or None, and how intervals are made."""

    labels: NDArray[np.int64]
    groups: NDArray[Any] | None
    classes: Sequence[str]
    positive: int
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0

    @property
    def n(self) -> int:
        return len(self.labels)

    @property
    def group_names(self) -> NDArray[Any]:
        return np.arange(self.n) if self.groups is None else np.asarray(self.groups)

    def score_metrics(self, scores: Floats) -> dict[str, dict[str, Any]]:
        """auroc, average_precision, nll, brier, ece and aurc of P(positive), float64 (n,)."""
        y = self.labels == self.positive
        if not self.n:
            return {name: dict(NOTHING) for name in SCORE_METRICS}
        estimates = score_estimates(
            scores, y, self.group_names, level=self.level, resamples=self.resamples, seed=self.seed, bins=ECE_BINS
        )
        found = {name: _plain(estimate) for name, estimate in estimates.items()}
        null = ece_with_null(scores, y, bins=ECE_BINS, seed=self.seed)
        found["ece"] |= {
            "null_mean": null.null_mean,
            "null_95": null.null_95,
            "bins": ECE_BINS,
            "view": "positive class",
            "equal_mass": ece(scores, y, bins=ECE_BINS, binning=Binning.EQUAL_MASS),
            "debiased": debiased_ece(scores, y, bins=ECE_BINS),
        }
        return found

    def policies(self, decided: Mapping[str, tuple[Decisions, Decisions]]) -> dict[str, dict[str, Any]]:
        """`policy` for each policy's decisions, as they are and where it may not abstain. Policies that score alike
        share the figures of their scores."""
        known: dict[bytes, dict[str, dict[str, Any]]] = {}
        found = {}
        for name, (decisions, must_answer) in decided.items():
            key = decisions.scores.tobytes()
            if key not in known:
                known[key] = self.score_metrics(decisions.scores)
            found[name] = self.policy(decisions, must_answer, known[key])
        return found

    def policy(
        self,
        decisions: Decisions,
        must_answer: Decisions | None = None,
        scores: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """All that is measured of one policy's decisions on the split.

        `metrics` are over the samples that were answered, `coverage` says how many those are. `must_answer` are the
        decisions of the same policy where it may not abstain.
        """
        answered = ~decisions.abstain
        result: dict[str, Any] = {
            "metrics": self.decision_metrics(decisions.labels, answered),
            "metrics_of": "all samples" if answered.all() else "answered samples",
            "abstains": bool(not answered.all()),
            "n": self.n,
            "answered": int(answered.sum()),
            "coverage": self._answering(answered),
            "abstention": self._answering(~answered),
            "selective_risk": self.share(decisions.labels != self.labels, answered),
            "scores": dict(self.score_metrics(decisions.scores) if scores is None else scores),
            "confusion": self.confusion(decisions.labels),
            "per_class": self._per_class(decisions),
            "sets": self._sets(decisions),
        }
        if not answered.all():
            result["audit"] = self._audit(decisions)
            if must_answer is not None:
                everyone = np.ones(self.n, dtype=np.bool_)
                result["must_answer"] = self.decision_metrics(must_answer.labels, everyone)
        return result

    def decision_metrics(self, decided: NDArray[np.int64], mask: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
        """mcc, f1, ... of the labels (n,) where `mask` (n,); the positive class against the rest, but for accuracy,
        which counts every class."""
        if not mask.any():
            return {name: dict(NOTHING) for name in DECISION_METRICS}
        return {name: self._of_counts(*self.counts(name, decided[mask], mask)) for name in DECISION_METRICS}

    def counts(
        self, name: str, decided: NDArray[np.int64], mask: NDArray[np.bool_] | None = None
    ) -> tuple[Floats, Callable[[Counts], Floats]]:
        """`decision_counts` of the labels `decided` for the samples in `mask` (default: all)."""
        chosen = np.ones(self.n, dtype=np.bool_) if mask is None else mask
        return decision_counts(name, self.labels[chosen], decided, self.positive, self.group_names[chosen])

    def difference(self, name: str, before: NDArray[np.int64], after: NDArray[np.int64]) -> dict[str, Any]:
        """The metric `name` of the labels `after` less that of `before`, both (n,), paired and by group."""
        (first, metric), (second, _) = (self.counts(name, one) for one in (before, after))
        return _plain(
            paired_difference(first, second, metric, level=self.level, resamples=self.resamples, seed=self.seed)
        )

    def confusion(self, decided: NDArray[np.int64]) -> dict[str, Any]:
        """Counts, rows the true class, columns the decided one and last the abstentions."""
        size = len(self.classes)
        columns = np.where(decided == ABSTAIN, size, decided)
        matrix = np.zeros((size, size + 1), dtype=np.int64)
        np.add.at(matrix, (self.labels, columns), 1)
        return {
            "classes": list(self.classes),
            "matrix": matrix[:, :size].tolist(),
            "abstained": matrix[:, size].tolist(),
        }

    def _per_class(self, decisions: Decisions) -> dict[str, Any]:
        covered = coverage_by_class(decisions.sets, self.labels) if self.n else np.full(len(self.classes), math.nan)
        found = {}
        for index, name in enumerate(self.classes):
            mine = self.labels == index
            answered = mine & ~decisions.abstain
            found[name] = {
                "n": int(mine.sum()),
                "answered": int(answered.sum()),
                "wrong": int((answered & (decisions.labels != index)).sum()),
                "recall_of_answered": self.share(decisions.labels == index, answered),
                "coverage": self.share(~decisions.abstain, mine),
                "set_coverage": float(covered[index]) if math.isfinite(covered[index]) else None,
            }
        return found

    def _sets(self, decisions: Decisions) -> dict[str, Any]:
        """How often sets hold the label, and how many labels they hold on average."""
        if not self.n:
            return {"coverage": dict(NOTHING), "mean_size": dict(NOTHING)}
        size = decisions.sets.sum(axis=1).astype(np.float64)
        mean = bootstrap(
            lambda weights: float(np.average(size, weights=weights)),
            self.group_names,
            level=self.level,
            resamples=self.resamples,
            seed=self.seed,
        )
        inside = np.take_along_axis(decisions.sets, self.labels[:, None], axis=1)[:, 0]
        return {"coverage": self.share(inside, np.ones(self.n, dtype=np.bool_)), "mean_size": _plain(mean)}

    def _audit(self, decisions: Decisions) -> dict[str, Any]:
        """Exact bounds (Clopper and Pearson) on what the composite decision did."""
        answered = ~decisions.abstain
        wrong = answered & (decisions.labels != self.labels)
        inside = np.take_along_axis(decisions.sets, self.labels[:, None], axis=1)[:, 0]
        return {
            "method": "clopper_pearson",
            "level": self.level,
            "groups": len(np.unique(self.group_names)),
            "note": "exact where samples are independent; samples of one group are not quite",
            "answered": self._exact(int(answered.sum()), self.n),
            "error_of_answers": self._exact(int(wrong.sum()), int(answered.sum())),
            "error_of_answers_by_class": {
                name: self._exact(int((wrong & mine).sum()), int((answered & mine).sum()))
                for index, name in enumerate(self.classes)
                for mine in [self.labels == index]
            },
            "set_coverage": self._exact(int(inside.sum()), self.n),
        }

    def _exact(self, successes: int, n: int) -> dict[str, Any]:
        return {**_plain(clopper_pearson(successes, n, self.level)), "successes": successes}

    def _answering(self, hit: NDArray[np.bool_]) -> dict[str, Any]:
        """The share of `hit` (n,) among all samples; without width where no sample was treated otherwise, for a policy
        that never abstained is in most cases one that cannot."""
        found = self.share(hit, np.ones(self.n, dtype=np.bool_))
        return found if 0 < hit.sum() < self.n else {**found, "low": found["value"], "high": found["value"]}

    def share(self, hit: NDArray[np.bool_], among: NDArray[np.bool_]) -> dict[str, Any]:
        """The share of `hit` (n,) among `among` (n,), by group bootstrap."""
        if not among.any():
            return dict(NOTHING)
        table = group_counts(np.ones(int(among.sum()), dtype=np.bool_), hit[among], self.group_names[among])
        return self._of_counts(table, COUNT_METRICS["recall"])

    def _of_counts(self, table: Floats, metric: Callable[[Counts], Floats]) -> dict[str, Any]:
        return _plain(bootstrap_counts(table, metric, level=self.level, resamples=self.resamples, seed=self.seed))


def decision_counts(
    name: str, labels: NDArray[np.int64], decided: NDArray[np.int64], positive: int, groups: NDArray[Any]
) -> tuple[Floats, Callable[[Counts], Floats]]:
    """Counts per group (groups, 4) and the function of them that is the metric `name`.

    They are those of the positive class against the rest, but for accuracy, which counts every class: its counts are
    the right and the wrong ones, in the place of tp and fn.
    """
    if name == "accuracy":
        return group_counts(np.ones(len(labels), dtype=np.bool_), decided == labels, groups), COUNT_METRICS["recall"]
    return group_counts(labels == positive, decided == positive, groups), COUNT_METRICS[name]


def _plain(estimate: Estimate) -> dict[str, Any]:
    return dict(estimate.to_json())


def headline(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that a run prints: the active policy's decisions and scores, and how much it answered."""
    chosen = {name: policy["metrics"][name] for name in DECISION_METRICS}
    chosen |= {name: policy["scores"][name] for name in SCORE_METRICS}
    if policy["abstains"]:
        chosen |= {"coverage": policy["coverage"], "selective_risk": policy["selective_risk"]}
    return chosen
