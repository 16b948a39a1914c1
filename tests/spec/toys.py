"""Components that exist in memory only: one of each kind, and some that go wrong on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import attrs

from roadwork_core.component import component, option, section, slot
from roadwork_core.plugins import Plugins
from roadwork_core.spec import ResolvedSpec, load_spec


class Built:
    """What every toy builds: nothing."""

    def build(self, ctx: Any) -> Any:
        return self


@component("dataset", "folder")
class Folder(Built):
    """Pictures in folders.

    The second paragraph is for people who read on.
    """

    root: str = option(min_length=1, help="where the pictures are")
    extensions: tuple[str, ...] = option(default=(".jpg",), min_length=1, help="which files count")


@component("augmentation", "flip")
class Flip(Built):
    """Mirrors."""

    p: float = option(default=0.5, minimum=0, maximum=1, help="probability")


@component("augmentation", "mixup")
class Mixup(Built):
    """Mixes two pictures and their labels."""

    batch: ClassVar[bool] = True
    alpha: float = option(default=0.2, above=0, help="how strongly")


@component("backbone", "tiny")
class Tiny(Built):
    """A small network."""

    width: int = option(default=8, minimum=1, maximum=64, help="channels")
    image_size: tuple[int, int] = option(default=(32, 32), minimum=8, help="height and width")
    norm: Literal["batch", "group"] = option(default="batch", help="normalisation")
    pretrained: bool = option(default=False, help="start from weights")


@component("backbone", "patches")
class Patches(Built):
    """A network that shows its tokens."""

    gives_tokens: ClassVar[bool] = True


@component("adapter", "full")
class Full(Built):
    """Everything trains."""


@component("adapter", "dora")
class Dora(Built):
    """Low rank, with magnitudes."""

    rank: int = option(default=8, minimum=1, help="rank")


@component("head", "token_pool")
class TokenPool(Built):
    """Reads tokens."""

    reads_tokens: ClassVar[bool] = True


@component("head", "linear")
class Linear(Built):
    """One layer."""

    dropout: float = option(default=0.0, minimum=0, below=1, help="part that is dropped")


@component("loss", "cross_entropy")
class CrossEntropy(Built):
    """Takes soft targets."""

    soft_targets: ClassVar[bool] = True
    class_weights: tuple[float, ...] | Literal["balanced"] | None = option(default=None, help="weight of each class")


@component("loss", "focal", renamed={"focus": "gamma"})
class Focal(Built):
    """Takes labels only."""

    gamma: float = option(default=2.0, minimum=0, help="focus")
    alpha: float | None = option(default=None, above=0, below=1, help="weight of the positive class")


@component("optimizer", "adamw")
class AdamW(Built):
    """Adam with decay."""

    lr: float = option(default=1e-3, above=0, help="learning rate")
    betas: tuple[float, float] = option(default=(0.9, 0.999), minimum=0, below=1, help="decay of the averages")


@component("scheduler", "cosine_warmup")
class CosineWarmup(Built):
    """Up, then down."""

    warmup_ratio: float = option(default=0.1, minimum=0, maximum=1, help="part that rises")


@component("objective", "vicreg")
class Vicreg(Built):
    """Two views agree."""


@section
class Limits:
    """Bounds of a search."""

    low: float = option(default=0.1, help="smallest")
    high: float = option(default=10.0, help="largest")

    def __attrs_post_init__(self) -> None:
        if self.low >= self.high:
            raise ValueError("low must be below high")


@component("calibrator", "temperature")
class Temperature(Built):
    """One divisor."""

    limits: Limits = option(default={}, help="of the search")


@component("policy", "threshold")
class Threshold(Built):
    """One cut."""

    metric: Literal["mcc", "f1"] = option(default="mcc", help="what the cut maximises")
    costs: Mapping[str, float] = option(default={}, help="cost of each error")


@component("policy", "scrc")
class Scrc(Built):
    """Sets of labels."""

    alpha: float = option(default=0.1, above=0, below=1, help="risk")
    calibrator: Any = slot("calibrator", default={"use": "temperature"}, help="before the sets")


@component("policy", "hybrid")
class Hybrid(Built):
    """Two in one."""

    fast: str = option(help="decides first")
    robust: str = option(help="decides the rest")

    def requires(self) -> tuple[str, str]:
        return (self.fast, self.robust)


@component("tta", "none")
class NoTta(Built):
    """One view."""


@component("tracker", "csv")
class CsvTracker(Built):
    """A table."""

    path: str = option(default="log.csv", pattern=r"[a-z]+\.csv", help="where")


TOYS = [value for value in list(globals().values()) if isinstance(value, type) and hasattr(value, "build")]
TOYS.remove(Built)


@component("loss", "focal")
class OtherFocal(Built):
    """Another plugin's."""

    gamma: float = 1.0
    extra: int = 0


@component("loss", "weighted")
class Weighted(Built):
    """May be None, and is not by default."""

    path: str | None = "default"


@component("loss", "moved", renamed={"weight": "scale"})
class Moved(Built):
    """Requires an option that had another name, and takes either kind of number."""

    scale: float = option(help="factor")
    steps: float | int | Literal["all"] = option(default="all", help="how many")


@component("head", "strict")
class StrictHead(Built):
    """Has validators of three kinds."""

    layers: int = attrs.field(default=1, validator=attrs.validators.in_([1, 2]))
    hidden: int = 4
    boom: bool = False

    def __attrs_post_init__(self) -> None:
        if self.hidden % 2:
            raise ValueError("hidden must be even")
        if self.boom:
            raise KeyError("inside")


@component("dataset", "colliding")
class Colliding(Built):
    """Uses a name that [data] has."""

    workers: int = 1


@component("head", "untyped")
class Untyped(Built):
    """Has a field that TOML cannot fill."""

    callback: Path = option(default=Path(), help="no TOML")


MINIMAL = """\
spec_version = 1
name = "toy"
[data]
use = "folder"
root = "pictures"
[backbone]
use = "tiny"
"""


def plugin(*components: type, **hooks: Any) -> Any:
    return SimpleNamespace(roadwork_components=lambda: list(components), **hooks)


def toys(**more: Any) -> Plugins:
    return Plugins.of({"toys": plugin(*TOYS), **more})


def resolve(text: str | Path, *, plugins: Plugins | None = None, **options: Any) -> ResolvedSpec:
    return load_spec(text, plugins or toys(), **{"env": {}, **options})
