"""Calibrators as a spec names them; the mathematics is imported when one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from roadwork_core import component, option

if TYPE_CHECKING:
    from roadwork_core.kinds import CalibratorContext

    from .calibrators import Affine, Beta, Isotonic, Scaled, Unchanged
    from .linear_calibrators import LinearMap


@component("calibrator", "none")
class Identity:
    """Leaves the logits as they are, for scores that are calibrated already."""

    def build(self, ctx: CalibratorContext) -> Unchanged:
        """Nothing is fitted."""
        from .calibrators import Unchanged

        return Unchanged()

    def restore(self, state: Mapping[str, Any]) -> Unchanged:
        """From `state()`."""
        from .calibrators import Unchanged

        return Unchanged()


@component("calibrator", "temperature")
class Temperature:
    """Divides the logits by one number fitted by maximum likelihood (Guo et al., 2017); never changes a ranking."""

    def build(self, ctx: CalibratorContext) -> Scaled:
        """Fits the temperature. Raises DataError without samples."""
        from .calibrators import Scaled

        return Scaled.fit(ctx.logits, ctx.labels)

    def restore(self, state: Mapping[str, Any]) -> Scaled:
        """From `state()`."""
        from .calibrators import Scaled

        return Scaled(float(state["temperature"]))


@component("calibrator", "platt")
class Platt:
    """A logistic fit of slope and offset on the margin of two classes (Platt, 1999); repairs a shifted prior too."""

    def build(self, ctx: CalibratorContext) -> Affine:
        """Fits slope and offset. Raises DataError for more than two classes, or scores that rank backwards."""
        from .calibrators import Affine

        return Affine.fit(ctx.logits, ctx.labels)

    def restore(self, state: Mapping[str, Any]) -> Affine:
        """From `state()`."""
        from .calibrators import Affine

        return Affine(float(state["slope"]), float(state["offset"]))


@component("calibrator", "beta")
class BetaCalibration:
    """A logistic fit with a slope on each side of the margin of two classes (Kull et al., 2017)."""

    def build(self, ctx: CalibratorContext) -> Beta:
        """Fits the map. Raises DataError for more than two classes, or scores that rank backwards."""
        from .calibrators import Beta

        return Beta.fit(ctx.logits, ctx.labels)

    def restore(self, state: Mapping[str, Any]) -> Beta:
        """From `state()`."""
        from .calibrators import Beta

        return Beta(**{name: float(state[name]) for name in ("centre", "scale", "a", "b", "c")})


@component("calibrator", "isotonic")
class IsotonicCalibration:
    """A rising step function of the margin of two classes (Zadrozny and Elkan, 2002), fitted by scikit-learn.

    It assumes nothing but the order, so it needs samples (a thousand or more): with few it can be worse than none.
    Margins on one step become ties.
    """

    def build(self, ctx: CalibratorContext) -> Isotonic:
        """Fits the steps. Raises DataError for more than two classes, one class, or scores that rank backwards."""
        from .calibrators import Isotonic

        return Isotonic.fit(ctx.logits, ctx.labels)

    def restore(self, state: Mapping[str, Any]) -> Isotonic:
        """From `state()`."""
        from .calibrators import Isotonic

        return Isotonic.from_state(state)


@component("calibrator", "vector")
class VectorScaling:
    """A weight and an intercept for the logit of every class (Guo et al., 2017); repairs a shifted prior too."""

    l2: float = option(default=1e-3, above=0, help="penalty on the mean squared intercept")

    def build(self, ctx: CalibratorContext) -> LinearMap:
        """Fits by penalised maximum likelihood. Raises DataError without samples."""
        from .linear_calibrators import fit_vector

        return fit_vector(ctx.logits, ctx.labels, self.l2)

    def restore(self, state: Mapping[str, Any]) -> LinearMap:
        """From `state()`."""
        from .linear_calibrators import LinearMap

        return LinearMap.from_state(state, normalised=False)


@component("calibrator", "dirichlet")
class DirichletCalibration:
    """A linear map of all log probabilities (Kull et al., 2019): also repairs classes taken for one another.

    With C classes it has C(C + 1) parameters; `l2` holds those off the diagonal near 0, as their ODIR does.
    """

    l2: float = option(
        default=1e-2, above=0, help="penalty on the mean squared weights off the diagonal, and on the intercepts"
    )

    def build(self, ctx: CalibratorContext) -> LinearMap:
        """Fits by penalised maximum likelihood. Raises DataError without samples."""
        from .linear_calibrators import fit_dirichlet

        return fit_dirichlet(ctx.logits, ctx.labels, self.l2)

    def restore(self, state: Mapping[str, Any]) -> LinearMap:
        """From `state()`."""
        from .linear_calibrators import LinearMap

        return LinearMap.from_state(state, normalised=True)
