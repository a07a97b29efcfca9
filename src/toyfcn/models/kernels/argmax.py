"""The labels of the highest scores, in a byte a pixel: torch's own argmax takes eight."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def likeliest(scores: Tensor) -> Tensor:
    """Return the label of the highest of the scores (B, C, H, W), as uint8 (B, H, W).

    Of equal scores the first one's label is taken, and 0 where a score is not a number. Some rows
    of pixels after the others, so that what is compared stays in the processor's cache.
    """
    batch, _, height, width = scores.shape
    labels = torch.empty(batch, height, width, dtype=torch.uint8, device=scores.device)
    rows = height if scores.is_cuda else max(1, 50_000 // width)
    for b, top in itertools.product(range(batch), range(0, height, rows)):
        stretch = scores[b, :, top : top + rows]
        # as numbers: to compare into booleans is four times as slow
        highest = torch.eq(stretch, stretch.amax(0), out=torch.empty_like(stretch))
        labels[b, top : top + rows] = first_where(highest)
    return labels


def first_where(found: Tensor) -> Tensor:
    """Return the first of at most 255 rows that is 1 and not 0 in each column, uint8; 0 if none is.

    Overwrites ``found``, which holds floats.
    """
    rows = len(found)
    falling = torch.arange(rows, 0, -1, dtype=found.dtype, device=found.device)
    highest = found.mul_(falling.view(-1, *[1] * (found.ndim - 1))).amax(0).byte()
    # where nothing was found, 0 - 1 is 255 in a byte
    return rows - 1 - (highest - 1).clamp_(max=rows - 1)
