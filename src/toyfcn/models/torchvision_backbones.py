"""The FCN paper's other two classifiers, AlexNet and GoogLeNet, convolutionalized.

They are torchvision's, and take its weights. VGG-16 has a file of its own, and timm has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from toyfcn.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, pad_to_multiple

HALF = (127.5, 127.5, 127.5)


class HalvingPool(nn.MaxPool2d):
    """A 3x3 pool of stride 2 that halves maps of even sides without values below 0.

    As one that rounds sizes up, which could not be exported.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Add a row and a column of zeros, for the last windows, and pool."""
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)


class TorchvisionBackbone(Backbone):
    """A classifier of torchvision: features at strides 8, 16 and 32.

    Photos are padded at the right and the bottom to whole cells of stride 32, and every pool halves
    a map; where no border is in sight, values are those of the classifier. ``weights`` are
    torchvision's, trained on photos that were normalized by ``mean`` and ``std``, of channels in
    0..255. ``renamed`` maps torchvision's layers to ours where their names differ.
    """

    geometry = "same"
    strides = (8, 16, 32)
    weights: WeightsEnum
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    renamed: ClassVar[Mapping[str, str]] = {}

    def halve_in_pools(self) -> None:
        """Let every pool of stride 2 halve its maps, whose sides are even."""
        for module in self.modules():
            if isinstance(module, nn.MaxPool2d):
                module.ceil_mode = False
                if (module.kernel_size, module.stride) == (3, 2):
                    module.__class__ = HalvingPool


class AlexNet(TorchvisionBackbone):
    """AlexNet (Krizhevsky 2014): features of its first two pools, and of fc7.

    ``dropout`` is elementwise, after fc6 and fc7.
    """

    channels = (64, 192, 4096)
    weights = models.AlexNet_Weights.IMAGENET1K_V1
    renamed: ClassVar = {"classifier.1": "fc6", "classifier.4": "fc7"}

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.features = models.alexnet().features
        self.halve_in_pools()
        self.fc6, self.fc7 = nn.Conv2d(256, 4096, 6), nn.Conv2d(4096, 4096, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized photos (B, 3, H, W) to the outputs of both pools and of fc7."""
        x = F.pad(pad_to_multiple(x, 32), (0, 3, 0, 3))  # a last window of 11 pixels at stride 4
        maps = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
        x = F.pad(maps[2], (3, 2, 3, 2))  # for the window of 6x6 cells around each
        x = self.dropout(F.relu(self.fc6(x)))
        x = self.dropout(F.relu(self.fc7(x)))
        return [*maps[:2], x]


class GoogLeNet(TorchvisionBackbone):
    """GoogLeNet (Szegedy et al. 2014) with batch normalization: inception 3b, 4e and 5b.

    ``dropout`` is elementwise, of the coarsest features. The two auxiliary classifiers are left
    out.
    """

    channels = (480, 832, 1024)
    weights = models.GoogLeNet_Weights.IMAGENET1K_V1
    mean = std = HALF  # they were ported from TensorFlow

    def __init__(self, dropout: float) -> None:
        super().__init__()
        network = models.googlenet(init_weights=False, aux_logits=False)
        for name, layer in network.named_children():
            if name not in ("avgpool", "dropout", "fc"):
                self.add_module(name, layer)
        self.dropout = nn.Dropout(dropout)
        self.halve_in_pools()

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized photos (B, 3, H, W) to the outputs of inception 3b, 4e and 5b."""
        x = pad_to_multiple(x, 32)
        maps = []
        for name, layer in self.named_children():
            x = layer(x)
            if name in ("inception3b", "inception4e"):
                maps.append(x)
        return [*maps, x]


BACKBONES: dict[str, type[TorchvisionBackbone]] = {"alexnet": AlexNet, "googlenet": GoogLeNet}
