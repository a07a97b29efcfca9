"""VGG-16 (Simonyan and Zisserman 2014), as classifier and convolutionalized.

Five blocks of 3x3 convolutions (two of 64 and of 128 channels, three of 256, 512 and 512), each
convolution followed by ReLU and each block by a 2x2 pool; then fc6 and fc7 of 4096 with ReLU and
dropout. The layers have the names of the Caffe release: conv1_1 … conv5_3, pool1 … pool5, fc6, fc7.
`toyfcn-model model=fcn_vgg16` prints the FCN's table.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from toyfcn.models.backbone import Backbone, Normalize

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and convolutions of each
HIDDEN = 4096  # of fc6 and fc7
AT_ONCE = (0.0001, 0.01, 1.0)  # FCN-8s at once: factors on pool3, pool4 and fc7

Named = Iterator[tuple[str, nn.Module]]


def scaled(count: int, width: float) -> int:
    """Return a number of channels, scaled and at least 1."""
    return max(1, round(count * width))


def convolutions(width: float, norm: str, padding: int, inputs: int = 3) -> Named:
    """Yield conv1_1 to pool5 by name; conv1_1 is padded by ``padding``, the others by 1."""
    for block, (channels, count) in enumerate(BLOCKS, 1):
        outputs = scaled(channels, width)
        for number in range(1, count + 1):
            layer = nn.Conv2d(inputs, outputs, 3, padding=padding, bias=norm == "none")
            yield from with_relu(f"conv{block}_{number}", layer, norm)
            inputs, padding = outputs, 1
        yield f"pool{block}", nn.MaxPool2d(2, ceil_mode=True)


def with_relu(name: str, layer: nn.Conv2d | nn.Linear, norm: str) -> Named:
    """Yield a freshly initialized layer, its norm and its activation."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:  # a norm has its own
        nn.init.zeros_(layer.bias)
    yield name, layer
    if norm == "batch":
        kind = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
        yield f"{name}_norm", kind(layer.weight.shape[0])
    yield f"{name}_relu", nn.ReLU(inplace=True)


class VGGBackbone(Backbone):
    """The backbone of FCN-VGG16: features at strides 8 (pool3), 16 (pool4) and 32 (fc7).

    ``width`` multiplies the channels of every layer, fc6 and fc7 included; ``norm`` is ``none`` or
    ``batch``; ``dropout`` is elementwise, after fc6 and fc7; ``geometry``: see ``Backbone``.
    """

    strides = (8, 16, 32)
    memory_format = torch.contiguous_format

    def __init__(
        self,
        width: float = 1.0,
        norm: str = "none",
        dropout: float = 0.5,
        geometry: str = "same",
        inputs: int = 3,
    ) -> None:
        super().__init__()
        self.geometry, self.inputs = geometry, inputs
        last, hidden = scaled(BLOCKS[-1][0], width), scaled(HIDDEN, width)
        self.channels = (scaled(BLOCKS[2][0], width), scaled(BLOCKS[3][0], width), hidden)
        for name, module in convolutions(width, norm, 100 if geometry == "paper" else 1, inputs):
            self.add_module(name, module)
        bias = norm == "none"
        fc6 = nn.Conv2d(last, hidden, 7, padding=3 if geometry == "same" else 0, bias=bias)
        for name, layer in (("fc6", fc6), ("fc7", nn.Conv2d(hidden, hidden, 1, bias=bias))):
            for part, module in with_relu(name, layer, norm):
                self.add_module(part, module)
            self.add_module(f"{name}_dropout", nn.Dropout(dropout))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized photos (B, C, H, W) to the outputs of pool3, pool4 and fc7."""
        features = []
        for name, layer in self.named_children():
            x = layer(x)
            if name in ("pool3", "pool4"):
                features.append(x)
        return [*features, x]


class VGG16(nn.Module):
    """The classifier of 224x224 photos; options as for ``VGGBackbone``."""

    OUTPUT = "fc8"  # the layer that scores classes

    def __init__(
        self, classes: int, width: float = 1.0, norm: str = "none", dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.normalize = Normalize()
        last, hidden = scaled(BLOCKS[-1][0], width), scaled(HIDDEN, width)
        for name, module in convolutions(width, norm, 1):
            self.add_module(name, module)
        self.flatten = nn.Flatten()
        bias = norm == "none"
        fc6, fc7 = nn.Linear(last * 7 * 7, hidden, bias=bias), nn.Linear(hidden, hidden, bias=bias)
        for name, layer in (("fc6", fc6), ("fc7", fc7)):
            for part, module in with_relu(name, layer, norm):
                self.add_module(part, module)
            self.add_module(f"{name}_dropout", nn.Dropout(dropout))
        self.fc8 = nn.Linear(hidden, classes)
        nn.init.zeros_(self.fc8.weight)
        nn.init.zeros_(self.fc8.bias)

    def forward(self, photo: Tensor) -> Tensor:
        """Score photos (B, 3, 224, 224), RGB in 0..255: (B, classes)."""
        x = photo.contiguous()
        for layer in self.children():
            x = layer(x)
        return x
