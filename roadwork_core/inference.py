"""From pictures to logits, one way for scoring, prediction and the golden replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from .data.preprocessing import Preprocessing
from .errors import RoadworkError
from .kinds import TtaContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .kinds import Tta


def build_tta(
    component: Any, preprocessing: Preprocessing, num_classes: int, state: Mapping[str, Any] | None = None
) -> Tta:
    """The TTA of a spec or a bundle, for inputs of this preprocessing; fitted where a `state` is given.

    Raises RoadworkError for a state that is not of this TTA.
    """
    context = TtaContext(
        image_size=preprocessing.size,
        size_multiple=preprocessing.size_multiple,
        num_classes=num_classes,
        to_input=preprocessing.to_input,
    )
    tta = cast("Tta", component.build(context))
    if state is None:
        return tta
    restore = getattr(tta, "restore", None)
    if restore is None:
        raise RoadworkError("the test-time augmentation learns nothing, and comes with a fitted state")
    try:
        return cast("Tta", restore(state))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RoadworkError(f"the fitted state of the test-time augmentation cannot be restored: {error}") from error


def unfitted(tta: Tta) -> Mapping[str, int | None]:
    """The splits that a TTA must still be fitted on, with how many samples at most; empty when it is ready."""
    return cast("Mapping[str, int | None]", getattr(tta, "fits_on", {}))


class Scorer:
    """Logits of raw pictures, in float32 whatever the training precision was.

    `batch_size` counts views of the model's own size that go through the model together; larger views are fewer
    and smaller ones more, so that a batch never holds more pixels. Safe to share between threads for reading: it
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
        """Raw pictures, each uint8 (3, H, W) of any size, to fused logits, float64 (n, C).

        Raises RoadworkError where the TTA learns and has not been fitted.
        """
        if splits := unfitted(self.tta):
            raise RoadworkError(
                f"the test-time augmentation has not been fitted (on {' and '.join(splits)})",
                hint="its state is written by the stage score, and is part of a bundle's model/model.json",
            )
        return self.tta.fuse(self.view_logits(images))

    def view_logits(self, images: Sequence[Tensor]) -> NDArray[np.float64]:
        """Raw pictures, each uint8 (3, H, W) of any size, to the logits of each view, float64 (V, n, C).

        Views of one size go through the model together, whichever picture they are of.
        """
        views = [self.tta.views(image) for image in images]
        by_size: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
        for sample, sample_views in enumerate(views):
            for view, tensor in enumerate(sample_views):
                by_size[tuple(tensor.shape)].append((view, sample))
        places: list[tuple[int, int]] = []
        parts: list[NDArray[np.float64]] = []
        for shape, alike in by_size.items():
            together = self._together(shape[-2] * shape[-1])
            for start in range(0, len(alike), together):
                chunk = alike[start : start + together]
                parts.append(self._forward(torch.stack([views[sample][view] for view, sample in chunk])))
                places += chunk
        logits = np.empty((len(self.tta.view_ids), len(images), parts[0].shape[1] if parts else 0))
        for (view, sample), row in zip(places, (row for part in parts for row in part), strict=True):
            logits[view, sample] = row
        return logits

    def _together(self, pixels: int) -> int:
        height, width = self.preprocessing.size
        return max(1, self.batch_size * height * width // pixels)

    @torch.inference_mode()
    def _forward(self, batch: Tensor) -> NDArray[np.float64]:
        inputs = self.preprocessing.normalise(batch.to(self.device, non_blocking=True))
        with torch.autocast(self.device.type, enabled=False):
            logits: Tensor = self.model(inputs)
        return logits.double().cpu().numpy()
