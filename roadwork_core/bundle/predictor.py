"""A loaded bundle that answers: pictures in, predictions out, from any number of threads."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from attrs import evolve, field, frozen

from ..backends import Backend, resolve
from ..errors import RoadworkError
from .device import usable_device
from .format import WEIGHTS, Bundle, Level
from .images import Source
from .verify import verify as verify_bundle

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from ..plugins import Plugins
    from .runtime import Runtime

    Picture: TypeAlias = Path | str | bytes | Image | np.ndarray[Any, Any]

_DECODERS = min(8, os.cpu_count() or 1)


@frozen(kw_only=True)
class Prediction:
    """What the bundle says of one picture, with class names.

    `score` is P(positive) as `policy` sees it, `labels` its prediction set. With `error` there is no decision.
    `logits` are the fused ones, by class; `features` the backbone's, where they were asked for and there are any.
    """

    path: str | None
    label: str | None = None
    abstain: bool = False
    score: float = float("nan")
    labels: tuple[str, ...] = ()
    policy: str = ""
    reason: str = ""
    error: str | None = None
    logits: tuple[float, ...] = ()
    features: Sequence[float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `predict --json`."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "label": self.label,
            "abstain": self.abstain,
            "score": self.score,
            "set": list(self.labels),
            "policy": self.policy,
            "reason": self.reason,
        }


def load(
    path: Path | str,
    verify: Level | str = Level.LOAD,
    *,
    plugins: Plugins | None = None,
    device: str = "auto",
    backend: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    threads: int = 1,
) -> Predictor:
    """Verifies a bundle at least up to `schema`, builds it, and returns what predicts with it.

    `device` is a torch device, or "auto" for a GPU where there is one. `backend` computes the network: "torch", or
    "onnx" (ONNX Runtime, on a CPU), which "auto" takes where the bundle carries the network in ONNX; only what
    computes is verified. Their logits differ in the last bits. On a CPU each picture goes through the model
    alone, in one of `workers` threads (None: one a core) with `threads` of torch: logits are then the same to the bit
    whatever else is asked, in every process with as many `threads`. With a `batch_size`, as many views go through
    together, which tiny networks do faster, and the last bits depend on the others in the batch. Below the level
    `load`, a policy that cannot be restored is answered for by the fallback.
    Raises VerificationError with every failure, UsageError where there is no such bundle.
    """
    # Torchvision and the decoders are for the first picture, which would wait seconds for them.
    from torchvision.transforms.v2 import functional  # noqa: F401

    from ..data import decode  # noqa: F401
    from ..plugins import Plugins
    from .runtime import Runtime, make_decider, make_onnx_scorer, make_scorer

    level = Level(verify) if Level(verify).includes(Level.SCHEMA) else Level.SCHEMA
    plugins = plugins or Plugins.load()
    device = "cpu" if (backend, device) == ("onnx", "auto") else usable_device(device)
    found = verify_bundle(path, level, plugins, device=device, backend=backend, threads=threads)
    found.raise_for_failures()
    if found.bundle is None:
        raise RoadworkError("the bundle could not be read", path=path)
    computes = resolve(backend, carries_onnx=found.bundle.carries_onnx, device=device)
    runtime = found.runtimes.get(computes)
    if runtime is None:
        scorer = (
            make_onnx_scorer(found.bundle, plugins, threads=threads)
            if computes == "onnx"
            else make_scorer(found.bundle.model, found.bundle.path / WEIGHTS, plugins, device=device)
        )
        runtime = Runtime(bundle=found.bundle, scorer=scorer, decider=make_decider(found.bundle, plugins))
    computing = runtime.scorer.computing(batch_size=batch_size, workers=workers, threads=threads)
    return Predictor(evolve(runtime, scorer=computing))


@frozen
class Predictor:
    """Predicts with one bundle; safe to call from several threads at once. Pictures are decoded in parallel, and on a
    CPU computed in parallel; in batches the model runs for one call at a time. `fallbacks` counts by cause what the
    fallback policy answered."""

    _runtime: Runtime
    fallbacks: Counter[str] = field(factory=Counter, init=False)
    _computing: threading.Lock = field(factory=threading.Lock, init=False)
    _counting: threading.Lock = field(factory=threading.Lock, init=False)

    @property
    def bundle(self) -> Bundle:
        return self._runtime.bundle

    @property
    def backend(self) -> Backend:
        """What computes the network."""
        return self._runtime.backend

    @property
    def runtime(self) -> Runtime:
        """The scorer and the decider, for those who need logits or several policies at once."""
        return self._runtime

    def predict(
        self,
        images: Sequence[Picture],
        *,
        mode: str | None = None,
        policy: str | None = None,
        must_answer: bool = False,
        on_bad_image: Literal["raise", "report"] = "raise",
        features: bool = False,
    ) -> list[Prediction]:
        """One prediction per picture, each a path, the bytes of a file, a PIL picture or a uint8 (H, W, 3) array.

        `mode` (fast, accurate, hybrid) or `policy` choose who decides, by default the active policy; `must_answer`
        turns abstentions into answers; `features` gives those of the backbone too. Raises UsageError for a mode or
        policy that the bundle does not have, and BadImageError for a picture that cannot be read, unless
        `on_bad_image="report"` makes it a prediction with `error`.
        """
        name = self.bundle.policy_for(mode=mode, policy=policy)
        sources = [Source(_path_of(image) or "") for image in images]
        if len(images) < 2:
            decoded = [self._decode(image, on_bad_image) for image in images]
        else:
            with ThreadPoolExecutor(min(_DECODERS, len(images))) as pool:
                decoded = list(pool.map(lambda image: self._decode(image, on_bad_image), images))
        return self._decide(sources, decoded, name, must_answer, features=features)

    def stream(
        self,
        sources: Iterable[Source],
        *,
        mode: str | None = None,
        policy: str | None = None,
        must_answer: bool = False,
        batch_size: int = 32,
    ) -> Iterator[Prediction]:
        """Predictions in the order of `sources`, of which two batches are held at a time; a picture that cannot be
        read is a prediction with `error`. Raises UsageError as `predict` does."""
        name = self.bundle.policy_for(mode=mode, policy=policy)
        pending = iter(sources)
        with ThreadPoolExecutor(_DECODERS) as pool:

            def begin() -> tuple[list[Source], list[Any]]:
                batch = list(islice(pending, batch_size))
                return batch, [pool.submit(self._decode_source, source) for source in batch]

            batch, jobs = begin()
            while batch:
                decoded = [job.result() for job in jobs]
                following, jobs = begin()
                yield from self._decide(batch, decoded, name, must_answer)
                batch = following

    def _decode_source(self, source: Source) -> Tensor | str:
        return source.error if source.error is not None else self._decode(Path(source.path), "report")

    def _decode(self, image: Picture, on_bad_image: str) -> Tensor | str:
        """Picture to uint8 (3, H, W), or why it cannot be read."""
        import torch

        from ..data.decode import BadImageError, decode

        signature = self.bundle.manifest["signature"]["input"]
        source = Path(image) if isinstance(image, str) else image
        try:
            pixels = decode(source, min_side=self._runtime.scorer.min_side, max_pixels=signature["max_pixels"])
        except BadImageError as error:
            if on_bad_image == "raise":
                raise
            return error.message
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def _decide(
        self,
        sources: Sequence[Source],
        decoded: Sequence[Tensor | str],
        policy: str,
        must_answer: bool,
        *,
        features: bool = False,
    ) -> list[Prediction]:
        readable = [row for row, picture in enumerate(decoded) if not isinstance(picture, str)]
        predictions: dict[int, Prediction] = {
            row: Prediction(path=sources[row].path or None, error=picture)
            for row, picture in enumerate(decoded)
            if isinstance(picture, str)
        }
        if readable:
            pictures: list[Any] = [decoded[row] for row in readable]
            # Threads of the scorer's own bound what is computed at once; a batch has the device for itself.
            with nullcontext() if self._runtime.scorer.alone else self._computing:
                scored = self._runtime.scorer.scored(pictures)
            decided = self._runtime.decider.decide(scored.logits, policy=policy, must_answer=must_answer)
            with self._counting:
                self.fallbacks.update(decided.fallbacks)
            names = decided.decisions.policies or [policy] * len(readable)
            for index, (row, found) in enumerate(zip(readable, decided.decisions.rows(), strict=True)):
                prediction = self._prediction(sources[row].path or None, found, names[index], decided.errors.get(index))
                if prediction.error is None:
                    seen = scored.features[index].tolist() if features and scored.features is not None else None
                    prediction = evolve(prediction, logits=tuple(scored.logits[index].tolist()), features=seen)
                predictions[row] = prediction
        return [predictions[row] for row in range(len(decoded))]

    def _prediction(self, path: str | None, row: Mapping[str, Any], policy: str, error: str | None) -> Prediction:
        if error is not None:
            return Prediction(path=path, error=error)
        labels = self.bundle.labels
        return Prediction(
            path=path,
            label=None if row["label"] is None else labels[row["label"]],
            abstain=row["abstain"],
            score=row["score"],
            labels=tuple(labels[member] for member in row["set"]),
            policy=policy,
            reason=row["reason"],
        )


def _path_of(image: Picture) -> str | None:
    return str(image) if isinstance(image, str | os.PathLike) else None
