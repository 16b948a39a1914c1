"""From pictures to logits, one way for scoring, prediction and the golden replay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import numpy as np
import torch
from attrs import frozen
from torch import Tensor, nn

from .compute_threads import ComputeThreads
from .data.preprocessing import Preprocessing
from .errors import RoadworkError
from .kinds import TtaContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .backends import Backend
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


#: Views of a model's own size that go through it together.
BATCH = 64
#: The view whose features stand for a picture.
IDENTITY = "identity"


class Network(Protocol):
    """What computes a classifier, by `backend` on `device`; threads may share it.

    Normalised images, float32 (N, 3, h, w), to logits, float64 (N, C), and the features that they were made of, float32
    (N, D), or None for a network that shows none.
    """

    backend: ClassVar[Backend]

    @property
    def device(self) -> torch.device: ...

    def __call__(self, inputs: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]: ...


@frozen
class TorchNetwork:
    """A torch module in evaluation mode on its device, in float32 whatever the training precision was."""

    backend: ClassVar[Backend] = "torch"
    model: nn.Module
    device: torch.device

    @classmethod
    def on(cls, device: torch.device | str, model: nn.Module) -> TorchNetwork:
        return cls(model.to(device).eval(), torch.device(device))

    @torch.inference_mode()
    def __call__(self, inputs: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        with_features = getattr(self.model, "with_features", None)
        with torch.autocast(self.device.type, enabled=False):
            logits, features = (self.model(inputs), None) if with_features is None else with_features(inputs)
        seen = None if features is None else features.float().flatten(1).cpu().numpy()
        return logits.double().cpu().numpy(), seen


@frozen
class Scored:
    """Fused `logits`, float64 (n, C), and the `features` that the head saw of each picture's identity view (of its
    first view, where a TTA has no such), float32 (n, D); None for a model that shows none."""

    logits: NDArray[np.float64]
    features: NDArray[np.float32] | None


def fused(tta: Tta, view_logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits of each view, float64 (V, n, C), to fused logits, float64 (n, C), picture by picture: what else is in
    the array changes no bit."""
    count, classes = view_logits.shape[1:]
    rows = [np.asarray(tta.fuse(view_logits[:, at : at + 1])) for at in range(count)]
    return np.concatenate(rows) if rows else np.empty((0, classes))


class Scorer:
    """Logits of raw pictures by a torch module, which goes to `device`, or by another `Network`, on its own device.

    `batch_size` counts views of the model's own size that go through the model together; larger views are fewer
    and smaller ones more, so that a batch never holds more pixels. With None, which is the default on a CPU, a
    picture goes through the model with its own views alone, in one of `workers` threads with `threads` of torch each:
    its logits are then the same to the bit whatever else is asked, and by whom. Elsewhere None stands for batches of
    `BATCH`, in which the last bits of a logit depend on the others.

    Safe to share between threads: it holds no state between calls.
    """

    def __init__(
        self,
        network: nn.Module | Network,
        preprocessing: Preprocessing,
        tta: Tta,
        *,
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        workers: int | None = None,
        threads: int = 1,
    ) -> None:
        self.network: Network = TorchNetwork.on(device, network) if isinstance(network, nn.Module) else network
        self.preprocessing = preprocessing
        self.tta = tta
        self.device = self.network.device
        self.alone = batch_size is None and self.device.type == "cpu"
        self.batch_size = batch_size or BATCH
        self._compute = ComputeThreads(workers, threads)

    def computing(self, *, batch_size: int | None = None, workers: int | None = None, threads: int = 1) -> Scorer:
        """A scorer of the same network that computes otherwise."""
        return Scorer(
            self.network,
            self.preprocessing,
            self.tta,
            batch_size=batch_size,
            workers=workers,
            threads=threads,
        )

    @property
    def model(self) -> nn.Module:
        """The torch module. Raises RoadworkError where something else computes."""
        if not isinstance(self.network, TorchNetwork):
            raise RoadworkError("this bundle was loaded without its torch module", hint='load it with backend="torch"')
        return self.network.model

    @property
    def min_side(self) -> int:
        """Shorter side in pixels that pictures should be decoded to at least."""
        return max(self.preprocessing.min_side, self.tta.min_side)

    def logits(self, images: Sequence[Tensor]) -> NDArray[np.float64]:
        """Raw pictures, each uint8 (3, H, W) of any size, to fused logits, float64 (n, C).

        Raises RoadworkError where the TTA learns and has not been fitted.
        """
        return self.scored(images).logits

    def scored(self, images: Sequence[Tensor]) -> Scored:
        """As `logits`, with features, which cost nothing more."""
        if splits := unfitted(self.tta):
            raise RoadworkError(
                f"the test-time augmentation has not been fitted (on {' and '.join(splits)})",
                hint="its state is written by the stage score, and is part of a bundle's model/model.json",
            )
        logits, features = self._of_views(images)
        return Scored(fused(self.tta, logits), features)

    def view_logits(self, images: Sequence[Tensor]) -> NDArray[np.float64]:
        """Raw pictures, each uint8 (3, H, W) of any size, to the logits of each view, float64 (V, n, C)."""
        return self._of_views(images)[0]

    def _of_views(self, images: Sequence[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        if not self.alone or not images:
            return self._together(images)
        parts = self._compute.map(lambda image: self._together([image]), images)
        features = [seen for _, seen in parts if seen is not None]
        return np.concatenate([logits for logits, _ in parts], axis=1), np.concatenate(features) if features else None

    def _together(self, images: Sequence[Tensor]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """Views of one size go through the model together, whichever picture they are of."""
        views = [self.tta.views(image) for image in images]
        by_size: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
        for sample, sample_views in enumerate(views):
            for view, tensor in enumerate(sample_views):
                by_size[tuple(tensor.shape)].append((view, sample))
        identity = list(self.tta.view_ids).index(IDENTITY) if IDENTITY in self.tta.view_ids else 0
        rows: dict[tuple[int, int], NDArray[np.float64]] = {}
        features: dict[int, NDArray[np.float32]] = {}
        for shape, alike in by_size.items():
            most = self._most(shape[-2] * shape[-1])
            for start in range(0, len(alike), most):
                chunk = alike[start : start + most]
                found, seen = self._forward(torch.stack([views[sample][view] for view, sample in chunk]))
                rows.update(zip(chunk, found, strict=True))
                if seen is not None:
                    features |= {at: row for (view, at), row in zip(chunk, seen, strict=True) if view == identity}
        classes = next(iter(rows.values())).size if rows else 0
        logits = np.empty((len(self.tta.view_ids), len(images), classes))
        for (view, sample), row in rows.items():
            logits[view, sample] = row
        return logits, np.stack([features[sample] for sample in range(len(images))]) if features else None

    def _most(self, pixels: int) -> int:
        height, width = self.preprocessing.size
        return max(1, self.batch_size * height * width // pixels)

    def _forward(self, batch: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        return self.network(self.preprocessing.normalise(batch.to(self.device, non_blocking=True)))
