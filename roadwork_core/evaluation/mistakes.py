"""The wrong answers that a report shows as pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..decisions import ABSTAIN
from ..report.html import Mistake

if TYPE_CHECKING:
    from ..data.sample import Row
    from ..decisions import Decisions

#: Mistakes that a report shows, and the longer side of their thumbnails in pixels.
MISTAKES = 12
THUMBNAIL = 320


def worst_mistakes(
    decisions: Decisions, rows: Sequence[Row], classes: Sequence[str], positive: int, *, max_pixels: int
) -> tuple[list[Mistake], int]:
    """The wrong answers given with the most confidence, and how many wrong answers there are."""
    targets = np.array([row.target for row in rows], dtype=np.int64)
    wrong = np.flatnonzero((decisions.labels != ABSTAIN) & (decisions.labels != targets))
    confidence = np.where(decisions.labels == positive, decisions.scores, 1.0 - decisions.scores)
    worst = sorted(wrong.tolist(), key=lambda row: (-confidence[row], row))[:MISTAKES]
    return [
        Mistake(
            path="/".join(Path(rows[row].path).parts[-2:]),
            truth=classes[targets[row]],
            decided=classes[int(decisions.labels[row])],
            score=float(decisions.scores[row]),
            reason=decisions.reasons[row],
            jpeg=_thumbnail(Path(rows[row].path), max_pixels),
        )
        for row in worst
    ], len(wrong)


def _thumbnail(path: Path, max_pixels: int) -> bytes | None:
    from PIL import Image

    from ..data.decode import BadImageError, decode

    try:
        picture = Image.fromarray(decode(path, min_side=THUMBNAIL // 2, max_pixels=max_pixels))
    except BadImageError:
        return None
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=80)
    return content.getvalue()
