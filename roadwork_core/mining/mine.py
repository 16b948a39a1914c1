"""From labelled predictions to a manifest of hard negatives, a list of doubtful labels, and what was left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import field, frozen

from ..errors import DataError
from .features import features_of
from .held_out import HeldOut
from .selection import Chosen, choose

if TYPE_CHECKING:
    from ..bundle import Predictor
    from ..console import Console
    from ..data.scan import Look
    from ..feedback import FeedbackStore, Recorded

#: Labelled predictions beside the errors of a type among which neighbours are looked for, at most.
REFERENCES = 4000


@frozen(kw_only=True)
class Options:
    """`cap` errors of each type at most, out of the `pool` of the largest loss; see `selection.choose`."""

    cap: int = 500
    pool: int = 5000
    neighbours: int = 10
    agreement: float = 0.2
    seed: int = 0
    bundle_id: str | None = None
    since: float | None = None
    max_pixels: int = 100_000_000


@frozen(kw_only=True)
class Error:
    """A wrong decision on a picture; `similarity` and `agreement` as in `selection.Chosen`."""

    key: str
    path: str
    kind: str
    truth: str
    decided: str
    score: float
    loss: float
    bundle_id: str
    similarity: float = 0.0
    agreement: float = 1.0


@frozen(kw_only=True)
class Mined:
    """What was chosen, best first, the false positives before the false negatives; what is doubted; and the counts."""

    chosen: Sequence[Error]
    suspects: Sequence[Error]
    counts: dict[str, Any] = field(factory=dict)


def mine(
    store: FeedbackStore,
    held_out: HeldOut,
    console: Console,
    *,
    options: Options,
    predictor: Callable[[], Predictor] | None = None,
) -> Mined:
    """Mines a store for the errors of each type (false positives, false negatives) apart.

    Pictures of the run that `held_out` knows, or near to those that it selects, fits or tests with, are refused.
    Features are those of the store, else of the `predictor`'s backbone, else thumbnails. Raises DataError where no
    prediction is labelled.
    """
    counts: Counter[str] = Counter()
    errors, right = _sorted_out(store, held_out, options, counts)
    if not counts["labelled"]:
        raise DataError("no prediction has a label", path=store.path, hint="roadwork feedback import adds labels")
    chosen: list[Error] = []
    suspects: list[Error] = []
    for kind in ("false_positive", "false_negative"):
        pool = _pool([error for error in errors if error.kind == kind], held_out, console, options, counts)
        if not pool:
            continue
        known = _references([one for one in (*errors, *right) if one.kind != kind], held_out, options)
        features, source = features_of([*pool, *known], store, predictor)
        counts[f"features: {source}"] += len(features)
        # Negative classes are one side: of several, each would else doubt the others.
        beside = features[len(pool) :]
        same = np.array(
            [(one.truth == held_out.positive) == (kind == "false_negative") for one, _ in known], dtype=bool
        )
        found = choose(
            features[: len(pool)],
            np.array([error.loss for error, _ in pool]),
            others=beside[~same],
            alike=beside[same],
            cap=options.cap,
            pool=options.pool,
            neighbours=options.neighbours,
            agreement=options.agreement,
        )
        looked_at = _measured([error for error, _ in pool], found)
        chosen += [looked_at[place] for place in found.picked.tolist()]
        suspects += [looked_at[place] for place in found.suspects.tolist()]
    return Mined(chosen=chosen, suspects=suspects, counts=dict(sorted(counts.items())))


def _sorted_out(
    store: FeedbackStore, held_out: HeldOut, options: Options, counts: Counter[str]
) -> tuple[list[Error], list[Error]]:
    """Errors and right answers, one for each picture: the latest."""
    latest: dict[str, Error | None] = {}
    for recorded in store.read(bundle_id=options.bundle_id, since=options.since, labelled=True, features=False):
        counts["labelled"] += 1
        if recorded.seen.path is None or recorded.truth not in held_out.classes:
            counts["without a picture" if recorded.seen.path is None else "of an unknown class"] += 1
            continue
        latest[recorded.seen.sha256 or recorded.seen.path] = _judged(recorded, held_out.positive, counts)
    found = [one for one in latest.values() if one is not None]
    for one in found:
        counts[one.kind] += 1
    return [one for one in found if one.kind != "right"], [one for one in found if one.kind == "right"]


def _judged(recorded: Recorded, positive: str, counts: Counter[str]) -> Error | None:
    seen, truth = recorded.seen, str(recorded.truth)
    if seen.label is None:
        counts["abstained"] += 1
        return None
    if seen.label == truth:
        kind = "right"
    elif positive in (seen.label, truth):
        kind = "false_positive" if seen.label == positive else "false_negative"
    else:
        counts["between two negative classes"] += 1
        return None
    share = seen.score if truth == positive else 1.0 - seen.score
    return Error(
        key=seen.key,
        path=str(seen.path),
        kind=kind,
        truth=truth,
        decided=seen.label,
        score=seen.score,
        loss=-math.log(max(share, 1e-12)),
        bundle_id=seen.bundle_id,
    )


def _pool(
    errors: list[Error], held_out: HeldOut, console: Console, options: Options, counts: Counter[str]
) -> list[tuple[Error, Look]]:
    """The errors of the largest loss whose pictures can be read and may be trained on, with their looks."""
    ranked = sorted(errors, key=lambda error: (-error.loss, error.key))
    pool: list[tuple[Error, Look]] = []
    for error, look in _looks(ranked, held_out, options, console):
        refused = "unreadable" if look is None else held_out.refuses(look)
        if look is None or refused:
            counts[str(refused)] += 1
            continue
        pool.append((error, look))
        if len(pool) == options.pool:
            break
    return pool


def _looks(
    errors: Sequence[Error], held_out: HeldOut, options: Options, console: Console
) -> Iterator[tuple[Error, Look | None]]:
    for start in range(0, len(errors), 512):
        part = errors[start : start + 512]
        console.detail(f"looking at errors {start + 1} to {start + len(part)} of {len(errors)}")
        yield from zip(part, held_out.look([error.path for error in part], options.max_pixels), strict=True)


def _references(found: list[Error], held_out: HeldOut, options: Options) -> list[tuple[Error, Look]]:
    order = np.random.default_rng(options.seed).permutation(len(found))[:REFERENCES]
    ones = [found[place] for place in sorted(order.tolist())]
    looks = held_out.look([one.path for one in ones], options.max_pixels)
    return [(one, look) for one, look in zip(ones, looks, strict=True) if look is not None]


def _measured(errors: Sequence[Error], found: Chosen) -> dict[int, Error]:
    import attrs

    return {
        place: attrs.evolve(errors[place], similarity=round(similarity, 4), agreement=round(agreement, 4))
        for place, similarity, agreement in zip(
            found.pool.tolist(), found.similarity.tolist(), found.agreement.tolist(), strict=True
        )
    }


def rows_of_manifest(mined: Mined) -> list[list[Any]]:
    """Rows for the dataset `manifest`: path, label, split (train), source, error."""
    head = ["path", "label", "split", "source", "error"]
    return [head, *([str(Path(e.path)), e.truth, "train", "mined", e.kind] for e in mined.chosen)]


def rows_of_review(mined: Mined) -> list[list[Any]]:
    """What a person should look at: the label may be wrong."""
    head = ["path", "label", "decided", "score", "loss", "agreement"]
    return [head, *([e.path, e.truth, e.decided, e.score, round(e.loss, 4), e.agreement] for e in mined.suspects)]
