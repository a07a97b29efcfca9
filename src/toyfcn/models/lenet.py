"""LeNet-5 (LeCun et al. 1998) for RGB, as classifier and convolutionalized.

| layer | does               | kernel | out | stride | parameters |
|-------|--------------------|--------|-----|--------|------------|
| C1    | convolution        | 5x5    | 6   | 1      | 456        |
| S2    | pool               | 2x2    | 6   | 2      | 0          |
| C3    | convolution        | 5x5    | 16  | 2      | 2,416      |
| S4    | pool               | 2x2    | 16  | 4      | 0          |
| C5    | convolution        | 5x5    | 120 | 4      | 48,120     |
| F6    | fully connected    |        | 84  |        | 10,164     |

C5 was called a convolution in 1998 already; F6 becomes a 1x1 convolution. `toyfcn-model` prints the
FCN's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from toyfcn.models.backbone import Backbone, Normalize
from toyfcn.models.kernels.channels_last import BatchNorm, Convolution
from toyfcn.models.kernels.max_pool import MaxPool

PATCH = 32  # height and width of the classifier's input
MAPS = (6, 16, 120, 84)  # channels of C1, C3, C5 and F6


class ScaledTanh(nn.Module):
    """LeNet's activation, 1.7159 · tanh(2x / 3)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it elementwise."""
        return 1.7159 * (x * (2 / 3)).tanh_()


class LeNetBackbone(Backbone):
    """The backbone of FCN-LeNet: features at strides 2 (S2) and 4 (F6).

    ``maps`` are the channels of C1, C3, C5 and F6, and ``width`` multiplies them; ``activation``
    is ``tanh`` (LeNet's own) or ``relu``; ``norm`` is ``none`` or ``batch``; ``pool`` is ``max`` or
    ``avg``; ``geometry``: see ``Backbone``. Pools round sizes up, so in 'same' geometry (padding 2)
    photos of any size from 1x1 up work and the upsampled scores cover all of the photo.
    """

    strides = (2, 4)

    def __init__(
        self,
        width: float = 1.0,
        activation: str = "tanh",
        norm: str = "none",
        pool: str = "max",
        inputs: int = 3,
        geometry: str = "same",
        maps: Sequence[int] = MAPS,
    ) -> None:
        super().__init__()
        self.geometry, self.inputs = geometry, inputs
        c1, c3, c5, f6 = (max(1, round(n * width)) for n in maps)
        self.channels = (c1, f6)  # of the feature maps
        rest = 2 if geometry == "same" else 0
        first = 100 if geometry == "paper" else rest

        def layer(
            inputs: int, outputs: int, kernel: int, padding: int, halve: bool = False
        ) -> nn.Sequential:
            conv = Convolution(inputs, outputs, kernel, padding, bias=norm == "none")
            return block(conv, norm, activation, pool if halve else None)

        self.c1_s2 = layer(inputs, c1, 5, first, halve=True)
        self.c3_s4 = layer(c1, c3, 5, rest, halve=True)
        self.c5, self.f6 = layer(c3, c5, 5, rest), layer(c5, f6, 1, 0)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalized photos (B, C, H, W) to the outputs of S2 and F6."""
        s2 = self.c1_s2(x)
        return [s2, self.f6(self.c5(self.c3_s4(s2)))]


def block(
    layer: nn.Conv2d | nn.Linear, norm: str, activation: str, pool: str | None
) -> nn.Sequential:
    """Return a layer, freshly initialized, followed by norm, activation and pool."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if activation == "relu" else "tanh")
    if layer.bias is not None:  # a norm has its own
        nn.init.zeros_(layer.bias)
    outputs = layer.weight.shape[0]
    batch: type[Any] = BatchNorm if isinstance(layer, nn.Conv2d) else nn.BatchNorm1d
    steps: list[nn.Module] = [
        layer,
        batch(outputs) if norm == "batch" else nn.Identity(),
        nn.ReLU(inplace=True) if activation == "relu" else ScaledTanh(),
    ]
    if pool == "max":  # the maximum commutes with increasing functions: pool early
        steps.insert(1, MaxPool())
    elif pool == "avg":
        steps.append(nn.AvgPool2d(2, ceil_mode=True))
    return nn.Sequential(*steps)


class LeNet(nn.Module):
    """The classifier of 32x32 patches; options as for ``LeNetBackbone``."""

    OUTPUT = "output"  # the layer that scores classes

    def __init__(
        self,
        classes: int,
        width: float = 1.0,
        activation: str = "tanh",
        norm: str = "none",
        pool: str = "max",
        maps: Sequence[int] = MAPS,
        inputs: int = 3,
    ) -> None:
        super().__init__()
        backbone = LeNetBackbone(width, activation, norm, pool, inputs, "classifier", maps)
        self.normalize = Normalize(inputs)
        self.c1_s2, self.c3_s4, self.c5 = backbone.c1_s2, backbone.c3_s4, backbone.c5
        convolution = backbone.f6[0]
        assert isinstance(convolution, nn.Conv2d)
        fc = nn.Linear(convolution.in_channels, convolution.out_channels, bias=norm == "none")
        self.f6 = block(fc, norm, activation, None)
        self.output = nn.Linear(fc.out_features, classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, patch: Tensor) -> Tensor:
        """Score patches (B, C, 32, 32) in 0..255: (B, classes)."""
        x = self.c5(self.c3_s4(self.c1_s2(self.normalize(patch))))
        scores: Tensor = self.output(self.f6(x.flatten(1)))
        return scores
