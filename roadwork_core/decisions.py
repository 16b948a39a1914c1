"""What a policy says of n samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ABSTAIN = -1


@frozen(kw_only=True, eq=False)
class Decisions:
    """n decisions.

    labels: int64 (n,), a class index or ABSTAIN (-1).
    scores: float64 (n,), P(positive) in [0, 1] as the policy sees it.
    sets: bool (n, C), the prediction set of each sample.
    reasons: n short lines that say why ("score 0.91 >= 0.62", "set of 2 labels", "fallback: ...").
    policies: n names of the policy or part that decided, or None where the policy is one whole.
    """

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    sets: NDArray[np.bool_]
    reasons: Sequence[str]
    policies: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def abstain(self) -> NDArray[np.bool_]:
        """bool (n,)."""
        return self.labels == ABSTAIN

    def rows(self) -> Iterator[dict[str, Any]]:
        """One plain JSON object per decision, with class indices."""
        for row, (label, score, members, reason) in enumerate(
            zip(self.labels.tolist(), self.scores.tolist(), self.sets, self.reasons, strict=True)
        ):
            yield {
                "row": row,
                "label": None if label == ABSTAIN else label,
                "abstain": label == ABSTAIN,
                "score": score,
                "set": [index for index, member in enumerate(members.tolist()) if member],
                "reason": reason,
            }
