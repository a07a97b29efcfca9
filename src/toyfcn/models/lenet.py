"""LeNet-5 (LeCun et al. 1998) for RGB, convolutionalised: every layer slides over any image.

| layer | does               | kernel | out | stride | parameters |
|-------|--------------------|--------|-----|--------|------------|
| C1    | convolution        | 5x5    | 6   | 1      | 456        |
| S2    | pool               | 2x2    | 6   | 2      | 0          |
| C3    | convolution        | 5x5    | 16  | 2      | 2,416      |
| S4    | pool               | 2x2    | 16  | 4      | 0          |
| C5    | convolution        | 5x5    | 120 | 4      | 48,120     |
| F6    | convolution        | 1x1    | 84  | 4      | 10,164     |

C5 was called a convolution in 1998 already; F6 was fully connected, here it is a 1x1 convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from toyfcn.models.fcn import Trunk


class ScaledTanh(nn.Module):
    """LeNet's activation, 1.7159 · tanh(2x / 3)."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it elementwise."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class LeNetTrunk(Trunk):
    """The trunk of FCN-LeNet in 'same' geometry (padding 2): features at strides 2 and 4.

    ``width`` multiplies the channels of every layer; ``activation`` is ``tanh`` (LeNet's own) or
    ``relu``; ``norm`` is ``none`` or ``batch``; ``pool`` is ``max`` or ``avg``. Pools round up, so
    any image of at least 1x1 works and no output is smaller than its input asks for.
    """

    strides = (2, 4)

    def __init__(
        self,
        width: float = 1.0,
        activation: str = "tanh",
        norm: str = "none",
        pool: str = "max",
        channels: int = 3,
    ) -> None:
        super().__init__()
        c1, c3, c5, f6 = (max(1, round(n * width)) for n in (6, 16, 120, 84))
        self.channels = (c1, f6)  # of the features that forward returns

        def layer(inputs: int, outputs: int, kernel: int, halve: bool = False) -> nn.Sequential:
            """Convolution, norm, activation, pool; a bias only where no norm brings its own."""
            batch = norm == "batch"
            conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not batch)
            nn.init.kaiming_normal_(
                conv.weight, nonlinearity="relu" if activation == "relu" else "tanh"
            )
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            act = nn.ReLU(inplace=True) if activation == "relu" else ScaledTanh()
            steps: list[nn.Module] = [
                conv,
                nn.BatchNorm2d(outputs) if batch else nn.Identity(),
                act,
            ]
            if halve and pool == "max":  # a maximum passes through rising functions: pool early
                steps.insert(1, nn.MaxPool2d(2, ceil_mode=True))
            elif halve:
                steps.append(nn.AvgPool2d(2, ceil_mode=True))
            return nn.Sequential(*steps)

        self.c1_s2 = layer(channels, c1, 5, halve=True)
        self.c3_s4 = layer(c1, c3, 5, halve=True)
        self.c5, self.f6 = layer(c3, c5, 5), layer(c5, f6, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map normalised photos (B, 3, H, W) to features at stride 2 (S2) and stride 4 (F6)."""
        s2: Tensor = self.c1_s2(x)
        return [s2, self.f6(self.c5(self.c3_s4(s2)))]
