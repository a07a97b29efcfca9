"""From a config to a network: which backbone, which head, with which options."""

from __future__ import annotations

import torch

from toyfcn.config.model import ModelConfig
from toyfcn.models.backbone import Backbone
from toyfcn.models.custom import CustomNetwork, build_custom
from toyfcn.models.fcn import FCN
from toyfcn.models.lenet import MAPS as LENET_MAPS
from toyfcn.models.lenet import LeNetBackbone
from toyfcn.models.timm_backbone import TimmBackbone
from toyfcn.models.unet import MAPS as UNET_MAPS
from toyfcn.models.unet import UNet, UNetBackbone
from toyfcn.models.vgg import AT_ONCE, VGGBackbone

Network = FCN | UNet | CustomNetwork


def build_network(config: ModelConfig, classes: int, channels: int = 3) -> Network:
    """Return the network of a config, with freshly initialized weights.

    It labels photos of so many ``channels`` with so many ``classes``.

    Raises:
        ValueError: options that do not go together.
    """
    config.refuse_channels(channels)
    if config.name == "custom":
        return build_custom(config, classes, channels)
    if config.name == "unet":
        maps = config.maps or UNET_MAPS
        unet = UNet(UNetBackbone(config.width, config.norm, maps, channels), classes)
        return unet.to(memory_format=torch.channels_last)
    backbone: Backbone
    if config.name == "fcn_vgg16":
        backbone = VGGBackbone(config.width, config.norm, config.dropout, config.geometry, channels)
    elif config.name == "fcn_torchvision":
        from toyfcn.models.torchvision_backbones import BACKBONES  # slow to import

        assert config.backbone is not None  # ModelConfig has seen to it
        backbone = BACKBONES[config.backbone](config.dropout)
    elif config.name == "fcn_timm":
        assert config.backbone is not None
        backbone = TimmBackbone(
            config.backbone, config.dropout, config.conv_head, config.stride, channels
        )
    else:
        backbone = LeNetBackbone(
            config.width,
            config.activation,
            config.norm,
            config.pool,
            channels,
            geometry=config.geometry,
            maps=config.maps or LENET_MAPS,
        )
    net = FCN(
        backbone,
        classes,
        config.stride,
        config.upsample,
        config.upsample_learned,
        config.last_learned,
        scales=AT_ONCE if config.at_once else None,
        upsample_init=config.upsample_init,
        fusion=config.fusion,
    )
    return net.to(memory_format=backbone.memory_format)
