"""The options of the backbones; torch, torchvision and transformers wait in the modules beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from roadwork_core import component, option
from roadwork_core.extras import Requirement, how_to_install, require
from roadwork_core.kinds import BackboneContext

from .local import file_stamps

if TYPE_CHECKING:
    from .small_cnn import SmallCnnBackbone
    from .timm_backbone import TimmBackbone
    from .torchvision_backbone import TorchvisionBackbone
    from .transformers_backbone import TransformersBackbone


@component("backbone", "small_cnn")
class SmallCnn:
    """A plain residual network of 3x3 convolutions, trained from scratch: small, fast on a CPU, nothing to download."""

    gives_tokens: ClassVar[bool] = True

    width: int = option(default=16, minimum=1, maximum=512, help="channels of the first stage; each next has twice")
    stages: int = option(default=4, minimum=1, maximum=6, help="stages; each halves the resolution")
    depth: int = option(default=2, minimum=1, maximum=16, help="convolutions per stage")
    image_size: int = option(default=96, minimum=8, maximum=2048, help="height and width of the input in pixels")
    norm: Literal["batch", "group"] = option(default="batch", help="batch norm, or group norm of 8 channels or fewer")

    def build(self, ctx: BackboneContext) -> SmallCnnBackbone:
        from .small_cnn import SmallCnnBackbone

        if ctx.architecture is not None:
            return SmallCnnBackbone(**ctx.architecture)
        return SmallCnnBackbone(
            width=self.width, stages=self.stages, depth=self.depth, image_size=self.image_size, norm=self.norm
        )


@component("backbone", "torchvision")
class Torchvision:
    """A classification network of torchvision without its last linear layer."""

    gives_tokens: ClassVar[bool] = True

    name: str = option(help='torchvision\'s name of the network, such as "resnet18" or "mobilenet_v3_small"')
    weights: str = option(
        default="default",
        help='"default" (downloads torchvision\'s best), "none" (random), or a .safetensors file with its names',
    )
    image_size: int | None = option(
        default=None, minimum=16, maximum=4096, help="height and width of the input in pixels (default: the weights')"
    )

    def build(self, ctx: BackboneContext) -> TorchvisionBackbone:
        from .torchvision_backbone import load, rebuild

        if ctx.architecture is not None:
            return rebuild(ctx.architecture)
        return load(self.name, self.weights, self.image_size, ctx.report)

    def fingerprint(self) -> list[list[Any]]:
        """Name, size and time of the weights file, where it is a local one."""
        return file_stamps(Path(self.weights))


@component("backbone", "timm")
class Timm:
    """A network of timm without its classifier (needs the extra `timm` of roadwork-backbones)."""

    gives_tokens: ClassVar[bool] = True

    name: str = option(
        help='timm\'s name, such as "vit_small_patch14_dinov2.lvd142m", "hf-hub:" and a hub id, or a local folder with'
        " config.json and model.safetensors"
    )
    weights: str = option(
        default="default", help='"default" (those of the name, as safetensors), "none" (random), or a .safetensors file'
    )
    revision: str | None = option(default=None, help="branch, tag or commit of the hub repository")
    image_size: int | None = option(
        default=None,
        minimum=16,
        maximum=4096,
        help="height and width of the input in pixels (default: the weights'); positions are interpolated",
    )

    def needs(self) -> list[Requirement]:
        return [Requirement(("timm",), how_to_install("timm", "roadwork-backbones"))]

    def build(self, ctx: BackboneContext) -> TimmBackbone:
        require('the backbone "timm"', self.needs())
        from .timm_backbone import load, rebuild

        if ctx.architecture is not None:
            return rebuild(ctx.architecture)
        return load(self.name, self.weights, self.revision, self.image_size, ctx.report)

    def fingerprint(self) -> list[list[Any]]:
        """Name, size and time of the weights' files, where they are local."""
        return file_stamps(Path(self.weights)) + file_stamps(Path(self.name))


@component("backbone", "transformers")
class Transformers:
    """An image encoder of the Hugging Face hub or of a local folder (config.json and model.safetensors).

    DINOv2 and DINOv3, SigLIP, CLIP, ViT, Swin, ConvNeXt, MobileNet and other families of transformers; of a masked
    autoencoder (ViTMAE) the encoder, which then sees whole pictures. Code that comes with a checkpoint is never run.
    """

    gives_tokens: ClassVar[bool] = True

    model: str = option(help="hub id, or path of a local checkpoint folder")
    revision: str | None = option(default=None, help="branch, tag or commit of the hub repository")
    pretrained: bool = option(default=True, help="load the weights; false starts from random ones")
    image_size: int | None = option(
        default=None,
        minimum=16,
        maximum=4096,
        help="height and width of the input in pixels (default: the checkpoint's); positions are interpolated",
    )
    pooling: Literal["auto", "cls", "mean_patch", "cls_mean", "pooler"] = option(
        default="auto",
        help="what makes one vector of the tokens: the class token, the mean of the patches, both, or the model's"
        " own pooler (auto: cls_mean for DINOv2, else the model's own way)",
    )
    last_layers: int = option(
        default=1, minimum=1, help="plain transformers: the features of this many last layers, concatenated"
    )
    attention: Literal["sdpa", "eager"] = option(
        default="sdpa", help="fused attention where the model has it, or the plain computation"
    )
    gradient_checkpointing: bool = option(
        default=False, help="compute activations again in the backward pass: less memory, about a third more time"
    )

    def build(self, ctx: BackboneContext) -> TransformersBackbone:
        from .transformers_backbone import load, rebuild

        if ctx.architecture is not None:
            return rebuild(ctx.architecture, attention=self.attention, report=ctx.report)
        return load(
            self.model,
            revision=self.revision,
            pretrained=self.pretrained,
            image_size=self.image_size,
            pooling=self.pooling,
            last_layers=self.last_layers,
            attention=self.attention,
            gradient_checkpointing=self.gradient_checkpointing,
            report=ctx.report,
        )

    def fingerprint(self) -> list[list[Any]]:
        """Name, size and time of the checkpoint's files, where it is a local folder."""
        return file_stamps(Path(self.model))
