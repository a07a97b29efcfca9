"""What every backbone is: normalized photos in, feature maps of rising stride out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.geometry import Grid
from toyfcn.models.grid_tracer import trace

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of RGB in 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)
PROBE = 8  # cells of the coarsest map, of the photo on which grids are traced


class Backbone(nn.Module, ABC):
    """The feature extractor of a network: a classifier without its last layer, convolutionalized.

    ``strides`` and ``channels`` describe its feature maps, finest first; photos have ``inputs``
    channels.

    ``geometry`` says how it pads. ``same``: every layer pads, so that all maps are aligned with
    the photo and every crop offset is 0. ``paper``: the first convolution pads by 100, and layers
    that were fully connected do not pad. ``classifier``: pads as the classifier does, so that an
    input of the classifier's size gives one cell.

    ``memory_format`` is the layout in which its convolutions are faster on a CPU: channels_last for
    few channels, contiguous for many (`python benchmarks/vgg.py`: 1.6 times as fast). On a GPU all
    run in channels_last.
    """

    strides: Sequence[int]
    channels: Sequence[int]
    geometry: str
    inputs: int = 3
    memory_format = torch.channels_last

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized photos, float (B, inputs, H, W), to the feature maps, finest first."""

    def grids(self) -> list[Grid]:
        """Return where the cells of each feature map lie in the photo, finest first."""
        return trace(self, PROBE * max(self.strides), self.inputs)[1]


def pad_to_multiple(x: Tensor, stride: int) -> Tensor:
    """Pad maps (B, C, H, W) with zeros at the right and the bottom to multiples of a stride."""
    height, width = (-side % stride for side in x.shape[-2:])
    return F.pad(x, (0, width, 0, height))


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel.

    A layer of the network, so that the preprocessing is saved with the weights. ``mean`` and
    ``std`` (1, C, 1, 1) are those of the channels in 0..255: ImageNet's of RGB, and of photos of
    other ``channels`` what ``use`` is given.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.register_buffer("mean", torch.empty(1, channels, 1, 1))
        self.register_buffer("std", torch.empty(1, channels, 1, 1))
        self.mean: Tensor
        self.std: Tensor
        rgb = channels == 3
        self.use(*(IMAGENET_MEAN, IMAGENET_STD) if rgb else ([127.5] * channels, [64] * channels))

    def use(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Normalize by this mean and standard deviation of each channel."""
        for buffer, values in ((self.mean, mean), (self.std, std)):
            buffer.copy_(torch.tensor(values).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Map photos (B, C, H, W), in 0..255 (uint8 or float), to floats around 0."""
        return (image.to(self.mean.dtype) - self.mean).div_(self.std)


def channels_of(net: nn.Module) -> int:
    """Return the channels of the photos that a network takes."""
    return next((len(part.mean[0]) for part in net.modules() if isinstance(part, Normalize)), 3)
