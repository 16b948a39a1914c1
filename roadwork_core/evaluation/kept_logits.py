"""Logits of pictures whose features are kept: what is missing passes the backbone once, the head does the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from attrs import define, field

from ..compute_threads import ComputeThreads
from ..inference import IDENTITY, fused
from ..training.extraction import FILE_SAMPLES
from ..training.feature_feed import EVALUATION, view_keys
from ..training.features import FeatureCache, weights_digest
from .scoring import CHUNK, features_of, refuse_non_finite

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ..console import Console
    from ..data.sample import Row
    from ..inference import Scorer
    from ..model import Classifier
    from ..training.features import FeatureStore


@define(kw_only=True)
class KeptLogits:
    """Logits of the evaluation transform's view alone, as `scorer` gives them: on a CPU the same to the bit.

    `made_by` is a JSON value of what features depend on beside weights and preprocessing: architecture, versions.
    Features that training keeps are others, computed in batches. `features` counts those asked for, `computed` those
    that no disk had.
    """

    scorer: Scorer
    cache: FeatureCache
    made_by: Mapping[str, Any]
    console: Console
    workers: int | None
    max_pixels: int
    features: int = field(init=False, default=0)
    computed: int = field(init=False, default=0)
    _store: FeatureStore | None = field(init=False, default=None)
    _warned: bool = field(init=False, default=False)

    def serves(self, rows: Sequence[Row]) -> bool:
        """Whether the logits of these rows follow from their features: one view, and room on the disk."""
        size = len(rows) * int(cast(Any, self._model.backbone).feature_dim) * 4
        return list(self.scorer.tta.view_ids) == [IDENTITY] and len(rows) > 0 and size <= self.cache.limit

    def logits(self, rows: Sequence[Row], *, name: str) -> NDArray[np.float64]:
        """Logits, float64 (n, C). Raises as `score_rows` does."""
        store = self._store = self._store or self.cache.store(self._extractor())
        keys = view_keys(rows, EVALUATION, per_row=False)
        missing = list({keys[number]: number for number in store.missing(keys)}.values())
        for start in range(0, len(missing), FILE_SAMPLES):
            part = missing[start : start + FILE_SAMPLES]
            found = features_of(
                self.scorer,
                [rows[number] for number in part],
                name=name,
                console=self.console,
                max_pixels=self.max_pixels,
                workers=self.workers,
            )
            self._keep(store, [keys[number] for number in part], torch.from_numpy(np.concatenate(list(found))))
        self.features += len(rows)
        self.computed += len(missing)
        self.cache.trim()
        logits = fused(self.scorer.tta, self._head(store.gather(store.places(keys)))[None])
        refuse_non_finite(np.asarray(np.isfinite(logits).all(axis=1)), rows, name)
        return logits

    @property
    def _model(self) -> Classifier:
        return cast("Classifier", self.scorer.model)

    def _extractor(self) -> dict[str, Any]:
        return {
            **self.made_by,
            "weights": weights_digest(self._model.backbone),
            "preprocessing": self.scorer.preprocessing.to_json(),
            "computed": {"device": self.scorer.device.type, "precision": "fp32", "alone": self.scorer.alone},
        }

    def _keep(self, store: FeatureStore, keys: Sequence[bytes], features: Tensor) -> None:
        try:
            store.add(keys, features)
        except OSError as error:
            store.hold(keys, features)
            if not self._warned:
                self._warned = True
                reason = (error.strerror or str(error)).lower()
                self.console.warn(f"features cannot be kept in {store.folder} ({reason}): in memory for this run")

    def _head(self, features: Tensor) -> NDArray[np.float64]:
        """As many rows at once as pictures went through the model together."""
        rows = 1 if self.scorer.alone else CHUNK

        @torch.inference_mode()
        def compute(features: Tensor) -> NDArray[np.float64]:
            with torch.autocast(self.scorer.device.type, enabled=False):
                parts = [self._model.head(part.to(self.scorer.device)).float() for part in torch.split(features, rows)]
            found: NDArray[np.float64] = torch.cat(parts).double().cpu().numpy()
            return found

        # With as many threads of torch as the scorer's: their number changes the last bits of a sum.
        [found] = ComputeThreads(1).map(compute, [features])
        return found
