"""A sweep: the trials of a spec's `[sweep]`, carried out as ordinary runs, compared on val_select, reported."""

from .engine import Ending, Engine
from .results import Result, compare_trials
from .search import FixedSearch, Search
from .space import Trial, trials_of

__all__ = ["Ending", "Engine", "FixedSearch", "Result", "Search", "Trial", "compare_trials", "trials_of"]
