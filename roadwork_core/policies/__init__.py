"""Policies as documents: fitted from scores in the order of their needs, written as JSON, read back to decide."""

from .documents import SCHEMA, PolicyDocument, fit_policies, load_policies, sweep_csv
from .scores import Scores, read_scores, scores_csv

__all__ = [
    "SCHEMA",
    "PolicyDocument",
    "Scores",
    "fit_policies",
    "load_policies",
    "read_scores",
    "scores_csv",
    "sweep_csv",
]
