"""Decision policies and the calibrators that they use."""

from roadwork_core import hookimpl

from .calibrator_components import BetaCalibration, Identity, Platt, Temperature
from .policy_components import Hybrid, Scrc, Threshold

__all__ = ["BetaCalibration", "Hybrid", "Identity", "Platt", "Scrc", "Temperature", "Threshold"]


@hookimpl
def roadwork_components() -> list[type]:
    """The calibrators and policies of this package."""
    return [Identity, Temperature, Platt, BetaCalibration, Threshold, Scrc, Hybrid]
