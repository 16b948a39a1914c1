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
