"""Bundles: the deployable, self-contained, verified folder that a run emits; written, verified, read, compared."""

from .format import Bundle, Level
from .images import Source, find_images
from .predictor import Prediction, Predictor, load
from .verify import Verification, verify

__all__ = ["Bundle", "Level", "Prediction", "Predictor", "Source", "Verification", "find_images", "load", "verify"]
