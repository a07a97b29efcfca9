"""What an FCN is, whatever its trunk: score, fuse with finer scores, upsample to the image."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.geometry import Grid, Layer, chain, crop_offset
from toyfcn.models.upsampling import Deconvolution

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of RGB in 0..255
IMAGENET_STD = (58.395, 57.12, 57.375)


class Trunk(nn.Module, ABC):
    """What maps normalised photos (B, 3, H, W) to feature maps of rising stride, finest first.

    ``geometry`` says how it pads: ``same`` keeps every offset 0; ``paper`` pads the first
    convolution by 100 and nothing where the classifier was fully connected; ``classifier`` pads as
    the classifier does, so that an input of the classifier's size gives one cell.

    ``memory_format`` is how maps lie in memory where its convolutions are quickest: few channels
    pixel by pixel, many of them plane by plane (`python benchmarks/vgg.py`: 1.6 times as quick).
    """

    strides: Sequence[int]  # of the feature maps
    channels: Sequence[int]  # of the feature maps
    geometry: str
    memory_format = torch.channels_last

    @abstractmethod
    def stages(self) -> list[list[nn.Module]]:
        """Return the layers in order, cut behind each feature map."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalised photos (B, 3, H, W) to the feature maps, finest first."""
        features = []
        for stage in self.stages():
            for layer in stage:
                x = layer(x)
            features.append(x)
        return features

    def grids(self) -> list[Grid]:
        """Return where the cells of each feature map lie in the photo, finest first."""
        grid, grids = Grid(), []
        for stage in self.stages():
            grid = chain(layers_of(stage), grid)
            grids.append(grid)
        return grids


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
        return (image.to(self.mean.dtype) - self.mean).div_(self.std)


class FCN(nn.Module):
    """A fully convolutional network (Long, Shelhamer and Darrell, CVPR 2015, sections 3 and 4).

    ``stride`` is the stride of the finest scores: one of the trunk's feature strides. From the
    coarsest features up, scores are upsampled and added to those of the next finer features (the
    skips), and the sum is upsampled to the image by one last deconvolution. The score layers start
    at zero, so the first loss is ln(classes). ``upsample`` is ``channel`` or ``dense``;
    ``upsample_init`` is ``bilinear`` or ``random``;
    ``upsample_learned`` lets the deconvolutions learn and ``last_learned`` the last one (None: as
    the others): see ``Deconvolution``. ``scales`` are factors on the features, finest first,
    before their score layers (all skips at once: the finer, the smaller).

    Where maps meet, one is cropped from the top left: ``offsets`` says by how many cells, coarsest
    first. The last, ``offset``, is the image's place in what the last deconvolution returns.
    """

    def __init__(
        self,
        trunk: Trunk,
        classes: int,
        stride: int,
        upsample: str = "channel",
        upsample_learned: bool = True,
        last_learned: bool | None = None,
        scales: Sequence[float] | None = None,
        upsample_init: str = "bilinear",
    ) -> None:
        super().__init__()
        if stride not in trunk.strides:
            raise ValueError(
                f"model.stride={stride}, but this trunk's strides are {list(trunk.strides)}"
            )
        self.normalize = Normalize()
        self.trunk = trunk
        finest = list(trunk.strides).index(stride)
        strides, channels = trunk.strides[finest:][::-1], trunk.channels[finest:][::-1]
        grids = trunk.grids()[finest:][::-1]  # all three coarsest first
        self.scales = list((scales or [1.0] * len(trunk.strides))[finest:])[::-1]
        self.heads = nn.ModuleList(score_layer(count, classes) for count in channels)
        steps = [coarse // fine for coarse, fine in itertools.pairwise([*strides, 1])]
        learned = [upsample_learned] * (len(steps) - 1)
        learned.append(upsample_learned if last_learned is None else last_learned)
        self.ups = nn.ModuleList(
            Deconvolution(classes, step, upsample, learns, trunk.geometry == "same", upsample_init)
            for step, learns in zip(steps, learned, strict=True)
        )
        self.offsets, grid = [], grids[0]
        for up, skip in zip(self.ups[:-1], grids[1:], strict=True):
            grid = chain(layers_of([up]), grid)
            self.offsets.append(crop_offset(skip, onto=grid))
        grid = chain(layers_of([self.ups[-1]]), grid)
        self.offset = crop_offset(grid, onto=Grid())
        self.offsets.append(self.offset)

    def score_map(self, image: Tensor) -> Tensor:
        """Score photos (B, 3, H, W), RGB in 0..255, at the network's stride, skips fused.

        Returns scores (B, classes, h, w), which the last deconvolution upsamples to the image.
        """
        photo = self.normalize(image).contiguous(memory_format=self.trunk.memory_format)
        features = self.trunk(photo)[::-1]
        scores: Tensor = self.heads[0](features[0])
        skips = zip(features[1:], self.scales[1:], self.heads[1:], strict=False)
        for (feature, scale, head), up, offset in zip(skips, self.ups, self.offsets, strict=False):
            scores = up(scores)
            feature = feature[..., offset:, offset:]
            scores, feature = crop(scores, feature), crop(feature, scores)
            scores = scores + head(feature if scale == 1 else scale * feature)
        return scores

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, 3, H, W), RGB in 0..255, of any size of at least 1x1.

        Returns scores (B, classes, H, W), or interpolated bilinearly to ``size`` where the photos
        were brought to a working resolution and the scores belong to the original's.
        """
        assert self.offset >= 0, "the classifier's own geometry leaves out borders: see score_map"
        scores = crop(self.ups[-1](self.score_map(image)), image, self.offset)
        if size is not None and tuple(scores.shape[-2:]) != tuple(size):
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores


def layers_of(modules: Iterable[nn.Module]) -> list[Layer]:
    """Return the geometry of modules that run one after another; the rest moves nothing."""
    layers = []
    for module in (part for whole in modules for part in whole.modules()):
        if isinstance(module, nn.Conv2d):
            assert isinstance(module.padding, tuple)
            (kernel, _), (stride, _) = module.kernel_size, module.stride
            layers.append(Layer("conv", kernel, stride, module.padding[0]))
        elif isinstance(module, nn.ConvTranspose2d):
            assert isinstance(module.padding, tuple)
            (kernel, _), (stride, _) = module.kernel_size, module.stride
            layers.append(Layer("deconv", kernel, stride, module.padding[0]))
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            (kernel, _), (stride, _) = pair(module.kernel_size), pair(module.stride)
            layers.append(Layer("pool", kernel, stride, pair(module.padding)[0]))
        elif isinstance(module, Deconvolution):
            stride = module.stride
            padding = stride // 2 if module.replicate else 0
            layers.append(Layer("deconv", 2 * stride, stride, padding))
    return layers


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of what a pool was given as one number or two."""
    return (value, value) if isinstance(value, int) else value


def score_layer(channels: int, classes: int) -> nn.Conv2d:
    """Return a 1x1 convolution to class scores that starts at zero."""
    layer = nn.Conv2d(channels, classes, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def crop(scores: Tensor, like: Tensor, offset: int = 0) -> Tensor:
    """Cut scores from (offset, offset) on to at most the size of ``like``."""
    height, width = like.shape[-2:]
    return scores[..., offset : offset + height, offset : offset + width]
