"""Actors that die over a picture; without a model, so that many of them may."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from roadwork_core.bundle import Prediction
from roadwork_core.bundle.images import Source
from roadwork_core.bundle.ray_predictor import Asked, Scorer


class Namer(Scorer):
    """Says of each picture its name."""

    def predict(self, sources: Sequence[Source], asked: Asked) -> tuple[list[Prediction], Counter[str]]:
        return [Prediction(path=source.path, label=Path(source.path).name) for source in sources], Counter(named=1)


class DyingOnce(Namer):
    """The first actor that sees a picture called `dies-once` dies of it."""

    def predict(self, sources: Sequence[Source], asked: Asked) -> tuple[list[Prediction], Counter[str]]:
        for source in sources:
            path = Path(source.path)
            if "dies-once" in path.name and not (path.parent / "died").exists():
                (path.parent / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(sources, asked)


class DyingAlways(Namer):
    """Every actor that sees a picture called `deadly` dies of it."""

    def predict(self, sources: Sequence[Source], asked: Asked) -> tuple[list[Prediction], Counter[str]]:
        if any("deadly" in source.path for source in sources):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(sources, asked)
