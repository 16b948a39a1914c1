"""The threshold policy: one cut on the margin, how it was chosen, and what it is worth outside its sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen
from numpy.typing import NDArray

from roadwork_core.decisions import ABSTAIN, Decisions
from roadwork_core.errors import DataError
from roadwork_core.kinds import CalibratorContext, PolicyContext, PolicyRestoreContext
from roadwork_core.metrics.binary import Counts
from roadwork_core.metrics.inputs import Booleans, Floats, Integers, InvalidScores, class_labels, group_codes
from roadwork_core.metrics.intervals import (
    bootstrap_counts,
    group_counts,
    paired_difference,
    percentile_interval,
    resampled_weights,
)
from roadwork_core.metrics.logits import as_logits, margin, sigmoid
from roadwork_core.metrics.sweep import (
    TIE_RULE,
    Objective,
    SweepResult,
    best_cut,
    class_weights,
    prior_weights,
    require_both_classes,
)

from .cells import resampled_counts
from .folds import stratified_folds, training_parts

if TYPE_CHECKING:
    from .policy_components import Threshold

COMPARED = ("plug_in", "empirical", "bootstrap")
#: The level of an interval that reaches one standard error to each side.
ONE_ERROR = 0.6827
#: Metrics that are not there for a cut outside the constraint, so that differences of cuts say nothing.
CONSTRAINED = ("recall_at_precision", "precision_at_recall")


def labels_at(logits: Floats, threshold: float, positive: int) -> Integers:
    """Labels (n,): positive iff margin >= threshold, otherwise the likeliest of the other classes."""
    others = logits.copy()
    others[:, positive] = -np.inf
    return np.where(margin(logits, positive) >= threshold, positive, others.argmax(axis=1))


@frozen(eq=False)
class ThresholdPolicy:
    """Positive iff margin >= `threshold`; abstains where |margin - threshold| < `abstain_band`."""

    threshold: float
    abstain_band: float
    positive: int
    classes: int
    record: Mapping[str, Any]
    sweep: SweepResult | None = field(default=None, repr=False)

    def decide(self, logits: NDArray[np.float64]) -> Decisions:
        """Logits (n, C) to n decisions; scores are P(positive) of the raw logits. Raises DataError if not finite."""
        z = checked_logits(logits, self.classes)
        m = margin(z, self.positive)
        labels = labels_at(z, self.threshold, self.positive)
        unsure = np.abs(m - self.threshold) < self.abstain_band
        sets = labels[:, None] == np.arange(self.classes)
        if unsure.any():
            sets[unsure, self.positive] = True
            sets[unsure, labels_at(z[unsure], np.inf, self.positive)] = True
        scores, cut = sigmoid(m), float(sigmoid(self.threshold))
        signs = np.where(m >= self.threshold, ">=", "<")
        reasons = [
            f"score {score:.4f} within the abstain band of {cut:.4f}" if band else f"score {score:.4f} {sign} {cut:.4f}"
            for score, sign, band in zip(scores.tolist(), signs.tolist(), unsure.tolist(), strict=True)
        ]
        return Decisions(labels=np.where(unsure, ABSTAIN, labels), scores=scores, sets=sets, reasons=reasons)

    def state(self) -> Mapping[str, Any]:
        """Cut, band and the record of the fit."""
        return {"threshold": self.threshold, "abstain_band": self.abstain_band, "record": dict(self.record)}

    def summary(self) -> Mapping[str, Any]:
        """The cut, the metric in the sample (marked so), and the cross-fitted estimate with its interval."""
        cut = {"threshold": self.threshold, "threshold_probability": float(sigmoid(self.threshold))}
        return cut | {"abstain_band": self.abstain_band} | dict(self.record)

    def guarantee(self) -> None:
        """A cut promises nothing of single decisions."""
        return

    def curve(self) -> dict[str, Floats] | None:
        """The metric on val_calib along the cuts, for threshold_sweep.csv; None for a policy read from a file."""
        if self.sweep is None or self.sweep.curve is None:
            return None
        rows = self.sweep.curve.rows()
        return {name: np.asarray([row[name] for row in rows]) for name in rows[0]}


def checked_logits(logits: NDArray[np.float64], classes: int) -> Floats:
    """Finite logits (n, classes); raises DataError for another number of columns."""
    z = as_logits(logits)
    if z.shape[1] != classes:
        raise InvalidScores(f"the policy decides between {classes} classes, the logits have {z.shape[1]} columns")
    return z


@frozen(eq=False)
class Samples:
    """Margins, descending so that sorting them again is cheap, with labels and group codes, all (n,)."""

    margins: Floats
    positive: Booleans
    codes: Integers

    @classmethod
    def sorted(cls, margins: Floats, positive: Booleans, codes: Integers) -> Samples:
        order = np.argsort(-margins, kind="stable")
        return cls(margins[order], positive[order], codes[order])

    def part(self, mask: Booleans) -> Samples:
        return Samples(self.margins[mask], self.positive[mask], np.unique(self.codes[mask], return_inverse=True)[1])


def objective_of(options: Threshold) -> Objective:
    """What the options ask the cut to be best for."""
    return Objective(
        metric=options.metric,
        fp_cost=options.fp_cost,
        fn_cost=options.fn_cost,
        min_precision=options.min_precision,
        min_recall=options.min_recall,
    )


def _hard(samples: Samples, options: Threshold, counts: Floats | None, n_thresholds: int = 0) -> SweepResult:
    """The cut that is exactly best on the samples, each counted `counts` times."""
    w1, w0 = class_weights(samples.positive, options.target_prior)
    w = np.ones(samples.margins.size) if counts is None else counts
    positive, negative = w * samples.positive * w1, w * ~samples.positive * w0
    return best_cut(samples.margins, positive, negative, objective_of(options), n_thresholds)


def _plug_in(samples: Samples, options: Threshold) -> float:
    """The cut that maximises the metric of the counts that the calibrated probabilities let expect."""
    half = samples.margins / 2.0
    logits = np.stack([-half, half], axis=1)
    calibrator = options.calibrator.build(CalibratorContext(logits=logits, labels=samples.positive.astype(np.int64)))
    p = sigmoid(margin(calibrator.transform(logits)))
    w1, w0 = class_weights(samples.positive, options.target_prior)
    return best_cut(samples.margins, p * w1, (1.0 - p) * w0, objective_of(options)).threshold


def _bootstrap(samples: Samples, options: Threshold, seed: int) -> float | None:
    """The median of the best cuts of resamples by group; None where no resample has one."""
    weights = class_weights(samples.positive, options.target_prior)
    cuts = _resampled_cuts(samples, options, np.random.default_rng([seed, 2]), weights)
    return float(np.median(cuts)) if cuts else None


def _resampled_cuts(
    samples: Samples, options: Threshold, rng: np.random.Generator, weights: tuple[float, float] | None
) -> list[float]:
    """The best cuts of resamples by group that have both classes and a cut that meets the constraint. `weights` are
    those of the classes; None: those that bring each resample to the target prior."""
    objective, cuts = objective_of(options), []
    for margins, positive, negative in resampled_counts(
        samples.margins, samples.positive, samples.codes, options.bootstrap, rng
    ):
        p, n = positive.sum(), negative.sum()
        if p == 0 or n == 0:
            continue
        w1, w0 = weights or prior_weights(float(p / (p + n)), options.target_prior)
        try:
            cuts.append(best_cut(margins, positive * w1, negative * w0, objective).threshold)
        except InvalidScores:
            continue
    return cuts


@frozen
class Choice:
    """A cut, the method that gave it, and a line where that is not the one that was asked for."""

    threshold: float
    method: str
    note: str | None = None


def choose(samples: Samples, options: Threshold, method: str, seed: int) -> Choice:
    """The cut by `method`; where that has none (its calibrator refuses the scores), the empirical cut, and a note."""
    if method == "auto":
        method = _better(samples, options, seed)
    if method == "bootstrap":
        cut = _bootstrap(samples, options, seed)
        if cut is not None:
            return Choice(cut, method)
        note = "not bootstrap: no resample by group has both classes and a cut that meets the constraint"
        return Choice(_hard(samples, options, None).threshold, "empirical", note)
    if method == "plug_in":
        try:
            return Choice(_plug_in(samples, options), method)
        except InvalidScores:
            raise
        except DataError as error:
            return Choice(_hard(samples, options, None).threshold, "empirical", f"not plug_in: {error.message}")
    return Choice(_hard(samples, options, None).threshold, "empirical")


def _better(samples: Samples, options: Threshold, seed: int) -> str:
    """bootstrap, unless the plug-in cut does better by a standard error on samples that neither was chosen on."""
    tables = [held_out_counts(samples, options, method, seed) for method in ("bootstrap", "plug_in")]
    if tables[0] is None or tables[1] is None:
        return "bootstrap"
    gain = paired_difference(
        tables[0], tables[1], objective_of(options).utility, level=ONE_ERROR, resamples=200, seed=seed
    )
    return "plug_in" if gain.low > 0 else "bootstrap"


def held_out_counts(samples: Samples, options: Threshold, method: str, seed: int) -> Floats | None:
    """Confusion counts per group (groups, 4) of decisions by cuts chosen without the group's fold.

    None where the folds leave no training part with both classes, or where no cut meets the constraint in one.
    """
    folds = min(options.folds, int(samples.codes.max()) + 1)
    if folds < 2:
        return None
    fold = stratified_folds(samples.positive, samples.codes, folds, seed)
    decided = np.zeros(samples.margins.size, dtype=np.bool_)
    seen = np.zeros(samples.margins.size, dtype=np.bool_)
    for training, held_out in training_parts(fold, samples.positive):
        try:
            choice = choose(samples.part(training), options, method, seed)
        except DataError:
            return None
        decided[held_out] = samples.margins[held_out] >= choice.threshold
        seen |= held_out
    return _counts(samples, options, decided) if seen.all() else None


def _counts(samples: Samples, options: Threshold, decided: Booleans) -> Floats:
    w1, w0 = class_weights(samples.positive, options.target_prior)
    return group_counts(samples.positive, decided, samples.codes, np.where(samples.positive, w1, w0))


def threshold_interval(samples: Samples, options: Threshold, method: str, seed: int) -> dict[str, Any]:
    """The 95 % interval of t itself when whole groups of val_calib are resampled."""
    rng = np.random.default_rng([seed, 1])
    if method == "plug_in":
        cuts = _resampled_plug_in(samples, options, rng, seed)
    else:
        # The median of best cuts varies less than a best cut does: for bootstrap this errs to the wide side.
        cuts = _resampled_cuts(samples, options, rng, None)
    low, high = percentile_interval(np.asarray(cuts), 0.95) if cuts else (np.nan, np.nan)
    finite = bool(np.isfinite(low) and np.isfinite(high))
    return {"low": low if finite else None, "high": high if finite else None, "level": 0.95, "resamples": len(cuts)}


def _resampled_plug_in(samples: Samples, options: Threshold, rng: np.random.Generator, seed: int) -> list[float]:
    cuts = []
    for counts in resampled_weights(samples.codes, options.bootstrap, rng):
        index = np.repeat(np.arange(counts.size), counts.astype(np.int64))
        drawn = Samples(samples.margins[index], samples.positive[index], samples.codes[index])
        if 0 < drawn.positive.sum() < drawn.positive.size:
            try:
                cuts.append(choose(drawn, options, "plug_in", seed).threshold)
            except DataError:
                continue
    return cuts


def fit(options: Threshold, ctx: PolicyContext) -> ThresholdPolicy:
    """Chooses the cut on val_calib and estimates what it is worth. Deterministic in `ctx.seed`."""
    logits = as_logits(ctx.logits)
    n, classes = logits.shape
    if n == 0:
        raise DataError("a threshold cannot be chosen without samples", hint="give val_calib some")
    labels = class_labels(ctx.labels, n, classes)
    samples = Samples.sorted(margin(logits, ctx.positive), labels == ctx.positive, group_codes(ctx.groups, n))
    require_both_classes(samples.positive)
    sweep = _hard(samples, options, None, options.n_thresholds)
    choice = choose(samples, options, options.method, ctx.seed)
    record = _record(samples, options, choice, sweep, ctx.seed)
    return ThresholdPolicy(choice.threshold, options.abstain_band, ctx.positive, classes, record, sweep)


def _record(samples: Samples, options: Threshold, choice: Choice, sweep: SweepResult, seed: int) -> dict[str, Any]:
    """What is known of the cut: its interval, the metric in the sample, and the estimates outside it by method."""
    metric = objective_of(options).value
    asked = [*COMPARED] if options.method in COMPARED else [options.method, *COMPARED]
    tables = {method: held_out_counts(samples, options, method, seed) for method in asked}
    estimates = {
        method: None if table is None else bootstrap_counts(table, metric, seed=seed).to_json()
        for method, table in tables.items()
    }
    here = _counts(samples, options, samples.margins >= choice.threshold)
    return {
        "metric": options.metric,
        "method": choice.method,
        "note": choice.note,
        "target_prior": options.target_prior,
        "tie_rule": TIE_RULE,
        "threshold_interval": threshold_interval(samples, options, choice.method, seed),
        "in_sample": {
            "value": float(metric(Counts.from_columns(here.sum(axis=0)))),
            "best": sweep.value,
            "best_threshold": sweep.threshold,
            "note": "on the samples that the cut was chosen on: optimistic, not a result",
        },
        "cross_fitted": estimates[options.method],
        "cross_fitted_by_method": {method: estimates[method] for method in COMPARED},
        "warning": _warning(tables, options, choice, seed),
        "n": int(samples.margins.size),
        "positives": int(samples.positive.sum()),
        "groups": int(samples.codes.max()) + 1,
    }


def _warning(tables: Mapping[str, Floats | None], options: Threshold, choice: Choice, seed: int) -> str | None:
    """A line where the plug-in cut is measurably worse than the empirical one on samples that neither was chosen on."""
    plug_in, empirical = tables["plug_in"], tables["empirical"]
    if choice.method != "plug_in" or plug_in is None or empirical is None or options.metric in CONSTRAINED:
        return None
    gain = paired_difference(plug_in, empirical, objective_of(options).utility, seed=seed)
    if not gain.low > 0:
        return None
    return (
        f"the calibrator does not fit these scores: cross-fitted, the empirical cut gains {gain.value:.4f}"
        f" [{gain.low:.4f}, {gain.high:.4f}] in {options.metric}; set method to bootstrap or auto"
    )


def restore(state: Mapping[str, Any], ctx: PolicyRestoreContext) -> ThresholdPolicy:
    """From `ThresholdPolicy.state()`. Raises DataError for a cut that is no finite number."""
    threshold, band = float(state["threshold"]), float(state["abstain_band"])
    if not (np.isfinite(threshold) and np.isfinite(band) and band >= 0):
        raise DataError(f"not a threshold policy: threshold {threshold}, abstain band {band}")
    return ThresholdPolicy(threshold, band, ctx.positive, len(ctx.classes), state.get("record", {}))
