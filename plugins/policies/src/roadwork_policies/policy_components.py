"""Policies as a spec names them; the mathematics is imported when one is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from roadwork_core import component, option, slot

if TYPE_CHECKING:
    from roadwork_core.kinds import PolicyContext, PolicyRestoreContext

    from .hybrid import HybridPolicy
    from .scrc import ScrcPolicy
    from .threshold import ThresholdPolicy

Metric = Literal[
    "mcc",
    "f1",
    "balanced_accuracy",
    "accuracy",
    "youden",
    "cost",
    "recall_at_precision",
    "precision_at_recall",
]


@component("policy", "threshold")
class Threshold:
    """One cut on the margin: positive iff margin >= t, with t chosen for a metric.

    `plug_in` is the default because the cut that is best on a small val_calib is not best outside it: on normal
    scores, 300 samples, 5 % positives, it gained .015 (± .005) of true MCC over the empirical cut. It trusts its
    calibrator, though: where no logistic curve fits the scores it lost between .005 and .08. The fit compares the
    methods on held-out folds and warns; `auto` kept most of the gain and lost at most .005
    (benchmarks/sweep/methods.py, 200 draws a case).
    """

    mode: ClassVar[str] = "fast"

    metric: Metric = option(default="mcc", help="what the cut is chosen for")
    method: Literal["plug_in", "empirical", "bootstrap", "auto"] = option(
        default="plug_in",
        help="plug_in: calibrate, then maximise the metric of the expected counts; empirical: the cut that is exactly"
        " best on val_calib; bootstrap: the median of the best cuts of resamples; auto: plug_in, unless empirical"
        " does better on held-out folds",
    )
    calibrator: Any = slot(
        "calibrator",
        default={"use": "platt"},
        help="what plug_in calibrates the margin with; temperature cannot repair a shifted prior",
    )
    target_prior: float | None = option(
        default=None, above=0, below=1, help="share of positives in deployment (default: that of val_calib)"
    )
    abstain_band: float = option(
        default=0.0, minimum=0, help="abstain where the margin is nearer to t than this, in logits"
    )
    fp_cost: float = option(default=1.0, minimum=0, help="cost of a false positive, for metric cost")
    fn_cost: float = option(default=1.0, minimum=0, help="cost of a false negative, for metric cost")
    min_precision: float = option(
        default=0.9, above=0, maximum=1, help="precision to keep, for metric recall_at_precision"
    )
    min_recall: float = option(default=0.9, above=0, maximum=1, help="recall to keep, for metric precision_at_recall")
    n_thresholds: int = option(default=5000, minimum=3, help="points of the saved curve; the cut is exact anyway")
    bootstrap: int = option(
        default=200, minimum=20, help="resamples by group, for the interval of t and for method bootstrap"
    )
    folds: int = option(default=5, minimum=2, help="folds by group of the cross-fitted estimate")

    def build(self, ctx: PolicyContext) -> ThresholdPolicy:
        """Chooses the cut. Raises DataError for no samples, one class, or a constraint that no cut meets."""
        from .threshold import fit

        return fit(self, ctx)

    def restore(self, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> ThresholdPolicy:
        """From `state()`."""
        from .threshold import restore

        return restore(state, ctx)

    def requires(self) -> Sequence[str]:
        """Nothing."""
        return ()


@component("policy", "scrc")
class Scrc:
    """Selective conformal risk control: select the most confident, answer where the prediction set is one label.

    For a share `xi` of the samples the prediction set holds the true label with probability at least 1 - `alpha`
    given that the sample was selected (arXiv 2512.12844, with the transductive rule in closed form).
    """

    mode: ClassVar[str] = "accurate"

    alpha: float = option(default=0.1, above=0, below=1, help="largest probability that a selected set misses")
    xi: float = option(default=0.8, above=0, maximum=1, help="share of the samples to select")
    variant: Literal["transductive", "inductive"] = option(
        default="transductive",
        help="transductive: the share is xi on average; inductive: at least xi with probability 1 - delta",
    )
    delta: float = option(default=0.1, above=0, below=1, help="for inductive: how often the share may fall short")
    calibrator: Any = slot(
        "calibrator", default={"use": "temperature"}, help="fitted on the part that conformal does not see"
    )
    fit_fraction: float = option(
        default=0.5, above=0, below=1, help="share of the groups of val_calib that fit the calibrator"
    )

    def build(self, ctx: PolicyContext) -> ScrcPolicy:
        """Fits both parts. Raises InfeasibleError, with the sample size needed, where nothing can be promised."""
        from .scrc import fit

        return fit(self, ctx)

    def restore(self, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> ScrcPolicy:
        """From `state()`."""
        from .scrc import restore

        return restore(self, state, ctx)

    def requires(self) -> Sequence[str]:
        """Nothing."""
        return ()


@component("policy", "hybrid")
class Hybrid:
    """The fast policy's answer where it is far from its cut, the robust policy's elsewhere."""

    mode: ClassVar[str] = "hybrid"

    fast: str = option(default="threshold", help="name of the policy that answers clear samples; needs a cut")
    robust: str = option(default="scrc", help="name of the policy that decides the others")
    target_error: float = option(
        default=0.05, minimum=0, below=1, help="error on val_calib of the answers that the fast policy gives alone"
    )
    must_answer: bool = option(default=False, help="answer with the fast policy's label instead of abstaining")

    def build(self, ctx: PolicyContext) -> HybridPolicy:
        """Fits the routing margin. Raises DataError where the members are missing or have no cut."""
        from .hybrid import fit

        return fit(self, ctx)

    def restore(self, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> HybridPolicy:
        """From `state()`, with its members from `ctx`."""
        from .hybrid import restore

        return restore(self, state, ctx)

    def requires(self) -> Sequence[str]:
        """Both members."""
        return tuple(dict.fromkeys((self.fast, self.robust)))
