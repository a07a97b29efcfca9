"""The FCN paper's other two classifiers, AlexNet and GoogLeNet, convolutionalized.

They are torchvision's, and take its weights. VGG-16 has a file of its own, and timm has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from toyfcn.models.backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone, pad_to_multiple

HALF = (127.5, 127.5, 127.5)


class TorchvisionBackbone(Backbone):
    """A classifier of torchvision: features at strides 8, 16 and 32.

    Photos are padded at the right and the bottom to whole cells of stride 32. Pools round sizes up,
    so that every map has as many cells as fit the photo; where no border is in sight, values are
    those of the classifier. ``weights`` are torchvision's, trained on photos that were normalized
    by ``mean`` and ``std``, of channels in 0..255. ``renamed`` maps torchvision's layers to ours
    where their names differ.
    """

    geometry = "same"
    strides = (8, 16, 32)
    weights: WeightsEnum
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    renamed: ClassVar[Mapping[str, str]] = {}


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

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized photos (B, 3, H, W) to the outputs of inception 3b, 4e and 5b."""
        x = pad_to_multiple(x, 32)
        maps = []
        for name, layer in self.named_children():
            x = layer(x)
            if name in ("inception3b", "inception4e"):
                maps.append(x)
        return [*maps, x]


BACKBONES: dict[str, type[TorchvisionBackbone]] = {"googlenet": GoogLeNet}
