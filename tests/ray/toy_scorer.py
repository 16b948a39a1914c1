"""An actor that knows the toy bundle."""

from __future__ import annotations

from roadwork_core.bundle import Predictor, load
from roadwork_core.bundle.ray_predictor import Scorer
from tests.bundle import toy


class ToyScorer(Scorer):
    """Knows the components of the toy bundle, which no entry point announces."""

    def _load(self) -> Predictor:
        return load(self._bundle, plugins=toy.plugins(), **self._computing)
