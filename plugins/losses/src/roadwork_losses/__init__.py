"""Classification losses for roadwork."""

from __future__ import annotations

from roadwork_core import hookimpl

from .components import Asymmetric, ClassBalanced, CrossEntropy, Focal, Poly
from .margins import Ldam, SoftMcc

__all__ = ["Asymmetric", "ClassBalanced", "CrossEntropy", "Focal", "Ldam", "Poly", "SoftMcc"]


@hookimpl
def roadwork_components() -> list[type]:
    return [Asymmetric, ClassBalanced, CrossEntropy, Focal, Ldam, Poly, SoftMcc]
