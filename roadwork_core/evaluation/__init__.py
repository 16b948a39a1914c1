"""How good a bundle's or a run's decisions are: on any labelled set, by slice, under distortion, against another."""

from .measure import Labelled, decide_all, measure
from .substitute import agreement, compare_substitute

__all__ = ["Labelled", "agreement", "compare_substitute", "decide_all", "measure"]
