"""What an FCN is, whatever its trunk: score, fuse with finer scores, upsample to the image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.bilinear import Deconvolution

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of RGB in 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)


class Trunk(nn.Module):
    """What maps normalised photos (B, 3, H, W) to feature maps of rising stride, finest first."""

    strides: Sequence[int]  # of the feature maps
    channels: Sequence[int]  # of the feature maps


class Normalize(nn.Module):
    """A photo's bytes to the numbers that the trunk was made for.

    Part of the network, so that the preprocessing travels with the weights. ``mean`` and ``std``
    are those of the channels in 0..255.
    """

    def __init__(
        self,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Map photos (B, 3, H, W), RGB in 0..255 (uint8 or float), to floats around 0."""
        return (image.to(self.mean.dtype) - self.mean) / self.std


class FCN(nn.Module):
    """A fully convolutional network (Long, Shelhamer and Darrell, CVPR 2015, sections 3 and 4).

    ``stride`` is the stride of the finest scores: one of the trunk's feature strides. From the
    coarsest features up, scores are upsampled and added to those of the next finer features (the
    skips), and the sum is upsampled to the image by one last deconvolution. The score layers start
    at zero, so the first loss is ln(classes). ``upsample`` is ``channel`` or ``dense`` and
    ``upsample_learned`` lets the deconvolutions learn: see ``Deconvolution``.
    """

    def __init__(
        self,
        trunk: Trunk,
        classes: int,
        stride: int,
        upsample: str = "channel",
        upsample_learned: bool = True,
    ) -> None:
        super().__init__()
        if stride not in trunk.strides:
            raise ValueError(
                f"model.stride={stride}, but this trunk's strides are {list(trunk.strides)}"
            )
        self.normalize = Normalize()
        self.trunk = trunk
        features = zip(trunk.strides, trunk.channels, strict=True)
        rungs = [(s, c) for s, c in features if s >= stride][::-1]  # coarsest first
        self.heads = nn.ModuleList(score_layer(c, classes) for _, c in rungs)
        ladder = [s for s, _ in rungs] + [1]
        steps = [coarse // fine for coarse, fine in itertools.pairwise(ladder)]
        self.ups = nn.ModuleList(
            Deconvolution(classes, step, upsample, upsample_learned) for step in steps
        )

    def score_map(self, image: Tensor) -> Tensor:
        """Score photos (B, 3, H, W), RGB in 0..255, at the network's stride, skips fused.

        Returns scores (B, classes, h, w), which the last deconvolution upsamples to the image.
        """
        # pixel by pixel rather than plane by plane: what convolutions are quickest on
        photo = self.normalize(image).contiguous(memory_format=torch.channels_last)
        features = self.trunk(photo)[::-1]
        heads, ups = list(self.heads), list(self.ups)
        scores: Tensor = heads[0](features[0])
        for feature, head, up in zip(features[1:], heads[1:], ups, strict=False):
            scores = crop(up(scores), feature) + head(feature)
        return scores

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, 3, H, W), RGB in 0..255, of any size of at least 1x1.

        Returns scores (B, classes, H, W), or interpolated bilinearly to ``size`` where the photos
        were brought to a working resolution and the scores belong to the original's.
        """
        scores = crop(self.ups[-1](self.score_map(image)), image)
        if size is not None and tuple(scores.shape[-2:]) != tuple(size):
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores


def score_layer(channels: int, classes: int) -> nn.Conv2d:
    """Return a 1x1 convolution to class scores that starts at zero."""
    layer = nn.Conv2d(channels, classes, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def crop(scores: Tensor, like: Tensor) -> Tensor:
    """Cut scores to the size of ``like`` from the top left, the origin of 'same' geometry."""
    return scores[..., : like.shape[-2], : like.shape[-1]]
