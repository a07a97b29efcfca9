"""The options of the network, with meaning, unit and bounds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from toyfcn.config.option import Checked, option

STRIDES = {  # the output strides of each network
    "fcn_lenet": (4, 2),
    "fcn_vgg16": (32, 16, 8),
    "fcn_timm": (32, 16, 8, 4),
    "fcn_torchvision": (32, 16, 8),
    "unet": (1,),
    "custom": (1,),
}
UPSAMPLING = ("upsample", "upsample_learned", "upsample_init", "last_learned")
OF_FCN = (*UPSAMPLING, "geometry", "fusion")
OF_TIMM = ("backbone", "conv_head")
OF_LAYERS = ("width", "maps", "geometry", "activation", "norm", "pool", "at_once")
OF_CUSTOM = ("target", "args", "pad")
NOT_OF = {  # options that only other networks have
    "fcn_lenet": (*OF_TIMM, *OF_CUSTOM, "dropout", "at_once", "weights"),
    "fcn_vgg16": (*OF_TIMM, *OF_CUSTOM, "activation", "pool", "maps"),
    "fcn_torchvision": (*OF_CUSTOM, *OF_LAYERS, "conv_head"),
    "fcn_timm": (*OF_CUSTOM, *OF_LAYERS),
    "unet": (*OF_FCN, *OF_TIMM, *OF_CUSTOM, "activation", "pool", "dropout", "at_once", "weights"),
    "custom": (*OF_FCN, *OF_TIMM, *OF_LAYERS, "dropout", "weights"),
}
TORCHVISION = ("alexnet", "googlenet")  # backbones of fcn_torchvision


@dataclass
class ModelConfig(Checked):
    """The network."""

    GROUP = "model"

    name: str = option("fcn_lenet", "the network: set by model=NAME", choices=tuple(STRIDES))
    stride: int = option(
        4,
        "output stride in pixels: LeNet 4 or 2; VGG-16, AlexNet and GoogLeNet 32, 16 or 8 "
        "(FCN-32s/16s/8s); timm's 4 too; U-Net 1",
    )
    width: float = option(1.0, "factor on the backbone's channels", low=0.01, high=16)
    maps: list[int] | None = option(
        None,
        "channels before width; LeNet: of C1, C3, C5 and F6, null: 6,16,120,84; U-Net: of its "
        "levels, finest first, null: 10,20,40,80",
        low=1,
    )
    short_side: int | None = option(
        None,
        "pixels of the short side to which photos are resized; null: not resized",
        low=8,
        high=8192,
    )
    geometry: str = option(
        "same",
        "same: every layer pads, no crops; paper: the photo is padded by 100 and maps are cropped",
        choices=("same", "paper"),
    )
    upsample: str = option(
        "channel", "deconvolution: one filter per class, or dense", choices=("channel", "dense")
    )
    upsample_learned: bool = option(True, "deconvolutions learn; false: they stay bilinear")
    upsample_init: str = option(
        "bilinear",
        "deconvolutions start as bilinear interpolation or, for comparison, at random",
        choices=("bilinear", "random"),
    )
    last_learned: bool | None = option(
        None, "the last deconvolution, to the photo's size, learns; null: as the others"
    )
    fusion: str = option(
        "sum",
        "where scores of two strides meet: their sum, or for comparison the larger of both",
        choices=("sum", "max"),
    )
    activation: str = option(
        "relu", "LeNet: activation; tanh is the original", choices=("tanh", "relu")
    )
    norm: str = option("batch", "normalization in the backbone", choices=("none", "batch"))
    pool: str = option("max", "LeNet: kind of pooling", choices=("max", "avg"))
    dropout: float = option(
        0.5,
        "probability of dropping a value in training; VGG-16, AlexNet: after fc6 and fc7, timm, "
        "GoogLeNet: of the coarsest features",
        low=0,
        high=0.99,
    )
    at_once: bool = option(
        False, "VGG-16: skips scaled by 0.01 and 0.0001, so that all strides train at once"
    )
    backbone: str | None = option(
        None,
        "timm: name of the network, such as tf_efficientnet_lite0 or resnet18.a1_in1k; "
        "torchvision: alexnet or googlenet",
    )
    conv_head: bool = option(
        True,
        "timm: the coarsest features go through the classifier's last 1x1 convolution, where the "
        "network has one",
    )
    weights: str | None = option(
        None,
        "pretrained weights: imagenet, or a file; VGG-16: with the layer names of torchvision or "
        "of the Caffe release, others: with those of torchvision or timm",
        path=True,
    )

    target: str | None = option(
        None,
        "custom: what makes your network, as package.module:name; it is given classes=",
        target="",
    )
    args: Any = option(None, "custom: further arguments of target, such as {width: 32}")
    pad: int = option(
        32, "custom: photos are padded to multiples of so many pixels for your network", low=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stride not in STRIDES[self.name]:
            allowed = ", ".join(str(stride) for stride in STRIDES[self.name])
            raise ValueError(
                f"model.stride={self.stride} must be one of {allowed} with model={self.name}"
            )
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in NOT_OF[self.name] and value != item.default:
                raise ValueError(f"model.{item.name}={value} is not an option of model={self.name}")
        if self.name == "fcn_lenet" and self.maps is not None and len(self.maps) != 4:
            raise ValueError(f"model.maps={self.maps} must be the channels of C1, C3, C5 and F6")
        if self.name == "unet" and self.maps is not None and len(self.maps) < 2:
            raise ValueError(f"model.maps={self.maps} must have two or more levels for a U-Net")
        if self.last_learned and not self.upsample_learned:
            raise ValueError(
                "model.last_learned=true contradicts model.upsample_learned=false: set one of them"
            )
        if self.at_once and self.stride == max(STRIDES[self.name]):
            raise ValueError(f"model.at_once=true needs skips: model.stride={self.stride} has none")
        if self.name == "custom" and not self.target:
            raise ValueError("model=custom needs model.target=package.module:name, your network")
        if self.args is not None and not isinstance(self.args, dict):
            raise ValueError(f"model.args={self.args} is not like {{width: 32, deep: true}}")
        if self.name == "fcn_timm" and not self.backbone:
            raise ValueError("model=fcn_timm needs model.backbone=NAME, a network of timm")
        if self.name == "fcn_torchvision" and self.backbone not in TORCHVISION:
            raise ValueError(
                f"model.backbone={self.backbone} must be {' or '.join(TORCHVISION)} with "
                "model=fcn_torchvision; timm has many more: model=fcn_timm"
            )
        if self.name == "fcn_vgg16" and self.weights is not None and self.norm != "none":
            raise ValueError(
                f"model.weights={self.weights} needs model.norm=none: VGG-16 has no norm"
            )

    def refuse_channels(self, channels: int) -> None:
        """Check that the network can be made for photos of so many channels.

        Raises:
            ValueError: it, or its weights, are for RGB alone.
        """
        if channels != 3 and self.name == "fcn_torchvision":
            raise ValueError(
                f"model=fcn_torchvision is for RGB, not data.channels={channels}: take "
                "model=fcn_timm"
            )
        if channels != 3 and self.name == "fcn_vgg16" and self.weights is not None:
            raise ValueError(
                f"model.weights={self.weights} is a VGG-16 for RGB, not data.channels={channels}: "
                "train without, or take model=fcn_timm, whose first layer is adapted"
            )
