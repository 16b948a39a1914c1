"""A run on disk: its directory and lock, stage manifests, fingerprints, and how stages are carried out or skipped."""

from .context import StageContext
from .directory import Run, RunLock
from .engine import Outcome, StageOutcome, carry_out, plan, take_part
from .manifest import StageManifest

__all__ = [
    "Outcome",
    "Run",
    "RunLock",
    "StageContext",
    "StageManifest",
    "StageOutcome",
    "carry_out",
    "plan",
    "take_part",
]
