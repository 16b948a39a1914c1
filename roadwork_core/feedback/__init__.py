"""Feedback: what served bundles said, and what was true, in one SQLite file that any number of processes write to."""

from .record import Label, Recorded, Seen
from .store import FeedbackStore

__all__ = ["FeedbackStore", "Label", "Recorded", "Seen"]
