"""What the training masks hold, and the class weights that follow from it."""

from __future__ import annotations

import torch
from torch import Tensor

from toyfcn.data.voc import Source


def count_pixels(source: Source, ids: tuple[str, ...]) -> Tensor:
    """Read all masks and count the labelled pixels of each class: int64 (C,)."""
    counts = torch.zeros(256, dtype=torch.int64)
    for name in ids:
        counts += torch.bincount(source.mask(name).flatten(), minlength=256)
    return counts[: len(source.classes)]


def class_weights(counts: Tensor, kind: str) -> Tensor:
    """Return loss weights (C,) from pixel counts (C,): mild, clipped to [1/4, 4], 1 by default.

    ``sqrt``: the square root of the inverse frequency, relative to the median class; ``median``:
    median frequency balancing, without the root. A class that never occurs gets weight 1.
    """
    weights = torch.ones(len(counts))
    if kind == "none":
        return weights
    seen = counts > 0
    inverse = counts[seen].double().median() / counts[seen].double()
    weights[seen] = (inverse.sqrt() if kind == "sqrt" else inverse).clamp(0.25, 4).float()
    return weights
