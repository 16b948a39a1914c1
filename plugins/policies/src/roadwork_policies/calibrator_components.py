"""Calibrators as a spec names them; the mathematics is imported when one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from roadwork_core import component

if TYPE_CHECKING:
    from roadwork_core.kinds import CalibratorContext

    from .calibrators import Affine, Beta, Scaled, Unchanged


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
