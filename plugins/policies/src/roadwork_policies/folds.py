"""Parts of val_calib that never tear a group apart."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from roadwork_core.metrics.inputs import Booleans, Integers


def random_part(codes: Integers, fraction: float, seed: int) -> Booleans:
    """Marks (n,) the samples of a random `fraction` of the groups, of at least one group where there are two.

    Drawn without regard to labels: a stratified part would not be exchangeable with a new sample.
    """
    groups = int(codes.max()) + 1
    count = min(max(round(fraction * groups), 1), groups - 1) if groups > 1 else 0
    chosen = np.zeros(groups, dtype=np.bool_)
    chosen[np.random.default_rng(seed).permutation(groups)[:count]] = True
    return chosen[codes]


def one_per_group(codes: Integers, among: Booleans, seed: int) -> Booleans:
    """Marks (n,) one random sample of every group that has any `among` (n,) the samples to draw from."""
    chance = np.random.default_rng([seed, 4]).random(codes.size)
    order = np.lexsort((chance, codes))
    order = order[among[order]]
    first = np.append(True, codes[order][1:] != codes[order][:-1])[: order.size]
    chosen = np.zeros(codes.size, dtype=np.bool_)
    chosen[order[first]] = True
    return chosen


def divided(codes: Integers, fraction: float, seed: int, *, one: bool) -> tuple[Booleans, Booleans]:
    """Two masks (n,): samples that fit a calibrator, a `fraction` of the groups, and those that the promise is taken
    from, of other groups; of these `one` keeps a random sample a group. A fraction of 0 gives all to the second."""
    fits = random_part(codes, fraction, seed) if fraction > 0 else np.zeros(codes.size, dtype=np.bool_)
    return fits, one_per_group(codes, ~fits, seed) if one else ~fits


def about_groups(n: int, groups: int, *, one: bool, are: str = "exchangeable") -> str:
    """What a promise from `n` samples of `groups` groups rests on, in words; `are` is what samples must be."""
    if one:
        return f"This holds for a random sample of a new group, if new and calibration groups are {are}"
    if n == groups:
        return f"This holds if the new sample and the calibration samples are {are}"
    return (
        f"This would hold if the new sample and the calibration samples were {are}; samples of one group are alike, so"
        f" with {groups} groups it is an approximation, the worse the fewer groups there are"
        ' (per_group = "one" is exact)'
    )


def stratified_folds(positive: Booleans, codes: Integers, folds: int, seed: int) -> Integers:
    """The fold (n,) of each sample: whole groups, dealt so that folds hold like shares of positives.

    Groups are ordered by their positives and negatives, ties by chance, and dealt back and forth.
    """
    groups = int(codes.max()) + 1
    positives = np.bincount(codes, weights=positive, minlength=groups)
    negatives = np.bincount(codes, weights=~positive, minlength=groups)
    chance = np.random.default_rng(seed).random(groups)
    order = np.lexsort((chance, -negatives, -positives))
    turn = np.arange(groups) % (2 * folds)
    fold = np.empty(groups, dtype=np.int64)
    fold[order] = np.where(turn < folds, turn, 2 * folds - 1 - turn)
    return fold[codes]


def training_parts(fold: Integers, positive: Booleans) -> Iterator[tuple[Booleans, Booleans]]:
    """Pairs of masks (n,): samples to fit on and samples held out, where the former hold both classes."""
    for index in np.unique(fold):
        held_out = fold == index
        if 0 < positive[~held_out].sum() < (~held_out).sum():
            yield ~held_out, held_out
