"""How good a bundle's or a run's decisions are: on any labelled set, by slice, under distortion, against another."""

from .measure import Labelled, decide_all, measure

__all__ = ["Labelled", "decide_all", "measure"]
