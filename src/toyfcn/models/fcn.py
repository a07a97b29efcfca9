"""The FCN, the same for every backbone: score, fuse with finer scores, upsample to the image."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.backbone import Backbone, Normalize
from toyfcn.models.geometry import Grid, Layer, crop_offset
from toyfcn.models.upsampling import Deconvolution


class FCN(nn.Module):
    """A fully convolutional network (Long, Shelhamer and Darrell, CVPR 2015, sections 3 and 4).

    From the coarsest features up, scores are upsampled and added to those of the next finer
    features (the skips), and the sum is upsampled to the image by one last deconvolution. The score
    layers start at zero, so the first loss is ln(classes).

    >>> import torch
    >>> from toyfcn.models.lenet import LeNetBackbone
    >>> net = FCN(LeNetBackbone(), classes=21, stride=2)
    >>> photo = torch.zeros(1, 3, 60, 80, dtype=torch.uint8)
    >>> net.score_map(photo).shape  # at stride 2
    torch.Size([1, 21, 30, 40])
    >>> net(photo).argmax(1).shape
    torch.Size([1, 60, 80])

    Args:
        backbone: gives the feature maps.
        classes: scores for each pixel, background included.
        stride: of the finest scores (the output stride): one of the backbone's strides.
        upsample: ``channel`` or ``dense``, see ``Deconvolution``.
        upsample_learned: the deconvolutions learn; otherwise they stay as they start.
        last_learned: the last deconvolution learns; None: as the others.
        scales: factors on the features, finest first, before their score layers (FCN-8s at once:
            the finer, the smaller).
        upsample_init: the deconvolutions start as ``bilinear`` interpolation or at ``random``.
        fusion: scores of two strides are added (``sum``) or the larger is taken (``max``; the paper
            found that to learn badly, section 4.2).

    Raises:
        ValueError: the backbone has no features of that stride.

    Where two maps are added, one is cropped from the top left: ``offsets`` says by how many cells,
    coarsest first. The last, ``offset``, is where the image begins in the output of the last
    deconvolution.
    """

    def __init__(
        self,
        backbone: Backbone,
        classes: int,
        stride: int,
        upsample: str = "channel",
        upsample_learned: bool = True,
        last_learned: bool | None = None,
        scales: Sequence[float] | None = None,
        upsample_init: str = "bilinear",
        fusion: str = "sum",
    ) -> None:
        super().__init__()
        if stride not in backbone.strides:
            raise ValueError(
                f"model.stride={stride}, but this backbone's strides are {list(backbone.strides)}"
            )
        self.normalize, self.fusion = Normalize(backbone.inputs), fusion
        self.trunk = backbone  # this name is in the keys of every checkpoint
        finest = list(backbone.strides).index(stride)
        strides, channels = backbone.strides[finest:][::-1], backbone.channels[finest:][::-1]
        grids = backbone.grids()[finest:][::-1]  # all three coarsest first
        self.scales = list((scales or [1.0] * len(backbone.strides))[finest:])[::-1]
        self.heads = nn.ModuleList(score_layer(count, classes) for count in channels)
        steps = [coarse // fine for coarse, fine in itertools.pairwise([*strides, 1])]
        learned = [upsample_learned] * (len(steps) - 1)
        learned.append(upsample_learned if last_learned is None else last_learned)
        replicate = backbone.geometry == "same"
        self.ups, self.offsets, grid = nn.ModuleList(), [], grids[0]
        for step, learns, onto in zip(steps, learned, [*grids[1:], Grid()], strict=True):
            shift = centered_shift(grid, step, onto) if replicate else Fraction(0)
            up = Deconvolution(classes, step, upsample, learns, replicate, upsample_init, shift)
            self.ups.append(up)
            grid = grid.through(up.layer)
            pair = (grid, onto) if onto == Grid() else (onto, grid)  # the image is not cropped
            self.offsets.append(crop_offset(*pair))
        self.offset = self.offsets[-1]

    @property
    def backbone(self) -> Backbone:
        """The feature extractor."""
        return self.trunk

    @property
    def coarsest_stride(self) -> int:
        """The pixels by which a photo may be shifted so that all cells fit again."""
        return max(self.backbone.strides)

    def score_map(self, image: Tensor) -> Tensor:
        """Score photos (B, C, H, W) in 0..255, at the output stride, skips fused.

        Returns scores (B, classes, h, w), which the last deconvolution upsamples to the image.
        """
        return self.fuse(self.features(image))

    def features(self, image: Tensor) -> list[Tensor]:
        """Return the backbone's feature maps of photos (B, C, H, W), finest first."""
        layout = torch.channels_last if image.is_cuda else self.backbone.memory_format
        photo = self.normalize(image).contiguous(memory_format=layout)
        maps: list[Tensor] = self.backbone(photo)
        return maps

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """Score feature maps, finest first, and fuse the scores: see ``score_map``."""
        features = features[::-1]
        scores: Tensor = self.heads[0](features[0])
        skips = zip(features[1:], self.scales[1:], self.heads[1:], strict=False)
        for (feature, scale, head), up, offset in zip(skips, self.ups, self.offsets, strict=False):
            scores = up(scores)
            feature = feature[..., offset:, offset:]
            scores, feature = crop(scores, feature), crop(feature, scores)
            finer = head(feature if scale == 1 else scale * feature)
            scores = torch.maximum(scores, finer) if self.fusion == "max" else scores + finer
        return scores

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, C, H, W) in 0..255 (uint8 or float), of any size from 1x1 up.

        Returns scores (B, classes, H, W), or interpolated bilinearly to ``size`` (height, width),
        for photos that were resized before the network saw them.
        """
        assert self.offset >= 0, "in 'classifier' geometry borders have no scores: use score_map"
        scores = crop(self.ups[-1](self.score_map(image)), image, self.offset)
        if size is not None and tuple(scores.shape[-2:]) != tuple(size):
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores


def centered_shift(grid: Grid, step: int, onto: Grid) -> Fraction:
    """Return how many output cells a deconvolution of 'same' geometry has to shift.

    Upsampled by ``step``, cells of ``grid`` are to lie where those of ``onto`` lie.
    """
    plain = grid.through(Layer("deconv", 2 * step, step, step // 2))
    return (onto.start - plain.start) / plain.stride


def score_layer(channels: int, classes: int) -> nn.Conv2d:
    """Return a 1x1 convolution to class scores that starts at zero."""
    layer = nn.Conv2d(channels, classes, 1)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def crop(scores: Tensor, like: Tensor, offset: int = 0) -> Tensor:
    """Crop scores from (offset, offset) on to at most the height and width of ``like``."""
    height, width = like.shape[-2:]
    return scores[..., offset : offset + height, offset : offset + width]
