"""The options of the exporter; torch is imported when it is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import ExporterContext


@component("exporter", "example")
class Example:
    """The weights alone, as one safetensors file."""

    prefix: str = option(default="", help="put before the name of every tensor")

    def build(self, ctx: ExporterContext) -> Mapping[str, Any]:
        from .exporting import write_weights

        return {"tensors": write_weights(ctx.runtime.scorer.model, self.prefix, ctx.folder / "weights.safetensors")}
