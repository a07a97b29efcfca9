"""A plain U-Net (Ronneberger, Fischer and Brox 2015), a baseline to compare the FCNs with.

As published, except for 'same' padding, a norm, and three pools instead of four: at this size a
fourth would leave five channels to tell 21 classes apart. `toyfcn-model model=unet` prints the
table.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toyfcn.models.backbone import Backbone, Normalize
from toyfcn.models.fcn import score_layer
from toyfcn.models.kernels.channels_last import BatchNorm, Convolution

MAPS = (10, 20, 40, 80)  # channels of each level, finest first: 189,251 parameters for 21 classes


class UNetBackbone(Backbone):
    """Encoder and decoder: down by pools, up by 2x2 deconvolutions, with concatenated skips.

    ``maps`` are the channels of the levels, finest first, and ``width`` multiplies them; ``norm``
    is ``none`` or ``batch``; photos have ``inputs`` channels. Returns one feature map, of the
    photo's own size. Photos are padded at the right and the bottom to whole cells of the coarsest
    level, so any size from 1x1 up works.
    """

    strides = (1,)
    geometry = "same"

    def __init__(
        self,
        width: float = 1.0,
        norm: str = "batch",
        maps: Sequence[int] = MAPS,
        inputs: int = 3,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        levels = [max(1, round(n * width)) for n in maps]
        self.channels = (levels[0],)
        self.downs = nn.ModuleList([nn.Sequential(*convolutions(inputs, levels[0], norm))])
        self.ups, self.joins = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in itertools.pairwise(levels):
            self.downs.append(nn.Sequential(nn.MaxPool2d(2), *convolutions(fine, coarse, norm)))
            self.ups.insert(0, deconvolution(coarse, fine))
            self.joins.insert(0, nn.Sequential(*convolutions(2 * fine, fine, norm)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized photos (B, C, H, W) to features (B, channels, H, W), the only ones."""
        height, width = x.shape[-2:]
        cell = 2 ** len(self.ups)
        whole = [(side + cell - 1) // cell * cell for side in (height, width)]
        x, skips = F.pad(x, (0, whole[1] - width, 0, whole[0] - height)), []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        for up, join, skip in zip(self.ups, self.joins, skips[-2::-1], strict=True):
            x = join(torch.cat([skip, up(x)], 1))
        return [x[..., :height, :width]]


class UNet(nn.Module):
    """A U-Net that scores every pixel of a photo; ``backbone`` gives its features.

    The score layer starts at zero, so that the first loss is ln(classes), as an FCN's is.
    """

    def __init__(self, backbone: UNetBackbone, classes: int) -> None:
        super().__init__()
        self.normalize = Normalize(backbone.inputs)
        self.trunk = backbone  # this name is in the keys of every checkpoint
        self.heads = nn.ModuleList([score_layer(backbone.channels[0], classes)])

    @property
    def backbone(self) -> UNetBackbone:
        """The feature extractor."""
        return self.trunk

    @property
    def coarsest_stride(self) -> int:
        """The pixels by which a photo may be shifted so that all cells fit again."""
        return 1 << len(self.backbone.ups)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, C, H, W) in 0..255, of any size from 1x1 up.

        Returns scores (B, classes, H, W), or interpolated bilinearly to ``size``: see ``FCN``.
        """
        photo = self.normalize(image).contiguous(memory_format=torch.channels_last)
        scores: Tensor = self.heads[0](self.backbone(photo)[0])
        if size is not None and tuple(scores.shape[-2:]) != tuple(size):
            scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores


def convolutions(inputs: int, outputs: int, norm: str) -> list[nn.Module]:
    """Return two 3x3 convolutions, each with its norm and ReLU."""
    layers: list[nn.Module] = []
    for count in (inputs, outputs):
        conv = Convolution(count, outputs, 3, padding=1, bias=norm == "none")
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:  # a norm has its own
            nn.init.zeros_(conv.bias)
        layers.append(conv)
        if norm == "batch":
            layers.append(BatchNorm(outputs))
        layers.append(nn.ReLU(inplace=True))
    return layers


def deconvolution(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """Return the paper's up-convolution, 2x2 with stride 2: it doubles height and width."""
    up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
    # each output cell has one input cell, and no ReLU follows
    nn.init.normal_(up.weight, std=inputs**-0.5)
    assert up.bias is not None
    nn.init.zeros_(up.bias)
    return up
