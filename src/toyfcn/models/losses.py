"""The loss: cross-entropy summed over the labeled pixels, so that batches and processes add up."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from toyfcn.models.fcn import FCN
from toyfcn.models.kernels.upsampled_loss import Upsampling
from toyfcn.models.upsampling import Deconvolution


def cross_entropy_sums(
    scores: Tensor, target: Tensor, class_weights: Tensor, void: int
) -> tuple[Tensor, Tensor]:
    """Return (Σ w·ℓ, Σ w): cross-entropy summed over the labeled pixels, and their weights.

    ``scores`` float (B, C, H, W), ``target`` uint8 (B, H, W), ``class_weights`` float (C,). Void
    pixels count in neither sum, so the mean over a batch of void alone is 0 and not NaN. Computed
    in float32, or in float64 where the scores are. FCN paper, sections 3.4 and 4.3.
    """
    dtype = torch.promote_types(scores.dtype, torch.float32)
    classes, scores, labels = scores.shape[1], scores.to(dtype), target.long()
    if scores.is_cuda:  # the 2d loss has no deterministic backward on CUDA, the flat one has
        scores, labels = scores.permute(0, 2, 3, 1).reshape(-1, classes), labels.flatten()
    else:  # and here the 2d loss is fastest on contiguous scores
        scores = scores.contiguous()
    weights = class_weights.to(dtype)
    total = F.cross_entropy(scores, labels, weights, ignore_index=void, reduction="sum")
    lookup = torch.zeros(256, dtype=dtype, device=class_weights.device)
    lookup[:classes] = class_weights
    lookup[void] = 0
    return total, lookup[labels].sum()


def last_upsampling(
    net: FCN,
    image: Tensor,
    target: Tensor,
    class_weights: Tensor,
    void: int,
    features: Sequence[Tensor] | None = None,
) -> Upsampling:
    """Return the scores at the network's output stride, and what is left to do with them.

    The functions of ``kernels/upsampled_loss.py`` take it, for images (B, 3, H, W) whose target
    uint8 (B, H, W) is of the same size. ``features`` are the images', where they are known.
    """
    scores, up = net.score_map(image) if features is None else net.fuse(features), net.ups[-1]
    assert isinstance(up, Deconvolution)
    return Upsampling(scores, up, target, class_weights, void, net.offset)
