"""From pictures to kept features: only those that are not on disk yet pass the backbone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from attrs import define, field, frozen
from torch import Tensor, nn

from roadwork_core.data.loading import BatchSchedule, ImageDataset, make_loader

if TYPE_CHECKING:
    from roadwork_core.console import Console
    from roadwork_core.data.preprocessing import Preprocessing

    from .features import FeatureStore

#: Pictures that pass the backbone together, the last ones padded to as many: what a picture's features are must not
#: depend on which others were missing at the time.
BATCH = 32
#: A file is written after so many samples or seconds, so that little is lost when the process is killed.
FILE_SAMPLES = 4096
FILE_SECONDS = 60.0


@frozen(kw_only=True)
class Extractor:
    """A backbone in use: uint8 pictures, (n, 3, h, w), to its features, float (n, D), on the CPU."""

    backbone: nn.Module
    preprocessing: Preprocessing
    device: torch.device
    autocast: Callable[[], AbstractContextManager[None]]

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        parts = []
        for start in range(0, len(pictures), BATCH):
            chunk = pictures[start : start + BATCH]
            filler = chunk[-1:].expand(BATCH - len(chunk), -1, -1, -1)
            inputs = self.preprocessing.normalise(torch.cat([chunk, filler]).to(self.device))
            with self.autocast():
                features: Tensor = self.backbone(inputs)
            parts.append(features[: len(chunk)].cpu())
        return torch.cat(parts)


@define(kw_only=True)
class Filling:
    """Fills a store with the features of `dataset`'s pictures."""

    store: FeatureStore
    dataset: ImageDataset
    extractor: Extractor
    workers: int
    console: Console
    _warned: bool = field(init=False, default=False)

    def fill(self, wanted: Mapping[bytes, tuple[int, int]], label: str) -> int:
        """Computes what is missing of `wanted`, (epoch, position in the dataset) by key; returns how many those were.

        What was computed before an interruption is kept.
        """
        keys = [list(wanted)[number] for number in self.store.missing(list(wanted))]
        if not keys:
            return 0
        self.extractor.backbone.eval()
        pending: list[tuple[Sequence[bytes], Tensor]] = []
        started = time.monotonic()
        try:
            total = -(-len(keys) // BATCH)
            for batch in self.console.progress(self._computed(keys, wanted), total=total, label=label):
                pending.append(batch)
                full = sum(len(part) for part, _ in pending) >= FILE_SAMPLES
                if full or time.monotonic() - started >= FILE_SECONDS:
                    self._write(pending)
                    pending, started = [], time.monotonic()
        finally:
            self._write(pending)
        return len(keys)

    def _computed(
        self, keys: Sequence[bytes], wanted: Mapping[bytes, tuple[int, int]]
    ) -> Iterator[tuple[Sequence[bytes], Tensor]]:
        for epoch in sorted({wanted[key][0] for key in keys}):
            own = [key for key in keys if wanted[key][0] == epoch]
            chunks = [own[start : start + BATCH] for start in range(0, len(own), BATCH)]
            schedule = BatchSchedule()
            schedule.set(epoch, [[wanted[key][1] for key in chunk] for chunk in chunks])
            loader = make_loader(self.dataset, schedule, workers=min(self.workers, len(chunks)))
            for chunk, (pictures, _) in zip(chunks, loader, strict=True):
                yield chunk, self.extractor(pictures)

    def _write(self, pending: Sequence[tuple[Sequence[bytes], Any]]) -> None:
        if not pending:
            return
        keys = [key for part, _ in pending for key in part]
        features = torch.cat([part for _, part in pending])
        try:
            self.store.add(keys, features)
        except OSError as error:
            self.store.hold(keys, features)
            if not self._warned:
                self._warned = True
                reason = (error.strerror or str(error)).lower()
                self.console.warn(f"features cannot be kept in {self.store.folder} ({reason}): in memory for this run")
