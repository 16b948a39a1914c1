"""The tokens of a network that pools a feature map: the map's places."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision import models

from roadwork_core.errors import UsageError


def places(feature_map: Tensor) -> Tensor:
    """A feature map, (N, C, H, W), to one token for each of its places, (N, H * W, C), row by row."""
    return feature_map.flatten(2).transpose(1, 2)


def torchvision_feature_map(model: nn.Module, images: Tensor) -> Tensor:
    """What a convolutional network or Swin of torchvision pools, (N, C, H, W). Raises UsageError for another."""
    network: Any = model
    if isinstance(model, models.ResNet):
        layers = [network.conv1, network.bn1, network.relu, network.maxpool]
        layers += [network.layer1, network.layer2, network.layer3, network.layer4]
    elif isinstance(model, models.ShuffleNetV2):
        layers = [network.conv1, network.maxpool, network.stage2, network.stage3, network.stage4, network.conv5]
    elif isinstance(model, models.RegNet):
        layers = [network.stem, network.trunk_output]
    elif isinstance(model, models.MNASNet):
        layers = [network.layers]
    elif isinstance(model, models.SwinTransformer):
        layers = [network.features, network.norm, network.permute]
    elif isinstance(model, models.DenseNet):
        layers = [network.features, nn.functional.relu]
    elif isinstance(getattr(model, "features", None), nn.Module):
        layers = [network.features]
    else:
        raise UsageError(f"torchvision backbone: {type(model).__name__} gives no tokens", hint="use another head")
    made = images
    for layer in layers:
        made = layer(made)
    return made
