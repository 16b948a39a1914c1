"""Feedback: what served bundles said, and what was true, in one SQLite file that any number of processes write to."""

from .pictures import PictureFolder
from .record import Label, Recorded, Seen
from .store import FeedbackStore

__all__ = ["FeedbackStore", "Label", "PictureFolder", "Recorded", "Seen"]
