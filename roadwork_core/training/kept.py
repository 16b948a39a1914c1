"""A training on kept features: what is missing is computed by all processes, then everything is read from disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import frozen
from torch import Tensor

from roadwork_core.data.loading import ImageDataset

from .extraction import Extractor, Filling
from .feature_feed import EVALUATION, FeatureFeed, view_keys
from .features import FeatureCache, weights_digest

if TYPE_CHECKING:
    from accelerate import Accelerator

    from roadwork_core.console import Console
    from roadwork_core.data.sample import Row
    from roadwork_core.data.sampling import SamplerName


@frozen(kw_only=True)
class Kept:
    """The feed, and for the manifest: samples and views kept, how many of them were computed now, in how long."""

    feed: FeatureFeed
    report: Mapping[str, Any]


@frozen(kw_only=True)
class Keeper:
    """Makes feeds of kept features.

    `made_by` is a JSON value of all that features depend on beside weights and preprocessing: architecture, versions.
    """

    cache: FeatureCache
    extractor: Extractor
    made_by: Mapping[str, Any]
    accelerator: Accelerator
    console: Console
    seed: int
    batch_size: int
    sampler: SamplerName
    workers: int
    max_pixels: int

    def keep(
        self,
        train: Sequence[Row],
        val_select: Sequence[Row],
        *,
        augmentations: Sequence[Callable[[Tensor], Tensor]],
        described: Any,
        views: int,
    ) -> Kept:
        """Computes what is not on disk. `described` says as a JSON value what the augmentations are."""
        started = time.monotonic()
        preprocessing = self.extractor.preprocessing
        made_by = {
            **self.made_by,
            "weights": weights_digest(self.extractor.backbone),
            "preprocessing": preprocessing.to_json(),
            "computed": {
                "device": self.accelerator.device.type,
                "precision": str(self.accelerator.mixed_precision) if self.accelerator.native_amp else "fp32",
            },
        }
        store = self.cache.store(made_by)
        if augmentations:
            names = [{"epoch": epoch, "seed": self.seed, "augment": described} for epoch in range(views)]
            train_keys = [view_keys(train, name, per_row=True) for name in names]
        else:
            train_keys = [view_keys(train, EVALUATION, per_row=False)]
        held_out_keys = view_keys(val_select, EVALUATION, per_row=False)
        parts = (
            ("train", ImageDataset(train, preprocessing, augmentations, seed=self.seed, max_pixels=self.max_pixels)),
            ("val_select", ImageDataset(val_select, preprocessing, max_pixels=self.max_pixels)),
        )
        keys = {"train": train_keys, "val_select": [held_out_keys]}
        computed = 0
        # In the first round each process takes its share; the second makes what no disk of this machine has after it.
        for world in (self.accelerator.num_processes, 1):
            for name, dataset in parts:
                filling = Filling(
                    store=store, dataset=dataset, extractor=self.extractor, workers=self.workers, console=self.console
                )
                wanted = {
                    key: (epoch, position) for epoch, own in enumerate(keys[name]) for position, key in enumerate(own)
                }
                share = dict(list(wanted.items())[self.accelerator.process_index % world :: world])
                computed += filling.fill(share, f"features of {name}")
            self.accelerator.wait_for_everyone()
            store.refresh()
        if self.accelerator.is_main_process:
            self.cache.trim()
        feed = FeatureFeed(
            store,
            train,
            val_select,
            train_keys=train_keys,
            val_select_keys=held_out_keys,
            sampler=self.sampler,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        total = len(train) * len(train_keys) + len(val_select)
        self.console.info(f"features: {total:,} kept, {computed:,} of them computed now")
        report = {"kept": total, "views": len(train_keys), "computed": computed}
        return Kept(feed=feed, report={**report, "seconds": round(time.monotonic() - started, 3)})
