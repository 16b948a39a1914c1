"""The options of the test-time augmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from roadwork_core import component, option
from roadwork_core.kinds import TtaContext

if TYPE_CHECKING:
    from .multiview import MultiviewTta

Fusion = Literal["mean_logit", "mean_probability", "max", "entropy"]
_FUSION_HELP = (
    "mean_logit, mean_probability, max (the most confident view answers), or entropy (mean of probabilities weighted"
    " by each view's certainty)"
)


@component("tta", "none")
class NoTta:
    """One view: the evaluation transform alone."""

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, Whole

        return MultiviewTta(ctx, whole=(Whole(ctx.image_size, False),), fusion="mean_logit")


@component("tta", "flip")
class Flip:
    """The picture and its mirror image: twice the cost."""

    fusion: Fusion = option(default="mean_logit", help=_FUSION_HELP)

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, Whole

        whole = (Whole(ctx.image_size, False), Whole(ctx.image_size, True))
        return MultiviewTta(ctx, whole=whole, fusion=self.fusion)


@component("tta", "multiview")
class Multiview:
    """Several resolutions of the whole picture, mirrored or not, and overlapping tiles that cover it.

    As it stands 15 views, at about 16 times the cost: 3 scales x flip + 3 x 3 tiles. The first view is always the
    evaluation transform alone. Scales change the resolution of the input and do not pad it.
    """

    scales: tuple[float, ...] = option(
        default=(0.8, 1.0, 1.2), above=0, maximum=4, help="sizes of the input beside 1.0, as factors on the model's own"
    )
    flip: bool = option(default=True, help="each scale mirrored too")
    tiles: int = option(default=3, minimum=0, maximum=8, help="tiles per row and per column; 0 for none")
    overlap: float = option(
        default=0.25, minimum=0, below=1, help="part of a tile's side that it shares with its neighbour"
    )
    fusion: Fusion = option(default="mean_logit", help=_FUSION_HELP)

    def __attrs_post_init__(self) -> None:
        if self.tiles == 1:
            raise ValueError("tiles = 1 is the whole picture again: take 0 or at least 2")

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, Whole

        sizes = [ctx.image_size, *(_snapped(scale, ctx) for scale in self.scales)]
        mirrored = (False, True) if self.flip else (False,)
        # Small inputs may snap two scales to one size: each size stands once.
        whole = tuple(Whole(size, flip) for size in dict.fromkeys(sizes) for flip in mirrored)
        return MultiviewTta(ctx, whole=whole, tiles=self.tiles, overlap=self.overlap, fusion=self.fusion)


def _snapped(scale: float, ctx: TtaContext) -> tuple[int, int]:
    multiple = ctx.size_multiple
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in ctx.image_size)
    return height, width
