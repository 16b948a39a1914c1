"""The options of the self-supervised objectives; torch waits in the modules beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roadwork_core import component, option
from roadwork_core.kinds import ObjectiveContext

if TYPE_CHECKING:
    from .dino import DinoObjective
    from .mae import MaeObjective
    from .simsiam import SimSiamObjective
    from .vicreg import VicregObjective


@component("objective", "vicreg")
class Vicreg:
    """VICReg: two views agree, every dimension varies, no two say the same (Bardes et al., 2022, arXiv 2105.04906).

    Cannot collapse while `variance` holds the dimensions apart, and needs neither a teacher nor large batches.
    """

    invariance: float = option(default=25.0, minimum=0, help="weight of the squared distance between the two views")
    variance: float = option(default=25.0, minimum=0, help="weight of the hinge that keeps each deviation above 1")
    covariance: float = option(default=1.0, minimum=0, help="weight of the squared covariances between dimensions")
    width: int = option(default=1024, minimum=2, maximum=16384, help="width of each layer of the expander")
    layers: int = option(default=3, minimum=1, maximum=6, help="linear layers of the expander")

    def __attrs_post_init__(self) -> None:
        if self.invariance == 0:
            raise ValueError("invariance must be above 0: nothing else relates the two views")

    def build(self, ctx: ObjectiveContext) -> VicregObjective:
        from .vicreg import VicregObjective

        return VicregObjective(
            ctx,
            invariance=self.invariance,
            variance=self.variance,
            covariance=self.covariance,
            width=self.width,
            layers=self.layers,
        )


@component("objective", "simsiam")
class SimSiam:
    """SimSiam: each view predicted from the other, with a stopped gradient (Chen and He, 2020, arXiv 2011.10566)."""

    width: int = option(default=1024, minimum=4, maximum=16384, help="width of each layer of the projector")
    bottleneck: int = option(default=256, minimum=2, maximum=16384, help="hidden width of the predictor")

    def build(self, ctx: ObjectiveContext) -> SimSiamObjective:
        from .simsiam import SimSiamObjective

        return SimSiamObjective(ctx, width=self.width, bottleneck=self.bottleneck)


@component("objective", "dino")
class Dino:
    """DINO: the student's prototypes follow those of an averaged teacher (Caron et al., 2021, arXiv 2104.14294).

    The KoLeo term that spreads features is that of DINOv2 (arXiv 2304.07193). Ratios count optimizer steps.
    """

    prototypes: int = option(default=4096, minimum=2, maximum=262144, help="outputs of the projection head")
    hidden: int = option(default=1024, minimum=2, maximum=16384, help="hidden width of the projection head")
    bottleneck: int = option(default=256, minimum=2, maximum=4096, help="width before the prototypes")
    momentum: float = option(
        default=0.996, minimum=0, below=1, help="of the teacher's average at the start; it rises to 1 along a cosine"
    )
    student_temperature: float = option(default=0.1, above=0, help="softmax temperature of the student")
    teacher_temperature: float = option(default=0.04, above=0, help="softmax temperature of the teacher at the start")
    teacher_temperature_end: float = option(default=0.07, above=0, help="and after its warm-up")
    temperature_warmup_ratio: float = option(
        default=0.3, minimum=0, maximum=1, help="part of the steps in which the teacher's temperature rises"
    )
    center_momentum: float = option(default=0.9, minimum=0, below=1, help="of the running mean that is subtracted")
    freeze_last_ratio: float = option(
        default=0.03, minimum=0, maximum=1, help="part of the steps in which the prototypes stay as they are"
    )
    head_warmup_ratio: float = option(
        default=0.1,
        minimum=0,
        maximum=1,
        help="part of the steps in which the backbone's gradient rises, while the head is still random",
    )
    koleo: float = option(default=0.1, minimum=0, help="weight of the KoLeo term; 0 leaves it out")

    def build(self, ctx: ObjectiveContext) -> DinoObjective:
        from .dino import DinoObjective

        return DinoObjective(ctx, self)


@component("objective", "mae")
class Mae:
    """Masked autoencoding: pixels of hidden patches from the others (He et al., 2021, arXiv 2111.06377).

    For vision transformers whose positions are added to the patches, as those of ViTMAE, ViT and DINOv2 are; others
    are refused. The decoder begins anew, also where a checkpoint has one, and is dropped afterwards. One view of each
    picture, the crops and colours of which are those of the other objectives.
    """

    mask_ratio: float = option(default=0.75, above=0, below=1, help="part of the patches that the backbone never sees")
    normalise_patches: bool = option(default=True, help="pixels are compared after each patch is standardised")
    width: int = option(default=512, minimum=8, maximum=4096, help="width of the decoder")
    layers: int = option(default=4, minimum=1, maximum=16, help="blocks of the decoder")
    head_width: int = option(default=32, minimum=4, maximum=512, help="width of one head of the decoder's attention")

    def __attrs_post_init__(self) -> None:
        if self.width % self.head_width:
            raise ValueError(f"width must be a multiple of head_width, {self.head_width}")

    def build(self, ctx: ObjectiveContext) -> MaeObjective:
        from .mae import MaeObjective

        return MaeObjective(ctx, self)
