"""The options of the augmentation; torch is imported when it is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from roadwork_core import component, option
from roadwork_core.kinds import AugmentationContext


@component("augmentation", "example")
class Example:
    """Makes a picture brighter or darker by a random factor."""

    batch: ClassVar[bool] = False

    strength: float = option(default=0.3, above=0, below=1, help="the factor lies in 1 - strength to 1 + strength")

    def build(self, ctx: AugmentationContext) -> Callable[..., Any]:
        from .transforms import Brightness

        return Brightness(self.strength)
