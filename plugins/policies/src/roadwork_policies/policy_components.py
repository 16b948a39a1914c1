"""Policies as a spec names them; the mathematics is imported when one is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from roadwork_core import component, option, slot

if TYPE_CHECKING:
    from roadwork_core.kinds import PolicyContext, PolicyRestoreContext

    from .hybrid import HybridPolicy
    from .prediction_sets import ConformalPolicy
    from .scrc import ScrcPolicy
    from .selective_error import SelectiveErrorPolicy
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

PER_GROUP = (
    "all: every sample of a group, an approximation where groups have several; one: a random sample of each, for a"
    " promise that is exact for new groups"
)
FIT_FRACTION = "share of the groups of val_calib that fit the calibrator (none, where there is nothing to fit)"


@component("policy", "threshold")
class Threshold:
    """One cut on the margin: positive iff margin >= t, with t chosen for a metric.

    `bootstrap` is the default because it is worth most outside its sample over the kinds of scores, sample sizes and
    prevalences that were tried (docs/benchmarks/threshold.md). `plug_in` is worth more where its calibrator fits the
    scores and less, by up to .13 of MCC, where it does not; `auto` takes it only where held-out folds show a gain.
    """

    mode: ClassVar[str] = "fast"

    metric: Metric = option(default="mcc", help="what the cut is chosen for")
    method: Literal["plug_in", "empirical", "bootstrap", "auto"] = option(
        default="bootstrap",
        help="bootstrap: the median of the best cuts of resamples by group; empirical: the cut that is exactly best on"
        " val_calib; plug_in: calibrate, then maximise the metric of the expected counts; auto: bootstrap, unless"
        " plug_in does better on held-out folds by a standard error",
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
    loss: Literal["miscoverage", "false_negative_rate"] = option(
        default="miscoverage",
        help="what alpha bounds: miscoverage: how often a set misses its label; false_negative_rate: the same among"
        " positives alone",
    )
    calibrator: Any = slot(
        "calibrator", default={"use": "temperature"}, help="fitted on the part that conformal does not see"
    )
    fit_fraction: float = option(default=0.5, above=0, below=1, help=FIT_FRACTION)
    per_group: Literal["all", "one"] = option(default="all", help=PER_GROUP)

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


@component("policy", "conformal")
class Conformal:
    """Split conformal prediction sets; answers where the set is one label.

    `lac` (Sadinle et al., 2019) gives the smallest sets on average, `aps` (Romano et al., 2020) sets that grow with
    doubt, `raps` (Angelopoulos et al., 2021) the same without long tails. For two classes `lac` is a cut on the
    confidence and `aps` that is not randomized is useless.
    """

    mode: ClassVar[str] = "accurate"

    alpha: float = option(default=0.1, above=0, below=1, help="largest probability that a set misses its label")
    score: Literal["lac", "aps", "raps"] = option(default="lac", help="how little a label fits a sample")
    class_conditional: bool = option(
        default=False, help="keep the promise within each true class (Mondrian), which needs samples of each"
    )
    randomized: bool = option(
        default=True, help="for aps and raps: the label at the edge counts in part, by a number drawn from its logits"
    )
    penalty: float = option(default=0.1, minimum=0, help="for raps: added for every rank beyond k_reg")
    k_reg: int = option(default=1, minimum=0, help="for raps: ranks without a penalty")
    fill_empty: bool = option(default=False, help="put the likeliest label into an empty set; coverage can only rise")
    calibrator: Any = slot(
        "calibrator", default={"use": "temperature"}, help="fitted on the part that conformal does not see"
    )
    fit_fraction: float = option(default=0.5, above=0, below=1, help=FIT_FRACTION)
    per_group: Literal["all", "one"] = option(default="all", help=PER_GROUP)

    def build(self, ctx: PolicyContext) -> ConformalPolicy:
        """Fits the bounds. Raises InfeasibleError, with the sample size needed, where nothing can be promised."""
        from .prediction_sets import fit

        return fit(self, ctx)

    def restore(self, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> ConformalPolicy:
        """From `state()`."""
        from .prediction_sets import restore

        return restore(self, state, ctx)

    def requires(self) -> Sequence[str]:
        """Nothing."""
        return ()


@component("policy", "selective_error")
class SelectiveError:
    """Answers above a confidence at which the error of the answers given is at most `target_error`, as a test shows.

    With probability 1 - `delta` over calibration sets. `fixed_sequence` (Learn then test, Angelopoulos et al., 2021)
    lowers the confidence while an exact binomial test is passed; `sgr` (Geifman and El-Yaniv, 2017)
    is there to compare.
    """

    mode: ClassVar[str] = "accurate"

    target_error: float = option(default=0.05, above=0, below=1, help="largest share of wrong among the answers given")
    delta: float = option(default=0.1, above=0, below=1, help="largest probability that the share is larger after all")
    method: Literal["fixed_sequence", "sgr"] = option(
        default="fixed_sequence",
        help="fixed_sequence: tests in a fixed order, each at delta; sgr: a search at delta/tests",
    )
    start: float = option(default=0.2, above=0, maximum=1, help="for fixed_sequence: share answered at the first test")
    step: float = option(default=0.02, minimum=0.001, maximum=1, help="for fixed_sequence: share added by each test")
    calibrator: Any = slot(
        "calibrator",
        default={"use": "none"},
        help="orders the samples by confidence; for two classes temperature changes nothing",
    )
    fit_fraction: float = option(default=0.2, above=0, below=1, help=FIT_FRACTION)
    per_group: Literal["all", "one"] = option(default="all", help=PER_GROUP)

    def build(self, ctx: PolicyContext) -> SelectiveErrorPolicy:
        """Tests the cuts. Raises InfeasibleError, with the sample size needed, where none passes."""
        from .selective_error import fit

        return fit(self, ctx)

    def restore(self, state: Mapping[str, Any], ctx: PolicyRestoreContext) -> SelectiveErrorPolicy:
        """From `state()`."""
        from .selective_error import restore

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
    on_empty_set: Literal["fallback", "abstain"] = option(
        default="fallback",
        help="where no label fits: fallback: the fast policy's label, counted as a fallback; abstain: no answer",
    )

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
