"""Several networks as one: their class probabilities averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from toyfcn.models.build import Network


class Ensemble(nn.Module):
    """Scores photos by the logarithm of the mean of several networks' probabilities.

    ``coarsest_stride``: the pixels by which a photo may be shifted so that all cells fit again.
    """

    def __init__(self, nets: Sequence[Network | Ensemble]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)
        self.coarsest_stride: int = math.lcm(*(net.coarsest_stride for net in nets))

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, 3, H, W), RGB in 0..255: log-probabilities (B, C, H, W) or ``size``."""
        return self.mean([net(image, size) for net in self.nets])

    def mean(self, scores: Sequence[Tensor]) -> Tensor:
        """Return the log-probabilities of the mean, of each network's scores (B, C, H, W)."""
        found = [score.log_softmax(1) for score in scores]
        total = torch.stack(found).logsumexp(0)
        return total - torch.tensor(len(found), dtype=total.dtype, device=total.device).log()
