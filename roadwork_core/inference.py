"""From pictures to logits, one way for scoring, prediction and the golden replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from .data.preprocessing import Preprocessing
from .kinds import TtaContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .kinds import Tta


def build_tta(component: Any, preprocessing: Preprocessing, num_classes: int) -> Tta:
    """The TTA of a spec or a bundle, for inputs of this preprocessing."""
    context = TtaContext(
        image_size=preprocessing.size,
        size_multiple=preprocessing.size_multiple,
        num_classes=num_classes,
        to_input=preprocessing.to_input,
    )
    return cast("Tta", component.build(context))


class Scorer:
    """Logits of raw pictures, in float32 whatever the training precision was.

    `batch_size` counts views that go through the model together. Safe to share between threads for reading: it
    holds no state between calls.
    """

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        tta: Tta,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
    ) -> None:
        self.model = model.to(device).eval()
        self.preprocessing = preprocessing
        self.tta = tta
        self.device = torch.device(device)
        self.batch_size = batch_size

    @property
    def min_side(self) -> int:
        """Shorter side in pixels that pictures should be decoded to at least."""
        return max(self.preprocessing.min_side, self.tta.min_side)

    def logits(self, images: Sequence[Tensor]) -> NDArray[np.float64]:
        """Raw pictures, each uint8 (3, H, W) of any size, to fused logits, float64 (n, C)."""
        views = [self.tta.views(image) for image in images]
        by_size: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
        for sample, sample_views in enumerate(views):
            for view, tensor in enumerate(sample_views):
                by_size[tuple(tensor.shape)].append((view, sample))
        rows: list[tuple[int, int]] = []
        parts: list[NDArray[np.float64]] = []
        for places in by_size.values():
            for start in range(0, len(places), self.batch_size):
                chunk = places[start : start + self.batch_size]
                parts.append(self._forward(torch.stack([views[sample][view] for view, sample in chunk])))
                rows += chunk
        logits = np.empty((len(self.tta.view_ids), len(images), parts[0].shape[1] if parts else 0))
        for (view, sample), row in zip(rows, (row for part in parts for row in part), strict=True):
            logits[view, sample] = row
        return self.tta.fuse(logits)

    @torch.inference_mode()
    def _forward(self, batch: Tensor) -> NDArray[np.float64]:
        inputs = self.preprocessing.normalise(batch.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, enabled=False):
            logits: Tensor = self.model(inputs)
        return logits.double().cpu().numpy()
