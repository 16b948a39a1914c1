"""Decision policies and the calibrators that they use."""

from roadwork_core import hookimpl

from .calibrator_components import (
    BetaCalibration,
    DirichletCalibration,
    Identity,
    IsotonicCalibration,
    Platt,
    Temperature,
    VectorScaling,
)
from .policy_components import Conformal, Hybrid, Scrc, SelectiveError, Threshold

CALIBRATORS = (
    Identity,
    Temperature,
    Platt,
    BetaCalibration,
    IsotonicCalibration,
    VectorScaling,
    DirichletCalibration,
)
POLICIES = (Threshold, Scrc, Conformal, SelectiveError, Hybrid)

__all__ = [
    "CALIBRATORS",
    "POLICIES",
    "BetaCalibration",
    "Conformal",
    "DirichletCalibration",
    "Hybrid",
    "Identity",
    "IsotonicCalibration",
    "Platt",
    "Scrc",
    "SelectiveError",
    "Temperature",
    "Threshold",
    "VectorScaling",
]


@hookimpl
def roadwork_components() -> list[type]:
    """The calibrators and policies of this package."""
    return [*CALIBRATORS, *POLICIES]
