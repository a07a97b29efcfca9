"""The labels of the highest scores in one byte per pixel: PyTorch's own argmax takes eight."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from toyfcn.models.kernels import compiled

CHUNK = 50_000  # pixels of which the scores stay in a CPU's cache


def argmax_labels(scores: Tensor) -> Tensor:
    """Return the argmax over the classes of scores (B, C, H, W), as uint8 (B, H, W).

    Of equal scores the first label is taken, and 0 where a score is NaN.
    """
    batch, _, height, width = scores.shape
    labels = torch.empty(batch, height, width, dtype=torch.uint8, device=scores.device)
    if compiled.can_take(scores):
        for image, found in zip(scores.contiguous().flatten(2), labels, strict=True):
            compiled.labels_and_loss(image, found)
        return labels
    step = height if scores.is_cuda else max(1, CHUNK // width)
    for b, top in itertools.product(range(batch), range(0, height, step)):
        chunk = scores[b, :, top : top + step]
        # into floats: comparing into booleans is four times as slow
        is_highest = torch.eq(chunk, chunk.amax(0), out=torch.empty_like(chunk))
        labels[b, top : top + step] = first_nonzero(is_highest)
    return labels


def first_nonzero(rows: Tensor) -> Tensor:
    """Return the index of the first of at most 255 rows that is 1 in each column, 0 if none is.

    ``rows`` is float, of zeros and ones, and is overwritten. Returns uint8.
    """
    count = len(rows)
    falling = torch.arange(count, 0, -1, dtype=rows.dtype, device=rows.device)
    highest = rows.mul_(falling.view(-1, *[1] * (rows.ndim - 1))).amax(0).byte()
    # where no row is 1, 0 - 1 is 255 in a byte
    return count - 1 - (highest - 1).clamp_(max=count - 1)
