"""Pictures kept in a bundle with the logits and decisions that they must give, to prove that it works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import Problem
from .deciding import Decider
from .format import GOLDEN_EXPECTED
from .inventory import at

if TYPE_CHECKING:
    from ..inference import Scorer

SCHEMA = "roadwork.golden/1"
#: How far logits may move between machines, relative to the larger of 1 and the expected magnitude.
TOLERANCE = 1e-3


def choose(
    logits: NDArray[np.float64], labels: NDArray[np.int64], decider: Decider, count: int, tolerance: float = TOLERANCE
) -> list[int]:
    """Rows of logits (n, C) to keep: spread over margins and classes, and of firm decisions.

    A decision is firm when moving the margin by three times the tolerance either way changes no policy's answer,
    so that a replay on another machine must decide identically. Only where too few are firm do others follow.
    """
    order = np.lexsort((np.arange(len(labels)), _margins(logits, decider.positive)))
    firm = _firm(logits, decider, tolerance)
    ranked = [int(row) for row in order if firm[row]]
    classes = sorted({int(labels[row]) for row in ranked})
    chosen: list[int] = []
    shares = np.array_split(np.arange(count), len(classes)) if classes else []
    for label, share in zip(classes, shares, strict=True):
        mine = [row for row in ranked if labels[row] == label]
        places = np.linspace(0, len(mine) - 1, min(len(share), len(mine))).round().astype(int)
        chosen += [mine[place] for place in dict.fromkeys(places.tolist())]
    rest = [row for row in [*ranked, *(int(row) for row in order if not firm[row])] if row not in chosen]
    return sorted([*chosen, *rest[: max(0, count - len(chosen))]])


def _margins(logits: NDArray[np.float64], positive: int) -> NDArray[np.float64]:
    others = np.delete(logits, positive, axis=1)
    result: NDArray[np.float64] = logits[:, positive] - others.max(axis=1)
    return result


def _firm(logits: NDArray[np.float64], decider: Decider, tolerance: float) -> NDArray[np.bool_]:
    firm = np.ones(len(logits), dtype=np.bool_)
    shift = 3.0 * tolerance * np.maximum(1.0, np.abs(logits).max(axis=1))
    for name in decider.policies:
        plain = decider.decide(logits, policy=name)
        for sign in (-1.0, 1.0):
            moved = logits.copy()
            moved[:, decider.positive] += sign * shift
            other = decider.decide(moved, policy=name)
            firm &= plain.decisions.labels == other.decisions.labels
            firm &= (plain.decisions.sets == other.decisions.sets).all(axis=1)
    return firm


def expected_document(logits: NDArray[np.float64], decider: Decider, labels: Sequence[str]) -> dict[str, Any]:
    """golden/expected.json: logits (n, C) and the decisions of every policy, with label names."""
    decisions = {name: _rows(logits, decider, name, labels) for name in sorted(decider.policies)}
    return {"schema": SCHEMA, "tolerance": TOLERANCE, "logits": logits.tolist(), "decisions": decisions}


def _rows(logits: NDArray[np.float64], decider: Decider, policy: str, labels: Sequence[str]) -> list[dict[str, Any]]:
    decided = decider.decide(logits, policy=policy)
    return [
        {
            "label": None if row["label"] is None else labels[row["label"]],
            "abstain": row["abstain"],
            "score": None if index in decided.errors else row["score"],
            "set": [labels[member] for member in row["set"]],
        }
        for index, row in enumerate(decided.decisions.rows())
    ]


def read_pictures(path: Path) -> list[Any]:
    """The golden pictures, each a uint8 tensor (3, H, W), in order of their names."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    return [tensors[name] for name in sorted(tensors)]


def write_pictures(pictures: Sequence[Any]) -> bytes:
    """golden/inputs.safetensors for uint8 tensors (3, H, W)."""
    from safetensors.torch import save

    return save({f"image_{index:04d}": picture.contiguous() for index, picture in enumerate(pictures)})


def logit_problems(
    expected: NDArray[np.float64], actual: NDArray[np.float64], tolerance: float
) -> Iterator[tuple[int, str]]:
    """Rows of `actual` (n, C) that are further than the tolerance from `expected`, and how far."""
    difference = np.abs(actual - expected)
    allowed = tolerance * np.maximum(1.0, np.abs(expected))
    for row in range(len(expected)):
        if not np.isfinite(actual[row]).all():
            yield row, "the logits are not finite"
        elif (difference[row] > allowed[row]).any():
            yield row, f"the logits are {difference[row].max():.3g} from the expected ones"


def replay(
    golden: Mapping[str, Any], pictures: Sequence[Any], scorer: Scorer, decider: Decider, labels: Sequence[str]
) -> list[Problem]:
    """Scores the golden pictures and decides on them: logits within the tolerance, decisions identical."""
    expected = np.array(golden["logits"], dtype=np.float64)
    actual = scorer.logits(pictures)
    origin = at(GOLDEN_EXPECTED)
    if actual.shape != expected.shape:
        return [Problem(f"the model gives logits of shape {actual.shape}, not {expected.shape}", "logits", origin)]
    tolerance = golden["tolerance"]
    problems = [
        Problem(f"replaying image_{row:04d}: {reason}", f"logits.{row}", origin)
        for row, reason in logit_problems(expected, actual, tolerance)
    ]
    for name, rows in golden["decisions"].items():
        for index, (want, got) in enumerate(zip(rows, _rows(actual, decider, name, labels), strict=True)):
            if (want["label"], want["abstain"], want["set"]) != (got["label"], got["abstain"], got["set"]):
                problems.append(
                    Problem(
                        f"replaying image_{index:04d}: {name} decides {_told(got)}, not {_told(want)}",
                        f"decisions.{name}.{index}",
                        origin,
                    )
                )
            elif got["score"] is None or abs(got["score"] - want["score"]) > max(10 * tolerance, 1e-2):
                problems.append(
                    Problem(
                        f"replaying image_{index:04d}: {name} scores {got['score']}, not {want['score']}",
                        f"decisions.{name}.{index}.score",
                        origin,
                    )
                )
    return problems


def _told(row: Mapping[str, Any]) -> str:
    return "to abstain" if row["abstain"] else str(row["label"])
