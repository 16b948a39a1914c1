"""The options of the test-time augmentations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from roadwork_core import component, option, section, slot
from roadwork_core.kinds import TtaContext

if TYPE_CHECKING:
    from .choosing import ChoosingTta
    from .multiview import MultiviewTta

FusionName = Literal["mean_logit", "mean_probability", "max", "entropy", "learned", "attention"]


@section
class LearnedOptions:
    """Of `fusion = "learned"`: one weight per view."""

    l2: float = option(
        default=1.0,
        minimum=0,
        help="pull to equal weights: at 1, giving all weight to one of V views costs V - 1 nats of the log-likelihood",
    )
    temperatures: bool = option(default=True, help="each view calibrated by a temperature of its own first")


@section
class AttentionOptions:
    """Of `fusion = "attention"`: a small network across the views' logits."""

    width: int = option(default=8, minimum=1, maximum=256, help="width of a view's encoding")
    samples: int = option(default=2000, minimum=2, help="pictures of train that it is trained on, at most")
    steps: int = option(default=300, minimum=1, help="steps of the training, each over all of its pictures")
    lr: float = option(default=0.01, above=0, help="learning rate of AdamW")
    weight_decay: float = option(default=0.01, minimum=0, help="weight decay of AdamW")


@section
class FusionOptions:
    """How the views of a picture become one answer."""

    fusion: FusionName = option(
        default="mean_logit",
        help="mean_logit, mean_probability, max (the most confident view answers), entropy (mean of probabilities"
        " weighted by each view's certainty), learned (a weight per view, fitted on val_select), or attention (weights"
        " per picture by a network trained on train)",
    )
    select: Literal["none", "confident"] = option(
        default="none", help="confident: of each picture only the most certain views count, and always the identity"
    )
    keep: float = option(
        default=0.5, above=0, maximum=1, help="part of the views, rounded up, that confident keeps of each picture"
    )
    learned: LearnedOptions = option(default=LearnedOptions(), help="of the fusion learned")
    attention: AttentionOptions = option(default=AttentionOptions(), help="of the fusion attention")

    def __attrs_post_init__(self) -> None:
        if self.select != "none" and self.fusion in ("learned", "attention"):
            raise ValueError(f'select and fusion = "{self.fusion}" both weigh the views: take one of them')


@component("tta", "none")
class NoTta:
    """One view: the evaluation transform alone."""

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, wholes

        return MultiviewTta(ctx, wholes(ctx, (), flip=False), FusionOptions())


@component("tta", "flip")
class Flip(FusionOptions):
    """The picture and its mirror image: twice the cost."""

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, wholes

        return MultiviewTta(ctx, wholes(ctx, (), flip=True), self)


@component("tta", "five_crop")
class FiveCrop(FusionOptions):
    """The whole picture, its four corners and its centre: six times the cost.

    Crops have the input's proportions and together show the whole frame. Of a picture of other proportions they are
    as much larger as that needs, and of a panorama each is cut to the frame and seen whole.
    """

    share: float = option(
        default=0.75, minimum=0.5, below=1, help="part of the frame's side that a crop takes, along its shorter reach"
    )

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, wholes
        from .tiling import Crops

        crops = Crops(per_side=2, overlap=2 - 1 / self.share, centre=True)
        return MultiviewTta(ctx, wholes(ctx, (), flip=False), self, crops)


@component("tta", "multiscale")
class Multiscale(FusionOptions):
    """The whole picture at several resolutions, of which one is the model's own: 3.1 times the cost as it stands.

    Sizes are multiples of the model's patch. A scale changes the resolution of the input; it does not pad.
    """

    scales: tuple[float, ...] = option(
        default=(0.8, 1.2), above=0, maximum=4, help="sizes of the input beside 1.0, as factors on the model's own"
    )
    flip: bool = option(default=False, help="each size mirrored too")

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, wholes

        return MultiviewTta(ctx, wholes(ctx, self.scales, flip=self.flip), self)


@component("tta", "grid")
class Grid(FusionOptions):
    """The whole picture and overlapping tiles that cover it: ten times the cost as it stands."""

    tiles: int = option(default=3, minimum=2, maximum=8, help="tiles per row and per column")
    overlap: float = option(
        default=0.25, minimum=0, below=1, help="part of a tile's side that it shares with its neighbour"
    )

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, wholes
        from .tiling import Crops

        crops = Crops(per_side=self.tiles, overlap=self.overlap)
        return MultiviewTta(ctx, wholes(ctx, (), flip=False), self, crops)


@component("tta", "multiview")
class Multiview(FusionOptions):
    """Several resolutions of the whole picture, mirrored or not, and overlapping tiles that cover it.

    As it stands 15 views, at about 15 times the cost: 3 scales x flip + 3 x 3 tiles. The first view is always the
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

    def __attrs_post_init__(self) -> None:
        # By name: attrs makes the class anew, which super() without arguments does not survive.
        FusionOptions.__attrs_post_init__(self)
        if self.tiles == 1:
            raise ValueError("tiles = 1 is the whole picture again: take 0 or at least 2")

    def build(self, ctx: TtaContext) -> MultiviewTta:
        from .multiview import MultiviewTta, wholes
        from .tiling import Crops

        crops = Crops(per_side=self.tiles, overlap=self.overlap) if self.tiles else None
        return MultiviewTta(ctx, wholes(ctx, self.scales, flip=self.flip), self, crops)


@component("tta", "choose")
class Choose:
    """The cheapest candidate that is not clearly worse than the best, judged on val_select.

    Each candidate's negative log-likelihood is taken after a temperature, both cross-fitted over groups. The cheapest
    is chosen of those that are within one standard error of the paired difference to the best. The run's report shows
    the table. Views that candidates share are computed once.
    """

    candidates: Sequence[Any] = slot(
        "tta",
        many=True,
        default=({"use": "none"}, {"use": "flip"}, {"use": "multiscale"}, {"use": "five_crop"}),
        help="test-time augmentations, each as a table with `use`",
    )
    folds: int = option(default=5, minimum=2, maximum=20, help="parts of val_select in the cross-fitting, by group")
    errors: float = option(
        default=1.0, minimum=0, help="standard errors that a cheaper candidate may be worse by; 0 takes the best"
    )

    def __attrs_post_init__(self) -> None:
        if len(self.candidates) < 2:
            raise ValueError("candidates: a choice needs at least two")
        if any(isinstance(candidate, Choose) for candidate in self.candidates):
            raise ValueError("candidates: a choice among choices is one choice: list their candidates")
        if len(set(map(repr, self.candidates))) < len(self.candidates):
            raise ValueError("candidates: two are alike")

    def build(self, ctx: TtaContext) -> ChoosingTta:
        from .choosing import ChoosingTta

        return ChoosingTta(ctx, self.candidates, folds=self.folds, errors=self.errors)
