"""Several networks as one: their class probabilities averaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Scores photos by the logarithm of the mean of several networks' probabilities."""

    def __init__(self, nets: Iterable[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """Score photos (B, 3, H, W), RGB in 0..255: log-probabilities (B, C, H, W) or ``size``."""
        return self.mean([net(image, size) for net in self.nets])

    def mean(self, scores: Sequence[Tensor]) -> Tensor:
        """Return the log-probabilities of the mean, of each network's scores (B, C, H, W)."""
        found = [score.log_softmax(1) for score in scores]
        total = torch.stack(found).logsumexp(0)
        return total - torch.tensor(len(found), dtype=total.dtype, device=total.device).log()
