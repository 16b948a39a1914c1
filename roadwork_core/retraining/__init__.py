"""Retraining: the champion's splits with hard negatives mixed into train, and whether the challenger is better."""

from .mix import Mix, mix
from .verdict import Verdict, judge

__all__ = ["Mix", "Verdict", "judge", "mix"]
