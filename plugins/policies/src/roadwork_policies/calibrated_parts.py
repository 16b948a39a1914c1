"""val_calib in two: a part that fits the calibrator, and one that the promise of a policy is taken from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from attrs import frozen

from roadwork_core.errors import DataError
from roadwork_core.kinds import Calibrator, CalibratorContext, PolicyContext
from roadwork_core.metrics.inputs import Floats, Integers, class_labels, group_codes
from roadwork_core.metrics.logits import as_logits

from .digests import sample_digest
from .folds import divided


class Dividing(Protocol):
    """The options of a policy that divides val_calib."""

    @property
    def calibrator(self) -> Any: ...
    @property
    def fit_fraction(self) -> float: ...
    @property
    def per_group(self) -> str: ...


@frozen(kw_only=True)
class Parts:
    """The fitted `calibrator`, the samples that fitted it, and the others: logits float64 (n, C), labels int64 (n,).

    `groups` counts those of the others, `digest` is theirs, and `salt` seeds their jitter.
    """

    calibrator: Calibrator
    fit_logits: Floats
    fit_labels: Integers
    logits: Floats
    labels: Integers
    groups: int
    digest: str
    salt: int


def calibrated_parts(name: str, options: Dividing, ctx: PolicyContext, too_few: Callable[[int], Exception]) -> Parts:
    """Divides by group, and calibrates; the second part is all where there is no calibrator to fit.

    Raises DataError without samples of two classes for the policy `name`, and `too_few(n)` where a part stays empty.
    """
    from .calibrator_components import Identity

    logits = as_logits(ctx.logits)
    n, classes = logits.shape
    if n == 0:
        raise DataError(f"{name} cannot be fitted without samples", hint="give val_calib some")
    labels = class_labels(ctx.labels, n, classes)
    if np.unique(labels).size < 2:
        raise DataError(f"all {n} samples are of one class", hint=f"{name} needs samples of every class")
    codes = group_codes(ctx.groups, n)
    fraction = 0.0 if isinstance(options.calibrator, Identity) else options.fit_fraction
    fits, rest = divided(codes, fraction, ctx.seed, one=options.per_group == "one")
    if not rest.any() or (fraction > 0 and not fits.any()):
        raise too_few(n)
    return Parts(
        calibrator=options.calibrator.build(CalibratorContext(logits=logits[fits], labels=labels[fits])),
        fit_logits=logits[fits],
        fit_labels=labels[fits],
        logits=logits[rest],
        labels=labels[rest],
        groups=int(np.unique(codes[rest]).size),
        digest=sample_digest(logits[rest], labels[rest]),
        salt=int(np.random.default_rng([ctx.seed, 3]).integers(0, 2**63)),
    )
