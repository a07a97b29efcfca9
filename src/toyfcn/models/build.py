"""The network of a config."""

from __future__ import annotations

import torch

from toyfcn.config.model import ModelConfig
from toyfcn.models.fcn import FCN, Trunk
from toyfcn.models.lenet import MAPS, LeNetTrunk
from toyfcn.models.unet import MAPS as LEVELS
from toyfcn.models.unet import UNet, UNetTrunk
from toyfcn.models.vgg import AT_ONCE, VGGTrunk

Network = FCN | UNet


def build_network(config: ModelConfig, classes: int) -> Network:
    """Make the network of a config for so many classes, freshly initialised.

    Raises:
        ValueError: options that do not go together.
    """
    if config.name == "unet":
        unet = UNet(UNetTrunk(config.width, config.norm, config.maps or LEVELS), classes)
        return unet.to(memory_format=torch.channels_last)
    trunk: Trunk
    if config.name == "fcn_vgg16":
        trunk = VGGTrunk(config.width, config.norm, config.dropout, config.geometry)
    else:
        trunk = LeNetTrunk(
            config.width,
            config.activation,
            config.norm,
            config.pool,
            geometry=config.geometry,
            maps=config.maps or MAPS,
        )
    net = FCN(
        trunk,
        classes,
        config.stride,
        config.upsample,
        config.upsample_learned,
        config.last_learned,
        scales=AT_ONCE if config.at_once else None,
        upsample_init=config.upsample_init,
    )
    return net.to(memory_format=trunk.memory_format)
