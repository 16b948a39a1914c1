"""The options of the head; torch is imported when it is built."""

from __future__ import annotations

from typing import Any

from roadwork_core import component, option
from roadwork_core.kinds import HeadContext


@component("head", "example")
class Example:
    """Cosine similarity of the features to one direction per class, times a scale."""

    scale: float = option(default=16.0, above=0, help="logit of a perfect match")

    def build(self, ctx: HeadContext) -> Any:
        from .heads import CosineHead

        return CosineHead(ctx.feature_dim, ctx.num_classes, self.scale)
