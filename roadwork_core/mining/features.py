"""Features by which errors are compared: those that were stored, a backbone's, or what a thumbnail shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.perceptual import SIDE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..bundle import Predictor
    from ..data.scan import Look
    from ..feedback import FeedbackStore

#: Pictures that go through a backbone together.
BATCH = 32


def features_of(
    found: Sequence[tuple[Any, Look]], store: FeedbackStore, predictor: Callable[[], Predictor] | None
) -> tuple[NDArray[np.float32], str]:
    """Features of errors (with `key` and `path`), float32 (n, d), and where they come from.

    Those of the store count only where every one has them, of one length; else the `predictor` is asked for.
    """
    kept = store.features_of([one.key for one, _ in found])
    if len(kept) == len({one.key for one, _ in found}) and len({len(row) for row in kept.values()}) == 1:
        return np.array([kept[one.key] for one, _ in found], dtype=np.float32), "store"
    if predictor is not None:
        return _of_backbone([Path(one.path) for one, _ in found], predictor()), "backbone"
    grids = np.stack([look.thumbnail for _, look in found]).reshape(len(found), SIDE * SIDE).astype(np.float32)
    return grids - grids.mean(axis=1, keepdims=True), "thumbnail"


def _of_backbone(paths: Sequence[Path], predictor: Predictor) -> NDArray[np.float32]:
    import torch

    from ..data.decode import decode

    scorer = predictor.runtime.scorer
    backbone: Any = scorer.model.backbone
    limit = predictor.bundle.manifest["signature"]["input"]["max_pixels"]
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(paths), BATCH):
        views = []
        for path in paths[start : start + BATCH]:
            pixels = decode(path, min_side=scorer.min_side, max_pixels=limit)
            image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
            views.append(scorer.preprocessing.to_input(image))
        with torch.inference_mode():
            inputs = scorer.preprocessing.normalise(torch.stack(views).to(scorer.device))
            parts.append(backbone(inputs).float().cpu().numpy().reshape(len(views), -1))
    return np.concatenate(parts)
