"""How much each key matters, where the trials can tell: exactly for a whole grid, by a forest for drawn trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from optuna.distributions import BaseDistribution

#: Finished trials below which a forest is not asked.
LEAST = 30
#: Share of the variance of trials that it did not see which a forest must explain, or it says nothing.
EXPLAINED = 0.25


def importance(
    results: Sequence[Result], *, permutations: int = 2000, seed: int = 0
) -> tuple[list[dict[str, Any]] | None, str]:
    """What share of a grid's variance each key explains alone, and a sentence; None where nothing honest is known.

    Only a whole grid says it exactly: there the main effects are orthogonal (the first-order part of a functional
    analysis of variance). `p` is the share of random orders of the figures in which the key explains as much.
    """
    keys = list(results[0].parameters) if results else []
    axes = {key: list(dict.fromkeys(result.parameters[key] for result in results)) for key in keys}
    size = math.prod(len(values) for values in axes.values())
    figures = [result.figure.value for result in results if result.figure is not None]
    if len(figures) < size or len(results) != size:
        return None, "Not computed: the finished trials are not a whole grid, so effects cannot be told apart."
    if size < 4 or sum(len(levels) > 1 for levels in axes.values()) < 2:
        return None, "Not computed: it takes two keys and four trials at least."
    values = np.array(figures)
    spread = float(values.var())
    if spread == 0.0:
        return None, "Not computed: every trial has the same figure."
    rng = np.random.default_rng(seed)
    orders = np.stack([rng.permutation(values) for _ in range(permutations)])
    found: list[dict[str, Any]] = []
    for key, levels in axes.items():
        index = np.array([levels.index(result.parameters[key]) for result in results])
        member = np.eye(len(levels))[:, index]
        means = member / member.sum(axis=1, keepdims=True)
        share = float((means @ values).var() / spread)
        chance = (orders @ means.T).var(axis=1) / spread
        p = float((1 + np.count_nonzero(chance >= share - 1e-12)) / (1 + permutations))
        found.append({"key": key, "share": min(1.0, share), "p": p})
    rest = max(0.0, 1.0 - sum(entry["share"] for entry in found))
    return found, f"The rest, {rest:.0%}, is interaction and chance. p: how often chance alone explains as much."


def importance_by_forest(
    results: Sequence[Result],
    distributions: Mapping[str, BaseDistribution],
    *,
    gathered: bool,
    resamples: int = 10,
    trees: int = 16,
    seed: int = 0,
) -> tuple[list[dict[str, Any]] | None, str]:
    """The share of each key in the variance of the figures over its whole range (fANOVA; Hutter et al., 2014).

    `distributions` are what Optuna draws from; a range in the logarithm counts in the logarithm. `low` and `high` are
    the least and the most of the share when the trials are drawn again with replacement. `gathered` says that the
    trials lie where figures are good. None where there are too few trials, or where a forest cannot foretell the figure
    of a trial that it has not seen.
    """
    finished = [result for result in results if result.figure is not None]
    figures = np.array([result.figure.value for result in finished if result.figure is not None])
    if len(distributions) < 2 or len(finished) < LEAST:
        return None, f"Not computed: it takes two keys and {LEAST} finished trials at least."
    if figures.var() == 0.0:
        return None, "Not computed: every trial has the same figure."
    explained = _explained(finished, distributions, figures, seed)
    if explained < EXPLAINED:
        return None, (
            f"Not computed: a random forest explains {max(0.0, explained):.0%} of the variance of trials that it has"
            f" not seen, less than {EXPLAINED:.0%}, so what it says of the keys would be chance."
        )
    whole = _shares(finished, figures, distributions, trees=trees, seed=seed)
    rng = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {key: [] for key in distributions}
    for number in range(resamples):
        picked = rng.integers(len(finished), size=len(finished))
        if figures[picked].var() == 0.0:
            continue
        again = _shares([finished[i] for i in picked], figures[picked], distributions, trees=trees, seed=number)
        for key, share in again.items():
            drawn[key].append(share)
    found = [
        {"key": key, "share": share, "low": min(share, *drawn[key]), "high": max(share, *drawn[key])}
        for key, share in whole.items()
    ]
    note = (
        f"By a random forest (fANOVA, Optuna) on {len(finished)} finished trials, which explains {explained:.0%} of the"
        f" variance of trials that it has not seen. Bounds: the least and the most when the trials are drawn again,"
        f" {resamples} times."
    )
    if gathered:
        note += (
            " Trials of a TPE search gather where figures are good: a key that was settled early can show less than it"
            " matters."
        )
    return found, note


def _shares(
    results: Sequence[Result],
    figures: NDArray[np.float64],
    distributions: Mapping[str, BaseDistribution],
    *,
    trees: int,
    seed: int,
) -> dict[str, float]:
    import optuna

    from .study import quiet_optuna

    # Optuna weighs a range evenly as it is written; one in the logarithm would count for its upper end alone.
    even = {key: _even(distribution) for key, distribution in distributions.items()}
    with quiet_optuna():
        study = optuna.create_study()
        for result, figure in zip(results, figures.tolist(), strict=True):
            values = {key: _place(result.parameters[key], distributions[key]) for key in distributions}
            study.add_trial(optuna.trial.create_trial(value=figure, params=values, distributions=even))
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=seed)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=list(distributions))
    return {key: float(shares[key]) for key in distributions}


def _even(distribution: BaseDistribution) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(distribution, FloatDistribution | IntDistribution) and distribution.log:
        return FloatDistribution(math.log(distribution.low), math.log(distribution.high))
    return distribution


def _place(value: Any, distribution: BaseDistribution) -> Any:
    return value if _even(distribution) is distribution else math.log(value)


def _explained(
    results: Sequence[Result],
    distributions: Mapping[str, BaseDistribution],
    figures: NDArray[np.float64],
    seed: int,
) -> float:
    """R squared of a random forest on the trials that each of its trees did not see."""
    from optuna.distributions import CategoricalDistribution
    from sklearn.ensemble import RandomForestRegressor

    columns: list[NDArray[np.float64]] = []
    for key, distribution in distributions.items():
        values = [result.parameters[key] for result in results]
        if isinstance(distribution, CategoricalDistribution):
            columns += [np.array([float(value == choice) for value in values]) for choice in distribution.choices]
        else:
            columns.append(np.array([float(_place(value, distribution)) for value in values]))
    forest = RandomForestRegressor(n_estimators=200, oob_score=True, random_state=seed)
    forest.fit(np.column_stack(columns), figures)
    return float(forest.oob_score_)
