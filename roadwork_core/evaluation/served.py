"""What was served and is known of it: a scores file with features, or the latest predictions of a feedback store."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from attrs import frozen

from ..errors import UsageError
from ..policies import Scores, read_scores

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..feedback import FeedbackStore, Recorded

#: Predictions of a store that are compared at most, the latest.
LATEST = 10_000
_FEATURE = re.compile(r"feature_(\d+)")


@frozen(kw_only=True)
class Served:
    """Served samples; `features` float64 (n, D) or None. `labelled` are those whose label has come, where that is not
    true of all `scores`."""

    scores: Scores
    features: NDArray[np.float64] | None = None
    labelled: Scores | None = None


def read_served(path: Path, *, classes: int) -> Served:
    """Reads a scores file with the columns feature_0, feature_1, ... where it has them.

    Raises UsageError for what is not such a file or has other classes.
    """
    scores = read_scores(path, labelled=False)
    if scores.logits.shape[1] != classes:
        raise UsageError(f"has {scores.logits.shape[1]} columns of logits, the bundle {classes} classes", path=path)
    return Served(scores=scores, features=_features(path))


def served_of_store(
    store: FeedbackStore, labels: Sequence[str], *, bundle_id: str, since: float | None = None
) -> Served:
    """The latest predictions of a bundle, `LATEST` at most, its classes in order; `since` in seconds since 1970.

    Those that were kept without logits are left out. A picture that was asked about again and again is one group.
    Labels that are none of the classes count as not there; features only where every prediction has some, of one
    length. Where no prediction is left, there are no rows. Raises UsageError for logits of another number of classes.
    """
    found: deque[Recorded] = deque(maxlen=LATEST)
    for one in store.read(bundle_id=bundle_id, since=since, features=False):
        if one.seen.logits is not None:
            found.append(one)
    if not found:
        return Served(scores=Scores(logits=np.empty((0, len(labels))), labels=None, groups=None))
    lengths = {len(one.seen.logits or ()) for one in found}
    if lengths != {len(labels)}:
        raise UsageError(f"has logits of {max(lengths)} classes, the bundle {len(labels)}", path=store.path)
    logits = np.array([one.seen.logits for one in found], dtype=np.float64)
    pictures = [one.seen.sha256 or one.seen.path or one.seen.key for one in found]
    groups = np.unique(pictures, return_inverse=True)[1].astype(np.int64)
    place = {name: index for index, name in enumerate(labels)}
    truth = np.array([place.get(one.truth or "", -1) for one in found], dtype=np.int64)
    known = truth >= 0
    labelled = Scores(logits=logits[known], labels=truth[known], groups=groups[known]) if known.any() else None
    kept = store.features_of([one.seen.key for one in found])
    rows = [kept.get(one.seen.key) for one in found]
    alike = None not in rows and len({len(row) for row in rows if row is not None}) == 1
    return Served(
        scores=Scores(logits=logits, labels=None, groups=groups),
        features=np.array(rows, dtype=np.float64) if alike else None,
        labelled=labelled,
    )


def _features(path: Path) -> NDArray[np.float64] | None:
    import pyarrow
    from pyarrow import csv, parquet

    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    table = parquet.read_table(path) if is_parquet else csv.read_csv(path)
    names = sorted(filter(_FEATURE.fullmatch, table.column_names), key=lambda name: int(name.removeprefix("feature_")))
    if not names:
        return None
    try:
        found = np.stack([table[name].cast(pyarrow.float64()).to_numpy() for name in names], axis=1)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, ValueError) as error:
        raise UsageError(f"the features are not all numbers: {error}", path=path) from None
    if not np.isfinite(found).all():
        raise UsageError("the features are not all finite", path=path)
    return np.asarray(found, dtype=np.float64)
