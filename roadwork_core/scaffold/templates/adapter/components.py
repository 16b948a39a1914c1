"""The options of the adapter; torch is imported when it is built."""

from __future__ import annotations

from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import AdapterContext


@component("adapter", "example")
class Example:
    """Trains the biases alone, and the norms where wanted (Ben Zaken et al., 2022, BitFit)."""

    norms: bool = option(default=True, help="whether the weights of normalisation layers train too")

    def build(self, ctx: AdapterContext) -> Any:
        from .adapters import Biases

        return Biases(ctx.backbone, self.norms)
