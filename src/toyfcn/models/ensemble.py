"""Several networks as one: their class probabilities averaged."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Scores photos by the logarithm of the mean of several networks' probabilities."""

    def __init__(self, nets: Iterable[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, 3, H, W), RGB in 0..255: log-probabilities (B, C, H, W) or ``size``."""
        found = [net(image, size).log_softmax(1) for net in self.nets]
        total = torch.stack(found).logsumexp(0)
        return total - torch.tensor(len(found), dtype=total.dtype, device=total.device).log()
